"""What all searches along a direction share: one evaluation a step, and where the search stands.

The parameters that a step returns are the next point to evaluate. The state holds the base, which
is the last point accepted, the gradient there, the direction, and what is known of the line. Where
a point is accepted, and nowhere else, `inner` takes a step: that is the next direction.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx.engine.beside import as_they_came, grown, only, with_leaves
from gradtx.engine.hyperparameters import for_all_arrays, narrowed
from gradtx.engine.joint import decided
from gradtx.engine.placement import varying_as, zero_count
from gradtx.engine.refusals import refuse_unfit
from gradtx.engine.run import Running, in_precision
from gradtx.engine.slots import Declared, declare
from gradtx.engine.step import At, next_count
from gradtx.rule import (
    HyperField,
    register_for_export,
)
from gradtx.solve.box import Box, box_of, is_bounded, is_within, refuse_crossed, room
from gradtx.solve.hager_zhang import Bracket
from gradtx.solve.more_thuente import Interval, Point, quotient
from gradtx.solve.points import Line, LineSums, aimed_along, taken
from gradtx.struct import converted, static, value_error, whole, within
from gradtx.transform import State
from gradtx.tree import Extra, Tree, as_came, is_inexact, is_none, real_dtype_of, widened
from gradtx.wrappers.base import Turn, Wrapper
from gradtx.wrappers.choice import anew, either, shown, zero_updates

SEARCHING, NO_LOWER_POINT = 0, 1


class Search(NamedTuple):
    """Where a search stands."""

    step: Array  # of the trial, along the direction; 0 where the trial is the base
    base: Point  # value and slope there
    line: Any  # what the search knows of it
    trials: Array  # evaluated on this line
    iterations: Array  # points accepted so far, the start not counted
    emptied: Array  # whether the direction was made with an empty memory
    status: Array  # SEARCHING or NO_LOWER_POINT


declare(Search, dict.fromkeys(Search._fields, Declared("number")))
for _state in (Point, Interval, Bracket, Search):  # what `jax.export` finds inside of a state
    register_for_export(_state)


class SearchOwn(NamedTuple):
    """What a search remembers beside its arrays."""

    search: Any = None


class Seen(NamedTuple):
    """An evaluation."""

    value: Array
    grads: Tree  # at least float32
    params: Tree | None
    at: At
    extra: Extra
    still: list[bool]  # the arrays that are never moved
    box: Box | None

    @property
    def bounds(self) -> dict[str, Tree]:
        return {} if self.box is None else self.box._asdict()


class Judged(NamedTuple):
    """What an evaluation means for the search."""

    numbers: Any  # the hyperparameters
    trial: Point
    resting: Array  # whether no search was under way
    finite: Array
    ended: Array  # whether there is to be no other trial
    accepted: Array


def _as_bound(value: Any, called: str = "") -> Any:
    return value


class LineSearch(Wrapper):
    """A search along the updates of `inner`. Where these do not lead down it goes down steepest.

    A subclass says what it knows of a line and what it makes of an evaluation there.
    """

    _: KW_ONLY
    # The step that is tried first; at the start, and where the memory of `inner` has been emptied,
    # the length of that step.
    learning_rate: HyperField = within("(0, inf)", default=1.0)
    # The values that a search may take; then it is given up.
    max_linesearch_steps: HyperField = whole(within="[1, inf)", default=20)
    max_learning_rate: HyperField = within("(0, inf)", default=1e10)  # no step is longer
    # Bounds: (prefix) trees like the parameters, of numbers or of arrays with one for every entry;
    # None: there are none.
    lower: Any = converted(converter=_as_bound, default=None, hyperparameter=False)
    upper: Any = converted(converter=_as_bound, default=None, hyperparameter=False)
    # Whether `learning_rate` is a length at first; False where updates have the right one, and only
    # the steepest descent has not.
    scale_init_step: bool = static(default=True)

    Own = SearchOwn
    kinds: ClassVar[Mapping[str, str]] = {"search": "state"}
    after = Line
    skips: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("params", "value")
    wants: ClassVar[tuple[str, ...]] = ("value_fn",)

    # What a subclass says of itself. The numbers are its hyperparameters.

    @abc.abstractmethod
    def begin(self, numbers: Any, start: Point, first: Array) -> Any:
        """What is known of a line before its first trial."""

    @abc.abstractmethod
    def accepts(self, numbers: Any, search: Search, trial: Point) -> Array:
        """Whether a finite trial ends the search."""

    @abc.abstractmethod
    def gives_up(self, numbers: Any, search: Search, trial: Point) -> Array:
        """Whether no other trial promises anything."""

    @abc.abstractmethod
    def next_trial(self, numbers: Any, search: Search, trial: Point) -> tuple[Any, Array]:
        """What is known of the line after a finite trial that was not accepted, and the next."""

    @abc.abstractmethod
    def retreat(self, search: Search) -> tuple[Any, Array]:
        """The same after a trial that was not finite."""

    def usual(self, numbers: Any, before: Search, trial: Point, slope: Array) -> Array:
        """The first trial of a line of this slope, which begins where `trial` was accepted."""
        return numbers.learning_rate

    # What follows from it.

    @property
    def searches(self) -> bool:
        return True

    def bounds(self, params: Tree) -> tuple[Tree, Tree] | None:
        return box_of(self, self.lower, self.upper, params)

    def check(self) -> None:
        refuse_crossed(self, self.lower, self.upper)

    def init_own(self, params: Tree, at: At) -> SearchOwn:
        real = real_dtype_of(params)
        box_of(self, self.lower, self.upper, params)  # for what does not fit
        numbers = narrowed(for_all_arrays(self, at.count), real)

        def before() -> Search:
            number, count, no = (jnp.zeros((), dtype) for dtype in (real, jnp.int32, bool))
            start = Point(number, number, number)
            line = self.begin(numbers, start, number)
            return Search(number, start, line, count, count, no, count)

        shapes = jax.eval_shape(before)
        return SearchOwn(jax.tree.map(lambda x: zero_count(params).astype(x.dtype), shapes))

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        trial, new = self._walked(updates, state, params, at, extra)
        came = grown(updates, params)

        def step(u: Any, x: Any, p: Any) -> Any:
            return widened(x) - widened(p) if is_inexact(u) else u

        moved = jax.tree.map(step, came, trial, params, is_leaf=is_none)
        still = self.still(updates, params)
        steps = with_leaves(zero_updates(came, params), still, False, moved)
        return as_they_came(as_came(steps, came), updates), new

    def step_part(
        self, grads: Tree, state: State, params: Tree, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        """The trial itself, which a difference to a point far off would round."""
        trial, new = self._walked(grads, state, params, at, extra)
        return as_came(trial, params), new

    def evaluated(self, state: State, params: Tree, at: At) -> Tree:
        base = shown(state.gradient_step > 0, state.own.base, params)
        return self.inner.eval_part(state.inner, base, self.inner_at(state, at))

    def _walked(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        """The next point to evaluate, and the state: one evaluation further.

        With `value_fn` as many as it takes until the next point is one that is accepted.
        """
        self.refuse(updates, state, params, extra)
        still = self.still(updates, params)
        wide = only(widened(grown(updates, params)), still, False)
        wide = jax.tree.map(lambda g: g if is_inexact(g) else None, wide)
        value, function = self._value(extra["value"], state), extra.get("value_fn")
        box = box_of(self, self.lower, self.upper, params)

        def seen(value: Array, grads: Tree, params: Tree | None) -> Seen:
            return Seen(value, grads, params, at, extra, still, box)

        if function is None:
            return self._searched(seen(value, wide, params), state)
        slopes = jax.value_and_grad(function, allow_int=True)

        def turn(now: Any) -> Any:
            point, state, value, grads, _ = now
            point, state = self._searched(seen(value, grads, point), state)
            point = as_came(point, params)
            value, grads = slopes(point)
            value = self._value(value, state)
            # JAX gives the conjugate of the direction in which a complex parameter ascends.
            grads = jax.tree.map(
                lambda w, g: None if w is None else jnp.conj(g).astype(w.dtype),
                wide,
                grads,
                is_leaf=is_none,
            )
            judged = self._judged(seen(value, grads, point), state)
            return point, state, value, grads, judged.accepted | judged.resting

        start = params, state, value, wide, jnp.zeros((), bool)
        point, state, *_ = lax.while_loop(lambda now: ~now[-1], turn, start)
        return point, state

    def _judged(self, seen: Seen, state: State) -> Judged:
        """What an evaluation means for the search."""
        search, real = state.search, state.search.step.dtype
        numbers = narrowed(for_all_arrays(self, seen.at.count), real)
        slope = self._measured(seen.grads, state.own, seen).along.astype(real)
        resting, finite = search.step == 0, jnp.isfinite(seen.value) & jnp.isfinite(slope)
        trial = Point(
            search.step,
            jnp.where(finite, seen.value, search.base.value),
            jnp.where(finite, slope, search.base.slope),
        )
        begins = resting
        if seen.box is not None:
            moving = only(seen.params, seen.still, False)
            begins = resting & is_within(seen.box, moving)
        ended = self.gives_up(numbers, search, trial) & finite
        ended = ended | (next_count(search.trials).astype(real) >= numbers.max_linesearch_steps)
        lower = ended & (trial.value < search.base.value)
        takes = self.accepts(numbers, search, trial) | lower
        return Judged(
            numbers, trial, resting, finite, ended, finite & (begins | (takes & ~resting))
        )

    def _searched(self, seen: Seen, state: State) -> tuple[Tree, State]:
        """The next point to evaluate, and the state: one evaluation further."""
        judged, params, search = self._judged(seen, state), seen.params, state.search
        numbers, trial, resting, finite, ended, accepted = judged
        trials = next_count(search.trials)
        usual, step = self.next_trial(numbers, search, trial)
        spoilt, shorter = self.retreat(search)
        step = jnp.where(finite, step, shorter)
        # A trial at the base itself: there is no lower point on this line that it could find.
        failed = ~resting & ~accepted & (ended | ~(step > 0))
        again = failed & ~search.emptied
        goes_on = search._replace(
            step=jnp.where(resting | failed, 0, step),
            line=jax.tree.map(lambda a, b: jnp.where(finite, a, b), usual, spoilt),
            trials=jnp.where(resting, search.trials, trials),
            status=jnp.where(failed & ~again, NO_LOWER_POINT, search.status),
        )

        def begins() -> tuple[Search, Any, State]:
            return self._begun(seen, judged, state)

        def same() -> tuple[Search, Any, State]:
            return goes_on, state.own, state.inner

        new, own, inside = either(accepted | again, begins, same)
        turn = Turn(lambda: seen.grads, state, seen.extra, accepted | again)
        new_state = self._counted(turn, state)._replace(search=new, own=own, inner=inside)
        begun = new_state.gradient_step > 0
        running = Running(self.rule, own, seen.at, (begun, new.step))
        points, _ = self.run_own(own.base, running, params, seen.bounds)
        trial_params = jax.tree.map(
            lambda p, x: p if x is None or not is_inexact(p) else x,
            params,
            points,
            is_leaf=is_none,
        )
        return with_leaves(params, seen.still, False, trial_params), new_state

    def _begun(self, seen: Seen, judged: Judged, state: State) -> tuple[Search, Any, State]:
        """A search on a new line: from the point accepted, or afresh from the base."""
        numbers, trial, resting, _, _, accepted = judged
        search, real, params, at = state.search, trial.value.dtype, seen.params, seen.at
        running = Running(taken(), taken.Part(*state.own), at, accepted)
        gradient, own = self.run_own(seen.grads, running, params, {})
        base = with_leaves(params, seen.still, False, as_came(own.base, params))

        extra = {**seen.extra, **seen.bounds}
        steps, inside = self.inner_update(gradient, state, base, at, extra)
        refuse_unfit(self.inner, steps, params)
        steps = only(widened(steps), seen.still, False)

        def aimed(descends: Array) -> tuple[Tree, Any]:
            running = Running(aimed_along(), aimed_along.Part(*own), at, descends)
            return self.run_own(steps, running, params, seen.bounds)

        def measured(steps: Tree) -> LineSums:
            return narrowed(self._measured(steps, self.rule.Part(*own), seen), real)

        # Afresh it goes down steepest. In a box it is what is left of a way there that counts.
        way = steps if seen.box is None else aimed(jnp.ones((), bool))[0]
        ahead = measured(way).against
        descends = accepted & (ahead < 0) & jnp.isfinite(ahead)
        direction, own = aimed(descends)
        sums = measured(direction)
        slope, length = sums.against, sums.size
        emptied = resting | ~descends
        of_length = quotient(numbers.learning_rate, length)
        if not self.scale_init_step:
            of_length = jnp.where(descends, numbers.learning_rate, of_length)
        if seen.box is not None:
            # A longer step would leave it. Where no way is long the whole way is tried.
            most = jnp.where(emptied, 1, room(seen.box, own.base, own.direction).astype(real))
            most = jnp.minimum(numbers.max_learning_rate, most)
            numbers = numbers.with_fields(max_learning_rate=most)
            of_length = jnp.where(is_bounded(seen.box), most, of_length)
        first = jnp.where(emptied, of_length, self.usual(numbers, search, trial, slope))
        first = jnp.minimum(first, numbers.max_learning_rate)
        first = jnp.where(jnp.isfinite(first) & jnp.isfinite(slope) & (slope < 0), first, 0)
        start = Point(
            jnp.zeros_like(first), jnp.where(accepted, trial.value, search.base.value), slope
        )
        one_more = jnp.where(accepted & ~resting, 1, 0)
        return (
            Search(
                step=first,
                base=start,
                line=jax.tree.map(
                    lambda x: varying_as(first, x), self.begin(numbers, start, first)
                ),
                trials=jnp.zeros_like(search.trials),
                iterations=jnp.minimum(search.iterations, 2**31 - 2) + one_more,
                emptied=emptied,
                status=jnp.where(accepted & ~resting, SEARCHING, search.status),
            ),
            self.rule.Part(*own),
            anew(~descends, inside, lambda: self._fresh(base, at)),
        )

    def _fresh(self, params: Tree, at: At) -> State:
        """The state of `inner` before its first step."""
        at_first = at.inside("inner")._replace(count=zero_count(params))
        return self.inner.init_part(params, at_first)

    def _measured(self, updates: Tree, own: Any, seen: Seen) -> Any:
        return decided(self.rule, updates, own, seen.params, seen.at, {})[0]

    def _value(self, value: Any, state: State) -> Array:
        real = state.search.step.dtype
        if jnp.ndim(value) != 0:
            raise value_error(
                f"{self}.update",
                f"'value' has shape {list(jnp.shape(value))}",
                "Pass one number, the loss at the parameters",
            )
        return in_precision(jnp.asarray(value), real).astype(real)
