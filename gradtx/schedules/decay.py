"""Down (or up) from one value: with an end or without, smoothly or by jumps.

linear  polynomial  cosine                from one value to another in a number of steps
exponential  inverse_time  inverse_sqrt   without an end
piecewise_constant  step                  by jumps
piecewise_interpolate                     from one value of a table to the next
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.schedules.base import Number, Schedule, longest
from gradtx.schedules.shape import between, cosine, known, power
from gradtx.schedules.steps import as_steps, minus, passed, periods, shares, since
from gradtx.struct import shown, static, value_error, whole, within


class linear_schedule(Schedule):
    """A straight line from `init_value` to `end_value`, constant before and after."""

    init_value: Number
    end_value: Number
    transition_steps: Number = whole(within="[0, inf)")
    transition_begin: Number = within("[0, inf)", default=0)

    def span(self) -> float:
        return longest(self.transition_begin) + longest(self.transition_steps)

    def __call__(self, count: Any) -> Array:
        share, left = shares(count, self.transition_steps, self.transition_begin)
        return between(self.init_value, self.end_value, left, share)


class polynomial_schedule(Schedule):
    """end + (init - end) (1 - s)^power, where s in [0, 1] is the share of the steps that passed."""

    init_value: Number
    end_value: Number
    power: Number = within("[0, inf)")
    transition_steps: Number = whole(within="[0, inf)")
    transition_begin: Number = within("[0, inf)", default=0)

    def span(self) -> float:
        return longest(self.transition_begin) + longest(self.transition_steps)

    def __call__(self, count: Any) -> Array:
        share, left = shares(count, self.transition_steps, self.transition_begin)
        weight = power(left, self.power)
        early = share < 0.5  # where one minus the weight would lose its digits
        rest = -jnp.expm1(self.power * jnp.log1p(-jnp.where(early, share, 0)))
        return between(self.init_value, self.end_value, weight, jnp.where(early, rest, 1 - weight))


class cosine_decay_schedule(Schedule):
    """init ((1 - alpha) (1/2 + 1/2 cos(pi s))^exponent + alpha), Loshchilov & Hutter, 1608.03983.

    `alpha` is the share of `init_value` that is left at the end.
    """

    init_value: Number
    decay_steps: Number = whole(within="[0, inf)")
    alpha: Number = 0.0
    exponent: Number = within("[0, inf)", default=1.0)

    def __call__(self, count: Any) -> Array:
        weight = power(cosine(*shares(count, self.decay_steps)), self.exponent)
        return self.init_value * between(1.0, self.alpha, weight)


class exponential_decay(Schedule):
    """init * decay_rate^(steps / transition_steps), bounded by `end_value` if given.

    With `staircase` the exponent is rounded down. `end_value` is a floor for a rate below one and a
    ceiling for a rate above. Differs from Optax, which is constant where the length or the rate is
    not positive: these are refused.
    """

    init_value: Number
    transition_steps: Number = whole(within="(0, inf)")
    decay_rate: Number = within("(0, inf)")
    transition_begin: Number = within("[0, inf)", default=0)
    staircase: bool = static(default=False)
    end_value: Number | None = None

    def span(self) -> float:
        return longest(self.transition_begin) + 5 * longest(self.transition_steps)

    def __call__(self, count: Any) -> Array:
        done = since(count, self.transition_begin)
        number, inside = periods(done, self.transition_steps)
        value = self.init_value * self.decay_rate ** as_steps(number)
        if not self.staircase:
            value = value * self.decay_rate ** (as_steps(inside) / as_steps(self.transition_steps))
        if self.end_value is None:
            return value
        floored = jnp.maximum(value, self.end_value)
        ceiled = jnp.minimum(value, self.end_value)
        return jnp.where(jnp.asarray(self.decay_rate) < 1, floored, ceiled)


class inverse_time_schedule(Schedule):
    """init / (1 + decay_rate * steps / transition_steps), the Robbins-Monro decay (1951)."""

    init_value: Number
    decay_rate: Number = within("[0, inf)")
    transition_steps: Number = within("(0, inf)", default=1)
    staircase: bool = static(default=False)

    def span(self) -> float:
        return 10 * longest(self.transition_steps)

    def __call__(self, count: Any) -> Array:
        done = as_steps(count) / as_steps(self.transition_steps)
        if self.staircase:
            done = as_steps(periods(count, self.transition_steps)[0])
        return self.init_value / (1 + self.decay_rate * done)


class inverse_sqrt_schedule(Schedule):
    """A linear warm-up to the peak, then peak sqrt(warmup_steps / t): Vaswani+ 2017, 1706.03762.

    t counts from 1. With `warmup_steps` at most 1 it is peak / sqrt(t).
    """

    peak_value: Number
    warmup_steps: Number = within("[0, inf)", default=1)

    def span(self) -> float:
        warmup = longest(self.warmup_steps)
        return 10 * warmup if warmup > 1 else 0

    def __call__(self, count: Any) -> Array:
        t, warmup = as_steps(count) + 1, jnp.maximum(as_steps(self.warmup_steps), 1)
        return self.peak_value * jnp.minimum(t / warmup, jnp.sqrt(warmup / t))


def _pairs(given: Any) -> tuple[tuple[Number, ...], tuple[Number, ...]]:
    """Boundaries and scales, from a table, whose order does not count, or from two sequences."""
    if given is None:
        return (), ()
    if not isinstance(given, Mapping):
        return tuple(given[0]), tuple(given[1])
    return tuple(sorted(given)), tuple(given[boundary] for boundary in sorted(given))


def _refuse_unlike(called: object, boundaries: Sequence[Any], scales: Sequence[Any]) -> None:
    if len(boundaries) != len(scales):
        seen = f"{len(boundaries)} boundaries and {len(scales)} scales"
        raise value_error(called, seen, "Give one scale for each boundary")


class piecewise_constant_schedule(Schedule):
    """`init_value` times the scales of all boundaries that are behind.

    The table maps a boundary, the count from which its scale acts, to the scale: with {100: 0.1}
    the update that sees count 100 is the first one at a tenth. Give `boundaries` and `scales` as
    a pair of sequences to trace or sweep the boundaries.
    """

    init_value: Number
    boundaries_and_scales: tuple[Sequence[Number], Sequence[Number]] = whole(within="[0, inf)")

    def __init__(
        self,
        init_value: Number,
        boundaries_and_scales: Mapping[int, Number] | tuple[Sequence[Number], Sequence[Number]],
    ) -> None:
        object.__setattr__(self, "init_value", init_value)
        object.__setattr__(self, "boundaries_and_scales", _pairs(boundaries_and_scales))
        self.__post_init__()

    def check(self) -> None:
        _refuse_unlike(self, *self.boundaries_and_scales)

    def span(self) -> float:
        return 1.25 * longest(*self.boundaries_and_scales[0])

    def __call__(self, count: Any) -> Array:
        value = jnp.asarray(self.init_value, jnp.result_type(float))
        for boundary, scale in zip(*self.boundaries_and_scales, strict=True):
            value = value * jnp.where(passed(count, boundary) >= 0, scale, 1)
        return value


class piecewise_interpolate_schedule(Schedule):
    """From `init_value` to its product with the first scale at the first boundary, and so on.

    Between two boundaries the value runs "linear" or "cosine"; after the last it is constant. The
    table is that of `piecewise_constant_schedule`; two sequences are in rising order.
    """

    interpolate_type: str = static(among=("linear", "cosine"))
    init_value: Number
    boundaries_and_scales: tuple[Sequence[Number], Sequence[Number]] = whole(within="[0, inf)")

    def __init__(
        self,
        interpolate_type: str,
        init_value: Number,
        boundaries_and_scales: Mapping[int, Number]
        | tuple[Sequence[Number], Sequence[Number]]
        | None = None,
    ) -> None:
        object.__setattr__(self, "interpolate_type", interpolate_type)
        object.__setattr__(self, "init_value", init_value)
        object.__setattr__(self, "boundaries_and_scales", _pairs(boundaries_and_scales))
        self.__post_init__()

    def check(self) -> None:
        _refuse_unlike(self, *self.boundaries_and_scales)
        boundaries = known(*self.boundaries_and_scales[0])
        if boundaries is not None and boundaries != sorted(boundaries):
            seen = f"boundaries are {shown(self.boundaries_and_scales[0])}"
            raise value_error(self, seen, "Give them in rising order")

    def span(self) -> float:
        return 1.25 * longest(*self.boundaries_and_scales[0])

    def __call__(self, count: Any) -> Array:
        value = jnp.asarray(self.init_value, jnp.result_type(float))
        begin, found = 0, value
        for boundary, scale in zip(*self.boundaries_and_scales, strict=True):
            end = value * scale
            share, left = shares(count, minus(boundary, begin), begin)
            weight = left if self.interpolate_type == "linear" else cosine(share, left)
            inside = between(value, end, weight)
            found = jnp.where(passed(count, begin) >= 0, inside, found)
            value, begin = end, boundary
        return found


class step_schedule(Schedule):
    """init * decay_rate^floor(count / step_size): a drop every `step_size` updates."""

    init_value: Number
    step_size: Number = whole(within="(0, inf)")
    decay_rate: Number = within("[0, inf)", default=0.1)

    def span(self) -> float:
        return 5 * longest(self.step_size)

    def __call__(self, count: Any) -> Array:
        return self.init_value * self.decay_rate ** as_steps(periods(count, self.step_size)[0])
