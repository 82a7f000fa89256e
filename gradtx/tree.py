"""Arithmetic on arrays and trees: safe roots, wide dtypes, norms, paths."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

Tree = Any
"""A pytree of arrays."""

Extra = Mapping[str, Any]
"""The arguments of `update` beside gradients, state and parameters, by name."""

Params = Tree
"""What is trained: any pytree of arrays, such as a dict, a dataclass or a module."""

Updates = Tree
"""What is added to parameters, or a gradient on its way there: a tree like theirs."""

P = TypeVar("P")  # the type of parameters, which a step keeps
U = TypeVar("U")  # the type of updates, which an update keeps


# One array -----------------------------------------------------------------------------------


@jax.custom_jvp
def root(x: Array) -> Array:
    """Square root whose derivative at zero is zero instead of infinite."""
    return lax.sqrt(x)


@root.defjvp
def _root_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (dx,) = primals, tangents
    positive = x > 0
    y = root(x)
    return y, jnp.where(positive, dx * 0.5 / jnp.where(positive, y, 1), 0)


@jax.custom_jvp
def cube_root(x: Array) -> Array:
    """Cube root whose derivative at zero is zero instead of infinite."""
    return jnp.cbrt(x)


@cube_root.defjvp
def _cube_root_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (dx,) = primals, tangents
    some = x != 0
    y = cube_root(x)
    return y, jnp.where(some, dx / (3 * lax.square(jnp.where(some, y, 1))), 0)


def abs2(x: Array) -> Array:
    """|x|^2, real, with a derivative that is finite at zero (that of `jnp.abs` is not)."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        return lax.square(lax.real(x)) + lax.square(lax.imag(x))
    return lax.square(x)


@jax.custom_jvp
def one_minus_power(decay: Array, t: Array) -> Array:
    """1 - decay^t: the sum of the weights in a moving average from zero after `t` steps.

    Dividing by it corrects the bias, as in Adam. Accurate where `decay` is close to one: as a plain
    difference, with decay = 0.999 in float32, it would be off by 1e-5 in the first steps. `t` is at
    least 1, and no derivative is taken with respect to it.
    """
    return -lax.expm1(t * lax.log(decay))


@one_minus_power.defjvp
def _one_minus_power_jvp(primals: Any, tangents: Any) -> Any:
    (decay, t), (d_decay, _) = primals, tangents
    return one_minus_power(decay, t), -t * decay ** (t - 1) * d_decay


def modulus(x: Array) -> Array:
    """|x|, with a derivative that is finite at zero for complex arrays too."""
    return root(abs2(x)) if jnp.iscomplexobj(x) else jnp.abs(x)


def inverse(x: Array) -> Array:
    """1 / x of sizes, and zero for zero, or what is so near to it that 1 / x is not finite."""
    some = x > 4 * jnp.finfo(x.dtype).tiny
    return jnp.where(some, 1 / jnp.where(some, x, 1), 0)


def over(x: Array, size: Array) -> Array:
    """x / size, and zero where size is below the roots of all squares that the dtype holds.

    There |x|^2 has underflowed too. The derivative is finite at zero.
    """
    least = float(jnp.finfo(size.dtype).tiny) ** 0.5
    return x / jnp.where(size <= least, jnp.inf, size)


def inner(x: Array, y: Array, axes: tuple[int, ...] | None = None) -> Array:
    """The real inner product: a scalar, or over some axes, which stay with size one."""
    products = (jnp.conj(x) * y).real if jnp.iscomplexobj(x) else x * y
    return jnp.sum(products, axis=axes, keepdims=axes is not None)


def real_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """The dtype of the absolute value of an array of dtype `dtype`."""
    return np.dtype(jnp.finfo(dtype).dtype)


def not_begun(p: Array) -> Array:
    """The slot of an array that says whether it has had its first step: 0, and 1 from then on.

    A count that all arrays share would not know of one whose gradient was `None` at first.
    """
    return jnp.zeros((), real_dtype(p.dtype))


def real_zeros_like(p: Array) -> Array:
    """Zeros of the shape of `p` for a quantity like |p|^2, which is real for complex arrays."""
    return jnp.zeros_like(p, dtype=real_dtype(p.dtype))


def is_inexact(x: Any) -> bool:
    """Whether `x` is a floating or complex array: what an optimizer moves."""
    dtype = getattr(x, "dtype", None)
    return isinstance(x, float | complex) if dtype is None else _is_inexact(dtype)


@functools.cache
def _is_inexact(dtype: DTypeLike) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)


def is_data(x: Any) -> bool:
    """Whether `x` is a number or an array of numbers, bools or keys, or the shape of one."""
    dtype = getattr(x, "dtype", None)
    return isinstance(x, int | float | complex) if dtype is None else _is_data(dtype)


@functools.cache
def _is_data(dtype: Any) -> bool:
    if dtype == jax.dtypes.float0:  # of the gradient of an integer
        return True
    try:
        known = any(jnp.issubdtype(dtype, kind) for kind in _DATA)
        return known and not jnp.issubdtype(dtype, np.timedelta64)  # which NumPy counts as integer
    except TypeError:  # of another library
        return False


_DATA = (jnp.number, jnp.bool_, jax.dtypes.extended)


def wide(dtype: DTypeLike) -> np.dtype[Any]:
    """The dtype in which arithmetic on `dtype` is done: at least float32."""
    if jnp.issubdtype(dtype, jnp.complexfloating) or jnp.finfo(dtype).bits >= 32:
        return jnp.dtype(dtype)
    return jnp.dtype(jnp.float32)


def widest(arrays: Sequence[Any]) -> np.dtype[Any]:
    """The dtype in which arithmetic on all of these arrays together is done."""
    return _widest(tuple(jnp.result_type(x) for x in arrays))


def real_dtype_of(tree: Tree) -> np.dtype[Any]:
    """The dtype of real numbers that are found from all arrays of a tree: at least float32."""
    return real_dtype(widest([x for x in jax.tree.leaves(tree) if is_inexact(x)]))


@functools.cache
def _widest(dtypes: tuple[Any, ...]) -> np.dtype[Any]:
    return functools.reduce(np.promote_types, map(wide, dtypes), np.dtype(np.float32))


# Trees ---------------------------------------------------------------------------------------


def widened(tree: Tree) -> Tree:
    """The arrays in the dtypes in which arithmetic on them is done."""
    return jax.tree.map(
        lambda x: lax.convert_element_type(x, wide(jnp.result_type(x))) if is_inexact(x) else x,
        tree,
    )


def as_came(values: Tree, before: Tree) -> Tree:
    """`values` in the dtypes of `before`, which takes the place of what is `None`."""

    def cast(b: Any, v: Any) -> Any:
        if v is None:
            return b
        return lax.convert_element_type(v, jnp.result_type(b)) if is_inexact(v) else v

    return jax.tree.map(cast, before, values, is_leaf=is_none)


def is_none(x: Any) -> bool:
    return x is None


def path_string(path: Any) -> str:
    """A key path as `layers/0/bias`, the form that patterns are matched with."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: Tree) -> list[tuple[str, Any]]:
    """The leaves of a tree with their paths; `None` counts as a leaf."""
    flat = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)[0]
    return [(path_string(path), leaf) for path, leaf in flat]


def listed(paths: Any, most: int = 5) -> str:
    ordered = sorted(paths, key=str)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(repr(path) for path in ordered[:most]) + more


def sum_squares(tree: Tree) -> Array:
    """The sum of |x|^2 over a tree, at least float32; it may overflow (`global_norm` does not)."""
    leaves = [x for x in jax.tree.leaves(tree) if is_inexact(x)]
    return _sum_squares(leaves, 1.0)


def global_norm(tree: Tree) -> Array:
    """The l2 norm of all arrays of a tree together, a scalar of at least float32.

    Neither overflows nor underflows: when the plain sum of squares leaves the safe range, it is
    taken again with every number scaled by a power of two. Its derivative at zero is zero.
    """
    leaves = [x for x in jax.tree.leaves(tree) if is_inexact(x)]
    return _norm(leaves, _sum_squares)


def norm(x: Array, axes: tuple[int, ...]) -> Array:
    """The l2 norm over some axes, which stay with size one; as safe as `global_norm`."""

    def sum_over(x: Array, scale: Any) -> Array:
        squares = [lax.square(part * scale) for part in _real_parts(x)]
        return jnp.sum(sum(squares[1:], squares[0]), axis=axes, keepdims=True)

    return _norm(x, sum_over)


def _norm(x: Any, sum_squares: Callable[[Any, Any], Array]) -> Array:
    plain = sum_squares(x, 1.0)
    exponent = jnp.finfo(plain.dtype).maxexp
    small, large = 2.0 ** (-0.75 * exponent), 2.0 ** (0.75 * exponent)
    # The square of what scales up is finite: XLA multiplies by it where the array is a constant.
    up, down = 2.0 ** (exponent / 2 - 1), 2.0 ** (-0.625 * exponent)
    scale = jnp.where(plain < small, up, jnp.where(plain > large, down, 1))
    scale = lax.stop_gradient(scale.astype(plain.dtype))
    total = lax.cond(jnp.all(scale == 1), lambda _: plain, lambda x: sum_squares(x, scale), x)
    return root(total) / scale


def _sum_squares(leaves: list[Array], scale: Any) -> Array:
    if not leaves:
        return jnp.zeros((), jnp.float32)
    dtype = real_dtype_of(leaves)
    # In one dtype for all: a scale that suits the widest is nothing to a narrower array.
    parts = [part.astype(dtype) for x in leaves for part in _real_parts(x)]
    sums = [jnp.sum(lax.square(part * scale)) for part in parts]
    return sum(sums[1:], sums[0])


def _real_parts(x: Any) -> tuple[Array, ...]:
    x = jnp.asarray(x)
    x = x.astype(wide(x.dtype))
    return (lax.real(x), lax.imag(x)) if jnp.iscomplexobj(x) else (x,)


def dot(a: Tree, b: Tree) -> Array:
    """The real inner product of two trees, a scalar of at least float32."""
    pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    dtype = widest([x for pair in pairs for x in pair])
    parts = (jnp.sum((jnp.conj(x.astype(dtype)) * y.astype(dtype)).real) for x, y in pairs)
    return sum(parts, jnp.zeros((), real_dtype(dtype)))


def same_direction(a: Array, b: Array) -> Array:
    """Where the entries of two arrays have a positive (real inner) product."""
    if jnp.iscomplexobj(a) or jnp.iscomplexobj(b):
        return (a * jnp.conj(b)).real > 0
    return jnp.sign(a) * jnp.sign(b) > 0  # the product itself may underflow


def mean_and_deviation(
    mean: Array, deviation: Array, x: Array, t: Array, warm: Array, decay: Any
) -> tuple[Array, Array]:
    """Mean and deviation with `x`: those of `t` numbers where `warm`, else moving ones."""
    # By Welford's recursion.
    share = jnp.where(warm, 1 / t, 1 - decay)
    new = mean + share * (x - mean)
    kept = root(1 - share) * deviation
    added = jnp.where(warm, root(share * (1 - share)) * (x - mean), root(share) * (x - new))
    return new, global_norm([kept, added]).astype(t.dtype)


def path_salt(path: str) -> np.uint32:
    """A number that belongs to a path, so that randomness depends on no leaf order."""
    return np.uint32(zlib.crc32(path.encode()))
