"""Schedules of a whole run.

warmup_cosine_decay    up to the peak, then a cosine down
wsd                    up, along the peak, down at the end
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.schedules.base import Number, Schedule
from gradtx.schedules.shape import RISES, between, cosine, known, power
from gradtx.schedules.steps import minus, passed, shares
from gradtx.struct import static, value_error, whole, within


def _up_and_down(schedule: Any, count: Any, left: Array) -> Array:
    """A straight warm-up to the peak; after it the share `left` of the peak, else the end."""
    up = shares(count, schedule.warmup_steps)
    rising = between(schedule.peak_value, schedule.init_value, *up)
    falling = between(schedule.peak_value, schedule.end_value, left)
    return jnp.where(passed(count, schedule.warmup_steps) < 0, rising, falling)


class warmup_cosine_decay_schedule(Schedule):
    """Linear from `init_value` to `peak_value`, then a cosine down to `end_value`.

    `decay_steps` is the length of the whole run, warm-up included. Differs from Optax, which
    refuses a warm-up as long as the run, and ends at zero where the peak is zero.
    """

    init_value: Number
    peak_value: Number
    warmup_steps: Number = whole(within="[0, inf)")
    decay_steps: Number = whole(within="[0, inf)")
    end_value: Number = 0.0
    exponent: Number = within("[0, inf)", default=1.0)

    def check(self) -> None:
        lengths = known(self.warmup_steps, self.decay_steps)
        if lengths and lengths[0] > lengths[1]:
            do = "Count the whole run in decay_steps, warm-up included"
            raise value_error(self, "the warm-up is longer than the run", do)

    def __call__(self, count: Any) -> Array:
        length = minus(self.decay_steps, self.warmup_steps)
        left = cosine(*shares(count, length, self.warmup_steps))
        return _up_and_down(self, count, power(left, self.exponent))


FALLS = ("linear", "1-sqrt", "cosine", "square", "1-square")


class wsd_schedule(Schedule):
    """Warm-up, stable, decay: up to the peak, along it, and down in the last `decay_steps`.

    The decay is "linear", "1-sqrt" (1 - sqrt(s), Hagele+ 2024, 2405.18392), "cosine", "square" (of
    1 - s) or "1-square"; `total_steps` counts the whole run.
    """

    peak_value: Number
    warmup_steps: Number = whole(within="[0, inf)")
    total_steps: Number = whole(within="[0, inf)")
    decay_steps: Number = whole(within="[0, inf)")
    init_value: Number = 0.0
    end_value: Number = 0.0
    decay: str = static(default="1-sqrt", among=FALLS)

    def check(self) -> None:
        lengths = known(self.warmup_steps, self.decay_steps, self.total_steps)
        if lengths and lengths[0] + lengths[1] > lengths[2]:
            do = "Count the whole run in total_steps, warm-up and decay included"
            raise value_error(self, "warm-up and decay are longer than the run", do)

    def __call__(self, count: Any) -> Array:
        begin = minus(self.total_steps, self.decay_steps)
        share, left = shares(count, self.decay_steps, begin)
        return _up_and_down(self, count, RISES[self.decay](left, share))
