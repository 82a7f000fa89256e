"""Optimizers that are handed over from Python, of this library, of Optax or of your own."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from gradtx.foreign import as_transformation

from . import parse
from .entrant import OWN, Entrant, Late
from .expression import CENTRE
from .refusal import BadInput


def entrants_of(
    objects: Mapping[str, Any] | Sequence[Any],
    rows: Mapping[str, Any],
    namespace: Mapping[str, Any],
    sweeps: Sequence[str] = (),
) -> list[Entrant]:
    """What runs for a list, or a mapping from label to:

    - a name or expression, as on the command line;
    - a function of the learning rate that returns a transformation; its sweep has the middle of
      the catalogue if it is an optimizer there, else 0.01;
    - a transformation that is ready, of this library or of Optax. Nothing of it is swept and no
      schedule applies: it has a learning rate of its own.

    `rows`, `namespace` and `sweeps`, for expressions in a list, are those of `parse.entrants`.
    """
    named = isinstance(objects, Mapping)
    objects = [objects] if isinstance(objects, str) else objects
    pairs = list(objects.items() if isinstance(objects, Mapping) else ((None, x) for x in objects))
    found: dict[str, Entrant] = {}
    if sweeps:
        if named:
            raise BadInput("A sweep names its optimizers by their values: give a list of them.")
        typed = [x for _, x in pairs if isinstance(x, str)]
        found = {one.label: one for one in parse.entrants(typed, rows, namespace, sweeps)}
        pairs = [(key, x) for key, x in pairs if not isinstance(x, str)]
    for key, value in pairs:
        for entrant in _entrants(key, value, rows, namespace):
            if entrant.label in found and not isinstance(value, str):
                raise BadInput(f"Two optimizers are called {entrant.label!r}: {_NAME_IT}.")
            found[entrant.label] = entrant
    if not found:
        raise BadInput(f"There are no optimizers in an empty {'mapping' if named else 'list'}.")
    return list(found.values())


_NAME_IT = 'give a mapping with a name for each, such as {"mine": make}'


def _entrants(
    key: str | None, value: Any, rows: Mapping[str, Any], namespace: Mapping[str, Any]
) -> list[Entrant]:
    if isinstance(value, str):
        found = parse.entrants([value], rows, namespace)
        if key is not None and len(found) > 1:
            raise BadInput(f"{key}: {value!r} are several optimizers; give one for a name.")
        return [_renamed(one, key) for one in found]
    name: str = getattr(value, "__name__", "")
    if name in rows and value in (rows[name].make, namespace.get(name)):
        return [_renamed(one, key) for one in parse.entrants([name], rows, namespace)]
    ready = hasattr(value, "init") and hasattr(value, "update") and not isinstance(value, type)
    if not (ready or callable(value)):
        raise BadInput(
            f"{key or repr(value)}: an optimizer is a name, an expression, a function of the "
            f"learning rate or a transformation, not {type(value).__name__}."
        )
    label = key or name or (repr(value) if hasattr(value, "step") else "")
    if not label or label == "<lambda>" or len(label) > 80:
        raise BadInput(f"An optimizer has no short name: {_NAME_IT}.")
    return [_own(label, value, ready)]


def _renamed(entrant: Entrant, key: str | None) -> Entrant:
    return dataclasses.replace(entrant, label=key or entrant.label)


def _own(label: str, value: Any, ready: bool) -> Entrant:
    function: Callable[[Any], Any] = (lambda _: value) if ready else value
    centre = 1.0 if ready else CENTRE
    try:
        as_transformation(function(centre), label)
    except Exception as error:
        raise BadInput(f"{label}: {error}") from error
    make = partial(Late, function=function)
    return Entrant(label, make, OWN, "given from Python", centre, swept=not ready)
