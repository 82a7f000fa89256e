"""Where the slots of a state are, and how each is taken apart by arrays and put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx.engine.beside import aligned
from gradtx.engine.codes import Stored
from gradtx.engine.rounding import is_narrow
from gradtx.tree import is_inexact, is_none, path_string, real_zeros_like


def is_stored(x: Any) -> bool:
    return isinstance(x, Stored)


def separate(called: object, treedef: Any, slot: Any) -> list[Any]:
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


def stored_as(before: Any, new: Any) -> Any:
    """A new state with its slots in the formats of one that was there before."""

    def slot(old: Any, slots: Any) -> Any:
        if not is_stored(old) or is_stored(slots):
            return slots
        leaves, treedef = jax.tree.flatten(slots, is_leaf=is_none)
        kept = [
            one.encode(x, None) if is_stored(one) else x
            for one, x in zip(separate("init", treedef, old), leaves, strict=True)
        ]
        return together(type(old), treedef, kept)

    return jax.tree.map(slot, before, new, is_leaf=is_stored)


def _one(kind: Any, parts: tuple[Any, ...]) -> Any:
    first, *rest = parts
    if rest:
        plain = any(x is None for x in rest)
    else:
        plain = not is_inexact(first) or not is_narrow(first.dtype)
    return first if plain else kind(*parts)


# What a state declares of its fields --------------------------------------------------------------

Square = Annotated[Array, "square"]
"""In `Slots`: an array of squares, such as a second moment: never negative, and divided by.

Where a rule has one, what comes in is cut to what can be squared, 2^52 in float32 (`Rule.cut`)."""

Copy = Annotated[Array, "copy"]
"""In `Slots`: an array of parameters as they once were."""


class Declared(NamedTuple):
    """What is known of a field of a state."""

    # "signed", "square" or "copy" for slots, "number", "hyperparameter", or "state" for one inside
    kind: str
    by_engine: bool = False  # whether the engine reads and writes it, in whatever format


def declared(slots: type) -> dict[str, Declared]:
    """What a NamedTuple of slots says of each, by the annotation of the field."""
    hints = slots.__annotations__ if hasattr(slots, "__annotations__") else {}
    names = {"Square": "square", "Copy": "copy"}
    found = {}
    for name in slots._fields:  # pyright: ignore[reportAttributeAccessIssue]
        hint = hints.get(name, Array)
        text = hint if isinstance(hint, str) else getattr(hint, "__forward_arg__", None)
        if text is None:
            kind = next((k for k in getattr(hint, "__metadata__", ()) if k in names.values()), None)
        else:  # annotations are postponed: `gx.Square` is text
            kind = names.get(text.rsplit(".", 1)[-1])
        found[name] = Declared(kind or "signed", by_engine=True)
    return found


def start(p: Array, kind: str) -> Array:
    """What a slot of this kind usually holds before the first step of a parameter."""
    zeros = {"signed": jnp.zeros_like, "square": real_zeros_like, "copy": lambda p: p}
    return zeros[kind](p)


def declare(state: type, fields: Mapping[str, Declared]) -> None:
    """Makes a NamedTuple known as a state with these fields; parameters may be NamedTuples too."""
    state.declared_fields = dict(fields)  # pyright: ignore[reportAttributeAccessIssue]


def kinds(state: type) -> list[str]:
    """The kinds of the fields of a state."""
    fields: dict[str, Declared] = state.declared_fields  # pyright: ignore[reportAttributeAccessIssue]
    return [field.kind for field in fields.values()]


def is_state(x: Any) -> bool:
    """Whether `x` is a state that declares its fields."""
    return hasattr(type(x), "declared_fields")


def map_slots(function: Callable[[str, Any, Declared], Any], state: Any) -> Any:
    """`function(path, slot, what is declared of it)` for every slot and number of a state.

    The state of another library declares nothing: its NamedTuples are taken for states, the fields
    that have none inside for slots.
    """

    def is_node(x: Any) -> bool:
        named = isinstance(x, tuple) and hasattr(x, "_fields")
        return is_state(x) or (named and not isinstance(x, Stored))

    def walk(above: tuple[Any, ...], tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, x: visit((*above, *path), x), tree, is_leaf=is_node
        )

    def visit(path: tuple[Any, ...], value: Any) -> Any:
        if not is_node(value):
            return function(path_string(path), value, Declared("number"))
        fields = []
        for name in value._fields:
            below, at = getattr(value, name), (*path, jax.tree_util.GetAttrKey(name))
            known = type(value).declared_fields.get(name) if is_state(value) else None
            if known is None:
                inside = any(map(is_node, jax.tree.leaves(below, is_leaf=is_node)))
                known = Declared("state" if inside else "signed")
            nested = known.kind == "state"
            fields.append(walk(at, below) if nested else function(path_string(at), below, known))
        return type(value)(*fields)

    return walk((), state)
