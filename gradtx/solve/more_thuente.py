"""The search of Moré & Thuente 1994 on a line, one turn for every evaluation.

Along a direction of descent it looks for a step a where the strong Wolfe conditions hold,
f(a) <= f(0) + c1 a f'(0) and |f'(a)| <= c2 |f'(0)|. All here are scalars. A turn takes f and f' at
the last trial and gives the next one.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

NEAREST, FARTHEST = 1.1, 4.0  # how far a trial goes beyond the last one, while none is too far
SHRINKS = 0.66  # what of the interval may be left after two turns
SPOILT = 0.1, 0.5  # of the way to a trial that is not finite: the next one, and the new bound


class Point(NamedTuple):
    """A point of the line, with the function and its slope there."""

    step: Array
    value: Array
    slope: Array


class Interval(NamedTuple):
    """What is known of the line."""

    best: Point  # the one with the lowest value so far
    other: Point  # the other end, once there is a minimum between
    lower: Array  # the next trial lies between these two
    upper: Array
    width: Array
    width_before: Array
    cap: Array  # no trial lies beyond it
    bracketed: Array  # whether there is a minimum between the ends
    decreased: Array  # whether a trial was low enough, with a slope that is not negative


def quotient(x: Array, y: Array) -> Array:
    """x / y, and zero for y = 0, with a derivative that is finite there."""
    some = y != 0
    return jnp.where(some, x / jnp.where(some, y, 1), 0)


def _root(x: Array) -> Array:
    """The square root, with derivatives that are finite at zero.

    Those of `gradtx.tree.root` are not where JAX differentiates it twice inside a scan: there it
    forgets the rule of a function for derivatives.
    """
    some = x != 0
    return jnp.where(some, lax.sqrt(jnp.where(some, x, 1)), 0)


def begin(start: Point, first: Array, cap: Array) -> Interval:
    """The interval before the first trial, which is at `first`."""
    no = jnp.zeros((), bool)
    zero = jnp.zeros_like(first)
    return Interval(start, start, zero, (1 + FARTHEST) * first, cap, 2 * cap, cap, no, no)


def exhausted(now: Interval, trial: Point, start: Point, c1: Array, tolerance: Array) -> Array:
    """Whether no further turn promises anything."""
    out = (trial.step <= now.lower) | (trial.step >= now.upper)
    slope = c1 * start.slope
    low = trial.value <= start.value + trial.step * slope
    farthest = (trial.step >= now.cap) & low & (trial.slope <= slope)
    return (now.bracketed & (out | _narrow(now.lower, now.upper, tolerance))) | farthest


def _narrow(lower: Array, upper: Array, tolerance: Array) -> Array:
    return upper - lower <= tolerance * upper


def turn(
    now: Interval, trial: Point, start: Point, c1: Array, tolerance: Array
) -> tuple[Interval, Array]:
    """The interval that is left, and the next trial: `best` if it is too narrow for another."""
    slope = c1 * start.slope
    limit = start.value + trial.step * slope
    decreased = now.decreased | ((trial.value <= limit) & (trial.slope >= 0))
    # Until then the search is for a minimum of f(a) - c1 a f'(0), which has one where f may not.
    tilted = ~decreased & (trial.value <= now.best.value) & (trial.value > limit)
    tilt = jnp.where(tilted, slope, 0)

    def seen(x: Point) -> Point:
        return Point(x.step, x.value - tilt * x.step, x.slope - tilt)

    # In a branch, or the compiler writes it into the kernel of every number that follows from it.
    step, bracketed = lax.cond(
        trial.step > 0,
        _step,
        lambda best, other, trial, now: (trial.step, now.bracketed),
        *(seen(now.best), seen(now.other), seen(trial), now),
    )

    higher = seen(trial).value > seen(now.best).value
    turned = seen(trial).slope * jnp.sign(seen(now.best).slope) < 0
    other = pick(higher, trial, pick(turned, now.best, now.other))
    best = pick(higher, now.best, trial)
    width = jnp.abs(other.step - best.step)
    slow = bracketed & (width >= SHRINKS * now.width_before)
    step = jnp.where(slow, best.step + (other.step - best.step) / 2, step)
    beyond = step - best.step
    lower = jnp.where(bracketed, jnp.minimum(best.step, other.step), step + NEAREST * beyond)
    upper = jnp.where(bracketed, jnp.maximum(best.step, other.step), step + FARTHEST * beyond)
    step = jnp.clip(step, 0, now.cap)
    out = (step <= lower) | (step >= upper) | _narrow(lower, upper, tolerance)
    step = jnp.where(bracketed & out, best.step, step)
    before = jnp.where(bracketed, now.width, now.width_before)
    width = jnp.where(bracketed, width, now.width)
    new = Interval(best, other, lower, upper, width, before, now.cap, bracketed, decreased)
    return new, step


def retreat(now: Interval, step: Array) -> tuple[Interval, Array]:
    """The same after a trial that was not finite: a shorter step, and none so long any more."""
    way = step - now.best.step
    near, far = (now.best.step + share * way for share in SPOILT)
    upper = jnp.where(now.bracketed, now.upper, near + FARTHEST * (near - now.best.step))
    lower = jnp.where(now.bracketed, now.lower, now.best.step)
    cap = jnp.minimum(now.cap, jnp.maximum(far, now.best.step))
    return now._replace(lower=lower, upper=jnp.minimum(upper, cap), cap=cap), near


def pick(which: Array, yes: Point, no: Point) -> Point:
    return Point(*(jnp.where(which, a, b) for a, b in zip(yes, no, strict=True)))


def _cubic(a: Point, b: Point) -> tuple[Array, Array]:
    """How far from a to b the cubic through both has its minimum, and whether it has one."""
    gap = b.step - a.step
    theta = 3 * quotient(a.value - b.value, gap) + a.slope + b.slope
    size = jnp.maximum(jnp.abs(theta), jnp.maximum(jnp.abs(a.slope), jnp.abs(b.slope)))
    part = quotient(theta, size)
    square = part * part - quotient(a.slope, size) * quotient(b.slope, size)
    gamma = jnp.sign(gap) * size * _root(jnp.maximum(square, 0))
    share = quotient(gamma - a.slope + theta, 2 * gamma - a.slope + b.slope)
    return share, gamma != 0


def _step(best: Point, other: Point, trial: Point, now: Interval) -> tuple[Array, Array]:
    """The next trial by cubics and secants, and whether there is a minimum between the ends."""
    gap = trial.step - best.step
    ahead = gap > 0
    there, _ = _cubic(best, trial)
    back, has_minimum = _cubic(trial, best)
    across, _ = _cubic(trial, other)
    secant = trial.step - quotient(trial.slope, trial.slope - best.slope) * gap

    def closer(a: Array, b: Array, to: Array) -> Array:
        return jnp.where(jnp.abs(a - to) < jnp.abs(b - to), a, b)

    def farther(a: Array, b: Array, to: Array) -> Array:
        return jnp.where(jnp.abs(a - to) > jnp.abs(b - to), a, b)

    # A higher value: the minimum is between.
    cubic = best.step + there * gap
    rise = quotient(best.value - trial.value, gap) + best.slope
    parabola = best.step + quotient(best.slope, rise) / 2 * gap
    nearer = jnp.abs(cubic - best.step) < jnp.abs(parabola - best.step)
    higher = jnp.where(nearer, cubic, cubic + (parabola - cubic) / 2)
    # A slope of the other sign: so too.
    cubic = trial.step - back * gap
    turned = farther(cubic, secant, trial.step)
    # A smaller slope of the same sign: beyond, if the cubic has a minimum there.
    edge = jnp.where(ahead, now.upper, now.lower)
    found = jnp.where((back < 0) & has_minimum, cubic, edge)
    inside = closer(found, secant, trial.step)
    limit = trial.step + SHRINKS * (other.step - trial.step)
    inside = jnp.where(ahead, jnp.minimum(limit, inside), jnp.maximum(limit, inside))
    outside = jnp.clip(farther(found, secant, trial.step), now.lower, now.upper)
    smaller = jnp.where(now.bracketed, inside, outside)
    # A larger one: towards the other end, or as far as may be.
    steeper = jnp.where(now.bracketed, trial.step + across * (other.step - trial.step), edge)

    is_higher = trial.value > best.value
    has_turned = trial.slope * jnp.sign(best.slope) < 0
    is_smaller = jnp.abs(trial.slope) < jnp.abs(best.slope)
    step = jnp.where(is_smaller, smaller, steeper)
    step = jnp.where(has_turned, turned, step)
    return jnp.where(is_higher, higher, step), now.bracketed | is_higher | has_turned
