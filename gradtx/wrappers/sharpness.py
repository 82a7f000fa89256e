"""Gradients from where the loss is worst nearby, so that training ends in flat places.

sam           goes there by updates of its own: gradients come from outside, one for an update
opaque_sam    asks a function for the gradient there: every update is a step
asam          `sam` in a neighbourhood as large as the parameters
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx.engine.hyperparameters import for_all_arrays
from gradtx.engine.placement import zero_count
from gradtx.engine.refusals import refuse_missing, refuse_other_state
from gradtx.engine.run import next_count, run
from gradtx.paths import aligned
from gradtx.rule import CountState, Hyper, Rule, register_for_export
from gradtx.struct import static
from gradtx.transform import State, Wrapper, apply_updates, compiled
from gradtx.tree import Tree, abs2, as_came, global_norm, is_inexact, is_none, root, widened
from gradtx.wrappers.around import run_after, shown, wide_update
from gradtx.wrappers.average import is_due, whole


class _weigh(Rule, called="sam"):
    """Multiplies by `t` and by the size of the parameters, |p| + eta, to a power."""

    eta: Hyper
    power: int = static()

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, t: Any) -> tuple[Array, Any]:
        size = (root(abs2(p)) if jnp.iscomplexobj(p) else jnp.abs(p)) + self.eta
        return t * size**self.power * g, slots


def _ascent(wrapper: Any, updates: Tree, params: Tree | None, count: Array) -> Tree:
    """The way uphill of length rho, zero where the gradient is."""
    numbers = for_all_arrays(wrapper, count)

    def weigh(power: int, factor: Any) -> Tree:
        rule = _weigh(0.0 if wrapper.eta is None else wrapper.eta, power)
        return run((rule,), updates, (rule.State(count),), params, shared=factor)[0]

    length = global_norm(updates if wrapper.eta is None else weigh(1, 1.0))
    some = length >= jnp.finfo(length.dtype).tiny
    factor = jnp.where(some, jnp.asarray(numbers.rho, length.dtype) / jnp.where(some, length, 1), 0)
    return weigh(0 if wrapper.eta is None else 2, factor)


class StartSlots(NamedTuple):
    start: Array


class _start(Rule, called="sam"):
    """Remembers the parameters at the first step of a period; turns a step from there into one."""

    Slots = StartSlots
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_leaf(self, p: Array) -> StartSlots:
        return StartSlots(jnp.zeros_like(p))

    def update_leaf(
        self, g: Array, slots: StartSlots, p: Array, t: Any
    ) -> tuple[Array, StartSlots]:
        start = jnp.where(t != 0, p, slots.start)
        return start - p + g, StartSlots(start)


class SamState(NamedTuple):
    """State of `sam`: that of what it wraps, and the parameters without the way uphill."""

    inner: Any
    own: Any


register_for_export(SamState)


class sam(Wrapper):
    """Goes uphill first, then steps from where it was with the gradient from there.

    An update is the ascent e = rho g / ||g||, all arrays together, or at the end of every
    `sync_period` the step of `inner` from the start, back included: two gradients for a step.
    With `eta` it is adaptive: e = rho T^2 g / ||T g||, T = |p| + eta. `eval_params` is the start.
    Foret+ 2020, 2010.01412; Kwon+ 2021, 2102.11600. `inner` counts its own steps.
    """

    rho: Hyper = 0.05  # the length of the way uphill
    eta: Hyper | None = None  # in ASAM's size of an entry, |p| + eta
    sync_period: Hyper = 2  # updates for a step; each but the last goes uphill

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def check(self) -> None:
        self.require("[0, inf)", "rho", "eta")
        self.require("[1, inf)", "sync_period")

    def init(self, params: Tree) -> State:
        return SamState(self.inner.init(params), _start().init(params))

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        refuse_other_state(self, state, SamState)
        refuse_missing(self, updates, {"params": params})
        rule, own = _start(), state.own
        refuse_other_state(rule, own, rule.State)
        wide = widened(updates)
        first = self._phase(own.count) == 0
        _, new = run_after(rule, wide, own, params, first)

        def ascend(inner: Any) -> tuple[Tree, Any]:
            return as_came(_ascent(self, wide, params, own.count), updates), inner

        def descend(inner: Any) -> tuple[Tree, Any]:
            start = as_came(new.start, params)
            steps, inner = wide_update(self.inner, updates, inner, start, extra)
            steps, _ = run_after(rule, steps, new, params, 0.0)
            return as_came(steps, updates), inner

        due = is_due(self, "sync_period", own.count)
        steps, inner = lax.cond(due, descend, ascend, state.inner)
        return steps, SamState(inner, new)

    @compiled
    def eval_params(self, state: State, params: Tree) -> Tree:
        away = self._phase(state.own.count) > 0
        return self.inner.eval_params(state.inner, shown(away, state.own.start, params))

    def _phase(self, count: Array) -> Array:
        return count % whole(for_all_arrays(self, count).sync_period)


def asam(inner: Any, rho: Hyper = 0.5, eta: Hyper = 0.01, sync_period: Hyper = 2) -> sam:
    """Adaptive SAM: `sam` whose way uphill does not depend on the scale of the parameters."""
    return sam(inner, rho, eta, sync_period)


class OpaqueSamState(NamedTuple):
    """State of `opaque_sam`: that of what it wraps, and how often it ran."""

    inner: Any
    own: CountState


register_for_export(OpaqueSamState)


class opaque_sam(Wrapper):
    """Gives `inner` the gradient from uphill, at p + e, in the place of the one at p.

    e as in `sam`. `update` needs `grad_fn`, a function of the parameters that returns the
    gradients of the same batch: `tx.update(grads, state, params, grad_fn=grad_fn)`.
    """

    rho: Hyper = 0.05  # the length of the way uphill
    eta: Hyper | None = None  # in ASAM's size of an entry, |p| + eta

    needs: ClassVar[tuple[str, ...]] = ("params", "grad_fn")

    def check(self) -> None:
        self.require("[0, inf)", "rho", "eta")

    def init(self, params: Tree) -> State:
        return OpaqueSamState(self.inner.init(params), CountState(zero_count(params)))

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        refuse_other_state(self, state, OpaqueSamState)
        refuse_missing(self, updates, {"params": params, **extra})
        refuse_other_state(self, state.own, CountState)
        grads, count = updates, state.own.count
        if any(map(is_inexact, jax.tree.leaves(updates))):
            away = _ascent(self, widened(updates), params, count)
            grads = self._from(extra["grad_fn"](apply_updates(params, away)), updates)
        steps, inner = wide_update(self.inner, grads, state.inner, params, extra)
        return as_came(steps, updates), OpaqueSamState(inner, CountState(next_count(count)))

    def _from(self, found: Tree, updates: Tree) -> Tree:
        """The gradients that a function gave, for the arrays that had one before."""
        leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
        news = aligned(self, treedef, found, "result of grad_fn")
        return treedef.unflatten(
            new if is_inexact(old) else old for old, new in zip(leaves, news, strict=True)
        )
