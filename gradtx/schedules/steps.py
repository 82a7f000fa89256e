"""Counts and lengths as whole numbers: exact where a float would lose them, from 2^24 on."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx.struct import Fixed

MOST = 2**31 - 128  # the largest whole number that both int32 and float32 hold


class Steps(NamedTuple):
    """A number of steps in two parts, of which the first is exact."""

    whole: Array  # an integer
    rest: Array  # a float: a fraction, or what lies above `MOST`


def steps(number: Any) -> Steps:
    """A count or a length of any kind: a Python number, an array, a `Fixed` or the sum of such."""
    if isinstance(number, Steps):
        return number
    if isinstance(number, Fixed | int):
        value = int(number)
        number = min(value, MOST)
        return Steps(jnp.asarray(number), _real(float(value - number)))
    number = jnp.asarray(number)
    if jnp.issubdtype(number.dtype, jnp.integer):
        return Steps(number.astype(jnp.result_type(int)), _real(0))
    below = jnp.clip(jnp.floor(lax.stop_gradient(number)), -MOST, MOST)
    return Steps(below.astype(jnp.result_type(int)), _real(number) - _real(below))


def _real(x: Any) -> Array:
    return jnp.asarray(x).astype(jnp.result_type(float))


def minus(a: Any, b: Any) -> Steps:
    """The difference, exact where both are whole numbers."""
    a, b = steps(a), steps(b)
    return Steps(a.whole - b.whole, a.rest - b.rest)


def plus(a: Any, b: Any) -> Steps:
    """The sum, exact where both are whole numbers and it is one of 31 bits."""
    a, b = steps(a), steps(b)
    too_long = _real(a.whole) + _real(b.whole) > MOST
    rest = a.rest + b.rest
    return Steps(
        jnp.where(too_long, MOST, a.whole + b.whole),
        jnp.where(too_long, _real(a.whole - MOST + b.whole) + rest, rest),
    )


def as_steps(count: Any) -> Array:
    """A count or a length in the dtype in which schedules compute."""
    return passed(count, 0)


def passed(count: Any, begin: Any) -> Array:
    """How many steps lie between, as a float that is rounded once: negative before `begin`."""
    done = minus(count, begin)
    return _real(done.whole) + done.rest


def since(count: Any, begin: Any) -> Array:
    """The count of a schedule that begins there, 0 before: an integer if both are."""
    if _is_whole(count) and _is_whole(begin):
        return jnp.where(passed(count, begin) > 0, minus(count, begin).whole, 0)
    return jnp.maximum(passed(count, begin), 0)


def _is_whole(number: Any) -> bool:
    return isinstance(number, Fixed) or jnp.issubdtype(jnp.result_type(number), jnp.integer)


def shares(count: Any, length: Any, begin: Any = 0) -> tuple[Array, Array]:
    """The shares of a length from `begin` that have passed and that are left, in [0, 1].

    Of no steps all have passed from `begin` on. Each share is exact up to rounding, however small.
    """
    done, length = minus(count, begin), steps(length)
    total = as_steps(length)
    some = total > 0
    safe = jnp.where(some, total, 1)
    early = passed(count, begin) < 0
    share = jnp.clip((_real(done.whole) + done.rest) / safe, 0, 1)
    # Before the beginning, where the difference could be too large for an integer, all is left.
    to_go = length.whole - jnp.maximum(done.whole, -1)
    left = jnp.clip((_real(to_go) + (length.rest - done.rest)) / safe, 0, 1)
    return (
        jnp.where(some, share, jnp.where(early, 0, 1)),
        jnp.where(some, left, jnp.where(early, 1, 0)),
    )


def periods(count: Any, period: Any) -> tuple[Array, Steps]:
    """How many periods have passed, an integer, and how many steps of the next."""
    now, length = steps(count), steps(period)
    whole = now.whole // jnp.maximum(length.whole, 1)
    total = as_steps(length)
    number = jnp.where(
        length.rest == 0, whole, jnp.floor(as_steps(now) / total).astype(whole.dtype)
    )

    def inside(number: Array) -> Steps:
        rest = now.rest - _real(number) * length.rest
        return Steps(now.whole - number * length.whole, rest)

    # The quotient of a length that is no whole number is rounded.
    number = jnp.where(as_steps(inside(number)) < 0, number - 1, number)
    number = jnp.where(as_steps(inside(number)) >= total, number + 1, number)
    return number, inside(number)


def growing_periods(count: Any, first: Any, factor: Any) -> tuple[Array, Steps, Steps]:
    """The same where each period is `factor` (1 or more) times as long: its length comes third."""
    length, factor = steps(first), _real(factor)
    grows = factor > 1
    rate = jnp.where(grows, factor, 2)
    guess = jnp.log1p(as_steps(count) / as_steps(length) * (rate - 1)) / jnp.log(rate)
    # The period before, since rounding may have put a count into the one next to its own.
    low = jnp.maximum(jnp.floor(guess).astype(jnp.result_type(int)) - 1, 0)
    is_whole = (length.rest == 0) & (rate == jnp.floor(rate)) & (rate < MOST)
    exact = _powers(jnp.where(is_whole, rate, 2).astype(jnp.uint32), low, bits=5)
    # Rounding may also have put the beginning of a period behind its count.
    early = 1 - 16 * float(jnp.finfo(rate.dtype).eps)

    def times(number: Array, exactly: Array, part: float = 1.0) -> Steps:
        """So many first periods."""
        product = as_steps(length) * number
        fits, found = is_whole & (product < MOST), steps(product * part)
        whole = length.whole * exactly.astype(length.whole.dtype)
        return Steps(jnp.where(fits, whole, found.whole), jnp.where(fits, 0, found.rest))

    found = (*periods(count, first), length)
    rough = _powers(rate, low, bits=16)
    for k, (sums, powers) in enumerate(zip(*map(zip, rough, exact), strict=True)):
        reached = grows & (passed(count, times(sums[0], sums[1], early)) >= 0)
        here = (low + k, minus(count, times(sums[0], sums[1])), times(powers[0], powers[1]))
        found = jax.tree.map(lambda new, old, at=reached: jnp.where(at, new, old), here, found)
    return found


def _powers(base: Array, number: Array, bits: int) -> tuple[list[Array], list[Array]]:
    """Of `number` and the next two: the sum of so many first powers, and the power that follows.

    By sums and products of positive numbers alone, which are exact wherever they can be.
    """
    total, power = jnp.zeros_like(base), jnp.ones_like(base)
    for bit in reversed(range(bits)):
        total, power = total * (1 + power), power * power
        odd = (number >> bit) % 2 == 1
        total, power = jnp.where(odd, total + power, total), jnp.where(odd, power * base, power)
    powers = [power, power * base, power * base * base]
    return [total, total + powers[0], total + powers[0] + powers[1]], powers
