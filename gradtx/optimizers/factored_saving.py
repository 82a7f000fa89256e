"""How slots of rows and columns are saved: each side by itself, not one after the other.

v_row, v_col          [stack, rows] and [stack, columns], the means of a factored slot
bounds_0, bounds_1    [stack, n], for every axis that is not stacked
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.axes import Axes
from gradtx.optimizers.factoring import (
    number_stacked,
    packed,
    reduced_shape,
    stacked,
    unpacked,
)

Leaf = Mapping[str, Any]
Change = Callable[[Any, Leaf, Any], Leaf]


def shape_in_front(p: Any, axes: Axes | None) -> tuple[int, ...]:
    """The shape of a parameter with its stacked axes first."""
    stack = stacked(axes, len(p.shape))
    rest = (n for i, n in enumerate(p.shape) if i not in stack)
    return (*(p.shape[i] for i in stack), *rest)


def by_sides(**slots: str) -> tuple[Any, Any]:
    """`saved_leaf` and `loaded_leaf` of a rule with `_sides`: for every name, the slot of means.

    The slot `v` holds all entries of arrays that have no sides; a zero stands for what is not kept.
    """

    def saved_leaf(self: Any, leaf: Leaf, p: Any) -> Leaf:
        shape = shape_in_front(p, self.axes)
        sides = self._sides(shape)
        if sides is None:
            return {name: x for name, x in leaf.items() if name not in slots.values()}
        rest = {k: x for k, x in leaf.items() if k != "v" and k not in slots.values()}
        shapes = [reduced_shape(shape, side) for side in (sides[1], sides[0])]
        for name, slot in slots.items():
            row, column = unpacked(leaf[slot], shapes, number_stacked(sides))
            rest[f"{name}_row"] = jnp.squeeze(row, sides[1])
            rest[f"{name}_col"] = jnp.squeeze(column, sides[0])
        return rest

    def loaded_leaf(self: Any, saved: Leaf, p: Any) -> Leaf:
        sides = self._sides(shape_in_front(p, self.axes))
        leaf = dict(saved)
        if sides is None:
            return leaf | {slot: jnp.zeros((), saved["v"].dtype) for slot in slots.values()}
        for name, slot in slots.items():
            row = jnp.expand_dims(leaf.pop(f"{name}_row"), sides[1])
            column = jnp.expand_dims(leaf.pop(f"{name}_col"), sides[0])
            leaf[slot] = packed([row, column], number_stacked(sides))
        return leaf | {"v": jnp.zeros((), next(leaf[slot].dtype for slot in slots.values()))}

    return saved_leaf, loaded_leaf


def by_axes(
    slot: str, shapes_of: Callable[[tuple[int, ...], int], list[tuple[int, ...]]]
) -> tuple[Any, Any]:
    """The same of a slot that has something for every index of every axis."""

    def saved_leaf(self: Any, leaf: Leaf, p: Any) -> Leaf:
        stack = len(stacked(self.axes, len(p.shape)))
        if len(p.shape) - stack < 2:
            return leaf
        shapes = shapes_of(shape_in_front(p, self.axes), stack)
        parts = unpacked(leaf[slot], shapes, stack)
        return {f"{slot}_{i}": x.reshape(*x.shape[:stack], -1) for i, x in enumerate(parts)}

    def loaded_leaf(self: Any, saved: Leaf, p: Any) -> Leaf:
        stack = len(stacked(self.axes, len(p.shape)))
        if len(p.shape) - stack < 2:
            return saved
        shapes = shapes_of(shape_in_front(p, self.axes), stack)
        parts: list[Array] = [saved[f"{slot}_{i}"].reshape(s) for i, s in enumerate(shapes)]
        return {slot: packed(parts, stack)}

    return saved_leaf, loaded_leaf
