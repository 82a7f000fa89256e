"""Changes of a finished direction that depend on the norms of the parameters.

    hyperball          steps by a share of the norm of the parameters, which stays as it was
    floor_by_weight    rows of the direction are at least a share of the rows of the parameters
    radial_brake       takes away a part of what makes the parameters grow

All but `hyperball`, which holds the learning rate, stand before the learning rate.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.axes import input_output_axes, unstacked_axes
from gradtx.hyper import AxesField
from gradtx.rule import HyperField, Rule, Step
from gradtx.struct import within
from gradtx.transforms.norms import zero_for_each_block
from gradtx.tree import inner, inverse, norm, root


class hyperball(Rule):
    """Keeps the norm of every matrix, and takes steps that are shares of it.

    q = p - lr g |p| / max(|g|, eps); the update leads to q radius / |q|, where the radius is the
    norm at the first step. Wen+ 2026, 2606.16899. For matrices: an array that begins at zero stays
    there, so route biases and gains elsewhere.
    """

    learning_rate: HyperField  # the relative step; about sqrt(lr weight_decay) of AdamW
    _: KW_ONLY
    eps: HyperField = within("(0, inf)", default=1e-10)
    axes: AxesField = None  # stacked matrices have norms of their own

    class Slots(NamedTuple):
        radius: Array

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_leaf(self, p: Array) -> Slots:
        # The first step finds it, so that shapes are enough for init.
        return self.Slots(zero_for_each_block(p, self.axes))

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        axes = unstacked_axes(self.axes, g.ndim)
        size, length = norm(p, axes), norm(g, axes)
        known = jnp.expand_dims(slots.radius, axes)
        radius = jnp.where(known > 0, known, size)
        per_length = 1 / jnp.maximum(length, self.eps)
        share = self.learning_rate * length * per_length
        # The cosine of p and g gives |q| without another pass, and without a copy of q.
        cosine = inner(p * inverse(size), g * inverse(length), axes)
        after = size * root(jnp.maximum(1 + share * (share - 2 * cosine), 0))
        # radius / |q| - 1, so that q radius / |q| - p is no difference of large numbers.
        shortfall = (radius - after) * inverse(after)
        rate = self.learning_rate * size * per_length * (1 + shortfall)
        return shortfall * p - rate * g, self.Slots(jnp.squeeze(radius, axes))


class floor_by_weight(Rule):
    """Scales rows of the direction up to a share of the parameters' rows: |u_i| >= ratio |p_i|.

    u_i = g_i max(1, ratio |p_i| / |g_i|), a row being what leads to one output; an array without
    two axes is one row, and a zero row stays zero. One of the changes that Wen+ 2026
    (2606.16899) combine with Hyperball.
    """

    ratio: HyperField = within("[0, inf)", default=0.3825)
    _: KW_ONLY
    axes: AxesField = None  # which axes are inputs and outputs; rows of a stack are rows

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        if self.axes is None and g.ndim < 2:
            row = tuple(range(g.ndim))
        else:
            row = input_output_axes(self.axes, g.ndim, "floor_by_weight").of("i")
        length = norm(g, row)
        least = self.ratio * norm(p, row)
        return g * jnp.where(length > 0, jnp.maximum(1, least * inverse(length)), 1), slots


class radial_brake(Rule):
    """Takes away a part of the direction that would make the parameters grow.

    u = g - (1 - keep) min(<g, e>, 0) e with e = p / |p|: what points outward once the learning rate
    has turned it is multiplied by `keep`. Wen+ 2026, 2606.16899, without the rescaling
    to a norm that follows it there.
    """

    keep: HyperField = within("[0, 1]", default=0.5)
    _: KW_ONLY
    axes: AxesField = None  # stacked matrices have norms of their own

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        axes = unstacked_axes(self.axes, g.ndim)
        per_length = inverse(norm(p, axes))
        along = inner(p * per_length, g, axes)
        return g - ((1 - self.keep) * jnp.minimum(along, 0) * per_length) * p, slots
