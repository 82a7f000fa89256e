"""How input that cannot be done is refused: by its text, with what was probably meant."""

import difflib
from collections.abc import Iterable, Sequence

from .wording import join


class BadInput(Exception):  # noqa: N818 (a message to a person, not a fault)
    """What was typed cannot be done; the message says what can."""


def choose(kind: str, typed: str, known: Iterable[str]) -> str:
    """`typed` if it is known, else an error with the nearest names."""
    names = list(known)
    if typed in names:
        return typed
    hint = nearest(typed.lower(), names, 3)
    if not hint and len(names) <= 12:
        hint = f" There are {', '.join(names)}."
    elif not hint:
        hint = " See gradtx compare --list for all there are."
    raise BadInput(f"Unknown {kind} {typed!r}.{hint}")


def nearest(typed: str, names: Sequence[str], most: int) -> str:
    close = difflib.get_close_matches(typed, names, n=most, cutoff=0.5)
    return f" Did you mean {join(close, 'or')}?" if close else ""
