"""Averages of the parameters, to evaluate with, or for training to go back to.

What is averaged, and how, tells them apart (p_t are the parameters after t steps):

    ema              p_1, p_2 ... p_t, the newest most, with weights that fall by a decay
    polyak_average   p_start, p_(start + every) ... alike
    lookahead        not for evaluation: every so many steps training goes back to a point
                     between the parameters and where they were the last time

The first two change no update. They average what `inner` says to evaluate, which is the parameters
unless `inner` averages itself: `ema(schedule_free(...))` averages the averages of schedule-free,
not the points at which it takes gradients. They read the parameters that they are given, so they
count what has become of them: rounding, clips and projections further down the chain included.

Inside or outside of what skips steps is a choice: `accumulate(ema(tx), 4)` averages after every
real step, which is what a decay from a paper means; `ema(accumulate(tx, 4))` after every
micro-batch, at three of four of which the parameters stood still. Each evaluates its own average.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.engine.hyperparameters import for_all_arrays
from gradtx.engine.placement import ordered_after, zero_count
from gradtx.engine.run import Running
from gradtx.engine.step import At, next_count
from gradtx.rule import Copy, HyperField, Rule, Step
from gradtx.schedules.base import Number, Schedule
from gradtx.schedules.steps import as_steps
from gradtx.struct import static, within
from gradtx.transform import State, apply_updates
from gradtx.tree import Tree, as_came, real_dtype
from gradtx.wrappers.base import Taken, Wrapper
from gradtx.wrappers.choice import anew, shown

# Decays ----------------------------------------------------------------------------------------


class half_life(Schedule):
    """A constant decay given by the number of steps after which a weight is a half of what it was.

    decay = 2^(-1 / steps): `ema(adam(1e-3), half_life(1000))`.
    """

    steps: Number = within("(0, inf)")

    def __call__(self, count: Any) -> Array:
        return jnp.exp2(-1 / as_steps(self.steps))


class power_law(Schedule):
    """The decay (1 - 1 / t)^(gamma + 1), whose average has a width in proportion to the run.

    The weight of p_i is close to i^gamma: the power function average of Karras+ 2023, 2312.02696.
    gamma = 6.94 has a width of 0.1 of the run, 16.97 of 0.05.
    """

    gamma: Number = within("(-1, inf)", default=6.94)

    def __call__(self, count: Any) -> Array:
        t = jnp.maximum(as_steps(count), 1)
        return (1 - 1 / t) ** (as_steps(self.gamma) + 1)


# Averages --------------------------------------------------------------------------------------


class _moving(Rule, called="ema"):
    """Averages the parameters from `start` on, one of `every`; those before are forgotten."""

    decay: HyperField
    start: HyperField
    every: HyperField
    debias: bool = static(default=True)

    class Slots(NamedTuple):
        average: Array
        reached: Array  # the sum of the weights so far, one number

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_leaf(self, p: Array) -> Slots:
        return self.Slots(jnp.zeros_like(p), jnp.zeros((), real_dtype(p.dtype)))

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        since = step.count - whole_number(self.start)
        first, counts = since <= 0, since % whole_number(self.every) == 0
        reached = self.decay * jnp.where(first, 0, slots.reached) + (1 - self.decay)
        if not self.debias:
            reached = jnp.where(first, 1 - self.decay, 1)
        some = reached > 0
        weight = jnp.where(some, (1 - self.decay) / jnp.where(some, reached, 1), 1)
        weight = jnp.where(first | counts, weight, 0)
        reached = jnp.where(first | counts, reached, slots.reached)
        # Ordered, or a donated step would overwrite the parameters that the average reads: a copy.
        average = _moved(slots.average, p, weight, first)
        return ordered_after(average, g), self.Slots(average, reached)


class _uniform(Rule, called="polyak_average"):
    """Averages the parameters from `start` on, one of `every` alike."""

    start: HyperField
    every: HyperField

    class Slots(NamedTuple):
        average: Array

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        since, every = step.count - whole_number(self.start), whole_number(self.every)
        share = 1 / as_steps(since // every + 1)
        weight = jnp.where(since < 0, 1, jnp.where(since % every == 0, share, 0))
        average = _moved(slots.average, p, weight.astype(step.t.dtype), since <= 0)
        return ordered_after(average, g), self.Slots(average)


def _moved(old: Array, new: Array, weight: Array, first: Array) -> Array:
    """The average with one more; as a difference, or small weights would lose their digits."""
    old = jnp.where(first, 0, old)
    return old + weight * (new - old)


class Averaging(Wrapper):
    """A wrapper that averages the parameters for `eval_params` and leaves the steps alone.

    The newest parameters, which `eval_params` is given, are not yet in the state.
    """

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def seen_params(self, state: State, params: Tree | None, updates: Tree, at: At) -> Tree | None:
        return self.inner.eval_part(state.inner, params, self.inner_at(state, at))

    def evaluated(self, state: State, params: Tree, at: At) -> Tree:
        newest = self.seen_params(state, params, params, at)
        _, own = self.run_own(params, Running(self.rule, state.own, at), newest, {})
        return as_came(own.average, params)


class ema(Averaging):
    """Averages the parameters, the newest most: a = decay a + (1 - decay) p, bias-corrected.

    `tx.eval_params(state, params)` is the average of p_1 ... p_t with weights decay^(t - i), which
    sum to one. A schedule of the decay is read at the number of steps that led to p; `half_life`
    and `power_law` are ready-made. Differs from Optax's `ema`, which averages updates. It averages
    what `inner` says to evaluate. `start=0, debias=False` is the average that begins at the initial
    parameters, a = p_0, as diffusion models have it; with `every` the rest do not count.
    """

    decay: HyperField = within("[0, 1)", default=0.999)
    _: KW_ONLY
    start: HyperField = within("[0, inf)", default=1)  # steps before the first that counts
    every: HyperField = within("[1, inf)", default=1)  # steps from one to the next
    debias: bool = static(default=True)  # False: the first that counts has all the weight at first

    after = _moving


class polyak_average(Averaging):
    """Averages the parameters, all alike, from a step on: p_start, p_(start + every) ...

    `tx.eval_params(state, params)` is the mean of those up to now, before `start` the parameters.
    Polyak & Juditsky 1992. With `every` above one it is stochastic weight averaging (Izmailov+
    2018, 1803.05407), for a learning rate that is constant or cyclic from `start` on. It averages
    what `inner` says to evaluate.
    """

    # Steps before the first that counts; 0 counts the initial parameters too.
    start: HyperField = within("[0, inf)", default=1)
    _: KW_ONLY
    every: HyperField = within("[1, inf)", default=1)  # steps from one to the next

    after = _uniform


def whole_number(number: Any) -> Array:
    """A number of steps as an integer."""
    return jnp.asarray(number).astype(jnp.int32)


# Lookahead -------------------------------------------------------------------------------------


class _lookahead(Rule, called="lookahead"):
    """Turns a step of the fast parameters into one to the new slow ones, when that is due."""

    sync_period: HyperField
    slow_step_size: HyperField

    class Slots(NamedTuple):
        slow: Copy

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_leaf(self, p: Array) -> Slots:
        return self.Slots(jnp.zeros_like(p))

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        due = next_count(step.count) % whole_number(self.sync_period) == 0
        # The first step finds it, so that shapes are enough for init.
        slow = jnp.where(step.count == 0, p, slots.slow)
        u = g - (1 - self.slow_step_size) * jnp.where(due, p + g - slow, 0)
        return u, self.Slots(jnp.where(due, p + u, slow))


class lookahead(Wrapper):
    """Every few steps goes back a part of the way: s = s + slow_step_size (p - s), then p = s.

    Zhang+ 2019, 1907.08610. `eval_params` is s, the slow parameters, asked of `inner` as its own.
    Differs from Optax, which needs a pair of fast and slow parameters and evaluates to no one.
    """

    sync_period: HyperField = within("[1, inf)", default=5)  # steps from one return to the next
    slow_step_size: HyperField = within("[0, 1]", default=0.5)
    reset_state: bool = static(default=False)  # whether `inner` begins anew after each

    after = _lookahead
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def finish(self, done: Taken, steps: Tree, state: State) -> tuple[Tree, State]:
        steps, state = Wrapper.finish(self, done, steps, state)
        if not self.reset_state:
            return steps, state
        due = is_due(self, "sync_period", done.at.count)

        def fresh() -> State:
            there = apply_updates(done.params, steps)
            at = done.at.inside("inner")._replace(count=zero_count(there))
            return self.inner.init_part(there, at)

        return steps, state._replace(inner=anew(due, state.inner, fresh))

    def inner_at(self, state: State, at: At) -> At:
        inside = Wrapper.inner_at(self, state, at)
        return inside._replace(count=self.inner_count(at.count))

    def inner_count(self, count: Any) -> Any:
        """With `reset_state` also its clock begins anew."""
        if not self.reset_state:
            return count
        return count % whole_number(for_all_arrays(self, count).sync_period)

    def evaluated(self, state: State, params: Tree, at: At) -> Tree:
        slow = shown(at.count > 0, state.own.slow, params)
        return self.inner.eval_part(state.inner, slow, self.inner_at(state, at))


def is_due(wrapper: Any, period: str, count: Array) -> Array:
    """Whether the step after `count` others ends a period, of which all arrays have one."""
    steps = whole_number(getattr(for_all_arrays(wrapper, count), period))
    return next_count(count) % steps == 0
