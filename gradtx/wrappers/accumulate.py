"""One step for many micro-batches: `accumulate`, which can also measure the noise scale."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from gradtx.engine.hyperparameters import for_all_arrays, narrowed
from gradtx.engine.placement import zero_count
from gradtx.engine.run import Running, run
from gradtx.engine.slots import Declared, declare
from gradtx.engine.step import At, next_count
from gradtx.rule import HyperField, Rule, Step, register_for_export, times
from gradtx.schedules.base import Schedule
from gradtx.struct import Fixed, Static, complaint, converted, static, value_error, within
from gradtx.transform import State
from gradtx.tree import Extra, Tree, is_inexact, is_none, real_dtype_of, sum_squares
from gradtx.wrappers.base import Turn, Wrapper
from gradtx.wrappers.choice import all_finite


def _as_every(
    every: SupportsIndex | Callable[[Any], ArrayLike] | Fixed, called: str = "accumulate"
) -> Fixed | Schedule | Static:
    if isinstance(every, Fixed | Schedule | Static):
        return every
    if callable(every):
        return Static(every)
    try:
        number = 0 if isinstance(every, bool) else operator.index(every)
    except TypeError:
        number = 0
    if number < 1:
        raise (TypeError if isinstance(every, str) else ValueError)(
            complaint(
                called,
                f"every is {every!r}",
                "Pass the number of micro-batches of a step, an integer of at least 1, or a "
                "schedule of the count of steps",
            )
        )
    return Fixed(number)


class _add_up(Rule, called="accumulate"):
    """Adds the gradients of a cycle, with weights, to a sum that starts anew with the cycle."""

    class Slots(NamedTuple):
        total: Array

    def update_leaf(self, g: Array, slots: Slots, p: Any, step: Step) -> tuple[Array, Slots]:
        goes_on, weight, finite = step.shared
        part = g if weight is None else weight * g
        if finite is not None:
            part = jnp.where(finite > 0, part, 0)
        return g, self.Slots(jnp.where(goes_on > 0, slots.total, 0) + part)


class NoiseState(NamedTuple):
    """Statistics of gradient noise that `accumulate` keeps; averages are over steps."""

    squares: Array  # the sum of w |g|^2 in this cycle
    batches: Array  # how many gradients that are
    variance: Array  # the average of tr(covariance) of the gradient of one unit of weight
    square: Array  # the average of |expected gradient|^2


class AccumulateOwn(NamedTuple):
    """What `accumulate` remembers; what is not asked for is `None`."""

    mini_step: Any = None  # micro-batches seen in this cycle
    weight: Any = None  # the sum of their weights
    value: Any = None  # the sum of their losses, times the weights
    total: Any = None  # the sum of gradients times weights; kept until the next cycle begins
    nonfinite: Any = None  # micro-batches that were not finite, ever
    spoilt: Any = None  # whether there is one in this cycle
    noise: Any = None


declare(NoiseState, dict.fromkeys(NoiseState._fields, Declared("number")))
register_for_export(NoiseState)

NONFINITE = ("drop", "skip", "flag")


class accumulate(Wrapper):
    """Hands `inner` the mean gradient of `every` micro-batches, once, in float32 at least.

    Between such steps updates are zero, and nothing of `inner` runs or changes. `update` takes
    `weight=`, such as the number of examples or tokens of the micro-batch: the mean is then
    sum(w g) / sum(w). `inner` gets the mean of `value=` (given always or never) likewise, the whole
    weight as `weight`, and the last micro-batch's other arguments; its schedules count real steps.
    `last=True` ends a cycle early, where data end. With `every=1` there is neither cost nor state,
    unless `nonfinite` or a sum is asked for. Differs from Optax's MultiSteps, which runs `inner`
    every time, and where a micro-batch that is left out does not count in its cycle.
    """

    # an integer, or a schedule of the count of real steps
    every: Fixed | Schedule | Static = converted(converter=_as_every)
    _: KW_ONLY
    # A micro-batch that is not finite: None looks for none; "drop" leaves it out of the mean;
    # "skip" leaves out the whole step; "flag" lets it in. All but None count them in the state.
    nonfinite: str | None = static(default=None, among=(None, *NONFINITE))
    reduce: str = static(default="mean", among=("mean", "sum"))  # "sum": of w g
    noise_scale: bool = static(default=False)  # whether to measure it: see `noise_scale`
    # Of the averages that it is found from, over real steps.
    noise_decay: HyperField = within("[0, 1)", default=0.9)

    Own = AccumulateOwn
    kinds: ClassVar[Mapping[str, str]] = {"total": "signed", "noise": "state"}
    wants: ClassVar[tuple[str, ...]] = ("weight", "value", "last")
    skips: ClassVar[bool] = True
    late: ClassVar[tuple[str, ...]] = ("noise",)

    def check(self) -> None:
        if self.noise_scale and self.every == Fixed(1):
            raise value_error(
                self,
                "one micro-batch a step does not show the noise",
                "Pass every=2 or more, or noise_scale=False",
            )

    @property
    def _is_inner(self) -> bool:
        return self.every == Fixed(1) and self.nonfinite is None and self.reduce == "mean"

    @property
    def skips_some(self) -> bool:
        return not self._is_inner

    def init_own(self, params: Tree, at: At) -> AccumulateOwn:
        if self._is_inner:
            return AccumulateOwn()
        real = real_dtype_of(params)

        def number() -> Array:
            return zero_count(params).astype(real)

        return AccumulateOwn(
            mini_step=zero_count(params),
            weight=number(),
            value=number(),
            total=_add_up().init_part(params, at).total,
            nonfinite=zero_count(params) if self.nonfinite else None,
            spoilt=zero_count(params) > 0 if self.nonfinite == "skip" else None,
            noise=NoiseState(*(number() for _ in range(4))) if self.noise_scale else None,
        )

    def before(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> Turn:
        """The cycle with this micro-batch; `inner` gets the mean where that is the last."""
        handed = self._handed(extra)
        if state.mini_step is None and self._is_inner:
            return Turn(lambda: updates, state, handed)
        if state.mini_step is None:
            seen = "the state was made with every=1, which keeps no sum of gradients"
            raise value_error(f"{self}.update", seen, "Make a state for it: tx.init(params)")
        real = state.weight.dtype
        numbers = for_all_arrays(self, state.gradient_step)
        micro = next_count(state.mini_step)
        last = micro >= self._length(numbers.every)
        if extra.get("last") is not None:
            last = last | jnp.asarray(extra["last"], bool)
        goes_on = state.mini_step > 0
        given = {name: self._scalar(name, extra, real) for name in ("weight", "value")}
        weight, value = given["weight"], given["value"]
        finite = all_finite((updates, value)) if self.nonfinite else None
        kept = finite if self.nonfinite == "drop" else None

        def added(old: Array, new: Any) -> Array:
            part = jnp.asarray(new, real) if kept is None else jnp.where(kept, new, 0)
            return jnp.where(goes_on, old, 0) + part.astype(real)

        # The sum is written first and read by the step: no other copy of it is ever made.
        sum_up = Running(_add_up(), _add_up.Part(state.total), at, (goes_on, weight, kept))
        _, (own,) = run([sum_up], updates, params)
        one = jnp.ones((), real)
        total_weight = added(state.weight, one if weight is None else weight)
        ready = last & (total_weight > 0)
        new = state._replace(weight=total_weight, total=own.total)
        if value is not None:
            part = value if weight is None else weight * value
            new = new._replace(value=added(state.value, part))
        if finite is not None:
            seen = jnp.where(finite, state.nonfinite, next_count(state.nonfinite))
            new = new._replace(nonfinite=seen)
            if self.nonfinite == "skip":
                spoilt = (goes_on & state.spoilt) | ~finite
                ready = ready & ~spoilt
                new = new._replace(spoilt=spoilt)
        if self.noise_scale:
            square = sum_squares(updates).astype(real)
            squares = added(state.noise.squares, square if weight is None else weight * square)
            counts = one if weight is None else (weight > 0).astype(real)
            batches = added(state.noise.batches, counts)
            new = new._replace(noise=state.noise._replace(squares=squares, batches=batches))
        new = new._replace(mini_step=jnp.where(last, 0, micro))
        safe = jnp.where(total_weight > 0, total_weight, 1)
        if value is not None:
            handed["value"] = new.value / safe
        if "weight" in handed:
            handed["weight"] = total_weight
        divisor = safe if self.reduce == "mean" else jnp.ones_like(safe)
        return Turn(lambda: self._mean(new.total, divisor, updates), new, handed, ready)

    def learned(self, turn: Turn, at: At) -> dict[str, Any]:
        return {"noise": self._noise(turn.state)}

    def inner_count(self, count: Any) -> Any:
        every = self.every.value if isinstance(self.every, Fixed) else None
        return count if every is None else count // every

    def own_at(self, state: State, at: At) -> At:
        return at._replace(count=state.gradient_step)

    def _handed(self, extra: Extra) -> dict[str, Any]:
        """The arguments for `inner`: those of its own only if it says that it wants them too."""
        parts = [part for part, _ in self.inner.moments(At(0))]
        wanted = {name for part in parts for name in (*part.needs, *part.wants)}
        handed = {k: x for k, x in extra.items() if k not in ("weight", "last") or k in wanted}
        return handed | ({"weight": extra.get("weight")} if "weight" in wanted else {})

    def _length(self, every: Any) -> Any:
        if isinstance(self.every, Fixed):
            return self.every.value
        return jnp.maximum(jnp.round(jnp.asarray(every)), 1).astype(jnp.int32)

    def _scalar(self, name: str, extra: Extra, dtype: DTypeLike) -> Array | None:
        given = extra.get(name)
        if given is None:
            return None
        if jnp.ndim(given) != 0:
            raise value_error(
                f"{self}.update",
                f"{name!r} has shape {list(jnp.shape(given))}",
                "Pass one number for the micro-batch",
            )
        return jnp.asarray(given).astype(dtype)

    def _mean(self, total: Tree, weight: Array, updates: Tree) -> Tree:
        leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
        totals = treedef.flatten_up_to(total)
        merged = [x if is_inexact(g) else g for g, x in zip(leaves, totals, strict=True)]
        return times(1 / weight, treedef.unflatten(merged))

    def _noise(self, state: State) -> NoiseState | None:
        """The averages with this cycle: for n parts of the whole weight W,

        S = W (sum(w |g|^2) / W - |mean|^2) / (n - 1), and |mean|^2 - S / W estimates |E g|^2.
        """
        old = state.noise
        if old is None:
            return None
        numbers = for_all_arrays(self, state.gradient_step)
        weight = jnp.where(state.weight > 0, state.weight, 1)
        decay = narrowed(numbers, old.square.dtype).noise_decay
        square = sum_squares(state.total).astype(decay.dtype) / weight**2
        excess = (old.squares / weight - square) / jnp.maximum(old.batches - 1, 1)
        known = (old.batches > 1) & jnp.isfinite(excess)

        def averaged(before: Array, now: Array) -> Array:
            return jnp.where(known, decay * before + (1 - decay) * now, before)

        return old._replace(
            variance=averaged(old.variance, excess * weight),
            square=averaged(old.square, square - excess),
        )


def noise_scale(state: State) -> Array:
    """The gradient noise scale that an `accumulate(..., noise_scale=True)` in `state` has measured.

    B = tr(covariance) / |expected gradient|^2, in units of the weights (examples, tokens), or of
    micro-batches if none were given: steps gain little from larger batches. McCandlish+ 2018,
    1812.06162, B_simple from small and large batches. NaN before the first step, infinity where
    the noise hides the gradient. Raises `ValueError` where nothing measures it.
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, NoiseState))
    found = [node for node in nodes if isinstance(node, NoiseState)]
    if not found:
        raise value_error(
            "noise_scale",
            "nothing in the state measures it",
            "Make the optimizer with accumulate(..., every=k, noise_scale=True)",
        )
    variance, square = found[0].variance, found[0].square
    some = square > 0
    scale = variance / jnp.where(some, square, 1)
    return jnp.where(some, scale, jnp.where(variance > 0, jnp.inf, jnp.nan))
