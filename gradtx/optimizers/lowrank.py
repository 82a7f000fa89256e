"""Adam that remembers only a projection of every matrix, of low rank along its shorter side.

    galore    moves in the span of the largest singular vectors of a gradient
    apollo    scales the gradient as Adam scales a random projection of it

A basis is made anew every so many steps, and the moments stay as they are.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx.axes import (
    adjoint,
    as_matrices,
    frobenius_norm,
    from_matrices,
    layout,
    product,
    shape_of_matrices,
)
from gradtx.engine.keys import random_key
from gradtx.hyper import AxesField
from gradtx.optimizers.adam import corrections, moments
from gradtx.optimizers.roles import Matrices, routed
from gradtx.optimizers.sides import due, eigenbasis, refreshed, without_rounding
from gradtx.paths import Labels
from gradtx.rule import BatchedRule, Hyper, HyperField, Rule, Square, Step
from gradtx.schedules.steps import periods
from gradtx.struct import static, within
from gradtx.transform import GradientTransformation
from gradtx.tree import abs2, inverse, not_begun, real_dtype, root

RANK = 128


def _rank(rule: Any, short: int) -> int:
    return min(RANK if rule.rank is None else rule.rank, short)


def _wide(x: Array) -> Array:
    """The matrices, or their adjoints, with the shorter side first."""
    return x if x.shape[-2] <= x.shape[-1] else adjoint(x)


def _shaped_like(x: Array, like: Array) -> Array:
    return x if like.shape[-2] <= like.shape[-1] else adjoint(x)


def _adam(rule: Any, z: Array, old: Any, t: Array) -> tuple[Array, Array, Array]:
    """Adam's step for z, and its moments."""
    mu, nu = moments(rule, z, old)
    c1, c2 = corrections(rule, t)
    return mu / c1 / (root(nu / c2) + rule.eps), mu, nu


class scale_by_galore(BatchedRule):
    """Adam in the span of the largest singular vectors of the gradient: GaLore.

    u = scale P adam(P^H G), with P the `rank` largest singular vectors, along the shorter side, of
    the gradient of every 200th step. Zhao+ 2024, 2403.03507. Singular vectors have no sign: each
    new one gets that of the old one in its place, so that the momentum goes on; the paper's code
    takes what comes. Differs from Optax, which projects the longer side, with a scale of 1.
    """

    _: KW_ONLY
    b1: HyperField = within("[0, 1)", default=0.9)
    b2: HyperField = within("[0, 1)", default=0.999)
    eps: HyperField = within("(0, inf)", default=1e-8)
    scale: HyperField = 0.25
    every: HyperField = within("(0, inf)", default=200)  # steps from one basis to the next
    # None: 128, and never more than the shorter side.
    rank: int | None = static(default=None, within="[1, inf)")
    stagger: bool = static(default=True)  # False: all matrices in the same step
    axes: AxesField = None  # an `Axes`

    class Slots(NamedTuple):
        mu: Array  # [..., rank, longer side]
        nu: Square
        basis: Array  # [..., shorter side, rank]
        begun: Array  # 0 before the first step of this array, then 1

    cut: ClassVar[bool | None] = None
    in_turn: ClassVar[bool] = True
    numbered: ClassVar[bool] = True

    def init_leaf(self, p: Array) -> Slots:
        *stack, n, m = shape_of_matrices(self.axes, p.shape, "scale_by_galore")
        short, long = min(n, m), max(n, m)
        rank = _rank(self, short)
        shape = (*stack, rank, long)
        basis = jnp.broadcast_to(jnp.eye(short, rank, dtype=p.dtype), (*stack, short, rank))
        zeros = jnp.zeros(shape, p.dtype), jnp.zeros(shape, real_dtype(p.dtype))
        return self.Slots(*zeros, basis, not_begun(p))

    def before_leaf(self, g: Array, slots: Slots, p: Any, step: Step) -> tuple[list[Any], Any]:
        if g.size == 0:
            return [], (g, slots)
        how = layout(self.axes, g.shape, "scale_by_galore")
        y = _wide(*as_matrices(g, how))
        turns = due(step.count, step.place, self.every, y.shape[:-2], self.stagger)
        turns, begun = turns | (slots.begun == 0), jnp.ones_like(slots.begun)
        return [(turns, slots.basis, y)], (g, y, slots._replace(begun=begun), step.t)

    def together(self, x: Any) -> Any:
        turns, old, y = x
        return refreshed(turns, _largest_directions, old, y)

    def after_leaf(self, results: list[Any], kept: Any) -> tuple[Array, Slots]:
        if not results:
            return kept
        (basis,), (g, y, slots, t) = results, kept
        how = layout(self.axes, g.shape, "scale_by_galore")
        z, mu, nu = _adam(self, without_rounding(product(adjoint(basis), y)), slots, t)
        u = self.scale * product(basis, z)
        (like,) = as_matrices(g, how)
        return from_matrices([_shaped_like(u, like)], how), self.Slots(mu, nu, basis, slots.begun)


def _largest_directions(basis: Array, y: Array) -> Array:
    """The largest left singular vectors, with the phases of the old ones; of zeros the old ones."""
    y, basis = lax.stop_gradient((y, basis))
    size = jnp.max(jnp.abs(y), axis=(-2, -1), keepdims=True)
    y = y * inverse(size)
    new = eigenbasis(product(y, adjoint(y)))[..., ::-1][..., : basis.shape[-1]]
    along = jnp.sum(jnp.conj(new) * basis, axis=-2, keepdims=True)
    weight = root(abs2(along))
    new = new * jnp.where(weight > 0, along * inverse(weight), 1)
    return jnp.where(size > 0, new, basis)


class scale_by_apollo(Rule):
    """Scales every channel of the gradient as Adam scales its random projection: APOLLO.

    R = P G with P random normal, `rank` x the shorter side, N = adam(R): channel j (along the
    longer side) is multiplied by |N_j| / (|R_j| + eps), or with `per="tensor"` all by |N| / |R|.
    The norm then grows by 1.01 a step at most, and is multiplied by sqrt(scale). Zhu+ 2024,
    2412.05270. APOLLO-Mini: `rank=1, per="tensor", scale=128.0`. P is drawn anew every 200 steps,
    the same for all matrices of a shape. After an update of zeros the norm is not limited.
    """

    b1: HyperField = within("[0, 1)", default=0.9)
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.999)
    eps: HyperField = within("(0, inf)", default=1e-8)
    scale: HyperField = within("[0, inf)", default=1.0)
    # The most that the norm of an update is multiplied by in one step.
    growth: HyperField = within("(0, inf)", default=1.01)
    every: HyperField = within("(0, inf)", default=200)  # steps from one projection to the next
    seed: int | Array = random_key(default=0)
    # None: 128, and never more than the shorter side.
    rank: int | None = static(default=None, within="[1, inf)")
    per: str = static(default="channel", among=("channel", "tensor"))
    axes: AxesField = None  # an `Axes`

    class Slots(NamedTuple):
        mu: Array  # [..., rank, longer side]
        nu: Square
        size: Array  # the norm of the last update of every matrix

    # A sketch, no noise: a stack of layers is what a list of them is.
    alike: ClassVar[bool] = True

    def init_leaf(self, p: Array) -> Slots:
        *stack, n, m = shape_of_matrices(self.axes, p.shape, "scale_by_apollo")
        shape = (*stack, _rank(self, min(n, m)), max(n, m))
        real = real_dtype(p.dtype)
        return self.Slots(jnp.zeros(shape, p.dtype), jnp.zeros(shape, real), jnp.zeros(stack, real))

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        if g.size == 0:
            return g, slots
        how = layout(self.axes, g.shape, "scale_by_apollo")
        (x,) = as_matrices(g, how)
        y = _wide(x)
        sketch = self._projection(y, step)
        r = product(jnp.broadcast_to(sketch, (*y.shape[:-2], *sketch.shape)), y)
        z, mu, nu = _adam(self, r, slots, step.t)
        axes = (-2, -1) if self.per == "tensor" else (-2,)
        after, before = (root(jnp.sum(abs2(a), axis=axes, keepdims=True)) for a in (z, r))
        u = y * (after / (before + self.eps))
        size = frobenius_norm(u)
        last = slots.size[..., None, None]
        limited = (last > 0) & (size > self.growth * last)
        shrink = jnp.where(limited, self.growth * last * inverse(size), 1)
        u = u * (shrink * root(jnp.asarray(self.scale)))
        size = jnp.squeeze(size * shrink, (-2, -1))
        return from_matrices([_shaped_like(u, x)], how), self.Slots(mu, nu, size)

    def _projection(self, y: Array, step: Step) -> Array:
        """Random normal numbers over sqrt(rank), the same until the next refresh."""
        past = periods(step.count, self.every)[0].astype(jnp.int32)
        shape = _rank(self, y.shape[-2]), y.shape[-2]
        p = jax.random.normal(step.key_of(past), shape, np.float32)  # alike in every precision
        return p.astype(y.dtype) * (1 / math.sqrt(shape[0]))


# Optimizers ------------------------------------------------------------------------------------


def galore(
    learning_rate: Hyper,
    *,
    matrices: Matrices | None = None,
    labels: Labels | None = None,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    scale: Hyper = 0.25,
    every: Hyper = 200,
    rank: int | None = None,
    stagger: bool = True,
    auxiliary: GradientTransformation | None = None,
) -> GradientTransformation:
    """GaLore: `scale_by_galore` and decoupled weight decay for matrices, Adam for the rest.

    `matrices`, `labels` and `auxiliary` as in `muon`.
    """
    direction = scale_by_galore(
        b1=b1, b2=b2, eps=eps, scale=scale, every=every, rank=rank, stagger=stagger
    )
    return routed("galore", direction, learning_rate, weight_decay, matrices, labels, auxiliary)


def apollo(
    learning_rate: Hyper,
    *,
    matrices: Matrices | None = None,
    labels: Labels | None = None,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    scale: Hyper = 1.0,
    growth: Hyper = 1.01,
    every: Hyper = 200,
    seed: int | Array = 0,
    rank: int | None = None,
    per: str = "channel",
    auxiliary: GradientTransformation | None = None,
) -> GradientTransformation:
    """APOLLO: `scale_by_apollo` and decoupled weight decay for matrices, Adam for the rest.

    `matrices`, `labels` and `auxiliary` as in `muon`.
    """
    direction = scale_by_apollo(
        b1, b2=b2, eps=eps, scale=scale, growth=growth, every=every, seed=seed, rank=rank, per=per
    )
    return routed("apollo", direction, learning_rate, weight_decay, matrices, labels, auxiliary)
