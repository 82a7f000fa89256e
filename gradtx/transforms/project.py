"""Projections: the update is changed so that parameters and update end in a set.

They come last in a chain, after the learning rate, and change only what would leave the set. The
set is one for every array, or for every member of a stack (`axes`). For complex arrays it holds the
moduli, and phases stay. What is reached is the set up to the rounding of the sum.

    keep_params_nonnegative  p >= 0               projection_l1_ball    sum |p| <= scale
    projection_box           lower <= p <= upper  projection_l2_ball    |p| <= scale
    projection_simplex       p >= 0, sum = scale  projection_l2_sphere  |p| = scale
                                                  projection_linf_ball  max |p| <= scale
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array, lax

from gradtx.axes import unstacked_axes
from gradtx.hyper import AxesField
from gradtx.rule import HyperField, Rule, Step
from gradtx.struct import within
from gradtx.tree import modulus, norm


def _update_to(g: Array, p: Array, aim: Array) -> Array:
    """The update that leads to `aim`: `g` itself, to the last bit, where it leads there."""
    return jnp.where(aim == p + g, g, aim - p)


def _with_modulus(x: Array, new: Array) -> Array:
    """`x` with another modulus; a zero counts as positive."""
    if not jnp.iscomplexobj(x):
        return jnp.where(x < 0, -new, new)
    old = modulus(x)
    some = old > 0
    phase = jnp.where(some, x / jnp.where(some, old, 1), 1)
    return jnp.where(old == new, x, new * phase)


class keep_params_nonnegative(Rule):
    """Keeps parameters at zero or above: u = max(p + g, 0) - p."""

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        if jnp.iscomplexobj(g):
            return g, slots  # no modulus is negative
        return jnp.where(p + g < 0, -p, g), slots


class projection_box(Rule):
    """Keeps every entry within [lower, upper]."""

    lower: HyperField = within("[-inf, inf]")
    _: KW_ONLY
    upper: HyperField = within("[-inf, inf]")

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def check(self) -> None:
        self.require_order("lower", "upper")

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        moved = p + g
        if jnp.iscomplexobj(g):
            aim = _with_modulus(moved, jnp.clip(modulus(moved), self.lower, self.upper))
        else:
            aim = jnp.clip(moved, self.lower, self.upper)
        return _update_to(g, p, aim), slots


class projection_linf_ball(Rule):
    """Keeps every entry at a modulus of at most `scale`."""

    scale: HyperField = within("(0, inf)", default=1.0)

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        moved = p + g
        aim = _with_modulus(moved, jnp.minimum(modulus(moved), self.scale))
        return _update_to(g, p, aim), slots


class projection_l2_ball(Rule):
    """Keeps the l2 norm at most `scale`: a max-norm constraint when `axes` stack the rows."""

    scale: HyperField = within("(0, inf)", default=1.0)
    _: KW_ONLY
    axes: AxesField = None

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        moved = p + g
        length = norm(moved, unstacked_axes(self.axes, g.ndim))
        outside = length > self.scale
        aim = moved * (self.scale / jnp.maximum(length, self.scale))
        return jnp.where(outside, aim - p, g), slots


class projection_l2_sphere(Rule):
    """Keeps the l2 norm at `scale`; zero, as near to all points, becomes equal entries."""

    scale: HyperField = within("(0, inf)", default=1.0)
    _: KW_ONLY
    axes: AxesField = None

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        axes = unstacked_axes(self.axes, g.ndim)
        moved = p + g
        length = norm(moved, axes)
        some = length > 0
        equal = self.scale / norm(jnp.ones_like(moved), axes)
        aim = jnp.where(some, moved * (self.scale / jnp.where(some, length, 1)), equal)
        return aim - p, slots


class projection_simplex(Rule):
    """Keeps entries at zero or above and their sum at `scale`: u = max(p + g - theta, 0) - p.

    The threshold theta is found by sorting. Held, Wolfe & Crowder 1974; Duchi+ 2008.
    """

    scale: HyperField = within("(0, inf)", default=1.0)
    _: KW_ONLY
    axes: AxesField = None

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        moved = p + g
        size = modulus(moved) if jnp.iscomplexobj(g) else moved
        theta = _threshold(size, self.scale, unstacked_axes(self.axes, g.ndim))
        aim = jnp.maximum(size - theta, 0)
        return (_with_modulus(moved, aim) if jnp.iscomplexobj(g) else aim) - p, slots


class projection_l1_ball(Rule):
    """Keeps the sum of the moduli at most `scale`: outside, soft thresholding. Duchi+ 2008."""

    scale: HyperField = within("(0, inf)", default=1.0)
    _: KW_ONLY
    axes: AxesField = None

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        axes = unstacked_axes(self.axes, g.ndim)
        moved = p + g
        size = modulus(moved)
        outside = jnp.sum(size, axis=axes, keepdims=True) > self.scale
        theta = _threshold(size, self.scale, axes)
        aim = _with_modulus(moved, jnp.maximum(size - theta, 0))
        return jnp.where(outside, aim - p, g), slots


def _threshold(x: Array, scale: Array, axes: tuple[int, ...]) -> Array:
    """theta such that max(x - theta, 0) sums to `scale` over the axes, which stay with size one."""
    kept = [i for i in range(x.ndim) if i not in axes]
    shape = [1 if i in axes else n for i, n in enumerate(x.shape)]
    if x.size == 0:
        return jnp.zeros(shape, x.dtype)
    rows = jnp.transpose(x, (*kept, *axes)).reshape([x.shape[i] for i in kept] + [-1])
    falling = -jnp.sort(-rows, axis=-1)
    excess = jnp.cumsum(falling, axis=-1) - scale
    rank = lax.broadcasted_iota(x.dtype, rows.shape, rows.ndim - 1) + 1
    number = jnp.maximum(jnp.sum(falling * rank > excess, axis=-1, keepdims=True), 1)
    theta = jnp.take_along_axis(excess, number - 1, axis=-1) / number.astype(x.dtype)
    return theta.reshape(shape)
