"""Searches for a lower point that cost one evaluation a step.

When they accept a point tells them apart:

    wolfe           where the slope has become flat too: for steps of quasi-Newton methods
    hager_zhang     where the slope is less steep, also where rounding hides that the value is lower
    backtracking    as soon as the value is low enough; trials only come closer
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.rule import HyperField, OptionalHyperField
from gradtx.solve import hager_zhang as secants, more_thuente
from gradtx.solve.hager_zhang import Bracket, Numbers
from gradtx.solve.line import LineSearch, Search
from gradtx.solve.more_thuente import Interval, Point, quotient
from gradtx.solve.points import Line
from gradtx.struct import static, within

GUESSES = ("one", "keep", "slope", "value")
FLAT = 0.1  # the part of the slope that has to be gone where the value says nothing
NEAREST, FARTHEST = 0.1, 0.5  # shares of a trial among which the next one is


def _rounding(numbers: Any, value: Array) -> Any:
    """The share of a value in which no difference is seen."""
    if numbers.approx_dec_rtol is not None:
        return numbers.approx_dec_rtol
    return 1e-6 if value.dtype == jnp.float32 else 0.0


def _guess(search: Any, numbers: Any, before: Search, trial: Point, slope: Array) -> Array:
    """The first trial of a line, from what the line before has shown."""
    strategy = search.initial_guess_strategy
    if strategy == "one":
        return numbers.learning_rate
    if strategy == "keep":
        return trial.step
    change = before.base.slope * trial.step
    if strategy == "value":
        change = 2 * jnp.minimum(trial.value - before.base.value, 0)
    found = quotient(change, slope)
    return jnp.where(found > 0, found, trial.step)


class _wolfe_line(Line, called="wolfe"):
    """What `wolfe` measures."""


class wolfe(LineSearch):
    """Goes along the updates of `inner` to where the loss is lower and its slope has become flat.

    A step a along d is accepted where f(a) <= f(0) + slope_rtol a f'(0) and
    |f'(a)| <= curv_rtol |f'(0)| (strong Wolfe; Moré & Thuente 1994), or, where rounding hides the
    first, f(a) <= f(0) + approx_dec_rtol |f(0)| and -.8 f'(0) >= f'(a) >= curv_rtol f'(0) (Hager &
    Zhang 2005). Every update is one evaluation, with the loss there as `value=`; with `value_fn=`
    it makes more itself, until the next point is one that is accepted. `eval_params` is the last
    accepted. Where d does not lead down, or no lower point is found, it goes down steepest, and
    `inner` begins anew; what is not finite makes the step shorter. `inner` counts its lines.
    """

    _: KW_ONLY
    slope_rtol: HyperField = within("(0, 0.5)", default=1e-3)  # c1
    curv_rtol: HyperField = within("(0, 1)", default=0.9)  # c2
    # None: 1e-6 in float32, 0 in float64.
    approx_dec_rtol: OptionalHyperField = within("[0, inf)", default=None)
    interval_rtol: HyperField = within("[0, 1)", default=0.1)  # an interval so narrow is given up
    # The first trial of a line: `learning_rate`, the last step, or the one that by the slope
    # promises the same change of the loss as the last did, or twice the change that there was.
    initial_guess_strategy: str = static(default="one", among=GUESSES)

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

    def usual(self, numbers: Any, before: Search, trial: Point, slope: Array) -> Array:
        return _guess(self, numbers, before, trial, slope)


class _hager_zhang_line(Line, called="hager_zhang"):
    """What `hager_zhang` measures."""


class hager_zhang(LineSearch):
    """Goes along the updates of `inner` to where the loss is lower and its slope less steep.

    A step a along d is accepted where f(a) <= f(0) + slope_rtol a f'(0) and
    f'(a) >= curv_rtol f'(0) (Wolfe), or f(a) <= f(0) + approx_dec_rtol |f(0)| and
    (2 slope_rtol - 1) f'(0) >= f'(a) >= curv_rtol f'(0) (approximate Wolfe). Trials are secants of
    the slope, which has more digits near a minimum than the value. Hager & Zhang 2005, SIAM J.
    Optim. 16; 2006, Algorithm 851. Differs from both in the first trial. All else as in `wolfe`.
    """

    _: KW_ONLY
    slope_rtol: HyperField = within("(0, 0.5)", default=0.1)  # delta
    curv_rtol: HyperField = within("(0, 1)", default=0.9)  # sigma
    approx_dec_rtol: HyperField = within("[0, inf)", default=1e-6)  # epsilon
    # While it only falls, the next trial is so many times as far.
    expansion: HyperField = within("(1, inf)", default=5.0)  # rho
    # Where an interval is divided whose upper end has too high a value.
    division: HyperField = within("(0, 1)", default=0.5)  # theta
    # An interval that is larger than this share of it after two secants is halved.
    shrinkage: HyperField = within("(0, 1)", default=0.66)  # gamma
    # As in `wolfe`.
    initial_guess_strategy: str = static(default="one", among=GUESSES)

    after = _hager_zhang_line

    def begin(self, numbers: Any, start: Point, first: Array) -> Bracket:
        return secants.begin(start, jnp.asarray(numbers.max_learning_rate, first.dtype))

    def accepts(self, numbers: Any, search: Search, trial: Point) -> Array:
        start, steep = search.base, numbers.curv_rtol * search.base.slope
        lower = trial.value <= start.value + numbers.slope_rtol * trial.step * start.slope
        level = trial.value <= self._level(numbers, search)
        flatter = trial.slope <= (2 * numbers.slope_rtol - 1) * start.slope
        return (lower | (level & flatter)) & (trial.slope >= steep)

    def gives_up(self, numbers: Any, search: Search, trial: Point) -> Array:
        return secants.exhausted(search.line, trial, self._level(numbers, search))

    def next_trial(self, numbers: Any, search: Search, trial: Point) -> tuple[Bracket, Array]:
        level = self._level(numbers, search)
        chosen = Numbers(level, numbers.expansion, numbers.division, numbers.shrinkage)
        return secants.turn(search.line, trial, search.base, chosen)

    def retreat(self, search: Search) -> tuple[Bracket, Array]:
        return secants.retreat(search.line, search.step)

    def usual(self, numbers: Any, before: Search, trial: Point, slope: Array) -> Array:
        return _guess(self, numbers, before, trial, slope)

    def _level(self, numbers: Any, search: Search) -> Array:
        return search.base.value + numbers.approx_dec_rtol * jnp.abs(search.base.value)


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
    slope_rtol: HyperField = within("[0, 1)", default=1e-4)  # at 0 any decrease will do
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

    def usual(self, numbers: Any, before: Search, trial: Point, slope: Array) -> Array:
        if numbers.increase_factor is None:
            return numbers.learning_rate
        return numbers.increase_factor * trial.step
