"""An optimizer on top of another, whose displacement is its gradient.

outer           every so many steps, the displacement is a gradient for a second optimizer
diloco          the same with Nesterov's momentum, as DiLoCo and SNOO have it
ema_nesterov    at every step, looks ahead along the moving average of the steps
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx.engine.hyperparameters import for_all_arrays
from gradtx.engine.placement import zero_count
from gradtx.engine.run import Running
from gradtx.engine.step import At, next_count
from gradtx.foreign import as_transformation
from gradtx.rule import Copy, HyperField, Rule, Step
from gradtx.struct import converted, within
from gradtx.transform import GradientTransformation, Inside, State, apply_updates
from gradtx.tree import Tree, is_inexact, is_none
from gradtx.wrappers.average import is_due, whole_number
from gradtx.wrappers.base import Taken, Wrapper
from gradtx.wrappers.choice import shown


class SlowSlots(NamedTuple):
    slow: Copy


class _displacement(Rule, called="outer"):
    """Turns a step of the fast parameters into the displacement from them to the slow ones."""

    Slots = SlowSlots
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_leaf(self, p: Array) -> SlowSlots:
        return SlowSlots(jnp.zeros_like(p))

    def update_leaf(
        self, g: Array, slots: SlowSlots, p: Array, step: Step
    ) -> tuple[Array, SlowSlots]:
        # The first step finds it, so that shapes are enough for init.
        slow = jnp.where(step.count == 0, p, slots.slow)
        return slow - (p + g), SlowSlots(slow)


class _jump_back(Rule, called="outer"):
    """Turns a step of the fast parameters into one to the slow ones, when that is due."""

    Slots = SlowSlots
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(
        self, g: Array, slots: SlowSlots, p: Array, step: Step
    ) -> tuple[Array, SlowSlots]:
        return jnp.where(step.shared != 0, slots.slow - p, g), slots


class OuterOwn(NamedTuple):
    """What `outer` remembers."""

    outer: Any  # the state of `optimizer`
    steps: Array  # those that it has taken


class outer(Wrapper):
    """Every few steps hands the displacement slow - p to `optimizer` as a gradient; then p = slow.

    `optimizer` moves the slow parameters, and training goes on from there. Its schedules count its
    own steps, and it costs nothing in between. `eval_params` is the slow parameters, asked of
    `inner` as its own. With `sgd(a)` it is `lookahead`; with momentum see `diloco`.
    """

    optimizer: GradientTransformation = converted(converter=as_transformation, hyperparameter=False)
    _: KW_ONLY
    every: HyperField = within("[1, inf)", default=10)  # steps from one to the next

    Own = OuterOwn
    kinds: ClassVar[Mapping[str, str]] = {"outer": "state"}
    after = _displacement
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_own(self, params: Tree, at: At) -> OuterOwn:
        return OuterOwn(
            self.optimizer.init_part(params, at.inside("optimizer")), zero_count(params)
        )

    def finish(self, done: Taken, steps: Tree, state: State) -> tuple[Tree, State]:
        params, at, extra = done.params, done.at, done.extra
        due = is_due(self, "every", at.count)
        back, own = self.run_own(steps, Running(self.rule, state.own, at), params, extra)
        there = at.inside("optimizer")._replace(count=state.steps)

        def moved(slow: Tree, outer: Any) -> tuple[Tree, Any]:
            way = jax.tree.map(lambda s, w: None if s is None else w, slow, back, is_leaf=is_none)
            moves, outer = self.optimizer.update_part(way, outer, slow, there, extra)
            return apply_updates(slow, moves), outer

        slow, new = lax.cond(due, moved, lambda *same: same, own.slow, state.outer)
        jump = Running(_jump_back(), _jump_back.Part(slow), at, due)
        steps, _ = self.run_own(steps, jump, params, extra)
        taken = jnp.where(due, next_count(state.steps), state.steps)
        return steps, state._replace(own=own._replace(slow=slow), outer=new, steps=taken)

    def moments(
        self, at: At, state: State | None = None
    ) -> Iterator[tuple[GradientTransformation, At]]:
        yield from Wrapper.moments(self, at, state)
        every = for_all_arrays(self, at.count).every
        count = at.count // whole_number(every) if state is None else state.steps
        inside = at.inside("optimizer")._replace(count=count)
        yield from self.optimizer.moments(inside, None if state is None else state.outer)

    def insides(self, state: State, params: Tree) -> list[Inside]:
        outer = Inside(self.optimizer, ("outer",), params, "outer", ("steps",))
        return [*Wrapper.insides(self, state, params), outer]

    def in_state(self, state: State) -> Self:
        inner = self.inner.in_state(state.inner)
        return self.with_fields(inner=inner, optimizer=self.optimizer.in_state(state.outer))

    def evaluated(self, state: State, params: Tree, at: At) -> Tree:
        slow = shown(at.count > 0, state.own.slow, params)
        return self.inner.eval_part(state.inner, slow, self.inner_at(state, at))


# Looking ahead ---------------------------------------------------------------------------------


class _drift(Rule, called="ema_nesterov"):
    """Turns a step from a point ahead into one to the next."""

    beta: HyperField
    decay: HyperField

    class Slots(NamedTuple):
        drift: Array

    needs: ClassVar[tuple[str, ...]] = ("beta_next",)

    def update_leaf(self, g: Array, slots: Slots, p: Any, step: Step) -> tuple[Array, Slots]:
        gone = g + self.beta * slots.drift
        drift = self.decay * slots.drift + (1 - self.decay) * gone
        return g + step.extra["beta_next"] * drift, self.Slots(drift)


class ema_nesterov(Wrapper):
    """Takes every step from a point ahead: p' = p + beta m + u, m = decay m + (1 - decay) (p' - p).

    The parameters in training are the points ahead, p + beta m, where the gradients are taken;
    `eval_params` is p. Yau+ 2026, 2605.25395. `beta` is meant to follow the learning rate, as
    `0.3 * schedule / peak`: none in the warm-up, none at the end.
    """

    beta: HyperField = within("[0, inf)", default=0.3)
    _: KW_ONLY
    decay: HyperField = within("[0, 1)", default=0.99)

    after = _drift
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def given(self, before: Any, inner: Any, at: At) -> dict[str, Any]:
        return {"beta_next": jnp.asarray(for_all_arrays(self, next_count(at.count)).beta)}

    def evaluated(self, state: State, params: Tree, at: At) -> Tree:
        beta = for_all_arrays(self, at.count).beta

        def back(p: Any, m: Any) -> Any:
            if m is None or not is_inexact(p):
                return p
            p = jnp.asarray(p)
            return (p.astype(m.dtype) - jnp.asarray(beta).astype(m.dtype) * m).astype(p.dtype)

        behind = jax.tree.map(back, params, state.own.drift, is_leaf=is_none)
        return self.inner.eval_part(state.inner, behind, self.inner_at(state, at))
