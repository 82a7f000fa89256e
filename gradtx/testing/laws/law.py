"""What a law is: a number, a name, a sentence, and a function that raises where it is broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gradtx.testing.evidence import Evidence


class Law(NamedTuple):
    """`holds(evidence)` raises an error that says what was seen, or returns."""

    number: int
    name: str
    title: str
    holds: Callable[[Evidence], Any]

    def __repr__(self) -> str:
        return f"{self.number}-{self.name}"


LAWS: list[Law] = []


def law(number: int) -> Callable[[Callable[[Evidence], Any]], Callable[[Evidence], Any]]:
    """Makes a function a law, its name and the first line of its docstring those of the law."""

    def note(holds: Callable[[Evidence], Any]) -> Callable[[Evidence], Any]:
        title = (holds.__doc__ or "").strip().split("\n")[0]
        LAWS.append(Law(number, getattr(holds, "__name__", "law"), title, holds))
        return holds

    return note
