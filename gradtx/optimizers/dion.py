"""Orthogonal steps of low rank: `scale_by_dion`."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx.axes import adjoint, as_matrices, from_matrices, layout, product, shape_of_matrices
from gradtx.engine.batches import one_by_one
from gradtx.hyper import AxesField
from gradtx.optimizers.sides import without_dead
from gradtx.rule import BatchedRule, HyperField, Step
from gradtx.struct import static, within
from gradtx.tree import abs2, inverse, root


class scale_by_dion(BatchedRule):
    """The orthogonal factor of a low-rank part of the momentum, found by one power iteration.

    B = mu + g, P = orth(B^T Q), R = B P, mu = B - (1 - beta) R P^T, Q = the columns of R at length
    one, u = sqrt(outputs / inputs) Q P^T for matrices [inputs, outputs]. Ahn+ 2025, 2504.05295.
    Q begins at random, the same for all matrices of a shape.
    """

    beta: HyperField = within("[0, 1)", default=0.95)
    _: KW_ONLY
    # Of the shorter side; None is all of it.
    rank_fraction: float | None = static(default=None, within="(0, 1]")
    axes: AxesField = None  # an `Axes`

    class Slots(NamedTuple):
        mu: Array  # the momentum, with what low rank has left over so far
        basis: Array  # [..., inputs, rank]

    def init_leaf(self, p: Array) -> Slots:
        *stack, n, m = shape_of_matrices(self.axes, p.shape, "scale_by_dion")
        rank = math.ceil((self.rank_fraction or 1) * min(n, m))
        # In float32, so that it is the same in every precision.
        start = jax.random.normal(jax.random.key(0), (n, rank), np.float32)
        basis = jnp.broadcast_to(start.astype(p.dtype), (*stack, n, rank))
        return self.Slots(jnp.zeros_like(p), basis)

    def before_leaf(self, g: Array, slots: Slots, p: Any, step: Step) -> tuple[list[Any], Any]:
        how = layout(self.axes, g.shape, "scale_by_dion")
        if g.size == 0:
            return [], (g, slots)
        (b,) = as_matrices(slots.mu + g, how)
        return [(b, slots.basis)], (b, slots)

    def together(self, x: Any) -> Any:
        b, basis = x
        left = _orthonormal(product(adjoint(b), basis))
        return left, product(b, left)

    def after_leaf(self, results: list[Any], kept: Any) -> tuple[Array, Slots]:
        if not results:
            return kept
        ((left, right),), (b, slots) = results, kept
        how = layout(self.axes, slots.mu.shape, "scale_by_dion")
        n, m = b.shape[-2:]
        size = root(jnp.sum(abs2(right), axis=-2, keepdims=True))
        # Rows and columns without a gradient stay without dust, which would become a whole step.
        alive = [jnp.max(jnp.abs(b), axis=axis) for axis in (-1, -2)]
        mu = without_dead(b - (1 - self.beta) * product(right, adjoint(left)), *alive)
        # A direction that is only rounding gets no step, and keeps its column of the basis.
        least = max(n, m) * jnp.finfo(size.dtype).eps * jnp.max(size, axis=-1, keepdims=True)
        some = size > least
        right = right * jnp.where(some, inverse(size), 0)
        u = math.sqrt(m / n) * without_dead(product(right, adjoint(left)), *alive)
        basis = jnp.where(some, right, slots.basis)
        return from_matrices([u], how), self.Slots(from_matrices([mu], how), basis)


def _orthonormal(x: Array) -> Array:
    """Orthonormal columns that span those of every matrix; of zeros any, without a derivative."""
    some = jnp.any(x != 0, axis=(-2, -1), keepdims=True)
    x = jnp.where(some, x, jnp.eye(*x.shape[-2:], dtype=x.dtype))
    return one_by_one(lambda x: jnp.linalg.qr(x)[0], x)
