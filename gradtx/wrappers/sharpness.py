"""Sharpness-aware minimization: gradients from the worst point nearby, for flat minima.

sam           goes there by updates of its own, so that a step takes two gradients and updates
opaque_sam    asks a function for the gradient there: every update is a step
asam          `sam` in a neighbourhood in proportion to the parameters
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx.engine.beside import aligned, as_they_came, grown, only, with_leaves
from gradtx.engine.hyperparameters import for_all_arrays
from gradtx.engine.run import Running, run
from gradtx.engine.step import At
from gradtx.foreign import AnyTransformation, as_transformation
from gradtx.rule import Copy, Hyper, HyperField, OptionalHyperField, Rule, Step
from gradtx.struct import converted, static, value_error, within
from gradtx.transform import GradientTransformation, Inside, State, apply_updates
from gradtx.tree import Extra, Tree, abs2, as_came, global_norm, is_inexact, is_none, root, widened
from gradtx.wrappers.average import is_due, whole_number
from gradtx.wrappers.base import Turn, Wrapper
from gradtx.wrappers.choice import anew, either, shown, zero_updates


class _weigh(Rule, called="sam"):
    """Multiplies by one number and by the size of the parameters, |p| + eta, to a power."""

    eta: HyperField
    power: int = static()

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        size = (root(abs2(p)) if jnp.iscomplexobj(p) else jnp.abs(p)) + self.eta
        return step.shared * size**self.power * g, slots


def _ascent(wrapper: Any, updates: Tree, params: Tree | None, at: At) -> Tree:
    """The ascent step of length rho; zero for a zero gradient."""
    numbers = for_all_arrays(wrapper, at.count)

    def weigh(power: int, factor: Any) -> Tree:
        rule = _weigh(0.0 if wrapper.eta is None else wrapper.eta, power)
        return run([Running(rule, rule.Part(), at, factor)], updates, params)[0]

    length = global_norm(updates if wrapper.eta is None else weigh(1, 1.0))
    some = length >= jnp.finfo(length.dtype).tiny
    factor = jnp.where(some, jnp.asarray(numbers.rho, length.dtype) / jnp.where(some, length, 1), 0)
    return weigh(0 if wrapper.eta is None else 2, factor)


def _as_optional(value: AnyTransformation | None, called: str = "sam") -> Any:
    return None if value is None else as_transformation(value, called)


def _uphill(
    wrapper: Any, state: State, updates: Tree, params: Tree, at: At, extra: Extra
) -> tuple[Tree, State]:
    """The way uphill, against the updates of `adv_optimizer` if there is one, and its state."""
    if wrapper.adv_optimizer is None:
        return _ascent(wrapper, updates, params, at), state
    there = at.inside("adv_optimizer")
    updates, state = wrapper.adv_optimizer.update_alone(updates, state, params, there, extra)
    return jax.tree.map(lambda u: -u if is_inexact(u) else u, updates), state


def _refuse_both(wrapper: Any) -> None:
    if wrapper.adv_optimizer is not None and wrapper.eta is not None:
        do = "Pass eta=None, or leave adv_optimizer out"
        raise value_error(wrapper, "adv_optimizer stands in the place of rho and eta", do)


def _fresh(wrapper: Any, params: Tree, at: At) -> State:
    """The state of `adv_optimizer` before its first step."""
    if wrapper.adv_optimizer is None:
        return None
    return wrapper.adv_optimizer.init_alone(params, at.inside("adv_optimizer"))


class SamOwn(NamedTuple):
    """What `sam` remembers."""

    ascent: Any = None  # the state of `adv_optimizer`


class _start(Rule, called="sam"):
    """Remembers the parameters at the start of a period; its last step is one from there."""

    class Slots(NamedTuple):
        start: Copy

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_leaf(self, p: Array) -> Slots:
        return self.Slots(jnp.zeros_like(p))

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        start = jnp.where(step.shared != 0, p, slots.start)
        return start - p + g, self.Slots(start)


class sam(Wrapper):
    """Goes uphill first, then steps from where it was with the gradient from there.

    An update is the ascent e = rho g / ||g||, all arrays together, or at the end of every
    `sync_period` the step of `inner` from the start, back included: two gradients for a step.
    With `eta` it is adaptive: e = rho T^2 g / ||T g||, T = |p| + eta. An `adv_optimizer` in the
    place of both goes against its updates, afresh in every period. `eval_params` is the start.
    Foret+ 2020, 2010.01412; Kwon+ 2021, 2102.11600. `inner` counts its own steps.
    """

    _: KW_ONLY
    rho: HyperField = within("[0, inf)", default=0.05)  # the length of the way uphill
    # In ASAM's size of an entry, |p| + eta.
    eta: OptionalHyperField = within("[0, inf)", default=None)
    # Updates for a step; each but the last goes uphill.
    sync_period: HyperField = within("[1, inf)", default=2)
    # Any transformation: the way uphill is what it would do, in the other direction.
    adv_optimizer: GradientTransformation | None = converted(
        converter=_as_optional, default=None, hyperparameter=False
    )

    Own = SamOwn
    kinds: ClassVar[Mapping[str, str]] = {"ascent": "state"}
    after = _start
    skips: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        self.refuse(updates, state, params, extra)
        still = self.still(updates, params)
        came, updates = updates, grown(updates, params)
        rule, wide = self.rule, only(widened(updates), still, False)
        first, ascent = self._phase(at.count) == 0, state.ascent
        if self.adv_optimizer is not None:
            ascent = anew(first, ascent, lambda: _fresh(self, params, at))
        _, own = self.run_own(wide, Running(rule, state.own, at, first), params, extra)

        def with_still(steps: Tree) -> Tree:
            nothing = zero_updates(updates, params)
            merged = as_came(with_leaves(nothing, still, False, steps), updates)
            return as_they_came(merged, came)

        def ascend() -> tuple[Tree, Any, Any]:
            steps, new = _uphill(self, ascent, wide, params, at, extra)
            return with_still(steps), state.inner, as_came(new, ascent)

        def descend() -> tuple[Tree, Any, Any]:
            start = with_leaves(params, still, False, as_came(own.start, params))
            steps, inner = self.inner_update(updates, state, start, at, extra)
            running, steps = Running(rule, own, at, 0.0), only(steps, still, False)
            return with_still(self.run_own(steps, running, params, extra)[0]), inner, ascent

        due = is_due(self, "sync_period", at.count)
        steps, inner, ascent = either(due, descend, ascend)
        new = self._counted(Turn(lambda: updates, state, extra, due), state)
        return steps, new._replace(inner=inner, own=own, ascent=ascent)

    def insides(self, state: State, params: Tree) -> list[Inside]:
        found = Wrapper.insides(self, state, params)
        if self.adv_optimizer is not None:
            found.append(Inside(self.adv_optimizer, ("ascent",), params, "ascent"))
        return found

    def init_own(self, params: Tree, at: At) -> SamOwn:
        return SamOwn(_fresh(self, params, at))

    def check(self) -> None:
        _refuse_both(self)

    def evaluated(self, state: State, params: Tree, at: At) -> Tree:
        away = self._phase(at.count) > 0
        start = shown(away, state.own.start, params)
        return self.inner.eval_part(state.inner, start, self.inner_at(state, at))

    def inner_count(self, count: Any) -> Any:
        return count // whole_number(for_all_arrays(self, count).sync_period)

    def _phase(self, count: Array) -> Array:
        return count % whole_number(for_all_arrays(self, count).sync_period)


def asam(
    inner: AnyTransformation, *, rho: Hyper = 0.5, eta: Hyper = 0.01, sync_period: Hyper = 2
) -> sam:
    """Adaptive SAM: `sam` whose ascent step is in proportion to the parameters."""
    return sam(inner, rho=rho, eta=eta, sync_period=sync_period)


class opaque_sam(Wrapper):
    """Gives `inner` the gradient from uphill, at p + e, in the place of the one at p.

    e as in `sam`. `update` needs `grad_fn`, a function of the parameters that returns the
    gradients of the same batch: `tx.update(grads, state, params, grad_fn=grad_fn)`. Differs from
    Optax, whose `grad_fn` gets the number of the step uphill too.
    """

    _: KW_ONLY
    rho: HyperField = within("[0, inf)", default=0.05)  # the length of the way uphill
    # In ASAM's size of an entry, |p| + eta.
    eta: OptionalHyperField = within("[0, inf)", default=None)
    adv_optimizer: GradientTransformation | None = converted(
        converter=_as_optional, default=None, hyperparameter=False
    )

    needs: ClassVar[tuple[str, ...]] = ("params", "grad_fn")

    def check(self) -> None:
        _refuse_both(self)

    def before(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> Turn:
        grads = updates
        if any(map(is_inexact, jax.tree.leaves(updates))):
            still = self.still(updates, params)
            moved = only(widened(grown(updates, params)), still, False)
            away, _ = _uphill(self, _fresh(self, params, at), moved, params, at, extra)
            grads = self._from(extra["grad_fn"](apply_updates(params, away)), updates)
        return Turn(lambda: grads, state, extra)

    def _from(self, found: Tree, updates: Tree) -> Tree:
        """The gradients that a function gave, for the arrays that had one before."""
        leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
        news = aligned(self, treedef, found, "result of grad_fn")
        return treedef.unflatten(
            new if is_inexact(old) else old for old, new in zip(leaves, news, strict=True)
        )
