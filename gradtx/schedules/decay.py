"""Down (or up) from one value: with an end or without, smoothly or by jumps.

linear  polynomial  cosine                from one value to another in a number of steps
exponential  inverse_time  inverse_sqrt   without an end
piecewise_constant  step                  by jumps
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.schedules.base import Number, Schedule, as_steps
from gradtx.schedules.shape import between, cosine, fraction
from gradtx.struct import static, value_error, whole, within


class linear_schedule(Schedule):
    """A straight line from `init_value` to `end_value`, constant before and after."""

    init_value: Number
    end_value: Number
    transition_steps: Number = whole(within="[0, inf)")
    transition_begin: Number = within("[0, inf)", default=0)

    def __call__(self, count: Any) -> Array:
        left = 1 - fraction(count, self.transition_steps, self.transition_begin)
        return between(self.init_value, self.end_value, left)


class polynomial_schedule(Schedule):
    """end + (init - end) (1 - s)^power, where s in [0, 1] is the share of the steps that passed."""

    init_value: Number
    end_value: Number
    power: Number = within("[0, inf)")
    transition_steps: Number = whole(within="[0, inf)")
    transition_begin: Number = within("[0, inf)", default=0)

    def __call__(self, count: Any) -> Array:
        left = 1 - fraction(count, self.transition_steps, self.transition_begin)
        some = left > 0  # where the power has a derivative for any exponent
        weight = jnp.where(some, jnp.where(some, left, 1) ** self.power, 0)
        return between(self.init_value, self.end_value, weight)


class cosine_decay_schedule(Schedule):
    """init ((1 - alpha) (1/2 + 1/2 cos(pi s))^exponent + alpha), Loshchilov & Hutter, 1608.03983.

    `alpha` is the share of `init_value` that is left at the end.
    """

    init_value: Number
    decay_steps: Number = whole(within="[0, inf)")
    alpha: Number = 0.0
    exponent: Number = within("[0, inf)", default=1.0)

    def __call__(self, count: Any) -> Array:
        left = cosine(fraction(count, self.decay_steps)) ** self.exponent
        return self.init_value * between(1.0, self.alpha, left)


class exponential_decay(Schedule):
    """init * decay_rate^(steps / transition_steps), bounded by `end_value` if given.

    With `staircase` the exponent is rounded down. `end_value` is a floor for a rate below one and a
    ceiling for a rate above.
    """

    init_value: Number
    transition_steps: Number = whole(within="(0, inf)")
    decay_rate: Number = within("(0, inf)")
    transition_begin: Number = within("[0, inf)", default=0)
    staircase: bool = static(default=False)
    end_value: Number | None = None

    def __call__(self, count: Any) -> Array:
        done = jnp.maximum(as_steps(count) - self.transition_begin, 0) / self.transition_steps
        value = self.init_value * self.decay_rate ** (jnp.floor(done) if self.staircase else done)
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

    def __call__(self, count: Any) -> Array:
        done = as_steps(count) / self.transition_steps
        done = jnp.floor(done) if self.staircase else done
        return self.init_value / (1 + self.decay_rate * done)


class inverse_sqrt_schedule(Schedule):
    """A linear warm-up to the peak, then peak sqrt(warmup_steps / t): Vaswani+ 2017, 1706.03762.

    t counts from 1. With `warmup_steps` at most 1 it is peak / sqrt(t).
    """

    peak_value: Number
    warmup_steps: Number = within("[0, inf)", default=1)

    def __call__(self, count: Any) -> Array:
        t, warmup = as_steps(count) + 1, jnp.maximum(self.warmup_steps, 1)
        return self.peak_value * jnp.minimum(t / warmup, jnp.sqrt(warmup / t))


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
        pairs = boundaries_and_scales
        if isinstance(pairs, Mapping):
            pairs = (tuple(pairs.keys()), tuple(pairs.values()))
        object.__setattr__(self, "init_value", init_value)
        object.__setattr__(self, "boundaries_and_scales", (tuple(pairs[0]), tuple(pairs[1])))
        self.__post_init__()

    def check(self) -> None:
        boundaries, scales = self.boundaries_and_scales
        if len(boundaries) != len(scales):
            seen = f"{len(boundaries)} boundaries and {len(scales)} scales"
            raise value_error(self, seen, "Give one scale for each boundary")

    def __call__(self, count: Any) -> Array:
        value, now = jnp.asarray(self.init_value, jnp.result_type(float)), as_steps(count)
        for boundary, scale in zip(*self.boundaries_and_scales, strict=True):
            value = value * jnp.where(now >= boundary, scale, 1)
        return value


class step_schedule(Schedule):
    """init * decay_rate^floor(count / step_size): a drop every `step_size` updates."""

    init_value: Number
    step_size: Number = whole(within="(0, inf)")
    decay_rate: Number = within("[0, inf)", default=0.1)

    def __call__(self, count: Any) -> Array:
        return self.init_value * self.decay_rate ** jnp.floor(as_steps(count) / self.step_size)
