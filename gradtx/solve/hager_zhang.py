"""The search of Hager & Zhang 2005 on a line, one turn for every evaluation.

First the trials go on until there is an interval where the slope falls at the lower end, whose
value is at most a level, and rises at the upper one. Then it is made smaller by secants, and halved
where these are slow. All here are scalars. A turn takes f and f' at the last trial and gives the
next one.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.solve.more_thuente import SPOILT, Point, pick, quotient

BRACKETING, FIRST_SECANT, SECOND_SECANT, MIDDLE = range(4)  # why there is a trial


class Bracket(NamedTuple):
    """What is known of the line."""

    low: Point  # the lower end: it falls there, and the value is at most the level
    high: Point  # the upper one: it rises there, or while it `bisects` the value is above the level
    low_before: Point  # where the secants of this round began
    high_before: Point
    cap: Array  # no trial lies beyond it
    stage: Array
    bisects: Array  # whether it looks for an upper end below a value above the level


class Numbers(NamedTuple):
    """What may be chosen."""

    level: Array  # the value that a lower end may have
    rho: Array  # the next trial is so many times as far, while there is no upper end
    theta: Array  # where an interval is divided
    gamma: Array  # what of an interval may be left after two secants


def begin(start: Point, cap: Array) -> Bracket:
    """What is known before the first trial."""
    stage = jnp.full((), BRACKETING, jnp.int32)
    return Bracket(start, start, start, start, cap, stage, jnp.zeros((), bool))


def exhausted(now: Bracket, trial: Point, level: Array) -> Array:
    """Whether no further turn promises anything."""
    expands = _expands(now)
    width = now.high.step - now.low.step
    narrow = width <= jnp.finfo(width.dtype).eps * now.high.step
    falls = (trial.value <= level) & (trial.slope < 0)
    return jnp.where(expands, falls & (trial.step >= now.cap), narrow)


def turn(now: Bracket, trial: Point, start: Point, numbers: Numbers) -> tuple[Bracket, Array]:
    """What is known then, and the next trial."""
    rises = trial.slope >= 0
    falls = ~rises & (trial.value <= numbers.level)
    above = ~rises & ~falls
    expands = _expands(now)
    low = pick(falls, trial, pick(expands & above, start, now.low))
    high = pick(falls, now.high, trial)
    bisects = above | (now.bisects & ~rises)
    goes_on = expands & falls
    divided = (1 - numbers.theta) * low.step + numbers.theta * high.step
    farther = jnp.minimum(numbers.rho * trial.step, now.cap)

    # The interval is a proper one again. Behind a secant that became an end comes one with the end
    # that it took the place of.
    replaced = pick(rises, now.high_before, now.low_before)
    across = _secant(replaced, trial)
    second = (now.stage == FIRST_SECANT) & ~now.bisects & _inside(across, low, high)
    by_secants = (now.stage == FIRST_SECANT) | (now.stage == SECOND_SECANT)
    width, before = high.step - low.step, now.high_before.step - now.low_before.step
    slow = by_secants & (width > numbers.gamma * before)
    secant = _secant(low, high)
    anew = ~second & ~slow
    first = anew & _inside(secant, low, high)
    middle = low.step + (high.step - low.step) / 2
    step = jnp.where(second, across, jnp.where(first, secant, middle))
    stage = jnp.where(second, SECOND_SECANT, jnp.where(first, FIRST_SECANT, MIDDLE))

    unfinished = bisects | goes_on
    begun = anew & ~unfinished
    new = Bracket(
        low,
        high,
        pick(begun, low, now.low_before),
        pick(begun, high, now.high_before),
        now.cap,
        jnp.where(unfinished, now.stage, stage.astype(now.stage.dtype)),
        bisects,
    )
    return new, jnp.where(goes_on, farther, jnp.where(bisects, divided, step))


def retreat(now: Bracket, step: Array) -> tuple[Bracket, Array]:
    """The same after a trial that was not finite: a shorter step, and none so long any more."""
    way = step - now.low.step
    near, far = (now.low.step + share * way for share in SPOILT)
    expands = _expands(now)
    cap = jnp.where(expands, jnp.minimum(now.cap, far), now.cap)
    bound = now.high._replace(step=jnp.where(expands, now.high.step, step))
    return now._replace(high=bound, cap=cap, bisects=now.bisects | ~expands), near


def _expands(now: Bracket) -> Array:
    return (now.stage == BRACKETING) & ~now.bisects


def _secant(a: Point, b: Point) -> Array:
    """Where the slope is zero on the line through two of its points; NaN if nowhere."""
    gap = b.slope - a.slope
    return jnp.where(gap != 0, a.step - quotient(a.slope, gap) * (b.step - a.step), jnp.nan)


def _inside(step: Array, low: Point, high: Point) -> Array:
    return (step > low.step) & (step < high.step)
