"""What the catalogue says of a transformation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any


@dataclasses.dataclass(frozen=True)
class Row:
    """One transformation with its published defaults.

    `temporary_bytes` is what its compiled, donated step needs beside parameters, gradients and
    state, in bytes per float32 parameter: zero unless the formula needs a reduction first.
    """

    name: str
    about: str
    make: Callable[..., Any]  # an optimizer's takes the learning rate first, a link's takes nothing
    learning_rate: float | None = None  # a typical one, the middle of a sweep; None for a link
    temporary_bytes: float = 0.0
    entries: int = 2**16  # of the array on which they are measured; fewer where state has squares
    family: str = ""


def row(
    make: Callable[..., Any],
    about: str,
    learning_rate: float | None = None,
    name: str = "",
    temporary_bytes: float = 0.0,
    entries: int = 2**16,
) -> Row:
    """A row named like what it makes, unless `name` says otherwise."""
    return Row(name or name_of(make), about, make, learning_rate, temporary_bytes, entries)


def name_of(make: Any) -> str:
    """The name of a class or function, with arguments or without."""
    return name_of(make.func) if isinstance(make, partial) else make.__name__


def family(name: str, *rows: Row) -> dict[str, Row]:
    """The rows of a family, by their names, which must differ."""
    found = {row.name: dataclasses.replace(row, family=name) for row in rows}
    if len(found) < len(rows):
        raise ValueError(f"family {name!r}: two rows have one name. Give one of them another")
    return found
