"""What the catalogue says of a transformation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Row:
    """One transformation with its published defaults.

    `temporary_bytes` is what its compiled, donated step needs beside parameters, gradients and
    state, in bytes per float32 parameter: zero unless the formula needs a reduction first.
    """

    name: str
    family: str
    about: str
    make: Callable[..., Any]  # an optimizer's takes the learning rate first, a link's takes nothing
    learning_rate: float | None = None  # a typical one, the middle of a sweep; None for a link
    temporary_bytes: float = 0.0


def table(*rows: Row) -> dict[str, Row]:
    return {row.name: row for row in rows}
