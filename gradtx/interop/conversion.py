"""What a row of the tables of imports says: which of their fields become which of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gradtx.optimizers.factoring import stacked
from gradtx.states.saving import Row

Entry = Mapping[str, Any]
"""What the other library keeps for one array, by field, and the numbers beside it."""


class Here(NamedTuple):
    """Where an array goes."""

    row: Row
    steps: int | None  # of steps that were taken, if the other library counts them
    moved: Callable[[Any], Any]  # momentum from where it lies there, before or after the rate
    rate: Callable[[], float]  # our learning rate
    turn: Callable[[int], int]  # which axis of ours one of theirs is


From = str | Callable[[Entry, Here], Any]


@dataclass(frozen=True)
class Conversion:
    """A row of a table."""

    to: str  # our link
    fields: tuple[str, ...]  # theirs, by which it is known
    slots: Mapping[str, From]  # ours, from theirs
    numbers: Mapping[str, Callable[[Entry], Any]]  # ours that arrays have in common
    settings: Mapping[str, Any]  # what our link must have, or it would mean another thing
    because: str  # what theirs is, if ours must be as it
    refused: str  # why it cannot be done
    note: str  # what is not exact
    moving: str  # what is not exact where a hyperparameter is a schedule


def row(
    to: str,
    fields: str,
    slots: Mapping[str, From] | str | None = None,
    *,
    numbers: Mapping[str, Callable[[Entry], Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
    because: str = "",
    refused: str = "",
    note: str = "",
    moving: str = "",
) -> Conversion:
    """`slots` is a table, or the names of those that are called the same."""
    if isinstance(slots, str):
        slots = {name: name for name in slots.split()}
    return Conversion(
        to,
        tuple(fields.split()),
        slots or {},
        numbers or {},
        settings or {},
        because,
        refused,
        note,
        moving,
    )


def unmet(conversion: Conversion, part: Any) -> list[tuple[str, Any, Any]]:
    """The settings of our link that are others: name, what it is, what it has to be."""
    return [
        (name, value, wanted)
        for name, wanted in conversion.settings.items()
        if not _is(value := getattr(part, name), wanted)
    ]


def _is(value: Any, wanted: Any) -> bool:
    if wanted is None or isinstance(wanted, bool | str):
        return value is wanted or value == wanted
    return np.ndim(value) == 0 and not callable(value) and float(value) == wanted


def by_sides(part: Any, p: Any, means: tuple[Any, Any], axes: tuple[int, int]) -> dict[str, Any]:
    """Means of squares as `v_row` and `v_col` of a factored link; nothing if it has other sides.

    Of the two axes, the first of `means` has all but the second, the other all but the first.
    """
    stack = stacked(part.axes, len(p.shape))
    order = (*stack, *(i for i in range(len(p.shape)) if i not in stack))  # as the link sees it
    sides = part._sides(tuple(p.shape[i] for i in order))
    if sides is None or any(len(side) != 1 for side in sides):
        return {}
    rows, columns = (order[side[0]] for side in sides)
    if {rows, columns} != set(axes):
        return {}
    front = [i for i in order if i not in (rows, columns)]
    found = {}
    for mean, kept, lost in zip(means, axes, axes[::-1], strict=True):
        there = [i for i in range(len(p.shape)) if i != lost]
        turned = np.transpose(mean, [there.index(i) for i in (*front, kept)])
        found["v_row" if kept == rows else "v_col"] = turned
    return found
