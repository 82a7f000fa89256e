"""Searches for a lower point that cost one evaluation a step.

When they accept a point tells them apart:

    wolfe           where the slope has become flat too: for steps of quasi-Newton methods
    backtracking    as soon as the value is low enough; trials only come closer
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.rule import HyperField, OptionalHyperField
from gradtx.solve import more_thuente
from gradtx.solve.line import LineSearch, Search
from gradtx.solve.more_thuente import Interval, Point, quotient
from gradtx.solve.points import Line
from gradtx.struct import within

FLAT = 0.1  # the part of the slope that has to be gone where the value says nothing
NEAREST, FARTHEST = 0.1, 0.5  # shares of a trial among which the next one is


def _rounding(numbers: Any, value: Array) -> Any:
    """The share of a value in which no difference is seen."""
    if numbers.approx_dec_rtol is not None:
        return numbers.approx_dec_rtol
    return 1e-6 if value.dtype == jnp.float32 else 0.0


class _wolfe_line(Line, called="wolfe"):
    """What `wolfe` measures."""


class wolfe(LineSearch):
    """Goes along the updates of `inner` to where the loss is lower and its slope has become flat.

    A step a along d is accepted where f(a) <= f(0) + slope_rtol a f'(0) and
    |f'(a)| <= curv_rtol |f'(0)| (strong Wolfe; Moré & Thuente 1994), or, where rounding hides the
    first, f(a) <= f(0) + approx_dec_rtol |f(0)| and -.8 f'(0) >= f'(a) >= curv_rtol f'(0) (Hager &
    Zhang 2005). Every update is one evaluation, with the loss there as `value=`; `eval_params` is
    the last point accepted. Where d does not lead down, or no lower point is found, `inner` begins
    anew; what is not finite makes the step shorter. `inner` counts the lines it has begun.
    """

    _: KW_ONLY
    slope_rtol: HyperField = within("(0, 0.5)", default=1e-3)  # c1
    curv_rtol: HyperField = within("(0, 1)", default=0.9)  # c2
    # None: 1e-6 in float32, 0 in float64.
    approx_dec_rtol: OptionalHyperField = within("[0, inf)", default=None)
    interval_rtol: HyperField = within("[0, 1)", default=0.1)  # an interval so narrow is given up

    after = _wolfe_line

    def begin(self, numbers: Any, start: Point, first: Array) -> Interval:
        return more_thuente.begin(start, first, numbers.max_learning_rate)

    def accepts(self, numbers: Any, search: Search, trial: Point) -> Array:
        start, flat = search.base, numbers.curv_rtol * search.base.slope
        lower = trial.value <= start.value + numbers.slope_rtol * trial.step * start.slope
        strong = lower & (jnp.abs(trial.slope) <= -flat)
        level = trial.value <= start.value + _rounding(numbers, trial.value) * jnp.abs(start.value)
        flatter = (trial.slope <= (2 * FLAT - 1) * start.slope) & (trial.slope >= flat)
        return strong | (level & flatter)

    def gives_up(self, numbers: Any, search: Search, trial: Point) -> Array:
        return more_thuente.exhausted(
            search.line, trial, search.base, numbers.slope_rtol, numbers.interval_rtol
        )

    def next_trial(self, numbers: Any, search: Search, trial: Point) -> tuple[Interval, Array]:
        return more_thuente.turn(
            search.line, trial, search.base, numbers.slope_rtol, numbers.interval_rtol
        )

    def retreat(self, search: Search) -> tuple[Interval, Array]:
        return more_thuente.retreat(search.line, search.step)


class _backtracking_line(Line, called="backtracking"):
    """What `backtracking` measures."""


class backtracking(LineSearch):
    """Goes back along the updates of `inner` until the loss is low enough.

    A step a along d is accepted where f(a) <= f(0) + slope_rtol a f'(0) + approx_dec_rtol |f(0)|
    (Armijo 1966); else the next one is where the parabola through f(0), f'(0) and f(a) is lowest,
    between .1 a and .5 a. The first is `learning_rate`, or the last one accepted times
    `increase_factor`. All else as in `wolfe`. Differs from Optax, which asks a function.
    """

    _: KW_ONLY
    slope_rtol: HyperField = within("(0, 1)", default=1e-4)
    # None: 1e-6 in float32, 0 in float64.
    approx_dec_rtol: OptionalHyperField = within("[0, inf)", default=None)
    increase_factor: OptionalHyperField = within("[1, inf)", default=None)
    max_learning_rate: HyperField = within("(0, inf)", default=1.0)  # no step is longer

    after = _backtracking_line

    def begin(self, numbers: Any, start: Point, first: Array) -> tuple[()]:
        return ()

    def accepts(self, numbers: Any, search: Search, trial: Point) -> Array:
        start, rounding = search.base, _rounding(numbers, trial.value)
        limit = start.value + numbers.slope_rtol * trial.step * start.slope
        return trial.value <= limit + rounding * jnp.abs(start.value)

    def gives_up(self, numbers: Any, search: Search, trial: Point) -> Array:
        return jnp.zeros((), bool)

    def next_trial(self, numbers: Any, search: Search, trial: Point) -> tuple[tuple[()], Array]:
        start, a = search.base, trial.step
        rise = trial.value - start.value - a * start.slope
        lowest = -quotient(start.slope * a * a, 2 * rise)
        return (), jnp.clip(lowest, NEAREST * a, FARTHEST * a)

    def retreat(self, search: Search) -> tuple[tuple[()], Array]:
        return (), NEAREST * search.step

    def usual(self, numbers: Any, trial: Point) -> Array:
        if numbers.increase_factor is None:
            return numbers.learning_rate
        return numbers.increase_factor * trial.step
