"""Projections: the update is changed so that parameters and update end in a set.

They come last in a chain, after the learning rate, and change only what would leave the set. The
set is one for every array, or for every member of a stack (`axes`); `gradtx.projections` has the
same as functions, of all arrays together. For complex arrays it holds the moduli, and phases stay.
What is reached is the set up to the rounding of the sum.

    keep_params_nonnegative  p >= 0               projection_l1_ball     sum |p| <= scale
    projection_box           lower <= p <= upper  projection_l1_sphere   sum |p| = scale
    projection_hypercube     0 <= p <= scale      projection_l2_ball     |p| <= scale
    projection_simplex       p >= 0, sum = scale  projection_l2_sphere   |p| = scale
    projection_half_space    <normal, p> <= ...   projection_linf_ball   max |p| <= scale
    projection_hyperplane    <normal, p> = ...
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from gradtx.axes import unstacked_axes
from gradtx.hyper import AxesField
from gradtx.nearest import (
    above,
    beyond_plane,
    boxed,
    has_moduli,
    moved_back,
    of_length,
    shortened,
    size,
    soft,
    threshold,
    update_to,
    with_modulus,
)
from gradtx.rule import HyperField, Rule, Step
from gradtx.struct import within
from gradtx.tree import modulus, norm


class keep_params_nonnegative(Rule):
    """Keeps parameters at zero or above: u = max(p + g, 0) - p."""

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        if jnp.iscomplexobj(g):
            return g, slots  # no modulus is negative
        return update_to(g, p, boxed(p + g, 0, jnp.inf)), slots


class projection_box(Rule):
    """Keeps every entry within [lower, upper]."""

    lower: HyperField = within("[-inf, inf]")
    _: KW_ONLY
    upper: HyperField = within("[-inf, inf]")

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def check(self) -> None:
        self.require_order("lower", "upper")

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return update_to(g, p, boxed(p + g, self.lower, self.upper)), slots


class projection_hypercube(Rule):
    """Keeps every entry within [0, scale]."""

    scale: HyperField = within("(0, inf]", default=1.0)

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return update_to(g, p, boxed(p + g, 0, self.scale)), slots


class projection_linf_ball(Rule):
    """Keeps every entry at a modulus of at most `scale`."""

    scale: HyperField = within("(0, inf)", default=1.0)

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        moved = p + g
        aim = with_modulus(moved, jnp.minimum(modulus(moved), self.scale))
        return update_to(g, p, aim), slots


class projection_l2_ball(Rule):
    """Keeps the l2 norm at most `scale`: a max-norm constraint when `axes` stack the rows."""

    scale: HyperField = within("(0, inf)", default=1.0)
    _: KW_ONLY
    axes: AxesField = None

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        moved = p + g
        length = norm(moved, unstacked_axes(self.axes, g.ndim))
        aim = shortened(moved, length, self.scale)
        return jnp.where(length > self.scale, aim - p, g), slots


class projection_l2_sphere(Rule):
    """Keeps the l2 norm at `scale`; zero, as near to all points, becomes equal entries."""

    scale: HyperField = within("(0, inf)", default=1.0)
    _: KW_ONLY
    axes: AxesField = None

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        axes = unstacked_axes(self.axes, g.ndim)
        moved = p + g
        ones = norm(jnp.ones_like(moved), axes)
        return of_length(moved, norm(moved, axes), self.scale, ones) - p, slots


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
        theta = threshold(size(moved), self.scale, unstacked_axes(self.axes, g.ndim))
        return above(moved, theta) - p, slots


class projection_l1_ball(Rule):
    """Keeps the sum of the moduli at most `scale`: outside, soft thresholding. Duchi+ 2008."""

    scale: HyperField = within("(0, inf)", default=1.0)
    _: KW_ONLY
    axes: AxesField = None

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        axes = unstacked_axes(self.axes, g.ndim)
        moved = p + g
        outside = jnp.sum(modulus(moved), axis=axes, keepdims=True) > self.scale
        aim = soft(moved, threshold(modulus(moved), self.scale, axes))
        return jnp.where(outside, aim - p, g), slots


class projection_l1_sphere(Rule):
    """Keeps the sum of the moduli at `scale`; a zero that becomes another number is positive."""

    scale: HyperField = within("(0, inf)", default=1.0)
    _: KW_ONLY
    axes: AxesField = None

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        moved = p + g
        theta = threshold(modulus(moved), self.scale, unstacked_axes(self.axes, g.ndim))
        return soft(moved, theta) - p, slots


def _onto_plane(g: Array, p: Array, normal: Any, offset: Array, one_sided: bool) -> Array:
    normals = [jnp.broadcast_to(normal, g.shape)]
    t, (unit,) = beyond_plane([p + g], normals, offset, one_sided)
    if has_moduli(g, unit):
        return update_to(g, p, moved_back(p + g, t, unit))
    return g - t * unit


class projection_half_space(Rule):
    """Keeps <normal, p> at most `offset`: beyond, the distance is taken back along the normal.

    A number as `normal` is one for all entries, `along` gives each its own.
    """

    normal: HyperField
    _: KW_ONLY
    offset: HyperField

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return _onto_plane(g, p, self.normal, self.offset, one_sided=True), slots


class projection_hyperplane(Rule):
    """Keeps <normal, p> at `offset`; `normal` as in `projection_half_space`."""

    normal: HyperField
    _: KW_ONLY
    offset: HyperField

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return _onto_plane(g, p, self.normal, self.offset, one_sided=False), slots
