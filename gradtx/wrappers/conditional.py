"""Transformations that run at some steps only: `every`, `conditionally_transform` and its mask."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.engine.hyperparameters import for_all_arrays
from gradtx.engine.placement import zero_count
from gradtx.engine.refusals import refuse_other_state
from gradtx.engine.run import next_count
from gradtx.rule import Hyper, register_for_export
from gradtx.struct import complaint, converted, static, whole
from gradtx.transform import (
    GradientTransformation,
    State,
    Wrapper,
    as_transformation,
    compiled,
)
from gradtx.tree import Tree
from gradtx.wrappers.choice import step_if, update_if


class ConditionalState(NamedTuple):
    """State of what runs at some steps: that of what it wraps, and the steps seen."""

    inner: Any
    step: Any


register_for_export(ConditionalState)


class every(GradientTransformation):
    """Applies `inner` at steps k, 2k, 3k ... only, where alone its state changes.

    At other steps the update is zero or, with `otherwise="pass"`, stays as it came. The gradients
    of other steps are lost on `inner`: `accumulate` gives it their mean.
    """

    k: Hyper = whole()
    inner: Any = converted(as_transformation)
    otherwise: str = static(default="zero")

    def check(self) -> None:
        self.require("(0, inf)", "k")
        if self.otherwise not in ("zero", "pass"):
            raise ValueError(
                complaint(self, f"otherwise is {self.otherwise!r}", 'Pass "zero" or "pass"')
            )

    def init(self, params: Tree) -> State:
        return ConditionalState(self.inner.init(params), zero_count(params))

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        now, passes = self._now(state), self.otherwise == "pass"
        updates, inner = update_if(now, self.inner, updates, state.inner, params, extra, passes)
        return updates, ConditionalState(inner, next_count(state.step))

    @compiled
    def step(self, grads: Tree, state: State, params: Tree, **extra: Any) -> tuple[Tree, State]:
        now, passes = self._now(state), self.otherwise == "pass"
        params, inner = step_if(now, self.inner, grads, state.inner, params, extra, passes)
        return params, ConditionalState(inner, next_count(state.step))

    def eval_params(self, state: State, params: Tree) -> Tree:
        return self.inner.eval_params(state.inner, params)

    def _now(self, state: State) -> Array:
        refuse_other_state(self, state, ConditionalState)
        k = jnp.round(jnp.asarray(for_all_arrays(self, state.step).k)).astype(jnp.int32)
        return next_count(state.step) % jnp.maximum(k, 1) == 0


class Conditional(Wrapper):
    """Applies `inner` at the steps where a function of their count holds."""

    should_transform_fn: Any = static()
    forward_extra_args: bool = static(default=False)

    passes: ClassVar[bool]  # whether updates stay as they are at other steps

    def own_extras(self) -> frozenset[str] | None:
        return None if self.forward_extra_args else frozenset()

    def init(self, params: Tree) -> State:
        return ConditionalState(self.inner.init(params), zero_count(params))

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        now, old = self._now(state, extra), state.inner
        updates, inner = update_if(now, self.inner, updates, old, params, extra, self.passes)
        return updates, ConditionalState(inner, next_count(state.step))

    @compiled
    def step(self, grads: Tree, state: State, params: Tree, **extra: Any) -> tuple[Tree, State]:
        now, old = self._now(state, extra), state.inner
        params, inner = step_if(now, self.inner, grads, old, params, extra, self.passes)
        return params, ConditionalState(inner, next_count(state.step))

    def _now(self, state: State, extra: dict[str, Any]) -> Array:
        refuse_other_state(self, state, ConditionalState)
        given = extra if self.forward_extra_args else {}
        found = self.should_transform_fn(state.step, **given)
        shape, dtype = jnp.shape(found), jnp.result_type(found)
        if shape != () or dtype != jnp.dtype(bool):
            raise TypeError(
                complaint(
                    f"{self}.update",
                    f"should_transform_fn returned {dtype}{list(shape)}",
                    "Let it return one bool",
                )
            )
        return jnp.asarray(found)


class conditionally_transform(Conditional):
    """Applies `inner` at the steps where a function of their count holds; else updates pass.

    `should_transform_fn(count)` gets the steps done so far and returns a bool, traced or not. With
    `forward_extra_args` it gets the extra arguments of `update` as well. The state of `inner`
    changes at those steps only.
    """

    passes: ClassVar[bool] = True


class conditionally_mask(Conditional):
    """Applies `inner` at the steps where a function of their count holds; else updates are zero.

    The function is that of `conditionally_transform`.
    """

    passes: ClassVar[bool] = False
