"""What methods with a matrix for each side of a matrix share.

Matrices are [..., n inputs, m outputs]. The side of the inputs is called left, that of the outputs
right. Its matrices are [..., n, n], or [..., 1, n] if they have a diagonal only. A side that is
left alone has matrices [..., 0, 0], which cost nothing and act as identity.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from gradtx.axes import adjoint, frobenius_norm, product
from gradtx.engine.batches import in_turn
from gradtx.schedules.steps import as_steps, periods
from gradtx.tree import abs2

LONGEST = 10_000  # the `max_dim` where none is given
SIDES = ("both", "shorter", "inputs", "outputs")
ROOTS = ("eigh", "newton")

Pair = tuple[Array, Array]
"""Something for the left and for the right side."""


Shapes = tuple[tuple[int, int], tuple[int, int]]


def side_shapes(sides: str, n: int, m: int, max_dim: int | None, diagonal: bool = False) -> Shapes:
    """The shapes of the matrices of both sides.

    A side is left alone if it is not asked for or has one entry. So is one that is longer than
    `max_dim`, or it keeps a diagonal.
    """
    longest = LONGEST if max_dim is None else max_dim
    left = sides in ("both", "inputs") or (sides == "shorter" and n <= m)
    right = sides in ("both", "outputs") or (sides == "shorter" and m < n)

    def shape(k: int, asked: bool) -> tuple[int, int]:
        if not asked or k <= 1 or (k > longest and not diagonal):
            return 0, 0
        return (k if k <= longest else 1), k

    return shape(n, left), shape(m, right)


def zeros_and_identities(
    shape: Sequence[int], dtype: DTypeLike, sides: str, max_dim: int | None, diagonal: bool = False
) -> tuple[Array, ...]:
    """Averages of both sides of matrices [..., n, m] before the first step, then what acts there.

    That is a basis or a root.
    """
    *stack, n, m = shape
    shapes = [(*stack, *side) for side in side_shapes(sides, n, m, max_dim, diagonal)]
    zeros = (jnp.zeros(side, dtype) for side in shapes)
    return *zeros, *(_identity(side, dtype) for side in shapes)


def _identity(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    is_full = shape[-2] == shape[-1]
    return jnp.broadcast_to(jnp.eye(shape[-1], dtype=dtype) if is_full else 1, shape).astype(dtype)


def scaled_identity(size: Array, side: Array) -> Array:
    """A number [..., 1, 1] for every matrix times the identity, of the shape of a side."""
    return size.astype(side.dtype) * _identity(side.shape, side.dtype)


# Products --------------------------------------------------------------------------------------


def has_matrix(side: Array) -> bool:
    """Whether a side has a matrix at all."""
    return side.shape[-1] > 0


def is_diagonal(side: Array) -> bool:
    return side.shape[-2] < side.shape[-1]


def on_both_sides(left: Array, x: Array, right: Array) -> Array:
    """left x right, where a side that is left alone changes nothing."""
    if has_matrix(left):
        x = left.mT * x if is_diagonal(left) else product(left, x)
    if has_matrix(right):
        x = x * right if is_diagonal(right) else product(x, right)
    return x


def grams(x: Array, left: Array, right: Array) -> Pair:
    """X X^H and X^H X, or their diagonals, in the place of what both sides have."""

    def gram(x: Array, side: Array) -> Array:
        if is_diagonal(side):
            return jnp.sum(abs2(x), axis=-1)[..., None, :].astype(x.dtype)
        return product(x, adjoint(x)) if has_matrix(side) else side

    return gram(x, left), gram(adjoint(x), right)


def without_rounding(x: Array) -> Array:
    """Matrices in a basis, with zeros for entries so small that they are only rounding.

    Else a direction in which the gradient has no part would get a step like all others.
    """
    size = jnp.sqrt(abs2(lax.stop_gradient(x)))
    largest = jnp.max(size, axis=(-2, -1), keepdims=True)
    return jnp.where(size > 4 * math.sqrt(sum(x.shape[-2:])) * _eps(size) * largest, x, 0)


def without_dead(u: Array, rows: Array, columns: Array) -> Array:
    """Matrices with zeros in the rows and columns for which there is a zero, as for dead units.

    Turned into a basis and back, what never had a gradient would move by rounding.
    """
    return jnp.where((rows != 0)[..., :, None] & (columns != 0)[..., None, :], u, 0)


def diagonals(sides: Pair, like: Array) -> tuple[Array, Array]:
    """The diagonals of both sides of matrices, which are zero where no gradient was ever."""
    rows, columns = (
        a[..., 0, :] if is_diagonal(a) else jnp.diagonal(a, axis1=-2, axis2=-1) for a in sides
    )
    n, m = like.shape[-2:]
    stack = like.shape[:-2]
    return (
        rows if has_matrix(sides[0]) else jnp.ones((*stack, n), like.dtype),
        columns if has_matrix(sides[1]) else jnp.ones((*stack, m), like.dtype),
    )


def _eps(x: Array) -> float:
    return float(jnp.finfo(x.dtype).eps)


def averages(old: Pair, x: Array, decay: Any, weight: Any) -> Pair:
    """Those of X X^H and X^H X, once this X is in them."""
    left, right = (decay * a + weight * b for a, b in zip(old, grams(x, *old), strict=True))
    return left, right


# Turns -----------------------------------------------------------------------------------------


def due(count: Array, number: Any, every: Any, stack: tuple[int, ...], stagger: bool) -> Array:
    """Which matrices have their turn when `count` steps are done: one step in `every`.

    Staggered, array after array is one step later, and so is matrix after matrix of a stack: a
    stack has the turns of the list of its layers. Else all have theirs at once.
    """
    late = numbers_of_matrices(number, stack) if stagger else 0
    return as_steps(periods(count - late, every)[1]) < 1


def numbers_of_matrices(number: Any, stack: tuple[int, ...]) -> Array:
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
    stack, k = turns.shape, turns.ndim
    flat = jax.tree.map(lambda x: x.reshape(turns.size, *x.shape[k:]), (turns, old, args))
    new = lax.map(lambda row: lax.cond(row[0], function, kept, row[1], *row[2]), flat)
    return jax.tree.map(lambda x: x.reshape(*stack, *x.shape[1:]), new)


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
    """Eigenvectors, as columns, of Hermitian matrices [..., n, n]; for zeros the identity."""
    return _eigh(_scaled(a)[0])[1] if has_matrix(a) else a


def same_order(shape: tuple[int, ...]) -> Array:
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
    order = jnp.where(size[..., 0] > 0, order, same_order(order.shape))
    basis = jnp.take_along_axis(basis, order[..., None, :], axis=-1)
    new = _qr(product(a, basis))[0]
    return jnp.where(size > 0, new, basis), order


def inverse_root(a: Array, exponent: Any, eps: Any, roots: str = "eigh") -> Array:
    """(A + eps)^-exponent of Hermitian matrices [..., n, n] without negative eigenvalues.

    Both numbers may be [..., 1, 1], one for every matrix.
    An eigenvalue that is less than the rounding of the largest counts as that. `roots="newton"`
    takes products only, for an exponent of one over a whole number, and adds that rounding to all.
    """
    if not has_matrix(a):
        return a
    scaled, size = _scaled(a)
    eps = jnp.broadcast_to(lax.stop_gradient(jnp.asarray(eps)), size.shape)
    least = a.shape[-1] * _eps(size)
    if roots == "newton" and not is_diagonal(a):
        return _coupled_newton(scaled, size, round(1 / exponent), least * size + eps)
    exponent = jnp.broadcast_to(lax.stop_gradient(jnp.asarray(exponent)), size.shape)
    if is_diagonal(a):
        values = jnp.maximum(scaled.real, least) * size + eps
        return (values**-exponent).astype(a.dtype)
    values, vectors = _eigh(scaled)
    values = jnp.maximum(values, least) * size[..., 0] + eps[..., 0]
    powers = (values ** -exponent[..., 0]).astype(vectors.dtype)
    return product(vectors * powers[..., None, :], adjoint(vectors))


def _coupled_newton(a: Array, size: Array, p: int, ridge: Array) -> Array:
    """(size A + ridge)^(-1/p), of which M = X^p A goes to the identity.

    T = ((p + 1) I - M) / p, X = X T, M = T^p M from M = A (p + 1) / (2 |A|) on. Iannazzo 2006;
    Anil+ 2020, 2002.09018.
    """
    eye = _identity(a.shape, a.dtype)
    whole = size * frobenius_norm(a) + ridge  # no eigenvalue is more
    a = a * (size / whole).astype(a.dtype) + (ridge / whole).astype(a.dtype) * eye
    start = (p + 1) / 2
    tolerance = 8 * math.sqrt(a.shape[-1]) * _eps(size)

    def away(m: Array) -> Array:
        return jnp.max(jnp.abs(m - eye))

    def unfinished(carry: Any) -> Array:
        _, m, before, steps = carry
        now = away(m)
        return (steps < 100) & (now > tolerance) & ((now < before) | (now > 0.1))

    def step(carry: Any) -> Any:
        x, m, _, steps = carry
        t = ((p + 1) * eye - m) / p
        power = functools.reduce(product, [t] * p)
        return product(x, t), product(power, m), away(m), steps + 1

    far, none = jnp.full((), jnp.inf, size.dtype), jnp.zeros((), jnp.int32)
    first = start ** (1 / p) * eye, start * a, far, none
    x = lax.while_loop(unfinished, step, first)[0]
    return x * (whole ** (-1 / p)).astype(x.dtype)
