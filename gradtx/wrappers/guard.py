"""Guards: steps that are left out because something is wrong with them.

    apply_if_finite       leaves out what is not finite, and freezes when that does not end
    skip_outliers         leaves out losses or gradient norms that are far above the usual
    skip_if               leaves out what a function of yours says
    dynamic_loss_scale    gradients of float16: scaled up where they come from, down again here

A step that is left out changes neither parameters nor the state of what is wrapped. Its `step`
makes no tree of updates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.engine.hyperparameters import for_all_arrays, narrowed
from gradtx.engine.placement import zero_count
from gradtx.engine.step import At, next_count
from gradtx.rule import HyperField, times
from gradtx.struct import static, whole, within
from gradtx.transform import State
from gradtx.tree import Extra, Tree, global_norm, mean_and_deviation, real_dtype_of, widened
from gradtx.wrappers.base import Turn, Wrapper
from gradtx.wrappers.choice import all_finite, one_bool


class FiniteOwn(NamedTuple):
    """What `apply_if_finite` remembers."""

    notfinite_count: Any  # in a row, up to now
    total_notfinite: Any
    frozen: Any  # the flag: there were too many in a row, and nothing moves any more


class apply_if_finite(Wrapper):
    """Leaves out a step whose gradients hold an infinity or a NaN.

    After more than `max_consecutive_errors` of them in a row it freezes: no step is taken any more,
    which `state.frozen` shows, until that flag is set to False by hand. Differs from Optax, which
    then lets the NaN in.
    """

    max_consecutive_errors: HyperField = whole(within="[0, inf)")

    Own = FiniteOwn
    skips: ClassVar[bool] = True

    def init_own(self, params: Tree, at: At) -> FiniteOwn:
        return FiniteOwn(zero_count(params), zero_count(params), zero_count(params) > 0)

    def before(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> Turn:
        most = for_all_arrays(self, at.count).max_consecutive_errors
        finite = all_finite(updates)
        in_a_row = jnp.where(finite, 0, next_count(state.notfinite_count))
        frozen = state.frozen | (in_a_row.astype(jnp.float32) > jnp.asarray(most, jnp.float32))
        total = jnp.where(finite, state.total_notfinite, next_count(state.total_notfinite))
        new = state._replace(notfinite_count=in_a_row, total_notfinite=total, frozen=frozen)
        return Turn(lambda: updates, new, extra, finite & ~frozen)


class SkipIfOwn(NamedTuple):
    """What `skip_if` remembers."""

    skipped_count: Any  # in a row, up to now
    total_skipped: Any


class skip_if(Wrapper):
    """Leaves out a step where a function of yours holds: `should_skip_fn(updates, count, params)`.

    It gets the updates that come in, the steps taken so far and the parameters (`None` if `update`
    gets none), and returns one bool, traced or not:
    `skip_if(adam(1e-3), lambda updates, count, params: global_norm(updates) > 10)`.
    """

    should_skip_fn: Callable[..., ArrayLike] = static()

    Own = SkipIfOwn
    skips: ClassVar[bool] = True

    def init_own(self, params: Tree, at: At) -> SkipIfOwn:
        return SkipIfOwn(zero_count(params), zero_count(params))

    def before(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> Turn:
        found = self.should_skip_fn(updates, state.gradient_step, params)
        skip = one_bool(self, "should_skip_fn", found)
        new = state._replace(
            skipped_count=jnp.where(skip, next_count(state.skipped_count), 0),
            total_skipped=jnp.where(skip, next_count(state.total_skipped), state.total_skipped),
        )
        return Turn(lambda: updates, new, extra, ~skip)


class OutliersOwn(NamedTuple):
    """What `skip_outliers` remembers: `mean` and `deviation` are those of steps taken."""

    mean: Any
    deviation: Any
    skipped_count: Any  # in a row, up to now
    total_skipped: Any


class skip_outliers(Wrapper):
    """Leaves out a step whose gradient norm is above mean + z_threshold deviations.

    With `watch="value"` it looks at the loss, which `update` then needs as `value=`. Mean and
    deviation are those of the first `warmup_steps` steps, which are all taken, then moving averages
    over steps taken. After `max_consecutive_skips` in a row the next finite step is taken and is
    the new usual: the mean, and the deviation in proportion. What is not finite is always left out.
    Nothing is left out while all numbers have been equal.
    """

    z_threshold: HyperField = within("(0, inf)", default=5.0)
    _: KW_ONLY
    decay: HyperField = within("[0, 1)", default=0.99)
    warmup_steps: HyperField = within("(0, inf)", default=100)
    max_consecutive_skips: HyperField = within("[0, inf]", default=20.0)
    watch: str = static(default="norm", among=("norm", "value"))  # or "value"

    @property
    def needs(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return ("value",) if self.watch == "value" else ()

    Own = OutliersOwn
    skips: ClassVar[bool] = True

    def init_own(self, params: Tree, at: At) -> OutliersOwn:
        real = real_dtype_of(params)
        mean, deviation = (zero_count(params).astype(real) for _ in range(2))
        return OutliersOwn(mean, deviation, zero_count(params), zero_count(params))

    def before(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> Turn:
        real = state.mean.dtype
        numbers = narrowed(for_all_arrays(self, at.count), real)
        if self.watch == "norm":
            seen = global_norm(updates).astype(real)
            finite = jnp.isfinite(seen)
        else:
            value = extra.get("value")
            seen = jnp.asarray(0.0 if value is None else value).astype(real)
            finite = jnp.isfinite(seen) & all_finite(updates)
        t = next_count(state.gradient_step).astype(real)
        warm = t <= numbers.warmup_steps
        limit = numbers.z_threshold * state.deviation
        far = (seen - state.mean > limit) & (limit > 0) & ~warm
        patient = state.skipped_count.astype(real) < numbers.max_consecutive_skips
        taken = finite & ~(far & patient)
        mean, deviation = mean_and_deviation(
            state.mean, state.deviation, jnp.where(taken, seen, state.mean), t, warm, numbers.decay
        )
        anew = taken & far
        ratio = seen / jnp.where(state.mean != 0, jnp.abs(state.mean), 1)
        wider = jnp.maximum(state.deviation, state.deviation * jnp.abs(ratio))
        mean, deviation = jnp.where(anew, seen, mean), jnp.where(anew, wider, deviation)
        new = state._replace(
            mean=jnp.where(taken, mean, state.mean),
            deviation=jnp.where(taken, deviation, state.deviation),
            skipped_count=jnp.where(taken, 0, next_count(state.skipped_count)),
            total_skipped=jnp.where(taken, state.total_skipped, next_count(state.total_skipped)),
        )
        return Turn(lambda: updates, new, extra, taken)


class LossScaleOwn(NamedTuple):
    """What `dynamic_loss_scale` remembers."""

    loss_scale: Any  # what the next loss is to be multiplied by
    good_steps: Any  # since the scale last changed
    total_skipped: Any


class dynamic_loss_scale(Wrapper):
    """Divides gradients of `loss_scale(state) * loss` by that scale, in float32.

    Gradients that are not finite leave out the step and multiply the scale by `backoff_factor`;
    after `growth_interval` good steps it is multiplied by `growth_factor`. For float16, whose small
    gradients are zero: Micikevicius+ 2018, 1710.03740. `value=` is the loss that is not scaled.
    """

    initial_scale: HyperField = within("(0, inf)", default=2.0**15)
    _: KW_ONLY
    growth_interval: HyperField = within("(0, inf)", default=2000)
    growth_factor: HyperField = within("(0, inf)", default=2.0)
    backoff_factor: HyperField = within("(0, 1]", default=0.5)
    min_scale: HyperField = within("(0, inf)", default=1.0)
    max_scale: HyperField = within("(0, inf)", default=2.0**24)

    Own = LossScaleOwn
    skips: ClassVar[bool] = True

    def init_own(self, params: Tree, at: At) -> LossScaleOwn:
        real = real_dtype_of(params)
        start = jnp.asarray(for_all_arrays(self, at.count).initial_scale, real)
        count = zero_count(params)
        return LossScaleOwn(start + count.astype(real), count, zero_count(params))

    def before(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> Turn:
        real = state.loss_scale.dtype
        numbers = narrowed(for_all_arrays(self, at.count), real)
        scale = jnp.maximum(state.loss_scale, numbers.min_scale)
        finite = all_finite(updates)
        good = jnp.where(finite, next_count(state.good_steps), 0)
        grows = good.astype(real) >= numbers.growth_interval
        grown = jnp.minimum(scale * numbers.growth_factor, jnp.maximum(numbers.max_scale, scale))
        new = jnp.where(grows, grown, scale)
        new = jnp.where(finite, new, jnp.maximum(scale * numbers.backoff_factor, numbers.min_scale))
        kept = state._replace(
            loss_scale=new,
            good_steps=jnp.where(grows, 0, good),
            total_skipped=jnp.where(finite, state.total_skipped, next_count(state.total_skipped)),
        )
        return Turn(lambda: times(1 / scale, widened(updates)), kept, extra, finite)


def loss_scale(state: State) -> Array:
    """What to multiply the loss by before it is differentiated: `loss_scale(state) * loss`.

    Finds the `dynamic_loss_scale` in the state of any optimizer; 1 if there is none.
    """
    kinds = (dynamic_loss_scale.State, dynamic_loss_scale.Part)
    nodes = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, kinds))
    found = [node.loss_scale for node in nodes if isinstance(node, kinds)]
    return found[0] if found else jnp.ones((), jnp.float32)
