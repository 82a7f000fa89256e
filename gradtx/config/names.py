"""What may be called in a config: public names, and those that a user gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from gradtx.schedules.base import Schedule, clipped
from gradtx.transform import GradientTransformation

OPERATORS = ("+", "-", "*", "/")
FORMS = ("tuple", "table", "array", "ref", "args")
"""Keys of mappings that are no calls: what JSON has no other way to say."""

_KNOWN: dict[str, Callable[..., Any]] = {}


def know(namespace: Mapping[str, Any]) -> None:
    """Makes the public names of the library known, which stand above this module."""
    _KNOWN.clear()
    _KNOWN.update(callables(namespace))
    _KNOWN["clipped"] = clipped  # what `schedule.clip` makes


def known(names: Mapping[str, Any] | None) -> dict[str, Any]:
    """All names, those of a user first."""
    return {**_KNOWN, **(names or {})}


def callables(namespace: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    """What may be called of a module's names: what makes transformations, schedules and `Axes`."""

    def makes(key: str, value: Any) -> bool:
        if inspect.isfunction(value):
            value = namespace.get(str(value.__annotations__.get("return")))
            return inspect.isclass(value) and issubclass(value, GradientTransformation | Schedule)
        return inspect.isclass(value) and (key.islower() or key == "Axes")

    return {k: v for k, v in namespace.items() if not k.startswith("_") and makes(k, v)}


# What a parameter is declared to take ------------------------------------------------------------


class Wants:
    """What a value for a parameter may be, from the text of its annotation."""

    def __init__(self, annotation: Any = "") -> None:
        text = "" if annotation is inspect.Parameter.empty else str(annotation)
        self.part = "Transformation" in text or "Schedule" in text
        self.number = any(w in text for w in ("Hyper", "Number", "Scalar", "float", "ArrayLike"))
        self.table = "Mapping" in text or "Labels" in text or "Matrices" in text
        self.sequence = "tuple[" in text or "Sequence[" in text

    @property
    def inside(self) -> Wants:
        """The same for what a table or a sequence holds."""
        found = Wants()
        found.part, found.number, found.sequence = self.part, self.number, self.sequence
        return found


NOTHING = Wants()


def parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters
