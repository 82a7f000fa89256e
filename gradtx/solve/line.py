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
from jax import Array

from gradtx.engine.beside import as_they_came, grown, only, with_leaves
from gradtx.engine.hyperparameters import for_all_arrays, narrowed
from gradtx.engine.joint import decided
from gradtx.engine.placement import varying_as, zero_count
from gradtx.engine.refusals import refuse_unfit
from gradtx.engine.run import Running, in_precision
from gradtx.engine.slots import Declared, declare
from gradtx.engine.step import At, next_count
from gradtx.rule import (
    Copy,
    HyperField,
    JointRule,
    NormOf,
    Rule,
    Step,
    register_for_export,
)
from gradtx.solve.hager_zhang import Bracket
from gradtx.solve.more_thuente import Interval, Point, quotient
from gradtx.struct import static, value_error, whole, within
from gradtx.transform import State
from gradtx.tree import Extra, Tree, as_came, inner, is_inexact, real_dtype_of, widened
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


class LineSlots(NamedTuple):
    base: Copy
    gradient: Array  # there
    direction: Array


class LineSums(NamedTuple):
    along: Array  # of what comes in, its inner product with the direction
    against: Array  # and with the gradient
    size: Array  # its norm
    steepest: Array  # the norm of the gradient


class Line(JointRule, called="LineSearch"):
    """Measures gradients and directions; its update is the next trial.

    Every search has one of its name.
    """

    Slots = LineSlots
    Sums = LineSums
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_leaf(self, p: Array) -> LineSlots:
        return LineSlots(*(jnp.zeros_like(p) for _ in LineSlots._fields))

    def measure_leaf(self, g: Array, slots: LineSlots, p: Array, known: Any) -> LineSums:
        sizes: tuple[Any, Any] = NormOf(g), NormOf(slots.gradient)
        return LineSums(inner(g, slots.direction), inner(g, slots.gradient), *sizes)

    def decide(self, sums: LineSums, globals_: Any, t: Array, **extra: Any) -> tuple[Any, Any]:
        return globals_, sums

    def update_leaf(
        self, g: Array, slots: LineSlots, p: Array, step: Step
    ) -> tuple[Array, LineSlots]:
        begun, length = step.shared
        return jnp.where(begun != 0, slots.base + length * slots.direction, p), slots


class _taken(Rule, called="LineSearch"):
    """Makes the point evaluated the base where it is accepted; its update is the gradient there."""

    Slots = LineSlots
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(
        self, g: Array, slots: LineSlots, p: Array, step: Step
    ) -> tuple[Array, LineSlots]:
        taken = step.shared != 0
        gradient = jnp.where(taken, g, slots.gradient)
        base = jnp.where(taken, p, slots.base)
        return gradient, LineSlots(base, gradient, slots.direction)


class _aimed(Rule, called="LineSearch"):
    """Makes what comes in the direction if it leads down, else the steepest descent."""

    Slots = LineSlots

    def update_leaf(
        self, g: Array, slots: LineSlots, p: Array, step: Step
    ) -> tuple[Array, LineSlots]:
        direction = jnp.where(step.shared != 0, g, -slots.gradient)
        return direction, slots._replace(direction=direction)


class Evaluated(NamedTuple):
    """An evaluation, and what it means for the search."""

    grads: Tree  # at least float32
    params: Tree | None
    at: At
    extra: Extra
    still: list[bool]  # the arrays that are never moved
    numbers: Any  # the hyperparameters
    trial: Point
    resting: Array  # whether no search was under way
    accepted: Array


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
    # Whether `learning_rate` is a length at first; False where updates have the right one, and only
    # the steepest descent has not.
    scale_init_step: bool = static(default=True)

    Own = SearchOwn
    kinds: ClassVar[Mapping[str, str]] = {"search": "state"}
    after = Line
    skips: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("params", "value")

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

    def init_own(self, params: Tree, at: At) -> SearchOwn:
        real = real_dtype_of(params)
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
        trial, new = self._searched(updates, state, params, at, extra)
        came = grown(updates, params)

        def step(u: Any, x: Any, p: Any) -> Any:
            return x - p.astype(x.dtype) if is_inexact(u) else u

        moved = jax.tree.map(step, came, trial, params, is_leaf=lambda x: x is None)
        still = self.still(updates, params)
        steps = with_leaves(zero_updates(came, params), still, False, moved)
        return as_they_came(as_came(steps, came), updates), new

    def step_part(
        self, grads: Tree, state: State, params: Tree, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        """The trial itself, which a difference to a point far off would round."""
        trial, new = self._searched(grads, state, params, at, extra)
        return as_came(trial, params), new

    def evaluated(self, state: State, params: Tree, at: At) -> Tree:
        base = shown(state.gradient_step > 0, state.own.base, params)
        return self.inner.eval_part(state.inner, base, self.inner_at(state, at))

    def _searched(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        """The next point to evaluate, and the state: one evaluation further."""
        self.refuse(updates, state, params, extra)
        still = self.still(updates, params)
        wide = only(widened(grown(updates, params)), still, False)
        search, real = state.search, state.search.step.dtype
        numbers = narrowed(for_all_arrays(self, at.count), real)
        value = in_precision(jnp.asarray(self._value(extra)), real).astype(real)
        slope = self._measured(wide, state.own, params, at).along.astype(real)

        resting, finite = search.step == 0, jnp.isfinite(value) & jnp.isfinite(slope)
        trial = Point(
            search.step,
            jnp.where(finite, value, search.base.value),
            jnp.where(finite, slope, search.base.slope),
        )
        trials = next_count(search.trials)
        ended = self.gives_up(numbers, search, trial) & finite
        ended = ended | (trials.astype(real) >= numbers.max_linesearch_steps)
        lower = ended & (trial.value < search.base.value)
        accepted = finite & (resting | self.accepts(numbers, search, trial) | lower)
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

        seen = Evaluated(wide, params, at, extra, still, numbers, trial, resting, accepted)

        def begins() -> tuple[Search, Any, State]:
            return self._begun(seen, state)

        def same() -> tuple[Search, Any, State]:
            return goes_on, state.own, state.inner

        new, own, inside = either(accepted | again, begins, same)
        turn = Turn(lambda: updates, state, extra, accepted | again)
        new_state = self._counted(turn, state)._replace(search=new, own=own, inner=inside)
        begun = new_state.gradient_step > 0
        running = Running(self.rule, own, at, (begun, new.step))
        points, _ = self.run_own(own.base, running, params, {})
        trial_params = jax.tree.map(
            lambda p, x: p if x is None or not is_inexact(p) else x,
            params,
            points,
            is_leaf=lambda x: x is None,
        )
        return with_leaves(params, still, False, trial_params), new_state

    def _begun(self, seen: Evaluated, state: State) -> tuple[Search, Any, State]:
        """A search on a new line: from the point accepted, or afresh from the base."""
        wide, params, at, extra, still, numbers, trial, resting, accepted = seen
        search, real = state.search, trial.value.dtype
        running = Running(_taken(), _taken.Part(*state.own), at, accepted)
        gradient, own = self.run_own(wide, running, params, {})
        base = with_leaves(params, still, False, as_came(own.base, params))

        def fresh() -> State:
            at_first = at.inside("inner")._replace(count=zero_count(base))
            return self.inner.init_part(base, at_first)

        here = state._replace(inner=anew(~accepted, state.inner, fresh))
        steps, inside = self.inner_update(gradient, here, base, at, extra)
        refuse_unfit(self.inner, steps, params)
        steps = only(widened(steps), still, False)
        sums = narrowed(self._measured(steps, self.rule.Part(*own), params, at), real)
        descends = (sums.against < 0) & jnp.isfinite(sums.against) & jnp.isfinite(sums.size)
        _, own = self.run_own(steps, Running(_aimed(), _aimed.Part(*own), at, descends), params, {})
        slope = jnp.where(descends, sums.against, -sums.steepest * sums.steepest)
        length = jnp.where(descends, sums.size, sums.steepest)
        emptied = resting | ~accepted | ~descends
        of_length = quotient(numbers.learning_rate, length)
        if not self.scale_init_step:
            of_length = jnp.where(descends, numbers.learning_rate, of_length)
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
            anew(~descends, inside, fresh),
        )

    def _measured(self, updates: Tree, own: Any, params: Tree | None, at: At) -> Any:
        return decided(self.rule, updates, own, params, at, {})[0]

    def _value(self, extra: Extra) -> Any:
        value = extra["value"]
        if jnp.ndim(value) != 0:
            raise value_error(
                f"{self}.update",
                f"'value' has shape {list(jnp.shape(value))}",
                "Pass one number, the loss at the parameters",
            )
        return value
