"""Rounding to a narrower dtype, to the nearest or at random, and the random bits for it."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from gradtx.tree import path_salt, wide

Seed = tuple[Array, Array]
"""Two scalars of 32 random bits each, from which come the bits of all entries of an array."""


def is_narrow(dtype: DTypeLike) -> bool:
    """Whether arithmetic on `dtype` is done in a wider one."""
    return wide(dtype) != jnp.dtype(dtype)


def seed(salt: Any, count: Array, name: str) -> Seed:
    """The seed of one use (`name`) of one array (`salt`, from its path) at one step."""
    first = _mixed(lax.bitwise_xor(jnp.asarray(salt, np.uint32), path_salt(name)))
    first = _mixed(lax.add(first, lax.convert_element_type(count, np.uint32)))
    return first, _mixed(lax.bitwise_xor(first, np.uint32(0x9E3779B9)))


def seed_from_key(key: Array) -> Seed:
    """A seed from a random key, a scalar."""
    bits = jax.random.bits(key, (2,), np.uint32)
    return bits[0], bits[1]


def random_bits(seed: Seed, shape: tuple[int, ...]) -> Array:
    """32 random bits for every entry, from the seed and the place of the entry alone.

    A hash of the index rather than a stream of random numbers: it melts into the arithmetic that
    uses it, and gives the same bits however the array is sharded.
    """
    index, stride = jnp.zeros(shape, np.uint32), 1
    for axis in reversed(range(len(shape))):
        place = lax.broadcasted_iota(np.uint32, shape, axis)
        index = lax.add(index, lax.mul(place, np.uint32(stride % 2**32)))
        stride *= shape[axis]
    # The rounds of a 32-bit mixer (Wellons 2018, "lowbias32"), with the second seed in between.
    x = lax.bitwise_xor(index, seed[0])
    x = lax.bitwise_xor(x, lax.shift_right_logical(x, np.uint32(16)))
    x = lax.add(lax.mul(x, np.uint32(0x7FEB352D)), seed[1])
    x = lax.bitwise_xor(x, lax.shift_right_logical(x, np.uint32(15)))
    x = lax.mul(x, np.uint32(0x846CA68B))
    return lax.bitwise_xor(x, lax.shift_right_logical(x, np.uint32(16)))


def _mixed(x: Array) -> Array:
    zero = jnp.zeros((), np.uint32)
    return random_bits((x, zero), ())


def uniform(bits: Array, dtype: DTypeLike, digits: int = 23) -> Array:
    """Numbers in [0, 1), all multiples of 2^-digits, from 32 random bits each."""
    whole = lax.shift_right_logical(bits, np.uint32(32 - digits))
    return lax.convert_element_type(whole, dtype) * np.asarray(2.0**-digits, dtype)


def round_to(x: Array, dtype: DTypeLike, seed: Seed | None = None) -> Array:
    """`x`, which is float32 or float64, as a number of `dtype`, still in the dtype of `x`.

    With a seed it becomes one of its two neighbours, at random, such that the mean is `x`; else
    the nearest. A conversion to `dtype` and back says the same, but the compiler may leave that
    out. Its derivative is one.
    """
    if jnp.finfo(dtype).bits >= jnp.finfo(x.dtype).bits:
        return x
    return _round(jnp.dtype(dtype), x, seed)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _round(dtype: DTypeLike, x: Array, seed: Seed | None) -> Array:
    info, own = jnp.finfo(dtype), jnp.finfo(x.dtype)
    exponent_bits = np.array(np.inf, x.dtype).view(f"uint{own.bits}")
    power = lax.bitcast_convert_type(
        lax.bitcast_convert_type(x, exponent_bits.dtype) & exponent_bits, x.dtype
    )
    digits = int(info.nmant)
    # Steps below the normal numbers of `x` would be zero.
    least = 2.0 ** max(int(info.minexp), int(own.minexp) + digits)
    step = jnp.maximum(power, np.asarray(least, x.dtype)) * np.asarray(2.0**-digits, x.dtype)
    if seed is None:
        y = lax.round(x / step, lax.RoundingMethod.TO_NEAREST_EVEN) * step
    else:
        chance = uniform(random_bits(seed, x.shape), x.dtype, min(32, int(own.nmant) - digits))
        y = jnp.sign(x) * jnp.floor(jnp.abs(x) / step + chance) * step
    return jnp.where(jnp.isfinite(x), y, x)


@_round.defjvp
def _round_jvp(dtype: DTypeLike, primals: Any, tangents: Any) -> Any:
    return _round(dtype, *primals), tangents[0]
