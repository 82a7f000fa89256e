"""Warm-up: before any schedule, tied to b2, or as a part of a power law.

warmup_schedule      before any other schedule
warmup_constant_schedule, warmup_exponential_decay_schedule     before these two
untuned_warmup       as long as the average of squares needs
power_schedule       a warm-up, then a falling power of the count
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx.schedules.base import (
    Number,
    Scalar,
    Schedule,
    constant_schedule,
    evaluate,
    longest,
)
from gradtx.schedules.decay import exponential_decay
from gradtx.schedules.shape import RISES, between
from gradtx.schedules.steps import as_steps, shares, since
from gradtx.struct import static, whole, within


class warmup_schedule(Schedule):
    """From `init_value` up to where `schedule` begins, in `warmup_steps`; then the schedule.

    The schedule's count starts at 0 after the warm-up. The shape is "linear", "cosine", "sqrt" or
    "square".
    """

    schedule: Scalar  # a schedule or a number
    warmup_steps: Number = whole(within="[0, inf)")
    init_value: Number = 0.0
    shape: str = static(default="linear", among=("linear", "cosine", "sqrt", "square"))

    def span(self) -> float:
        warmup, schedule = longest(self.warmup_steps), self.schedule
        after = longest(schedule) if isinstance(schedule, Schedule) else 0
        return warmup + (after or warmup)

    def __call__(self, count: Any) -> Array:
        value = evaluate(self.schedule, since(count, self.warmup_steps))
        risen = RISES[self.shape](*shares(count, self.warmup_steps))
        return between(jnp.asarray(value, risen.dtype), self.init_value, risen)


def warmup_constant_schedule(
    init_value: Number, peak_value: Number, warmup_steps: Number
) -> warmup_schedule:
    """Linear from `init_value` to `peak_value` in `warmup_steps`, and constant from there on."""
    return warmup_schedule(constant_schedule(peak_value), warmup_steps, init_value)


def warmup_exponential_decay_schedule(
    init_value: Number,
    peak_value: Number,
    warmup_steps: Number,
    transition_steps: Number,
    decay_rate: Number,
    transition_begin: Number = 0,
    staircase: bool = False,
    end_value: Number | None = None,
) -> warmup_schedule:
    """Linear from `init_value` to `peak_value` in `warmup_steps`, then `exponential_decay`.

    `transition_begin` counts from the end of the warm-up.
    """
    decay = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return warmup_schedule(decay, warmup_steps, init_value)


class untuned_warmup(Schedule):
    """The warm-up that b2 asks for: min(1, t (1 - b2) / 2), or 1 - exp(-t (1 - b2)).

    t counts from 1; it is multiplied by `peak_value`. Ma & Yarats 2019, 1910.04209, as a stand-in
    for RAdam. `untuned_warmup(1.0) * schedule` puts it upon another schedule.
    """

    peak_value: Number
    b2: Number = within("[0, 1)", default=0.999)
    shape: str = static(default="linear", among=("linear", "exponential"))  # or "exponential"

    def span(self) -> float:
        left = 1 - np.max(np.asarray(self.b2))
        return float(4 / left)

    def __call__(self, count: Any) -> Array:
        done = (as_steps(count) + 1) * (1 - self.b2)
        if self.shape == "linear":
            return self.peak_value * jnp.minimum(0.5 * done, 1)
        return -self.peak_value * jnp.expm1(-done)


class power_schedule(Schedule):
    """A linear warm-up to the peak, then peak (warmup_steps / t)^power, t counting from 1.

    The power 1/2 is `inverse_sqrt_schedule` (1706.03762), 0.51 the power scheduler of Shen+ 2024,
    2408.13359.
    """

    peak_value: Number
    warmup_steps: Number = within("[0, inf)", default=1)
    power: Number = within("[0, inf)", default=0.5)

    def span(self) -> float:
        warmup = longest(self.warmup_steps)
        return 10 * warmup if warmup > 1 else 0

    def __call__(self, count: Any) -> Array:
        t, warmup = as_steps(count) + 1, jnp.maximum(as_steps(self.warmup_steps), 1)
        return self.peak_value * jnp.minimum(t / warmup, jnp.maximum(t / warmup, 1) ** -self.power)
