"""How a slot is kept when it is not kept as a plain array, and where the slots of a state are.

A `Stored` is a small tree of arrays that stands in a state in the place of one array. The engine
decodes it before it runs a rule and encodes what comes out.
"""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx.rounding import Seed, random_bits, round_to, uniform
from gradtx.tree import path_string


class Stored(abc.ABC):
    """An array in other clothes. Subclasses are NamedTuples, as all of a state is.

    What a subclass needs to know beside its arrays it tells from their shapes and dtypes.
    """

    __slots__ = ()
    random: ClassVar[bool] = False  # whether it is rounded at random, with the seed of `encode`

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of the array that it stands for."""

    @abc.abstractmethod
    def decode(self, dtype: Any) -> Array:
        """The array that it stands for, in a real dtype of at least float32."""

    @abc.abstractmethod
    def encode(self, new: Array, seed: Seed | None) -> Self:
        """Another array kept in the same way; without a seed it is rounded to nearest.

        Of its own arrays only shapes and dtypes are looked at.
        """


class _Values(NamedTuple):
    values: Array


class RandomlyRounded(_Values, Stored):
    """A narrow array that is rounded at random."""

    __slots__ = ()
    random = True

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def decode(self, dtype: Any) -> Array:
        return lax.convert_element_type(self.values, dtype)

    def encode(self, new: Array, seed: Seed | None) -> RandomlyRounded:
        narrow = self.values.dtype
        return RandomlyRounded(lax.convert_element_type(round_to(new, narrow, seed), narrow))


# Blocks -----------------------------------------------------------------------------------------


class _Blocks(NamedTuple):
    codes: Array  # in the shape of the array
    scales: Array  # the largest |x| of every block


class Blocks(_Blocks, Stored):
    """Codes for the entries as shares of the largest of their block, which is kept beside them.

    A block is a run along the last axis, or along the last axes taken as one (`scales_shape`).
    """

    __slots__ = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def decode(self, dtype: Any) -> Array:
        shares = self.shares(self.codes, dtype)
        blocks = _in_blocks(shares, self.scales.shape)
        scales = lax.convert_element_type(self.scales, dtype)
        return _out_of_blocks(blocks * scales[..., None], self.shape)

    def encode(self, new: Array, seed: Seed | None) -> Self:
        blocks = _in_blocks(new, self.scales.shape)
        largest = jnp.max(jnp.abs(blocks), axis=-1, initial=0)
        some = largest >= jnp.finfo(new.dtype).tiny  # nan is not: it stays in the scale
        shares = jnp.where(some[..., None], blocks / jnp.where(some, largest, 1)[..., None], 0)
        shares = _out_of_blocks(shares, self.shape)
        codes = self.codes_of(lax.stop_gradient(shares), seed)
        return type(self)(codes, lax.convert_element_type(largest, self.scales.dtype))

    @abc.abstractmethod
    def shares(self, codes: Array, dtype: Any) -> Array:
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

    def shares(self, codes: Array, dtype: Any) -> Array:
        most = float(jnp.finfo(codes.dtype).max)
        return lax.convert_element_type(codes, dtype) * np.asarray(1 / most, dtype)

    def codes_of(self, shares: Array, seed: Seed | None) -> Array:
        info = jnp.finfo(self.codes.dtype)
        x = shares * np.asarray(float(info.max), shares.dtype)
        y = round_to(x, self.codes.dtype, seed if self.random else None)
        # A second moment of zero beside a momentum that is not would make a giant step.
        least = jnp.sign(x) * np.asarray(float(info.smallest_subnormal), x.dtype)
        return lax.convert_element_type(jnp.where(y == 0, least, y), self.codes.dtype)


class RandomFloats(Floats):
    """The same, rounded at random."""

    __slots__ = ()
    random = True


class Levels(Blocks):
    """Codes that count the levels of a table, a sign beside them if they are signed."""

    __slots__ = ()

    @abc.abstractmethod
    def guess(self, share: Array, last: int) -> Array:
        """The level at or below each share, or one beside it; `last` is that of a share of one."""

    @staticmethod
    @abc.abstractmethod
    def levels(last: int) -> np.ndarray:
        """What the levels 0 ... `last` stand for: from zero to one, rising."""

    @property
    def last(self) -> int:
        return int(jnp.iinfo(self.codes.dtype).max)

    def shares(self, codes: Array, dtype: Any) -> Array:
        table = jnp.asarray(_by_code(type(self), self.last), dtype)
        return table[lax.convert_element_type(codes, np.int32) & 255]

    def codes_of(self, shares: Array, seed: Seed | None) -> Array:
        last, dtype = self.last, shares.dtype
        signed = last == 127
        size = jnp.abs(shares) if signed else jnp.maximum(shares, 0)
        below = jnp.clip(lax.convert_element_type(self.guess(size, last), np.int32), 0, last - 1)
        table = jnp.asarray(self.levels(last), dtype)
        low, high = table[below], table[below + 1]
        part = (size - low) / (high - low)
        if self.random and seed is not None:
            up = part > uniform(random_bits(seed, size.shape), dtype)
        else:
            up = part > 0.5
        level = below + lax.convert_element_type(up, np.int32)
        if signed:
            level = jnp.where(shares < 0, -level, level)
        else:
            # A second moment of zero beside a momentum that is not would make a giant step.
            level = jnp.where(size > 0, jnp.maximum(level, 1), level)
        return lax.convert_element_type(level, self.codes.dtype)


@functools.cache
def _by_code(kind: type[Levels], last: int) -> np.ndarray:
    """What the codes stand for, in the order of their eight bits."""
    levels = kind.levels(last)
    return levels if last == 255 else np.concatenate([levels, -levels[-1:], -levels[:0:-1]])


class Dynamic(Levels):
    """Levels that are even within seven powers of ten, twice as many in each as in the one below.

    The dynamic tree code of Dettmers+ 2021, 2110.02861. Differs from bitsandbytes, where the
    largest entry of a block has a code of its own only if it is positive.
    """

    __slots__ = ()

    @staticmethod
    @functools.cache
    def levels(last: int) -> np.ndarray:
        found = [0.0]
        for decade, number in enumerate(_DECADES[last]):
            middles = 0.1 + 0.9 * (np.arange(number) + 0.5) / number
            found += list(middles * 10.0 ** (decade - 6))
        found = np.array(found[: last + 1] if last == 127 else [*found, 1.0])
        return found / found[-1]

    def guess(self, share: Array, last: int) -> Array:
        levels, first = self.levels(last), 1
        line = None
        for number in _DECADES[last]:
            start, end = levels[first], levels[first + number - 1]
            # With one level there is no slope: half a step up to the next decade.
            slope = (number - 1) / (end - start) if number > 1 else 0.5 / levels[first]
            here = [np.asarray(x, share.dtype) for x in (slope, first - slope * start, start)]
            rise = jnp.floor(share * here[0] + here[1])
            rise = jnp.minimum(rise, np.asarray(first + number - 1, share.dtype))
            line = jnp.where(share >= here[2], rise, 0 if line is None else line)
            first += number
        return line  # pyright: ignore[reportReturnType]


_DECADES = {127: [2**i for i in range(7)], 255: [2 ** (i + 1) for i in range(7)]}
"""How many levels there are in each power of ten, from 1e-6 to 1, by the last level."""


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
    @functools.cache
    def levels(last: int) -> np.ndarray:
        even = np.arange(last + 1) / last
        return even / (2 - even) if last == 127 else even**2

    def guess(self, share: Array, last: int) -> Array:
        bent = 2 * share / (1 + share) if last == 127 else lax.sqrt(share)
        return jnp.floor(bent * np.asarray(last, share.dtype))


class RandomCompanded(Companded):
    """The same, rounded at random."""

    __slots__ = ()
    random = True


# States -----------------------------------------------------------------------------------------


def is_stored(x: Any) -> bool:
    return isinstance(x, Stored)


def is_state(x: Any) -> bool:
    """Whether `x` is the state of one transformation: a NamedTuple."""
    return isinstance(x, tuple) and hasattr(x, "_fields") and not isinstance(x, Stored)


def map_slots(function: Callable[[str, Any, bool], Any], state: Any) -> Any:
    """`function(path, slot, whether the engine runs it)` for every slot of a state.

    A slot is a field of a NamedTuple without other NamedTuples in it, or an array outside of any.
    """

    def walk(above: tuple[Any, ...], tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, x: visit((*above, *path), x), tree, is_leaf=is_state
        )

    def visit(path: tuple[Any, ...], value: Any) -> Any:
        if not is_state(value):
            return function(path_string(path), value, False)
        rule = getattr(type(value), "slots_of_rule", None)
        fields = []
        for name in value._fields:
            below, at = getattr(value, name), (*path, jax.tree_util.GetAttrKey(name))
            nested = rule is None and any(map(is_state, jax.tree.leaves(below, is_leaf=is_state)))
            own = rule is not None and name in rule
            fields.append(walk(at, below) if nested else function(path_string(at), below, own))
        return type(value)(*fields)

    return walk((), state)
