"""Where the slots of a state are, and how each is taken apart by arrays and put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from gradtx.engine.codes import Stored
from gradtx.engine.rounding import is_narrow
from gradtx.paths import aligned
from gradtx.tree import is_inexact, path_string


def is_stored(x: Any) -> bool:
    return isinstance(x, Stored)


def separate(called: Any, treedef: Any, slot: Any) -> list[Any]:
    """What a slot keeps for each leaf of `treedef`: an array or a `Stored` of arrays."""
    if not isinstance(slot, Stored):
        return aligned(called, treedef, slot, "state")
    columns = [aligned(called, treedef, part, "state") for part in slot]  # pyright: ignore
    return [_one(type(slot), parts) for parts in zip(*columns, strict=True)]


def together(kind: Any, treedef: Any, arrays: list[Any]) -> Any:
    """The slot of which `separate` makes these; `kind` is its type."""
    if not issubclass(kind, Stored):
        return treedef.unflatten(arrays)
    fields = kind._fields  # pyright: ignore[reportAttributeAccessIssue]
    rows = [x if isinstance(x, Stored) else (x, *[None] * (len(fields) - 1)) for x in arrays]
    columns = zip(*rows, strict=True) if rows else [()] * len(fields)
    return kind(*map(treedef.unflatten, columns))


def _one(kind: Any, parts: tuple[Any, ...]) -> Any:
    first, *rest = parts
    if rest:
        plain = any(x is None for x in rest)
    else:
        plain = not is_inexact(first) or not is_narrow(first.dtype)
    return first if plain else kind(*parts)


def is_state(x: Any) -> bool:
    """Whether `x` is the state of one transformation: a NamedTuple."""
    return isinstance(x, tuple) and hasattr(x, "_fields") and not isinstance(x, Stored)


def map_slots(function: Callable[[str, Any, bool], Any], state: Any) -> Any:
    """`function(path, slot, whether the engine runs it)` for every slot of a state.

    A slot is a field of a NamedTuple without other NamedTuples in it, or an array outside of any.
    """

    def walk(above: tuple[Any, ...], tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, x: visit((*above, *path), x), tree, is_leaf=is_state
        )

    def visit(path: tuple[Any, ...], value: Any) -> Any:
        if not is_state(value):
            return function(path_string(path), value, False)
        rule = getattr(type(value), "slots_of_rule", None)
        fields = []
        for name in value._fields:
            below, at = getattr(value, name), (*path, jax.tree_util.GetAttrKey(name))
            nested = rule is None and any(map(is_state, jax.tree.leaves(below, is_leaf=is_state)))
            own = rule is not None and name in rule
            fields.append(walk(at, below) if nested else function(path_string(at), below, own))
        return type(value)(*fields)

    return walk((), state)
