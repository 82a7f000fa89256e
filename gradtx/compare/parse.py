"""From what was typed to what is meant; nothing that was typed is ever evaluated."""

import ast
import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .entrant import Entrant
from .wording import join

MOST_RATES = 200


class BadInput(Exception):  # noqa: N818 (a message to a person, not a fault)
    """What was typed cannot be done; the message says what can."""


def choose(kind: str, typed: str, known: Iterable[str]) -> str:
    """`typed` if it is known, else an error with the nearest names."""
    names = list(known)
    if typed in names:
        return typed
    hint = _nearest(typed.lower(), names, 3)
    if not hint and len(names) <= 12:
        hint = f" There are {', '.join(names)}."
    elif not hint:
        hint = f" See gradtx compare --list for all {len(names)}."
    raise BadInput(f"Unknown {kind} {typed!r}.{hint}")


def _nearest(typed: str, names: Sequence[str], most: int) -> str:
    close = difflib.get_close_matches(typed, names, n=most, cutoff=0.5)
    return f" Did you mean {join(close, 'or')}?" if close else ""


def entrants(typed: Sequence[str], rows: Mapping[str, Any]) -> list[Entrant]:
    """Optimizers by name or call, separated by spaces or commas, each once."""
    if list(typed) == ["all"]:
        typed = list(rows)
    found = [_entrant(node, rows) for text in typed for node in _nodes(text)]
    return list({entrant.label: entrant for entrant in found}.values())


def _nodes(text: str) -> list[ast.expr]:
    try:
        body = ast.parse(text.strip().strip(","), mode="eval").body
    except (SyntaxError, ValueError):
        raise BadInput(
            f"Cannot read the optimizer {text!r}: write a name, or a call such as "
            '"adam(b1=0.95)" in quotation marks.'
        ) from None
    return list(body.elts) if isinstance(body, ast.Tuple) else [body]


def _entrant(node: ast.expr, rows: Mapping[str, Any]) -> Entrant:
    called = node.func if isinstance(node, ast.Call) else node
    typed = called.id if isinstance(called, ast.Name) else ast.unparse(node).replace(" ", "")
    name = choose("optimizer", typed, rows)
    row = rows[name]
    arguments = _arguments(node, name, row.make) if isinstance(node, ast.Call) else {}
    return Entrant(
        label=ast.unparse(node) if arguments else name,
        make=partial(row.make, **arguments),
        family=row.family,
        about=row.about,
        centre=float(row.learning_rate or 1.0),
    )


def _arguments(call: ast.Call, name: str, make: Callable[..., Any]) -> dict[str, Any]:
    accepted = [key for key in inspect.signature(make).parameters if key != "learning_rate"]
    if call.args:
        raise BadInput(
            f"{ast.unparse(call)}: arguments need their names, as in {name}"
            f"({accepted[0] if accepted else 'name'}=...)."
        )
    arguments = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise BadInput(f"{ast.unparse(call)}: ** is not understood here.")
        if keyword.arg == "learning_rate":
            raise BadInput(
                f"{ast.unparse(call)}: the learning rate is what is swept; set it with "
                "--learning-rates."
            )
        if keyword.arg not in accepted:
            raise BadInput(
                f"{name} has no argument {keyword.arg!r}.{_nearest(keyword.arg, accepted, 2)} "
                f"It accepts {', '.join(accepted) or 'none'}."
            )
        try:
            arguments[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise BadInput(
                f"{name}({keyword.arg}={ast.unparse(keyword.value)}): the value must be plain: a "
                "number, a text in quotation marks, True, False, None, or a tuple of these."
            ) from None
    return arguments


def rates(typed: Sequence[str]) -> np.ndarray:
    """Learning rates, rising, from numbers and ranges LOW:HIGH:N (evenly in the logarithm)."""
    found: list[float] = []
    for text in filter(None, ",".join(typed).replace(" ", ",").split(",")):
        match text.split(":"):
            case [rate]:
                found.append(_rate(rate, text))
            case [first, last, count]:
                low, high = _rate(first, text), _rate(last, text)
                what = f"the number of learning rates in {text!r}"
                found += np.geomspace(low, high, whole(count, what, most=MOST_RATES)).tolist()
            case _:
                raise BadInput(f"Cannot read the learning rates {text!r}: write LOW:HIGH:N.")
    if not 0 < len(found) <= MOST_RATES:
        raise BadInput(f"Give between 1 and {MOST_RATES} learning rates, not {len(found)}.")
    return np.unique(np.asarray(found, np.float32))


def _rate(text: str, whole_text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (1e-30 < value < 1e30):
        raise BadInput(f"Learning rates are positive numbers, not {whole_text!r}.")
    return value


def whole(text: str, what: str, most: int) -> int:
    """A whole number from 1 to `most`."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= most:
        what = what[0].upper() + what[1:]
        raise BadInput(f"{what}: give a whole number from 1 to {most:,}, not {text!r}.")
    return value
