"""How a slot is compressed: codes, their scales and their rounding.

A `Stored` is an array, compressed into a few arrays. In a state it takes the place of a slot and
holds trees of such arrays (`separate`, `together`): trees like the parameters, which other
libraries know how to walk. The engine decodes it before it runs a rule and encodes the result.
"""

from __future__ import annotations

import abc
import functools
import math
from typing import Any, ClassVar, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from gradtx.engine.rounding import Seed, random_bits, round_to, uniform


class Stored(abc.ABC):
    """A compressed array, or a slot of them. Subclasses are NamedTuples.

    Block size and sign follow from the shapes and dtypes of the fields. An array that is not
    compressed stands in the first field, with `None` in the others.
    """

    __slots__ = ()
    random: ClassVar[bool] = False  # whether it is rounded at random, with the seed of `encode`

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of the decompressed array."""

    @abc.abstractmethod
    def decode(self, dtype: DTypeLike) -> Array:
        """The decompressed array, in a real dtype of at least float32."""

    @abc.abstractmethod
    def encode(self, new: Array, seed: Seed | None) -> Self:
        """Another array, compressed in the same way; without a seed it is rounded to nearest.

        Of its own arrays only shapes and dtypes are looked at.
        """


class _Values(NamedTuple):
    values: Any


class RandomlyRounded(_Values, Stored):
    """A narrow array that is rounded at random."""

    __slots__ = ()
    random = True

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def decode(self, dtype: DTypeLike) -> Array:
        return lax.convert_element_type(self.values, dtype)

    def encode(self, new: Array, seed: Seed | None) -> RandomlyRounded:
        narrow = self.values.dtype
        return RandomlyRounded(lax.convert_element_type(round_to(new, narrow, seed), narrow))


# Blocks -----------------------------------------------------------------------------------------


class _Blocks(NamedTuple):
    codes: Any  # in the shape of the array
    scales: Any  # the largest |x| of every block


class Blocks(_Blocks, Stored):
    """Codes for the entries as shares of the largest of their block, which is kept beside them.

    A block is a run along the last axis, or along the last axes taken as one (`scales_shape`).
    """

    __slots__ = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def decode(self, dtype: DTypeLike) -> Array:
        shares = self.shares(self.codes, dtype)
        blocks = _in_blocks(shares, self.scales.shape)
        scales = lax.convert_element_type(self.scales, dtype)
        return _out_of_blocks(blocks * scales[..., None], self.shape)

    def encode(self, new: Array, seed: Seed | None) -> Self:
        blocks = _in_blocks(new, self.scales.shape)
        largest = jnp.max(jnp.abs(blocks), axis=-1, initial=0)
        least = float(jnp.finfo(self.scales.dtype).tiny)
        some = largest >= least  # nan is not: it stays in the scale
        shares = jnp.where(some[..., None], blocks / jnp.where(some, largest, 1)[..., None], 0)
        shares = _out_of_blocks(shares, self.shape)
        codes = self.codes_of(lax.stop_gradient(shares), seed)
        return type(self)(codes, lax.convert_element_type(largest, self.scales.dtype))

    @abc.abstractmethod
    def shares(self, codes: Array, dtype: DTypeLike) -> Array:
        """What the codes stand for, in [-1, 1]."""

    @abc.abstractmethod
    def codes_of(self, shares: Array, seed: Seed | None) -> Array:
        """The codes of numbers in [-1, 1]."""


def scales_shape(shape: tuple[int, ...], block: int) -> tuple[int, ...]:
    """The shape of the scales of an array for blocks of `block` entries, or a few more.

    Blocks run along the last axis, so that scales are sharded like the other axes; where that has
    fewer than 64 entries, along as many of the last axes together as it takes to have them.
    """
    lead, n = len(shape), 1
    while lead and n < min(block, 64):
        lead -= 1
        n *= shape[lead]
    return (*shape[:lead], max(1, n // block))


def _in_blocks(x: Array, scales: tuple[int, ...]) -> Array:
    """The array with its blocks as the last axis, filled up with zeros."""
    *lead, blocks = scales
    n = math.prod(x.shape[len(lead) :])
    size = -(-n // blocks)
    x = x.reshape(*lead, n)
    if n != size * blocks:
        x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0)] * len(lead) + [(0, size * blocks - n, 0)])
    return x.reshape(*lead, blocks, size)


def _out_of_blocks(x: Array, shape: tuple[int, ...]) -> Array:
    *lead, blocks, size = x.shape
    n = math.prod(shape[len(lead) :])
    x = x.reshape(*lead, blocks * size)
    return x[..., :n].reshape(shape)


class Floats(Blocks):
    """Codes that are narrow floating numbers, scaled so that the largest is the largest of all."""

    __slots__ = ()

    def shares(self, codes: Array, dtype: DTypeLike) -> Array:
        most = float(jnp.finfo(codes.dtype).max)
        return lax.convert_element_type(codes, dtype) * np.asarray(1 / most, dtype)

    def codes_of(self, shares: Array, seed: Seed | None) -> Array:
        info = jnp.finfo(self.codes.dtype)
        x = shares * np.asarray(float(info.max), shares.dtype)
        y = round_to(x, self.codes.dtype, seed if self.random else None)
        # A zero second moment with a momentum that is not zero would make a giant step.
        least = jnp.sign(x) * np.asarray(float(info.smallest_subnormal), x.dtype)
        return lax.convert_element_type(jnp.where(y == 0, least, y), self.codes.dtype)


class RandomFloats(Floats):
    """The same, rounded at random."""

    __slots__ = ()
    random = True


class Levels(Blocks):
    """Codes that count levels between zero and one, with a sign beside them if they are signed."""

    __slots__ = ()

    @staticmethod
    @abc.abstractmethod
    def level_of(share: Array, last: int) -> Array:
        """The level at or below each share, or one beside it; `last` is that of a share of one."""

    @staticmethod
    @abc.abstractmethod
    def share_of(level: Array, last: int) -> Array:
        """The share, from 0 to 1, that a level (a floating number from 0 to `last`) encodes."""

    @property
    def last(self) -> int:
        return int(jnp.iinfo(self.codes.dtype).max)

    def shares(self, codes: Array, dtype: DTypeLike) -> Array:
        codes = lax.convert_element_type(codes, dtype)
        return jnp.sign(codes) * self.share_of(jnp.abs(codes), self.last)

    def codes_of(self, shares: Array, seed: Seed | None) -> Array:
        last, dtype = self.last, shares.dtype
        signed = last == 127
        size = jnp.abs(shares) if signed else jnp.maximum(shares, 0)
        below = jnp.clip(self.level_of(size, last), 0, last - 1)
        low, high = self.share_of(below, last), self.share_of(below + 1, last)
        part = (size - low) / (high - low)
        limit = 0.5
        if self.random and seed is not None:
            limit = uniform(random_bits(seed, size.shape), dtype)
        level = jnp.where(part > limit, below + 1, below)
        if signed:
            level = jnp.sign(shares) * level
        else:
            # A zero second moment with a momentum that is not zero would make a giant step.
            level = jnp.where(size > 0, jnp.maximum(level, 1), level)
        return lax.convert_element_type(level, self.codes.dtype)


class Dynamic(Levels):
    """Levels that are even within seven powers of ten, twice as many in each as in the one below.

    The dynamic tree code of Dettmers+ 2021, 2110.02861. Differs from bitsandbytes, where the
    largest entry of a block has a code of its own only if it is positive.
    """

    __slots__ = ()

    @staticmethod
    def level_of(share: Array, last: int) -> Array:
        level = jnp.zeros_like(share)
        for first, end, start, stop in _runs(last):
            step = (stop - start) / (end - first) if end > first else np.inf
            rise = jnp.floor((share - start) * np.asarray(1 / step, share.dtype)) + first
            level = jnp.where(share >= start, jnp.minimum(rise, end), level)
        return level

    @staticmethod
    def share_of(level: Array, last: int) -> Array:
        end, step, stop = (jnp.zeros_like(level) for _ in range(3))
        for first, here, low, high in _runs(last):
            size = (high - low) / (here - first) if here > first else 0.0
            inside = level >= first
            end, step, stop = (
                jnp.where(inside, np.asarray(x, level.dtype), y)
                for x, y in ((here, end), (size, step), (high, stop))
            )
        return stop - (end - level) * step  # so that the last is one, to the last bit


@functools.cache
def _runs(last: int) -> list[tuple[int, int, float, float]]:
    """The first and the last level of every run of even ones, and what they stand for."""
    runs, first, least = [], 1, 1 if last == 127 else 2
    for power in range(7):
        number = least * 2**power
        half = 0.45 / number
        scale = 10.0 ** (power - 6)
        runs.append((first, first + number - 1, scale * (0.1 + half), scale * (1 - half)))
        first += number
    top = runs[-1][3] if last == 127 else 1.0
    runs += [] if last == 127 else [(last, last, 1.0, 1.0)]
    return [(first, end, start / top, stop / top) for first, end, start, stop in runs]


class RandomDynamic(Dynamic):
    """The same, rounded at random."""

    __slots__ = ()
    random = True


class Companded(Levels):
    """Even levels of a bent scale: 2 |x| / (1 + |x|) with a sign, the square root without.

    FlashOptim, 2026, 2602.23349.
    """

    __slots__ = ()

    @staticmethod
    def level_of(share: Array, last: int) -> Array:
        return jnp.floor((2 * share / (1 + share) if last == 127 else lax.sqrt(share)) * last)

    @staticmethod
    def share_of(level: Array, last: int) -> Array:
        even = level / last
        return even / (2 - even) if last == 127 else even * even


class RandomCompanded(Companded):
    """The same, rounded at random."""

    __slots__ = ()
    random = True
