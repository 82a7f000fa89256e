"""Up and down, once or for ever.

cosine_onecycle  linear_onecycle      up to a peak and far down, once in a run
cyclic                                a triangle, again and again
warm_restarts  sgdr                   a cosine down, again and again from the top
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.schedules.base import Number, Schedule, join_schedules, longest
from gradtx.schedules.run import warmup_cosine_decay_schedule
from gradtx.schedules.shape import between, cosine
from gradtx.schedules.steps import as_steps, growing_periods, minus, passed, periods, plus, shares
from gradtx.struct import Fixed, static, whole, within


class cosine_onecycle_schedule(Schedule):
    """A cosine up from peak / div_factor in the share `pct_start`, a cosine down for the rest.

    The end is the start / final_div_factor. Smith & Topin 2017, 1708.07120. For a momentum that
    goes the other way, 0.95 to 0.85 and back, take a second one:
    `cosine_onecycle_schedule(n, 0.85, div_factor=0.85 / 0.95, final_div_factor=1.0)`.
    Differs from Optax in that boundaries are not rounded to whole counts.
    """

    transition_steps: Number = whole(within="[0, inf)")
    peak_value: Number
    pct_start: Number = within("[0, 1]", default=0.3)
    div_factor: Number = within("(0, inf)", default=25.0)
    final_div_factor: Number = within("(0, inf)", default=1e4)

    def __call__(self, count: Any) -> Array:
        start = self.peak_value / self.div_factor
        middle = self.pct_start * as_steps(self.transition_steps)
        share, left = shares(count, middle)
        down = shares(count, minus(self.transition_steps, middle), middle)
        rising = between(self.peak_value, start, cosine(left, share), cosine(share, left))
        end = start / self.final_div_factor
        falling = between(self.peak_value, end, cosine(*down), cosine(*down[::-1]))
        return jnp.where(passed(count, middle) < 0, rising, falling)


class linear_onecycle_schedule(Schedule):
    """Straight up from peak / div_factor, back down until `pct_final`, then far down.

    The end is the start / final_div_factor. Smith & Topin 2017, 1708.07120. Differs from Optax in
    that boundaries are not rounded to whole counts.
    """

    transition_steps: Number = whole(within="[0, inf)")
    peak_value: Number
    pct_start: Number = within("[0, 1]", default=0.3)
    pct_final: Number = within("[0, 1]", default=0.85)
    div_factor: Number = within("(0, inf)", default=25.0)
    final_div_factor: Number = within("(0, inf)", default=1e4)

    def check(self) -> None:
        self.require_order("pct_start", "pct_final")

    def __call__(self, count: Any) -> Array:
        start = self.peak_value / self.div_factor
        steps = as_steps(self.transition_steps)
        first, second = self.pct_start * steps, self.pct_final * steps
        rising = between(self.peak_value, start, *shares(count, first))
        share, left = shares(count, minus(second, first), first)
        falling = between(self.peak_value, start, left, share)
        share, left = shares(count, minus(self.transition_steps, second), second)
        leaving = between(start, start / self.final_div_factor, left, share)
        later = jnp.where(passed(count, second) < 0, falling, leaving)
        return jnp.where(passed(count, first) < 0, rising, later)


HEIGHTS = {
    "triangular": lambda cycle, gamma, count: jnp.ones_like(count),
    "triangular2": lambda cycle, gamma, count: 0.5**cycle,
    "exp_range": lambda cycle, gamma, count: gamma**count,
}


class cyclic_schedule(Schedule):
    """A triangle from `base_value` to `peak_value` and back, again and again.

    Its height stays ("triangular"), halves with every cycle ("triangular2"), or is gamma^count
    ("exp_range"). Smith 2015, 1506.01186. `step_size_down` is `step_size_up` when it is `None`.
    """

    base_value: Number
    peak_value: Number
    step_size_up: Number = within("(0, inf)", default=2000)
    step_size_down: Number | None = whole(default=None, within="[0, inf)")
    gamma: Number = within("[0, inf)", default=1.0)
    mode: str = static(default="triangular", among=HEIGHTS)

    def span(self) -> float:
        up = longest(self.step_size_up)
        return 3 * (up + (up if self.step_size_down is None else longest(self.step_size_down)))

    def __call__(self, count: Any) -> Array:
        up = self.step_size_up
        down = up if self.step_size_down is None else self.step_size_down
        number, inside = periods(count, plus(up, down))
        weight = jnp.minimum(shares(inside, up)[0], shares(inside, down, up)[1])
        height = HEIGHTS[self.mode](as_steps(number), self.gamma, as_steps(count))
        return self.base_value + (self.peak_value - self.base_value) * weight * height


class warm_restarts_schedule(Schedule):
    """A cosine from `peak_value` to `end_value` that begins again, each time longer and lower.

    The first period has `period` steps, each following `period_factor` times as many, with a peak
    that is `peak_factor` times as high. Loshchilov & Hutter 2016, 1608.03983 (SGDR).
    """

    peak_value: Number
    period: Number = whole(within="(0, inf)")
    period_factor: Number = within("[1, inf)", default=1.0)
    peak_factor: Number = within("[0, inf)", default=1.0)
    end_value: Number = 0.0

    def span(self) -> float:
        factor = longest(self.period_factor)
        return longest(self.period) * (1 + factor + factor**2)

    def __call__(self, count: Any) -> Array:
        number, done, length = growing_periods(count, self.period, self.period_factor)
        top = self.peak_value * self.peak_factor ** as_steps(number)
        return between(top, self.end_value, cosine(*shares(done, length)))


def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    """One `warmup_cosine_decay_schedule` after the other, from the arguments of each.

    Loshchilov & Hutter 2016, 1608.03983. `warm_restarts_schedule` is the form with a rule.
    """
    cycles = [warmup_cosine_decay_schedule(**arguments) for arguments in cosine_kwargs]
    lengths = [cycle.decay_steps for cycle in cycles[:-1]]
    ends = itertools.accumulate(int(n) if isinstance(n, Fixed) else n for n in lengths)
    return join_schedules(cycles, list(ends))
