"""An optimizer of the way that another one goes.

outer           every so many steps, the way gone is a gradient for a second optimizer
diloco          the same with Nesterov's momentum, as DiLoCo and SNOO have it
ema_nesterov    at every step, looks ahead along the moving average of the steps
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx.chain import chain
from gradtx.engine.hyperparameters import for_all_arrays
from gradtx.engine.refusals import refuse_missing, refuse_other_state
from gradtx.engine.run import next_count
from gradtx.rule import Hyper, Rule, register_for_export
from gradtx.struct import converted
from gradtx.transform import State, Wrapper, apply_updates, as_transformation, compiled
from gradtx.transforms.momentum import scale_by_momentum
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.tree import Tree, as_came, is_inexact, is_none
from gradtx.wrappers.around import run_after, shown, wide_update
from gradtx.wrappers.average import is_due


class SlowSlots(NamedTuple):
    slow: Array


class _way(Rule, called="outer"):
    """Turns a step of the fast parameters into the way back from them to the slow ones."""

    Slots = SlowSlots
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_leaf(self, p: Array) -> SlowSlots:
        return SlowSlots(jnp.zeros_like(p))

    def update_leaf(self, g: Array, slots: SlowSlots, p: Array, t: Any) -> tuple[Array, SlowSlots]:
        # The first step finds it, so that shapes are enough for init.
        slow = jnp.where(t != 0, p, slots.slow)
        return slow - (p + g), SlowSlots(slow)


class _return(Rule, called="outer"):
    """Turns a step of the fast parameters into one to the slow ones, when that is due."""

    Slots = SlowSlots
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: SlowSlots, p: Array, t: Any) -> tuple[Array, SlowSlots]:
        return jnp.where(t != 0, slots.slow - p, g), slots


class OuterState(NamedTuple):
    """State of `outer`: those of both optimizers, and the slow parameters."""

    inner: Any
    outer: Any
    own: Any


register_for_export(OuterState)


class outer(Wrapper):
    """Every few steps hands the way gone, slow - p, to `optimizer` as a gradient; p = slow.

    `optimizer` moves the slow parameters, and training goes on from there. Its schedules count its
    own steps, and it costs nothing in between. `eval_params` is the slow parameters, asked of
    `inner` as its own. With `sgd(a)` it is `lookahead`; with momentum see `diloco`.
    """

    optimizer: Any = converted(as_transformation)
    every: Hyper = 10  # steps from one to the next

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def check(self) -> None:
        self.require("[1, inf)", "every")

    def init(self, params: Tree) -> State:
        return OuterState(self.inner.init(params), self.optimizer.init(params), _way().init(params))

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        refuse_other_state(self, state, OuterState)
        refuse_missing(self, updates, {"params": params})
        own, before = state.own, _way()
        refuse_other_state(before, own, before.State)
        due = is_due(self, "every", own.count)
        steps, inner = wide_update(self.inner, updates, state.inner, params, extra)
        back, own = run_after(before, steps, own, params, own.count == 0)

        def moved(slow: Tree, outer: Any) -> tuple[Tree, Any]:
            way = jax.tree.map(lambda s, w: None if s is None else w, slow, back, is_leaf=is_none)
            moves, outer = self.optimizer.update(way, outer, slow, **extra)
            return apply_updates(slow, moves), outer

        slow, outer = lax.cond(due, moved, lambda *same: same, own.slow, state.outer)
        own = own._replace(slow=slow)
        after = _return()
        steps, _ = run_after(after, steps, after.State(*own), params, due)
        return as_came(steps, updates), OuterState(inner, outer, own)

    @compiled
    def eval_params(self, state: State, params: Tree) -> Tree:
        own = state.own
        return self.inner.eval_params(state.inner, shown(own.count > 0, own.slow, params))


def diloco(
    inner: Any, every: Hyper = 32, learning_rate: Hyper = 0.7, momentum: Hyper = 0.9
) -> outer:
    """DiLoCo on one machine: `outer` with Nesterov's momentum.

    Douillard+ 2023, 2311.08105 (every = 500); Kallusky+ 2025, 2510.15830, call it SNOO.
    """
    nesterov = scale_by_momentum(momentum, nesterov=True)
    return outer(inner, chain(nesterov, scale_by_learning_rate(learning_rate)), every)


# Looking ahead ---------------------------------------------------------------------------------


class DriftSlots(NamedTuple):
    drift: Array


class _drift(Rule, called="ema_nesterov"):
    """Turns a step from a point ahead into one to the next; `t` has beta at both."""

    decay: Hyper

    Slots = DriftSlots

    def init_leaf(self, p: Array) -> DriftSlots:
        return DriftSlots(jnp.zeros_like(p))

    def update_leaf(self, g: Array, slots: DriftSlots, p: Any, t: Any) -> tuple[Array, DriftSlots]:
        beta, beta_next = t
        gone = g + beta * slots.drift
        drift = self.decay * slots.drift + (1 - self.decay) * gone
        return g + beta_next * drift, DriftSlots(drift)


class EmaNesterovState(NamedTuple):
    """State of `ema_nesterov`: that of what it wraps, and the average of the steps."""

    inner: Any
    own: Any


register_for_export(EmaNesterovState)


class ema_nesterov(Wrapper):
    """Takes every step from a point ahead: p' = p + beta m + u, m = decay m + (1 - decay) (p' - p).

    The parameters in training are the points ahead, p + beta m, where the gradients are taken;
    `eval_params` is p. Yau+ 2026, 2605.25395. `beta` is meant to follow the learning rate, as
    `0.3 * schedule / peak`: none in the warm-up, none at the end.
    """

    beta: Hyper = 0.3
    decay: Hyper = 0.99

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def check(self) -> None:
        self.require("[0, inf)", "beta")
        self.require("[0, 1)", "decay")

    def init(self, params: Tree) -> State:
        return EmaNesterovState(self.inner.init(params), _drift(self.decay).init(params))

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        refuse_other_state(self, state, EmaNesterovState)
        refuse_missing(self, updates, {"params": params})
        rule, own = _drift(self.decay), state.own
        refuse_other_state(rule, own, rule.State)
        beta, beta_next = self._beta(own.count), self._beta(next_count(own.count))
        steps, inner = wide_update(self.inner, updates, state.inner, params, extra)
        steps, own = run_after(rule, steps, own, params, (beta, beta_next))
        return as_came(steps, updates), EmaNesterovState(inner, own)

    @compiled
    def eval_params(self, state: State, params: Tree) -> Tree:
        beta = self._beta(state.own.count)

        def back(p: Any, m: Any) -> Any:
            if m is None or not is_inexact(p):
                return p
            p = jnp.asarray(p)
            return (p.astype(m.dtype) - jnp.asarray(beta).astype(m.dtype) * m).astype(p.dtype)

        behind = jax.tree.map(back, params, state.own.drift, is_leaf=is_none)
        return self.inner.eval_params(state.inner, behind)

    def _beta(self, count: Array) -> Any:
        return for_all_arrays(self, count).beta
