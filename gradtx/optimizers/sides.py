"""What methods with a matrix for each side of a matrix share.

Matrices are [..., n inputs, m outputs]. The side of the inputs is called left, that of the outputs
right. A side that is left alone has matrices [..., 0, 0], which cost nothing and act as identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.shard_alike import shard_alike

from gradtx.batches import in_turn
from gradtx.optimizers.muon import refuse_other
from gradtx.tree import abs2

LONGEST = 10_000  # sides above this are left alone if nothing else is said
SIDES = ("both", "shorter", "inputs", "outputs")

Pair = tuple[Array, Array]
"""Something for the left and for the right side."""


def refuse_other_sides(rule: Any) -> None:
    refuse_other(rule, "sides", SIDES)


def sizes(sides: str, n: int, m: int, max_dim: int | None) -> tuple[int, int]:
    """How large the matrices of both sides are; zero for a side that is left alone.

    That is a side that is not asked for, is longer than `max_dim` or has one entry.
    """
    longest = LONGEST if max_dim is None else max_dim
    wanted = {
        "both": (True, True),
        "shorter": (n <= m, m < n),
        "inputs": (True, False),
        "outputs": (False, True),
    }[sides]
    left, right = (
        k if asked and 1 < k <= longest else 0 for k, asked in zip((n, m), wanted, strict=True)
    )
    return left, right


def zeros(stack: tuple[int, ...], size: tuple[int, int], dtype: Any) -> Pair:
    left, right = (jnp.zeros((*stack, k, k), dtype) for k in size)
    return left, right


def identities(stack: tuple[int, ...], size: tuple[int, int], dtype: Any) -> Pair:
    left, right = (jnp.broadcast_to(jnp.eye(k, dtype=dtype), (*stack, k, k)) for k in size)
    return left, right


def multiples(size: Array, side: Array) -> Array:
    """A number [..., 1, 1] for every matrix times the identity, of the shape of a side."""
    return size.astype(side.dtype) * jnp.broadcast_to(
        jnp.eye(side.shape[-1], dtype=side.dtype), side.shape
    )


def placed(old: Sequence[Array], new: Sequence[Array]) -> list[Array]:
    """The new slots on the devices of the old: a sharded gradient would spread them elsewhere."""
    return [shard_alike(x, y)[1] for x, y in zip(old, new, strict=True)]


# Products --------------------------------------------------------------------------------------


def product(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)


def adjoint(x: Array) -> Array:
    return jnp.conj(x.mT)


def acts(side: Array) -> bool:
    """Whether a side has a matrix at all."""
    return side.shape[-1] > 0


def between(left: Array, x: Array, right: Array) -> Array:
    """left x right, where a side that is left alone changes nothing."""
    x = product(left, x) if acts(left) else x
    return product(x, right) if acts(right) else x


def grams(x: Array, left: Array, right: Array) -> Pair:
    """X X^H and X^H X, in the place of what both sides have."""
    return (
        product(x, adjoint(x)) if acts(left) else left,
        product(adjoint(x), x) if acts(right) else right,
    )


def without_rounding(x: Array) -> Array:
    """Turned matrices, zero where an entry is so small that it is rounding of the others.

    Where a gradient has no part it would else get, by its sign, a step like all others.
    """
    size = jnp.sqrt(abs2(lax.stop_gradient(x)))
    largest = jnp.max(size, axis=(-2, -1), keepdims=True)
    return jnp.where(size > 4 * math.sqrt(sum(x.shape[-2:])) * _eps(size) * largest, x, 0)


def _eps(x: Array) -> float:
    return float(jnp.finfo(x.dtype).eps)


def averages(old: Pair, new: Pair, decay: Any, weight: Any) -> Pair:
    left, right = (decay * a + weight * b for a, b in zip(old, new, strict=True))
    return left, right


# Turns -----------------------------------------------------------------------------------------


def due(count: Array, number: Array, every: Any, stack: tuple[int, ...], stagger: bool) -> Array:
    """Which matrices have their turn when `count` steps are done: one step in `every`.

    Staggered, array after array is one step later, and so is matrix after matrix of a stack: a
    stack has the turns of the list of its layers. Else all have theirs at once.
    """
    if not stagger:
        return jnp.mod(count, every) < 1
    return jnp.mod(count - places(number, stack).astype(count.dtype), every) < 1


def places(number: Array, stack: tuple[int, ...]) -> Array:
    """The number of every matrix of a stack, whose first one has the number of the array."""
    along = (lax.broadcasted_iota(jnp.int32, stack, axis) for axis in range(len(stack)))
    return number + sum(along, jnp.zeros(stack, jnp.int32))


def refreshed(turns: Array, function: Callable[..., Any], old: Any, *args: Any) -> Any:
    """`function(old, *args)` for the matrices that have their turn, `old` for the others.

    What is not due is not computed, unless under `jax.vmap`.
    """

    def kept(old: Any, *args: Any) -> Any:
        return old

    if turns.ndim == 0:
        return lax.cond(turns, function, kept, old, *args)
    stack = turns.shape
    flat = _reshaped((turns, old, args), len(stack), (math.prod(stack),))
    new = lax.map(lambda row: lax.cond(row[0], function, kept, row[1], *row[2]), flat)
    return _reshaped(new, 1, stack)


def _reshaped(values: Any, axes: int, stack: tuple[int, ...]) -> Any:
    """The first axes of every array in the place of others."""
    if isinstance(values, tuple):
        return tuple(_reshaped(x, axes, stack) for x in values)
    return values.reshape(*stack, *values.shape[axes:])


# Bases and roots: no derivative is taken, that of eigenvectors has poles where values are equal ---


def _scaled(a: Array) -> tuple[Array, Array]:
    """A matrix with a largest entry of one, and what that was: zeros stay zeros."""
    a = lax.stop_gradient(a)
    size = jnp.max(jnp.abs(a), axis=(-2, -1), keepdims=True)
    size = jnp.where(size > 4 * jnp.finfo(size.dtype).tiny, size, 0)
    return jnp.where(size > 0, a / jnp.where(size > 0, size, 1), 0), size


_eigh = in_turn(lambda a: tuple(jnp.linalg.eigh(a)))
_qr = in_turn(lambda a: tuple(jnp.linalg.qr(a)))


def eigenbasis(a: Array) -> Array:
    """Eigenvectors, as columns, of Hermitian matrices [..., n, n]; of zeros the axes."""
    return _eigh(_scaled(a)[0])[1] if acts(a) else a


def in_place(shape: tuple[int, ...]) -> Array:
    """The order that changes nothing, for columns of stacked matrices."""
    return lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)


def power_step(a: Array, basis: Array) -> tuple[Array, Array]:
    """One power iteration from a basis, and the order into which it brought its columns first.

    The order is that of their Rayleigh quotients, the largest first. A matrix of zeros keeps the
    basis as it is.
    """
    a, size = _scaled(a)
    basis = lax.stop_gradient(basis)
    values = jnp.sum((jnp.conj(basis) * product(a, basis)).real, axis=-2)
    order = jnp.argsort(values, axis=-1, descending=True).astype(jnp.int32)
    order = jnp.where(size[..., 0] > 0, order, in_place(order.shape))
    basis = jnp.take_along_axis(basis, order[..., None, :], axis=-1)
    new = _qr(product(a, basis))[0]
    return jnp.where(size > 0, new, basis), order


def inverse_root(a: Array, exponent: Any, eps: Any) -> Array:
    """(A + eps)^-exponent of Hermitian matrices [..., n, n] without negative eigenvalues.

    An eigenvalue that is less than the rounding of the largest counts as that.
    """
    if not acts(a):
        return a
    exponent, eps = lax.stop_gradient((jnp.asarray(exponent), jnp.asarray(eps)))
    scaled, size = _scaled(a)
    values, vectors = _eigh(scaled)
    least = a.shape[-1] * _eps(values)
    values = jnp.maximum(values, least) * size[..., 0] + eps
    powers = (values**-exponent).astype(vectors.dtype)
    return product(vectors * powers[..., None, :], adjoint(vectors))
