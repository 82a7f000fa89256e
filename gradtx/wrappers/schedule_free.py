"""Gradients taken between the newest iterate and an average of all, which is what training is for.

What the average x of the iterates z weighs tells them apart; gradients are taken at
y = (1 - b) z + b x, and the parameters in training are y:

    schedule_free    t^r (largest learning rate so far)^2: close to a plain mean
    gpa              the newest most, with weights that fall by a decay

Only y and z are stored; x = (y - (1 - b) z) / b is found when it is asked for.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx.engine.hyperparameters import for_all_arrays, one_number
from gradtx.engine.placement import ordered_after
from gradtx.engine.step import At, next_count
from gradtx.rule import HyperField, JointRule, OptionalHyperField, Rule, Step
from gradtx.struct import value_error, within
from gradtx.transform import State
from gradtx.tree import Tree, is_inexact, is_none, real_dtype
from gradtx.wrappers.base import Wrapper
from gradtx.wrappers.choice import shown


class PrimalSlots(NamedTuple):
    z: Array


class _Known(NamedTuple):
    weight: Any  # of z in x
    b: Any
    b_next: Any


def _step_of_y(g: Array, p: Array, z: Array, known: _Known, step: Step) -> tuple[Array, Array]:
    """The step of y, and the new z, from the step g of z."""
    weight, b, b_next = known
    # The first step finds it, so that shapes are enough for init.
    z = jnp.where(step.count == 0, p, z)
    some = b > 0
    change = jnp.where(some, b_next / jnp.where(some, b, 1), 1)
    to_z = weight + (1 - weight) * (1 - change)
    along = (1 - weight) * jnp.where(some, change * (1 - b), 1 - b_next)
    # From the new z, so that the old one is not read once its memory is taken.
    z = z + g
    # After z, and as a difference: the compiler would else multiply `along` with numbers of
    # `inner`, or move the sign of a step, only where it knows them, and round otherwise.
    return to_z * (z - p) - along * ordered_after(z, -g), z


class Between(Wrapper):
    """A wrapper that trains at y, between the iterates z of `inner` and their average x.

    Its field `b1` is the part of x in y.
    """

    def given(self, before: Any, inner: Any, at: At) -> dict[str, Any]:
        return {"b_next": jnp.asarray(self.b1_at(next_count(at.count)))}

    def b1_at(self, count: Any) -> Any:
        this: Any = self
        return for_all_arrays(this, count).b1

    def evaluated(self, state: State, params: Tree, at: At) -> Tree:
        """x, asked of `inner` as its own parameters; y itself where nothing of x is in it."""
        own = state.own
        b1 = self.b1_at(at.count)

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
        x = shown(at.count > 0, x, params)
        return self.inner.eval_part(state.inner, x, self.inner_at(state, at))


# Schedule-free ---------------------------------------------------------------------------------


class PrimalGlobals(NamedTuple):
    peak: Array  # the largest learning rate so far
    weight_sum: Array


class _weighted(JointRule, called="schedule_free"):
    """Turns a step of z into one of y, with weights that follow the learning rate."""

    b1: HyperField
    weight_lr_power: HyperField
    r: HyperField
    window: OptionalHyperField

    Slots = PrimalSlots
    Globals = PrimalGlobals
    needs: ClassVar[tuple[str, ...]] = ("params", "rate", "b_next")

    def decide(
        self, sums: Any, globals_: PrimalGlobals, t: Array, **extra: Array
    ) -> tuple[PrimalGlobals, _Known]:
        peak = jnp.maximum(globals_.peak, extra["rate"])
        weight = t**self.r * peak**self.weight_lr_power
        total = globals_.weight_sum + weight
        some = total > 0  # not where a warm-up begins at zero
        share = jnp.where(some, weight / jnp.where(some, total, 1), 0)
        if self.window is not None:
            share = jnp.minimum(1, share * ((1 - self.b1) * self.window))
        return PrimalGlobals(peak, total), _Known(share, self.b1, extra["b_next"])

    def update_leaf(
        self, g: Array, slots: PrimalSlots, p: Array, step: Step
    ) -> tuple[Array, PrimalSlots]:
        u, z = _step_of_y(g, p, slots.z, step.shared, step)
        return u, PrimalSlots(z)


class schedule_free(Between):
    """Trains between the iterates of any optimizer and their average, without a falling schedule.

    z = z + u, x = (1 - c) x + c z, y = (1 - b1) z + b1 x with c = w / (sum of w) and w = t^r
    peak^weight_lr_power. `inner` has the learning rate, a number or a warm-up, and no momentum; it
    sees the gradients and parameters at y. `eval_params` is x. With `window` = C the weight c is
    min(1, c (1 - b1) C), the refined form of Song+ 2025, 2507.09846. Defazio+ 2024, 2405.15682.
    Differs from Optax, whose weights are one step ahead of the learning rate.
    """

    _: KW_ONLY
    # What w follows, read where `inner` reads its own; None: the learning rate of `inner` itself.
    weight_learning_rate: OptionalHyperField = None
    b1: HyperField = within("[0, 1]", default=0.9)  # the part of x in y
    weight_lr_power: HyperField = within("[0, inf)", default=2.0)
    r: HyperField = within("[0, inf)", default=0.0)  # the power of t in the weights
    # 1 / (1 - b1) is the same as None.
    window: OptionalHyperField = within("(0, inf)", default=None)

    after = _weighted
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def check(self) -> None:
        self._rates(At(0))

    def given(self, before: Any, inner: Any, at: At) -> dict[str, Any]:
        then, now = self.inner_at(before, at), next_count(at.count)
        rate = jnp.asarray(self._rates(then, before.inner)[0])
        old = _steps(self.inner, before.inner, then)
        new = _steps(self.inner, inner, then._replace(count=now))
        if old is not None and new is not None:
            # Where `inner` has taken no step, its learning rate has not been in use.
            rate = jnp.where(new > old, rate, 0)
        return {**Between.given(self, before, inner, at), "rate": rate}

    def _rates(self, at: At, state: State = None) -> list[Any]:
        """The learning rate that the weights follow, read where `inner` has it."""
        if self.weight_learning_rate is not None:
            count = at.count if state is None else _steps(self.inner, state, at)
            count = at.count if count is None else count
            return [one_number(self, "weight_learning_rate", count)] if state is not None else []
        found: dict[Any, Any] = {}
        for part, moment in self.inner.moments(at, state):
            if "learning_rate" in part._leaves:
                found.setdefault(moment.place, (part, moment.count))
        if len(found) == 1:
            ((part, count),) = found.values()
            return [] if state is None else [one_number(part, "learning_rate", count)]
        raise value_error(
            type(self).__name__,
            f"there are {len(found)} learning rates in {self.inner}",
            "Pass the one that the weights shall follow: weight_learning_rate=...",
        )


def _steps(inner: Any, state: State, at: At) -> Array | None:
    """How many steps have been taken below wrappers that skip some; None if there are none."""
    steps = None
    while isinstance(inner, Wrapper):
        at = inner.inner_at(state, at)
        steps = at.count if inner.skips else steps
        inner, state = inner.inner, state.inner
    return steps


# Primal averaging ------------------------------------------------------------------------------


class _decaying(Rule, called="gpa"):
    """Turns a step of z into one of y, with a weight that falls by a decay."""

    decay: HyperField
    b1: HyperField

    Slots = PrimalSlots
    needs: ClassVar[tuple[str, ...]] = ("params", "b_next")

    def update_leaf(
        self, g: Array, slots: PrimalSlots, p: Array, step: Step
    ) -> tuple[Array, PrimalSlots]:
        known = _Known(1 - self.decay, self.b1, step.extra["b_next"])
        u, z = _step_of_y(g, p, slots.z, known, step)
        return u, PrimalSlots(z)


class gpa(Between):
    """Trains between the iterates of any optimizer and their moving average.

    z = z + u, x = decay x + (1 - decay) z, y = (1 - b1) z + b1 x; `eval_params` is x. Generalized
    primal averaging, Defazio+ 2025, 2512.17131, whose mu_y is b1 and mu_x is decay. It does at
    every step what `diloco` does at every H-th with decay = mu^(1 / H). `inner` has its usual
    schedule and momentum, and sees the gradients and parameters at y.
    """

    decay: HyperField = within("[0, 1]", default=0.9967)  # 0.9^(1 / 32)
    _: KW_ONLY
    b1: HyperField = within("[0, 1]", default=0.7)  # the part of x in y

    after = _decaying
    needs: ClassVar[tuple[str, ...]] = ("params",)
