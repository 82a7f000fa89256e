"""Gradients taken between the newest iterate and an average of all, which is what training is for.

What the average x of the iterates z weighs tells them apart; gradients are taken at
y = (1 - b) z + b x, and the parameters in training are y:

    schedule_free    t^r (largest learning rate so far)^2: close to a plain mean
    gpa              the newest most, with weights that fall by a decay

Only y and z are stored; x = (y - (1 - b) z) / b is found when it is asked for.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx.engine.hyperparameters import for_all_arrays, narrowed
from gradtx.engine.refusals import refuse_missing, refuse_other_state
from gradtx.engine.run import next_count
from gradtx.rule import Hyper, Rule, register_for_export
from gradtx.struct import complaint, fields_below
from gradtx.transform import State, Wrapper, compiled
from gradtx.tree import Tree, as_came, is_inexact, is_none, real_dtype, widest
from gradtx.wrappers.around import after, run_after, shown, wide_update


class PrimalSlots(NamedTuple):
    z: Array


class _primal(Rule, called="schedule_free"):
    """Turns a step of z into one of y; `t` has the weight of z in x, and b now and next."""

    Slots = PrimalSlots
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_leaf(self, p: Array) -> PrimalSlots:
        return PrimalSlots(jnp.zeros_like(p))

    def update_leaf(
        self, g: Array, slots: PrimalSlots, p: Array, t: Any
    ) -> tuple[Array, PrimalSlots]:
        weight, b, b_next, first = t
        # The first step finds it, so that shapes are enough for init.
        z = jnp.where(first != 0, p, slots.z)
        some = b > 0
        change = jnp.where(some, b_next / jnp.where(some, b, 1), 1)
        to_z = weight + (1 - weight) * (1 - change)
        along = (1 - weight) * jnp.where(some, change * (1 - b), 1 - b_next)
        # From the new z, so that the old one is not read once its memory is taken.
        z = z + g
        # After z, and as a difference: the compiler would else multiply `along` with numbers of
        # `inner`, or move the sign of a step, only where it knows them, and round otherwise.
        return to_z * (z - p) - along * after(z, -g), PrimalSlots(z)


def _stepped(
    wrapper: Any, updates: Tree, state: Any, params: Tree | None, extra: Any, weight: Any
) -> tuple[Tree, Any, Any]:
    """The updates of y, the states of `inner` and of the rule, once z weighs `weight` in x."""
    own, rule = state.own, _primal()
    now = for_all_arrays(wrapper, own.count).b1
    then = for_all_arrays(wrapper, next_count(own.count)).b1
    steps, inner = wide_update(wrapper.inner, updates, state.inner, params, extra)
    shared = (weight, now, then, own.count == 0)
    steps, own = run_after(rule, steps, own, params, shared)
    return as_came(steps, updates), inner, own


def _average(wrapper: Any, state: Any, params: Tree) -> Tree:
    """x, asked of `inner` as its own parameters; y itself where nothing of x is in it."""
    own = state.own
    b1 = for_all_arrays(wrapper, own.count).b1

    def solve(p: Any, z: Any) -> Any:
        if z is None or not is_inexact(p):
            return None
        b = jnp.asarray(b1).astype(real_dtype(z.dtype))
        some = b > 0
        y = jnp.asarray(p).astype(z.dtype)
        # In this form x is y, to the last bit, where z is.
        off = jnp.where(some, (1 - b) / jnp.where(some, b, 1), 0)
        return y + off.astype(z.dtype) * (y - z)

    x = jax.tree.map(solve, params, own.z, is_leaf=is_none)
    return wrapper.inner.eval_params(state.inner, shown(own.count > 0, x, params))


# Schedule-free ---------------------------------------------------------------------------------


class ScheduleFreeState(NamedTuple):
    """State of `schedule_free`: that of what it wraps, two numbers, and z."""

    inner: Any
    peak: Array  # the largest learning rate so far
    weight_sum: Array
    own: Any


register_for_export(ScheduleFreeState)


class schedule_free(Wrapper):
    """Trains between the iterates of any optimizer and their average, without a falling schedule.

    z = z + u, x = (1 - c) x + c z, y = (1 - b1) z + b1 x with c = w / (sum of w) and w = t^r
    peak^weight_lr_power. `inner` has the learning rate, a number or a warm-up, and no momentum; it
    sees the gradients and parameters at y. `eval_params` is x. With `window` = C the weight c is
    min(1, c (1 - b1) C), the refined form of Song+ 2025, 2507.09846. Defazio+ 2024, 2405.15682.
    Differs from Optax, whose weights are one step ahead of the learning rate.
    """

    weight_learning_rate: Hyper | None = None  # what w follows; None: the learning rate of `inner`
    b1: Hyper = 0.9  # the part of x in y
    weight_lr_power: Hyper = 2.0
    r: Hyper = 0.0  # the power of t in the weights
    window: Hyper | None = None  # 1 / (1 - b1) is the same as None

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def check(self) -> None:
        self.require("[0, 1]", "b1")
        self.require("[0, inf)", "weight_lr_power", "r")
        self.require("(0, inf)", "window")
        self._rate()

    def _rate(self) -> Any:
        """The learning rate that the weights follow, read where `inner` has it: it is the same."""
        if self.weight_learning_rate is not None:
            return self.weight_learning_rate
        fields = fields_below(self.inner)
        found = [value for path, value, _ in fields if path[-1] == "learning_rate"]
        if len(found) == 1:
            return found[0]
        raise ValueError(
            complaint(
                type(self).__name__,
                f"there are {len(found)} learning rates in {self.inner}",
                "Pass the one that the weights shall follow: weight_learning_rate=...",
            )
        )

    def init(self, params: Tree) -> State:
        own = _primal().init(params)
        real = real_dtype(widest([p for p in jax.tree.leaves(params) if is_inexact(p)]))
        peak, weight_sum = (jnp.zeros((), real) + own.count.astype(real) for _ in range(2))
        return ScheduleFreeState(self.inner.init(params), peak, weight_sum, own)

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        refuse_other_state(self, state, ScheduleFreeState)
        refuse_missing(self, updates, {"params": params})
        refuse_other_state(_primal(), state.own, _primal.State)
        count, dtype = state.own.count, state.peak.dtype
        whole = self.with_fields(weight_learning_rate=self._rate())
        numbers: Any = narrowed(for_all_arrays(whole, count), dtype)
        peak = jnp.maximum(state.peak, numbers.weight_learning_rate)
        weight = next_count(count).astype(dtype) ** numbers.r * peak**numbers.weight_lr_power
        total = state.weight_sum + weight
        some = total > 0  # not where a warm-up begins at zero
        share = jnp.where(some, weight / jnp.where(some, total, 1), 0)
        window = numbers.window
        if window is not None:
            share = jnp.minimum(1, share * ((1 - numbers.b1) * window))
        updates, inner, own = _stepped(whole, updates, state, params, extra, share)
        return updates, ScheduleFreeState(inner, peak, total, own)

    @compiled
    def eval_params(self, state: State, params: Tree) -> Tree:
        return _average(self, state, params)


# Primal averaging ------------------------------------------------------------------------------


class GpaState(NamedTuple):
    """State of `gpa`: that of what it wraps, and z."""

    inner: Any
    own: Any


register_for_export(GpaState)


class gpa(Wrapper):
    """Trains between the iterates of any optimizer and their moving average.

    z = z + u, x = decay x + (1 - decay) z, y = (1 - b1) z + b1 x; `eval_params` is x. Generalized
    primal averaging, Defazio+ 2025, 2512.17131, whose mu_y is b1 and mu_x is decay. It does at
    every step what `diloco` does at every H-th with decay = mu^(1 / H). `inner` has its usual
    schedule and momentum, and sees the gradients and parameters at y.
    """

    decay: Hyper = 0.9967  # 0.9^(1 / 32)
    b1: Hyper = 0.7  # the part of x in y

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def check(self) -> None:
        self.require("[0, 1]", "decay", "b1")

    def init(self, params: Tree) -> State:
        return GpaState(self.inner.init(params), _primal().init(params))

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        refuse_other_state(self, state, GpaState)
        refuse_missing(self, updates, {"params": params})
        refuse_other_state(_primal(), state.own, _primal.State)
        weight = 1 - jnp.asarray(for_all_arrays(self, state.own.count).decay)
        updates, inner, own = _stepped(self, updates, state, params, extra, weight)
        return updates, GpaState(inner, own)

    @compiled
    def eval_params(self, state: State, params: Tree) -> Tree:
        return _average(self, state, params)
