"""Guards: steps that are left out because something is wrong with them.

    apply_if_finite       leaves out what is not finite, and freezes when that does not end
    skip_outliers         leaves out losses or gradient norms that are far above the usual
    dynamic_loss_scale    gradients of float16: scaled up where they come from, down again here

A step that is left out changes neither parameters nor the state of what is wrapped. Its `step`
makes no tree of updates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx.engine.hyperparameters import for_all_arrays, narrowed
from gradtx.engine.placement import zero_count
from gradtx.engine.refusals import refuse_missing, refuse_other_state
from gradtx.engine.run import next_count, run
from gradtx.rule import Hyper, register_for_export
from gradtx.struct import complaint, static, whole
from gradtx.transform import State, Wrapper, compiled
from gradtx.transforms.filter import following
from gradtx.tree import Tree, as_came, global_norm, is_inexact, real_dtype, widened, widest
from gradtx.wrappers.around import wide_update
from gradtx.wrappers.choice import all_finite, either, step_if, update_if, wide_step, zero_updates


class ApplyIfFiniteState(NamedTuple):
    """State of `apply_if_finite`."""

    inner: Any
    notfinite_count: Any  # in a row, up to now
    total_notfinite: Any
    frozen: Any  # the flag: there were too many in a row, and nothing moves any more


class apply_if_finite(Wrapper):
    """Leaves out a step whose gradients hold an infinity or a NaN.

    After more than `max_consecutive_errors` of them in a row it freezes: no step is taken any more,
    which `state.frozen` shows, until that flag is set to False by hand. Differs from Optax, which
    then lets the NaN in.
    """

    max_consecutive_errors: Hyper = whole()

    def check(self) -> None:
        self.require("[0, inf)", "max_consecutive_errors")

    def init(self, params: Tree) -> State:
        return ApplyIfFiniteState(
            self.inner.init(params),
            zero_count(params),
            zero_count(params),
            zero_count(params) > 0,
        )

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        good, state = self._judged(updates, state)
        updates, inner = update_if(good, self.inner, updates, state.inner, params, extra)
        return updates, state._replace(inner=inner)

    @compiled
    def step(self, grads: Tree, state: State, params: Tree, **extra: Any) -> tuple[Tree, State]:
        good, state = self._judged(grads, state)
        params, inner = step_if(good, self.inner, grads, state.inner, params, extra)
        return params, state._replace(inner=inner)

    def _judged(self, updates: Tree, state: State) -> tuple[Array, ApplyIfFiniteState]:
        refuse_other_state(self, state, ApplyIfFiniteState)
        most = for_all_arrays(self, state.notfinite_count).max_consecutive_errors
        finite = all_finite(updates)
        in_a_row = jnp.where(finite, 0, next_count(state.notfinite_count))
        frozen = state.frozen | (in_a_row.astype(jnp.float32) > jnp.asarray(most, jnp.float32))
        total = jnp.where(finite, state.total_notfinite, next_count(state.total_notfinite))
        return finite & ~frozen, ApplyIfFiniteState(state.inner, in_a_row, total, frozen)


class SkipOutliersState(NamedTuple):
    """State of `skip_outliers`: `mean` and `deviation` are those of steps that were taken."""

    inner: Any
    taken_count: Any
    mean: Any
    deviation: Any
    skipped_count: Any  # in a row, up to now
    total_skipped: Any


class skip_outliers(Wrapper):
    """Leaves out a step whose gradient norm is above mean + z_threshold deviations.

    With `watch="value"` it looks at the loss, which `update` then needs as `value=`. Mean and
    deviation are those of the first `warmup_steps` steps, which are all taken, then moving averages
    over steps taken. What is not finite is always left out. Nothing is left out while all numbers
    have been equal.
    """

    z_threshold: Hyper = 5.0
    decay: Hyper = 0.99
    warmup_steps: Hyper = 100
    max_consecutive_skips: Hyper = float("inf")  # then the next finite step is taken: a new usual
    watch: str = static(default="norm")  # or "value"

    @property
    def needs(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return ("value",) if self.watch == "value" else ()

    def check(self) -> None:
        self.require("(0, inf)", "z_threshold")
        self.require("[0, 1)", "decay")
        self.require("(0, inf)", "warmup_steps")
        self.require("[0, inf]", "max_consecutive_skips")
        if self.watch not in ("norm", "value"):
            raise ValueError(complaint(self, f"watch is {self.watch!r}", 'Pass "norm" or "value"'))

    def init(self, params: Tree) -> State:
        real = real_dtype(widest([p for p in jax.tree.leaves(params) if is_inexact(p)]))
        return SkipOutliersState(
            self.inner.init(params),
            zero_count(params),
            zero_count(params).astype(real),
            zero_count(params).astype(real),
            zero_count(params),
            zero_count(params),
        )

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        usual, state = self._judged(updates, state, extra)
        updates, inner = update_if(usual, self.inner, updates, state.inner, params, extra)
        return updates, state._replace(inner=inner)

    @compiled
    def step(self, grads: Tree, state: State, params: Tree, **extra: Any) -> tuple[Tree, State]:
        usual, state = self._judged(grads, state, extra)
        params, inner = step_if(usual, self.inner, grads, state.inner, params, extra)
        return params, state._replace(inner=inner)

    def _judged(
        self, updates: Tree, state: State, extra: dict[str, Any]
    ) -> tuple[Array, SkipOutliersState]:
        refuse_other_state(self, state, SkipOutliersState)
        refuse_missing(self, updates, extra)
        real = state.mean.dtype
        numbers = narrowed(for_all_arrays(self, state.taken_count), real)
        if self.watch == "norm":
            seen = global_norm(updates).astype(real)
            finite = jnp.isfinite(seen)
        else:
            value = extra.get("value")
            seen = jnp.asarray(0.0 if value is None else value).astype(real)
            finite = jnp.isfinite(seen) & all_finite(updates)
        t = next_count(state.taken_count).astype(real)
        warm = t <= numbers.warmup_steps
        limit = numbers.z_threshold * state.deviation
        far = (seen - state.mean > limit) & (limit > 0) & ~warm
        patient = state.skipped_count.astype(real) < numbers.max_consecutive_skips
        taken = finite & ~(far & patient)
        mean, deviation = following(
            state.mean, state.deviation, jnp.where(taken, seen, state.mean), t, warm, numbers.decay
        )
        return taken, SkipOutliersState(
            state.inner,
            jnp.where(taken, next_count(state.taken_count), state.taken_count),
            jnp.where(taken, mean, state.mean),
            jnp.where(taken, deviation, state.deviation),
            jnp.where(taken, 0, next_count(state.skipped_count)),
            jnp.where(taken, state.total_skipped, next_count(state.total_skipped)),
        )


class DynamicLossScaleState(NamedTuple):
    """State of `dynamic_loss_scale`."""

    inner: Any
    loss_scale: Any  # what the next loss is to be multiplied by
    good_steps: Any  # since the scale last changed
    total_skipped: Any


class dynamic_loss_scale(Wrapper):
    """Divides gradients of `loss_scale(state) * loss` by that scale, in float32.

    Gradients that are not finite leave out the step and multiply the scale by `backoff_factor`;
    after `growth_interval` good steps it is multiplied by `growth_factor`. For float16, whose small
    gradients are zero: Micikevicius+ 2018, 1710.03740. `value=` is the loss that is not scaled.
    """

    initial_scale: Hyper = 2.0**15
    growth_interval: Hyper = 2000
    growth_factor: Hyper = 2.0
    backoff_factor: Hyper = 0.5
    min_scale: Hyper = 1.0
    max_scale: Hyper = 2.0**24

    def check(self) -> None:
        self.require("(0, inf)", "initial_scale", "min_scale", "max_scale")
        self.require("(0, inf)", "growth_interval", "growth_factor")
        self.require("(0, 1]", "backoff_factor")

    def init(self, params: Tree) -> State:
        count = zero_count(params)
        real = real_dtype(widest([p for p in jax.tree.leaves(params) if is_inexact(p)]))
        start = jnp.asarray(for_all_arrays(self, count).initial_scale, real)
        return DynamicLossScaleState(
            self.inner.init(params), start + count.astype(real), count, zero_count(params)
        )

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        factor, finite, state = self._judged(updates, state)

        def good() -> Any:
            grads = run((), widened(updates), (), None, factor)[0]
            steps, inner = wide_update(self.inner, grads, state.inner, params, extra)
            return as_came(steps, updates), inner

        updates, inner = either(finite, good, lambda: (zero_updates(updates, params), state.inner))
        return updates, state._replace(inner=inner)

    @compiled
    def step(self, grads: Tree, state: State, params: Tree, **extra: Any) -> tuple[Tree, State]:
        factor, finite, state = self._judged(grads, state)

        def good() -> Any:
            unscaled = run((), widened(grads), (), None, factor)[0]
            return wide_step(self.inner, unscaled, state.inner, params, extra, grads)

        params, inner = either(finite, good, lambda: (params, state.inner))
        return params, state._replace(inner=inner)

    def _judged(self, updates: Tree, state: State) -> tuple[Array, Array, DynamicLossScaleState]:
        refuse_other_state(self, state, DynamicLossScaleState)
        real = state.loss_scale.dtype
        numbers = narrowed(for_all_arrays(self, state.good_steps), real)
        scale = jnp.maximum(state.loss_scale, numbers.min_scale)
        finite = all_finite(updates)
        good = jnp.where(finite, next_count(state.good_steps), 0)
        grows = good.astype(real) >= numbers.growth_interval
        grown = jnp.minimum(scale * numbers.growth_factor, jnp.maximum(numbers.max_scale, scale))
        new = jnp.where(grows, grown, scale)
        new = jnp.where(finite, new, jnp.maximum(scale * numbers.backoff_factor, numbers.min_scale))
        return (
            1 / scale,
            finite,
            DynamicLossScaleState(
                state.inner,
                new,
                jnp.where(grows, 0, good),
                jnp.where(finite, state.total_skipped, next_count(state.total_skipped)),
            ),
        )


for _state in (ApplyIfFiniteState, SkipOutliersState, DynamicLossScaleState):
    register_for_export(_state)


def loss_scale(state: State) -> Array:
    """What to multiply the loss by before it is differentiated: `loss_scale(state) * loss`.

    Finds the `dynamic_loss_scale` in the state of any optimizer; 1 if there is none.
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, DynamicLossScaleState))
    found = [node.loss_scale for node in nodes if isinstance(node, DynamicLossScaleState)]
    return found[0] if found else jnp.ones((), jnp.float32)
