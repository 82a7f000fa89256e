"""From what was typed to what is meant; nothing that was typed is ever evaluated."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradtx.solve.line import LineSearch

from . import expression
from .entrant import OWN, Entrant
from .expression import Expression
from .refusal import BadInput as BadInput, choose as choose, nearest

MOST_RATES = 200


def entrants(
    typed: Sequence[str],
    rows: Mapping[str, Any],
    namespace: Mapping[str, Any] | None = None,
    sweeps: Sequence[str] = (),
) -> list[Entrant]:
    """Optimizers by name or expression, separated by spaces or commas, each once.

    `rows` are those of the catalogue, `namespace` has the public names that expressions may call.
    A sweep NAME=V1,V2 puts one optimizer a value in the place of every one that has NAME.
    """
    if list(typed) == ["all"]:
        typed = list(rows)
    public = expression.callables(namespace or {})
    nodes = [node for text in typed for node in expression.parsed(text, "optimizer")]
    found = [Expression(node, rows, public) for node in nodes]
    for sweep in sweeps:
        found = _swept(found, sweep)
    return list({one.label: _entrant(one) for one in found}.values())


def _entrant(found: Expression) -> Entrant:
    row = found.row
    made = found(found.centre)  # so that impossible values show at once
    searches = isinstance(made, LineSearch)
    return Entrant(
        label=found.label,
        make=_Searching(found) if searches else found,
        family=row.family if row else OWN,
        about=row.about if row else found.label,
        centre=1.0 if searches else found.centre,
        swept=not searches,
    )


class _Searching(NamedTuple):
    """Makes a search, whose first step has length 1: it has no learning rate, nor a schedule."""

    expression: Expression

    def __call__(self, _: Any) -> Any:
        return self.expression(1.0)


def _swept(found: Sequence[Expression], sweep: str) -> list[Expression]:
    key, equals, values = (part.strip() for part in sweep.partition("="))
    if not (key.isidentifier() and equals and values):
        raise BadInput(f"Cannot read the sweep {sweep!r}: write NAME=V1,V2, as in b1=0.8,0.9.")
    if key == expression.RATE:
        raise BadInput(f"{sweep}: set the learning rates that are swept with --learning-rates.")
    each = [one.with_values(key, expression.parsed(values, "values")) for one in found]
    if not any(each):
        known = list(dict.fromkeys(name for one in found for name in one.hyperparameters()))
        raise BadInput(
            f"{sweep}: no optimizer here has {key!r}.{nearest(key, known, 3)} "
            f"There are {', '.join(known) or 'none'}."
        )
    return [new for one, swept in zip(found, each, strict=True) for new in swept or [one]]


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


def seeds(text: str) -> list[int]:
    """The seeds of so many runs."""
    return list(range(whole(text, "the number of seeds", most=1000)))


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
