"""How errors are written: what was called, what was seen, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONG = 700  # characters of a part of a message, before its middle is left out


def complaint(called: object, seen: str, do: str) -> str:
    """The three parts of an error message: what was called, what was seen, what to do."""
    end = "" if do.endswith(("?", ".")) else "."
    return f"{shortened(str(called))}: {shortened(seen)}. {shortened(do)}{end}"


def value_error(called: object, seen: str, do: str) -> ValueError:
    return ValueError(complaint(called, seen, do))


def type_error(called: object, seen: str, do: str) -> TypeError:
    return TypeError(complaint(called, seen, do))


def refuse_other(owner: object, field: str, known: Iterable[object]) -> None:
    """Raises `ValueError` for a field whose value is none of those known."""
    value, known = getattr(owner, field), list(known)
    if value not in known:
        do = f"Pass one of {', '.join(map(repr, known))}"
        raise value_error(owner, f"{field} is {value!r}", do)


def shortened(text: str) -> str:
    """A text without its middle where it is long, such as an optimizer with a tree of labels."""
    if len(text) <= LONG:
        return text
    left_out = len(text) - LONG
    return f"{text[: LONG - 100]} ... ({left_out} characters) ... {text[-100:]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint with the known names closest to `name`, or all of them when none is close."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if not known:
        return "There is none."
    return f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(known)}."
