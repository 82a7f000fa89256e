"""Nearest points, and proximal maps: the formulas for arrays that links and functions share.

Of complex arrays they change the moduli, and phases stay; a zero counts as positive.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx.axes import adjoint, product
from gradtx.engine.leaf import promotion
from gradtx.engine.placement import on_any_mesh
from gradtx.struct import value_error
from gradtx.tree import (
    P,
    abs2,
    global_norm,
    inner,
    inverse,
    is_inexact,
    is_none,
    modulus,
    real_dtype,
    widest,
)


def with_modulus(x: Array, new: Array) -> Array:
    """`x` with another modulus."""
    if not jnp.iscomplexobj(x):
        return jnp.where(x < 0, -new, new)
    old = modulus(x)
    some = old > 0
    phase = jnp.where(some, x / jnp.where(some, old, 1), 1)
    return jnp.where(old == new, x, new * phase)


def size(x: Array) -> Array:
    """The modulus where `x` is complex, else `x`: what a set of real numbers holds of it."""
    return modulus(x) if jnp.iscomplexobj(x) else x


def with_size(x: Array, new: Array) -> Array:
    """`x` with another `size`."""
    return with_modulus(x, new) if jnp.iscomplexobj(x) else new


def boxed(x: Array, lower: Any, upper: Any) -> Array:
    """Every entry brought into [lower, upper]."""
    return with_size(x, jnp.clip(size(x), lower, upper))


def threshold(x: Array, scale: Any, axes: tuple[int, ...]) -> Array:
    """theta such that max(x - theta, 0) sums to `scale` over the axes, which stay with size one.

    Found by sorting. Held, Wolfe & Crowder 1974; Duchi+ 2008.
    """
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


def above(x: Array, theta: Any) -> Array:
    """max(x - theta, 0)."""
    return with_size(x, jnp.maximum(size(x) - theta, 0))


def soft(x: Array, theta: Any) -> Array:
    """Every modulus less theta, and zero where that is negative: soft thresholding."""
    # With the derivative one, also of zeros, where nothing is taken away.
    less = with_modulus(x, jnp.maximum(modulus(x) - theta, 0))
    return jnp.where(jnp.equal(theta, 0), x, less)


def shortened(x: Array, length: Array, most: Any) -> Array:
    """`x`, of this length, scaled to a length of at most `most`."""
    return x * jnp.where(length > most, most / jnp.where(length > most, length, 1), 1)


def of_length(x: Array, length: Array, new: Any, ones: Array) -> Array:
    """`x`, of this length, scaled to another; from zero, as near to all, equal entries.

    `ones` is the length of a vector of ones.
    """
    some = length > 0
    return jnp.where(some, x * (new / jnp.where(some, length, 1)), new * inverse(ones))


def less_length(x: Array, length: Array, less: Any) -> Array:
    """`x`, of this length, made shorter by `less`, and zero where that is all of it."""
    some = length > less
    return x * jnp.where(some, 1 - less / jnp.where(some, length, 1), 0)


def elastic(x: Array, less: Any, l2: Any) -> Array:
    """`soft`, divided by 1 + l2."""
    return soft(x, less) * (1 / (1 + l2))  # the same bits where the compiler knows the number


def beyond_plane(
    xs: Sequence[Array], normals: Sequence[Array], offset: Any, one_sided: bool
) -> tuple[Array, list[Array]]:
    """t and the normals a, of length one, such that x - t a is the point `onto_plane`."""
    length = global_norm(normals)
    units = [a * inverse(length) for a in normals]
    rows = [(_held(x, a), a, has_moduli(x, a)) for x, a in zip(xs, units, strict=True)]
    level = offset * inverse(length)
    along = sum((_real_product(x, a) for x, a, _ in rows), jnp.zeros_like(length))
    free, bounded = ([row[:2] for row in rows if row[2] == held] for held in (False, True))
    t = _multiplier(free, bounded, level) if bounded else along - level
    far = (along > level) if one_sided else True
    return jnp.where(far & (length > 0), t, 0), units


def onto_plane(
    xs: Sequence[Array], normals: Sequence[Array], offset: Any, one_sided: bool
) -> list[Array]:
    """The nearest point with <normal, x> equal to `offset`, or `one_sided` at most that.

    Of a complex array the normal is one of its moduli, which stay at zero or above, or, where it is
    complex itself, of real and imaginary parts. Where all is zero in the normal, x stays.
    """
    t, units = beyond_plane(xs, normals, offset, one_sided)
    return [moved_back(x, t, a) for x, a in zip(xs, units, strict=True)]


def moved_back(x: Array, t: Array, a: Array) -> Array:
    """x - t a, of moduli where `a` is a normal of these; for t = 0 it is x to the last bit."""
    if not has_moduli(x, a):
        return x - t * a
    return jnp.where(t == 0, x, with_modulus(x, jnp.maximum(modulus(x) - t * a, 0)))


def has_moduli(x: Array, a: Array) -> bool:
    """Whether a normal is one of the moduli of `x`."""
    return jnp.iscomplexobj(x) and not jnp.iscomplexobj(a)


def _held(x: Array, a: Array) -> Array:
    return modulus(x) if has_moduli(x, a) else x


def _real_product(x: Array, a: Array) -> Array:
    return inner(jnp.asarray(a, jnp.result_type(x, a)), x)


def _multiplier(free: Sequence[Any], bounded: Sequence[Any], level: Array) -> Array:
    """t such that <a, x - t a> + <b, max(r - t b, 0)> is `level`, of pairs (x, a) and (r, b).

    That falls with t, and is linear between the t at which an entry of r reaches zero, which are
    sorted. Where it gets nowhere to the level, it is as near as can be.
    """
    r, b = (joined([pair[k] for pair in bounded]) for k in (0, 1))
    moves = b != 0
    turn = jnp.where(moves, r / jnp.where(moves, b, 1), jnp.inf)
    order = jnp.argsort(turn)
    turn, r, b = turn[order], r[order], b[order]

    def between(products: Array) -> Array:
        """Their sums over what is above zero, before the first turn, between two, at last."""
        falling, rising = (jnp.where(side, products, 0) for side in (b > 0, b < 0))
        none = jnp.zeros((1,), products.dtype)
        before = jnp.concatenate([none, jnp.cumsum(rising)])
        return before + jnp.concatenate([jnp.cumsum(falling[::-1])[::-1], none])

    sums = between(b * r) + sum(_real_product(x, a) for x, a in free)
    squares = between(b * b) + sum(jnp.sum(abs2(a)) for _, a in free)
    known = jnp.isfinite(turn)
    at_turns = sums[:-1] - jnp.where(known, turn, 0) * squares[:-1]
    place = jnp.sum(known & (at_turns > level))
    some = squares[place] > 0
    last = jnp.maximum(jnp.sum(known) - 1, 0)
    edge = jnp.where(known[last], turn[jnp.clip(place - 1, 0, last)], 0)
    return jnp.where(some, (sums[place] - level) / jnp.where(some, squares[place], 1), edge)


def update_to(g: Array, p: Array, aim: Array) -> Array:
    """The update that leads to `aim`: `g` itself, to the last bit, where it leads there."""
    return jnp.where(aim == p + g, g, aim - p)


# Singular values ---------------------------------------------------------------------------------


@jax.custom_jvp
def soft_singular(x: Array, less: Array) -> Array:
    """Matrices [..., n, m] with all singular values less `less`, and zero where that is negative.

    Its derivative is finite where singular values are equal or zero, as those of a matrix of low
    rank are; that of the singular vectors is not.
    """
    u, s, v = _singular(x)
    return _between(u, jnp.maximum(s - less, 0), v)


def _singular(x: Array) -> tuple[Array, Array, Array]:
    u, s, v = jnp.linalg.svd(x, full_matrices=False)
    return u, s, v


def _between(u: Array, values: Array, v: Array) -> Array:
    """u diag(values) v."""
    return product(u * values[..., None, :].astype(u.dtype), v)


@soft_singular.defjvp
def _soft_singular_jvp(primals: Any, tangents: Any) -> Any:
    (x, less), (dx, d_less) = primals, tangents
    u, s, v = _singular(x)
    f, slope = jnp.maximum(s - less, 0), (s > less).astype(s.dtype)
    largest = jnp.max(s, axis=-1, initial=0, keepdims=True)[..., None]

    def rows(a: Array) -> Array:
        return a[..., :, None]

    def columns(a: Array) -> Array:
        return a[..., None, :]

    def quotient(over: Array, under: Array) -> Array:
        # Below some digits both are differences of roundings, and the slope is the limit.
        some = jnp.abs(under) > 1e-6 * largest
        limit = (rows(slope) + columns(slope)) / 2
        return jnp.where(some, over / jnp.where(some, under, 1), limit).astype(x.dtype)

    # As for any odd function of the singular values: quotients of its differences and sums.
    inside = product(adjoint(u), product(dx, adjoint(v)))
    even, odd = (inside + adjoint(inside)) / 2, (inside - adjoint(inside)) / 2
    even *= quotient(rows(f) - columns(f), rows(s) - columns(s))
    odd *= quotient(rows(f) + columns(f), rows(s) + columns(s))
    share = jnp.where(s > 0, f / jnp.where(s > 0, s, 1), 0).astype(x.dtype)
    # What leads out of the spaces of both sides.
    left = dx - product(u, product(adjoint(u), dx))
    right = dx - product(product(dx, adjoint(v)), v)
    found = product(u, product(even + odd, v))
    found += product(product(left, adjoint(v)) * columns(share), v)
    found += product(u, rows(share) * product(adjoint(u), right))
    return _between(u, f, v), found - _between(u, slope * d_less, v)


# Trees -------------------------------------------------------------------------------------------


def on_arrays(
    function: Callable[..., Sequence[Array]],
    tree: P,
    *beside: Sequence[Any],
    numbers: tuple[Any, ...] = (),
    static: tuple[Hashable, ...] = (),
) -> P:
    """The tree with other arrays: those of `function(arrays, *beside, *numbers, *static)`.

    The arrays are the floating and complex ones, in one precision, at least float32, in which
    `numbers` are too, and what lists have `beside` each leaf. What comes out has the dtypes that
    came in. Other leaves stay. It is one compiled function for every `function` and `static`.
    """
    leaves, treedef = jax.tree.flatten(tree, is_leaf=is_none)
    places = [i for i, x in enumerate(leaves) if is_inexact(x)]
    if not places:
        return tree
    lists = [[values[i] for i in places] for values in beside]
    news = _compiled(function, static, [leaves[i] for i in places], lists, numbers)
    for i, new in zip(places, news, strict=True):
        leaves[i] = new
    return treedef.unflatten(leaves)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compiled(
    function: Callable[..., Sequence[Array]],
    static: tuple[Hashable, ...],
    arrays: list[Any],
    lists: list[Any],
    numbers: tuple[Any, ...],
) -> list[Array]:
    arrays = [jnp.asarray(x) for x in arrays]
    dtype = widest(arrays)
    wide = [_in_precision(x, dtype) for x in arrays]
    more = jax.tree.map(lambda x: _in_precision(jnp.asarray(x), dtype), [*lists, *numbers])

    def call(wide: list[Array], more: list[Any]) -> Sequence[Array]:
        return function(wide, *more, *static)

    with promotion(dtype):
        news = on_any_mesh(call, wide, more, like=lambda: wide)
    return [new.astype(x.dtype) for x, new in zip(arrays, news, strict=True)]


def _in_precision(x: Array, dtype: Any) -> Array:
    real = real_dtype(dtype)
    return x.astype(np.promote_types(real, np.complex64) if jnp.iscomplexobj(x) else real)


def joined(arrays: Sequence[Array]) -> Array:
    """The entries of all arrays in a row."""
    return jnp.concatenate([x.reshape(-1) for x in arrays])


def number(called: str, name: str, value: Any, least: float | None = 0.0) -> Any:
    """A number for all arrays. Raises `ValueError` for one below `least`, and for an array."""
    if jnp.ndim(value) != 0:
        seen = f"{name} has shape {list(jnp.shape(value))}"
        raise value_error(called, seen, "Pass one number for the whole tree")
    if least is not None and isinstance(value, int | float) and not value >= least:
        raise value_error(called, f"{name} is {value!r}", f"Pass a number of at least {least:g}")
    return value
