"""Preconditioners of one triangular factor for each side, learned by descent: PSGD.

They make the gradients white without a root, an inverse of a matrix or a decomposition.
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
from gradtx.engine.batches import in_turn
from gradtx.engine.keys import random_key
from gradtx.hyper import AxesField
from gradtx.optimizers.roles import Matrices, routed
from gradtx.optimizers.sides import SIDES, Pair, numbers_of_matrices, refreshed, side_shapes
from gradtx.paths import Labels
from gradtx.rule import BatchedRule, Hyper, HyperField, OptionalHyperField, Step
from gradtx.schedules.decay import exponential_decay
from gradtx.struct import static, within
from gradtx.transform import GradientTransformation
from gradtx.tree import abs2, inverse, one_minus_power, real_dtype

LONGEST = 8192
GOLDEN = 0.6180339887498949  # multiples of it are spread evenly over [0, 1)


ANNEALED = exponential_decay(1.0, 1000, math.exp(-1), 500, end_value=0.03)
"""The share of steps on which Q moves: all of the first 500, then fewer and fewer."""


class scale_by_kron(BatchedRule):
    """Makes matrices white by P_L M P_R with P = Q^H Q, which follow the gradients: PSGD-Kron.

    With the corrected momentum M, random normal V and every Q upper triangular:
    A = Q_L (M + damping V) Q_R^H, B = Q_L^-H V Q_R^-1, S = A A^H, T = B B^H,
    Q_L = Q_L - lr triu(S - T) Q_L / |S + T|, and Q_R alike from A^H A and B^H B; then
    u = P_L M P_R, its root mean square clipped. |S| is bounded from below by one power step. Li
    2024, 2402.11858. V is the same for all matrices of a shape. A Q learns whenever the shares of
    steps in `learn` have added up to one; longer sides than `max_dim` have a diagonal.
    """

    b1: HyperField = within("[0, 1)", default=0.9)
    _: KW_ONLY
    precond_lr: HyperField = within("[0, 1]", default=0.1)
    # The share of steps on which Q moves; None: as the paper's code.
    learn: OptionalHyperField = within("[0, 1]", default=None)
    clip: HyperField = within("(0, inf)", default=1.1)  # the largest root mean square of an update
    # Of noise beside the gradient: zeros must not let Q grow for ever.
    damping: HyperField = within("(0, inf)", default=1e-9)
    seed: int | Array = random_key(default=0)
    stagger: bool = static(default=True)  # False: all matrices in the same step
    # Or "shorter", "inputs", "outputs"; others have a diagonal.
    sides: str = static(default="both", among=SIDES)
    max_dim: int | None = static(default=None, within="[0, inf)")  # None: 8192
    axes: AxesField = None  # an `Axes`

    class Slots(NamedTuple):
        mu: Array
        left: Array  # [..., inputs, inputs], upper triangular, or [..., inputs], a diagonal
        right: Array
        carried: Array  # the shares of steps since the last one that learned, for every matrix

    in_turn: ClassVar[bool] = True
    numbered: ClassVar[bool] = True
    lies_apart: ClassVar[bool] = True  # sides of square matrices

    # A sketch, no noise: a stack of layers is what a list of them is.
    alike: ClassVar[bool] = True

    def init_leaf(self, p: Array) -> Slots:
        *stack, n, m = shape_of_matrices(self.axes, p.shape, "scale_by_kron")
        shapes = side_shapes(self.sides, n, m, LONGEST if self.max_dim is None else self.max_dim)
        ones = (
            jnp.eye(k, dtype=p.dtype) if side[0] else jnp.ones(k, p.dtype)
            for k, side in zip((n, m), shapes, strict=True)
        )
        left, right = (jnp.broadcast_to(one, (*stack, *one.shape)) for one in ones)
        return self.Slots(jnp.zeros_like(p), left, right, jnp.zeros(stack, real_dtype(p.dtype)))

    def before_leaf(self, g: Array, slots: Slots, p: Any, step: Step) -> tuple[list[Any], Any]:
        if g.size == 0:
            return [], (g, slots)
        how = layout(self.axes, g.shape, "scale_by_kron")
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        (x,) = as_matrices(mu / one_minus_power(self.b1, step.t), how)
        share = ANNEALED(step.t - 1).astype(step.t.dtype) if self.learn is None else self.learn
        carried = slots.carried + share
        if self.stagger:
            start = GOLDEN * numbers_of_matrices(step.place, x.shape[:-2]).astype(carried.dtype)
            carried = carried + jnp.where(step.t == 1, start - jnp.floor(start), 0)
        turns = carried >= 1
        carried = jnp.where(turns, carried - 1, carried)
        old = slots.left, slots.right
        v = jax.random.normal(step.key, x.shape[-2:], np.float32)  # the same in every precision
        turns = turns if self.stagger else turns.reshape(-1)[0]
        v = jnp.broadcast_to(v.astype(x.dtype), x.shape)
        numbers = (self.damping, self.precond_lr)
        numbers = (
            jnp.broadcast_to(jnp.asarray(n).astype(step.t.dtype), turns.shape) for n in numbers
        )
        return [(turns, old, x, v, *numbers)], (x, slots._replace(mu=mu, carried=carried))

    def together(self, x: Any) -> Any:
        turns, old, *args = x
        return refreshed(turns, _learned, old, *args)

    def after_leaf(self, results: list[Any], kept: Any) -> tuple[Array, Slots]:
        if not results:
            return kept
        ((left, right),), (x, slots) = results, kept
        u = _applied(left, right, _applied(left, right, x, back=False), back=True)
        size = frobenius_norm(u) / math.sqrt(x.shape[-2] * x.shape[-1])
        u = u * jnp.where(size > self.clip, self.clip * inverse(size), 1)
        how = layout(self.axes, slots.mu.shape, "scale_by_kron")
        return from_matrices([u], how), slots._replace(left=left, right=right)


def _learned(old: Pair, x: Array, v: Array, damping: Array, rate: Array) -> Pair:
    """Both factors after a step of descent; no derivative is taken of them."""
    x, (left, right), rate = lax.stop_gradient((x, old, rate))
    a = _applied(left, right, x + _for_matrices(damping, x) * v, back=False)
    b = _solved(left, right, v)
    new = _descended(left, a, b, rate), _descended(right, adjoint(a), adjoint(b), rate)
    new = _balanced(*new, x.ndim)
    kept = jnp.logical_and(*(_all_finite(q, x.ndim) for q in new))
    left, right = (
        jnp.where(_with_axes_of(kept, a), b, a) for a, b in zip((left, right), new, strict=True)
    )
    return left, right


def _for_matrices(number: Array, x: Array) -> Array:
    """A number, or one for every matrix of a stack, beside these."""
    return (number[..., None, None] if number.ndim else number).astype(real_dtype(x.dtype))


def _is_diagonal(side: Array, x: Array) -> bool:
    return side.ndim < x.ndim


def _applied(left: Array, right: Array, x: Array, back: bool) -> Array:
    """Q_L X Q_R^H, or back Q_L^H X Q_R."""
    if _is_diagonal(left, x):
        x = (jnp.conj(left) if back else left)[..., :, None] * x
    else:
        x = product(adjoint(left) if back else left, x)
    if _is_diagonal(right, x):
        return x * (right if back else jnp.conj(right))[..., None, :]
    return product(x, right if back else adjoint(right))


_solve_right = in_turn(lax.linalg.triangular_solve)


@in_turn
def _solve_left(a: Array, b: Array) -> Array:
    return lax.linalg.triangular_solve(a, b, left_side=True, transpose_a=True, conjugate_a=True)


def _solved(left: Array, right: Array, v: Array) -> Array:
    """Q_L^-H V Q_R^-1."""
    v = v / jnp.conj(left)[..., :, None] if _is_diagonal(left, v) else _solve_left(left, v)
    if _is_diagonal(right, v):
        return v / right[..., None, :]
    return _solve_right(right, v)


def _descended(q: Array, a: Array, b: Array, rate: Any) -> Array:
    """Q - rate triu(A A^H - B B^H) Q / |A A^H + B B^H|."""
    if _is_diagonal(q, a):
        s, t = jnp.sum(abs2(a), axis=-1), jnp.sum(abs2(b), axis=-1)
        largest = jnp.max(s + t, axis=-1, keepdims=True)
        rate = rate[..., None] if rate.ndim else rate
        return q - (rate * inverse(largest) * (s - t)).astype(q.dtype) * q
    s, t = product(a, adjoint(a)), product(b, adjoint(b))
    rate = _for_matrices(rate, a)
    return q - rate * inverse(_eigenvalue_bound(s + t)) * product(jnp.triu(s - t), q)


def _eigenvalue_bound(h: Array) -> Array:
    """A bound from below of the largest eigenvalue of Hermitian matrices, [..., 1, 1].

    One power step from the longest column.
    """
    scale = jnp.max(jnp.abs(h), axis=(-2, -1), keepdims=True)
    h = h * inverse(scale)
    place = jnp.argmax(jnp.sum(abs2(h), axis=-2, keepdims=True), axis=-1, keepdims=True)
    x = jnp.take_along_axis(h, place, axis=-1)
    return scale * frobenius_norm(product(h, x)) * inverse(frobenius_norm(x))


def _largest_entry(q: Array, ndim: int) -> Array:
    return jnp.max(jnp.abs(q), axis=(-2, -1) if q.ndim == ndim else -1)


def _all_finite(q: Array, ndim: int) -> Array:
    return jnp.all(jnp.isfinite(q), axis=(-2, -1) if q.ndim == ndim else -1)


def _with_axes_of(number: Array, q: Array) -> Array:
    return number.reshape(*number.shape, *[1] * (q.ndim - number.ndim))


def _balanced(left: Array, right: Array, ndim: int) -> Pair:
    """Both factors with the same largest entry, which changes no update."""
    a, b = _largest_entry(left, ndim), _largest_entry(right, ndim)
    sound = (a > 0) & (b > 0)
    factor = jnp.sqrt(jnp.where(sound, b, 1) / jnp.where(sound, a, 1))
    return left * _with_axes_of(factor, left), right * _with_axes_of(1 / factor, right)


def psgd_kron(
    learning_rate: Hyper,
    *,
    matrices: Matrices | None = None,
    labels: Labels | None = None,
    b1: Hyper = 0.9,
    precond_lr: Hyper = 0.1,
    weight_decay: Hyper = 0.0,
    learn: Hyper | None = None,
    clip: Hyper = 1.1,
    damping: Hyper = 1e-9,
    seed: int | Array = 0,
    stagger: bool = True,
    sides: str = "both",
    max_dim: int | None = None,
    auxiliary: GradientTransformation | None = None,
) -> GradientTransformation:
    """PSGD: `scale_by_kron` and decoupled weight decay for matrices, Adam (b2 0.95) for the rest.

    Its learning rate is a third or less of Adam's. `matrices`, `labels` and `auxiliary` as in
    `muon`.
    """
    direction = scale_by_kron(
        b1,
        precond_lr=precond_lr,
        learn=learn,
        clip=clip,
        damping=damping,
        seed=seed,
        stagger=stagger,
        sides=sides,
        max_dim=max_dim,
    )
    return routed("psgd_kron", direction, learning_rate, weight_decay, matrices, labels, auxiliary)
