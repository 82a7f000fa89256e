"""Step sizes from how far the loss is above its lowest value; they need the loss as `value`.

What the gap is divided by, and what is stepped along, tells them apart:

    polyak_sgd     (f - f_min) / |g|^2, along g
    momo           the gap of an averaged linear model of f, over |mu|^2, along the average mu of g
    momo_adam      the same in Adam's metric D = sqrt(nu^) + eps, along mu / D
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.optimizers.adam import Moments, moments
from gradtx.optimizers.decoupled import descending, turned
from gradtx.rule import Hyper, HyperField, JointRule, LengthSums, NoNumbers, Step, measure_length
from gradtx.struct import static, within
from gradtx.transform import GradientTransformation
from gradtx.tree import abs2, inner, one_minus_power, root


class scale_by_polyak(JointRule):
    """Multiplies by min(scaling (value - f_min) / (||g||^2 + eps), max_learning_rate).

    Loizou, Vaswani, Laradji & Lacoste-Julien 2020, 2002.10542 (SPS_max with c = 1 / scaling);
    variant "sps+" takes a negative gap as zero. A zero gradient gives a zero update. Differs from
    Optax, which scales g before it takes the norm and so divides by `scaling`.
    """

    _: KW_ONLY
    # The paper proves 2 (convex) and uses 1 to 5.
    scaling: HyperField = within("[0, inf)", default=1.0)
    max_learning_rate: HyperField = within("(0, inf]", default=1.0)
    f_min: HyperField = 0.0  # the lowest value of the loss
    eps: HyperField = within("[0, inf)", default=0.0)
    variant: str = static(default="sps", among=("sps", "sps+"))

    Sums = LengthSums
    needs: ClassVar[tuple[str, ...]] = ("value",)

    measure_leaf = measure_length

    def decide(
        self, sums: LengthSums, globals_: NoNumbers, t: Array, **extra: Array
    ) -> tuple[NoNumbers, Array]:
        gap = extra["value"] - self.f_min
        if self.variant == "sps+":
            gap = jnp.maximum(gap, 0)
        square = sums.length * sums.length + self.eps
        some = square > 0
        rate = self.scaling * gap / jnp.where(some, square, 1)
        return globals_, jnp.where(some, jnp.minimum(rate, self.max_learning_rate), 0)


class MomoGlobals(NamedTuple):
    value_average: Array
    inner_average: Array  # of <g, x>
    lower_bound: Array


class MomoSums(NamedTuple):
    square: Array  # |mu|^2 in the metric
    along: Array  # <mu, x>
    inner: Array  # <g, x>


def _momo_step(
    rule: Any, sums: MomoSums, old: MomoGlobals, decay: Any, weight_sum: Any, value: Array
) -> tuple[MomoGlobals, Array, Array]:
    """New globals, tau and the factor of p; `weight_sum` is that of the averages."""
    rate = rule.learning_rate
    spread = 1 + rate * rule.weight_decay
    average = decay * old.value_average + (1 - decay) * value
    inner = decay * old.inner_average + (1 - decay) * sums.inner
    bound = old.lower_bound
    if rule.adapt_lower_bound:
        cap = spread * (average - inner) + sums.along
        lower = jnp.maximum(cap / (2 * weight_sum * spread), rule.lower_bound)
        bound = jnp.where(cap < spread * weight_sum * bound, lower, bound)
    some = sums.square > 0
    gap = spread * (average - weight_sum * bound - inner) + sums.along
    step = jnp.maximum(gap, 0) / jnp.where(some, sums.square, 1)
    tau = jnp.where(some, jnp.minimum(rate / weight_sum, step), 0)
    if rule.adapt_lower_bound:
        model = (average + sums.along - inner - tau * sums.square / 2) / weight_sum
        bound = jnp.maximum(model, rule.lower_bound)
    return MomoGlobals(average, inner, bound), tau, rate * rule.weight_decay / spread


class scale_by_momo(JointRule):
    """Momentum with a step bounded by a model of the loss: u = s p + tau mu.

    mu, f and c are averages of g, value and <g, p>: mu = b1 mu + (1 - b1) g, at the first step
    mu = g. a = learning_rate, l = weight_decay, s = a l / (1 + a l),
    tau = min(a, max((1 + a l) (f - lower_bound - c) + <mu, p>, 0) / ||mu||^2).
    Schaipp, Ohana, Eickenberg, Defazio & Gower 2023, 2305.07583. The learning rate is in here
    because it bounds the step.
    """

    learning_rate: HyperField = 1.0
    _: KW_ONLY
    b1: HyperField = within("[0, 1)", default=0.9)
    lower_bound: HyperField = 0.0  # of the loss
    weight_decay: HyperField = within("[0, inf)", default=0.0)
    adapt_lower_bound: bool = static(default=False)  # estimates the bound, from lower_bound on

    class Slots(NamedTuple):
        mu: Array

    Globals = MomoGlobals
    Sums = MomoSums

    needs: ClassVar[tuple[str, ...]] = ("params", "value")

    def init_globals(self) -> MomoGlobals:
        return MomoGlobals(0.0, 0.0, self.lower_bound)  # pyright: ignore[reportArgumentType]

    def prepare(self, globals_: MomoGlobals, t: Array) -> Array:
        return jnp.where(t == 1, 0, self.b1)

    def measure_leaf(self, g: Array, slots: Slots, p: Array, known: Any) -> MomoSums:
        mu = known * slots.mu + (1 - known) * g
        return MomoSums(jnp.sum(abs2(mu)), inner(mu, p), inner(g, p))

    def decide(
        self, sums: MomoSums, globals_: MomoGlobals, t: Array, **extra: Any
    ) -> tuple[MomoGlobals, tuple[Array, Array, Array]]:
        decay = self.prepare(globals_, t)
        new, tau, shrink = _momo_step(self, sums, globals_, decay, 1.0, extra["value"])
        return new, (decay, tau, shrink)

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        decay, tau, shrink = step.shared
        mu = decay * slots.mu + (1 - decay) * g
        return shrink * p + tau * mu, self.Slots(mu)


class scale_by_momo_adam(JointRule):
    """`scale_by_momo` in Adam's metric D = sqrt(nu^) + eps: u = s p + tau mu / D.

    mu, f and c start at zero, so that r = 1 - b1^t is the sum of their weights:
    tau = min(a / r, max((1 + a l) (f - r lower_bound - c) + <mu, p>, 0) / <mu, mu / D>).
    """

    learning_rate: HyperField = 1e-2
    _: KW_ONLY
    b1: HyperField = within("[0, 1)", default=0.9)
    b2: HyperField = within("[0, 1)", default=0.999)
    eps: HyperField = within("(0, inf)", default=1e-8)
    lower_bound: HyperField = 0.0  # of the loss
    weight_decay: HyperField = within("[0, inf)", default=0.0)
    adapt_lower_bound: bool = static(default=False)  # estimates the bound, from lower_bound on

    Slots = Moments
    Globals = MomoGlobals
    Sums = MomoSums

    cut: ClassVar[bool | None] = True
    needs: ClassVar[tuple[str, ...]] = ("params", "value")

    def init_globals(self) -> MomoGlobals:
        return MomoGlobals(0.0, 0.0, self.lower_bound)  # pyright: ignore[reportArgumentType]

    def prepare(self, globals_: MomoGlobals, t: Array) -> Array:
        return one_minus_power(self.b2, t)  # pyright: ignore[reportArgumentType]

    def _moments(self, g: Array, slots: Moments, known: Array) -> tuple[Any, Array]:
        new = moments(self, g, slots)
        return new, new.mu / (root(new.nu / known) + self.eps)

    def measure_leaf(self, g: Array, slots: Moments, p: Array, known: Any) -> MomoSums:
        new, step = self._moments(g, slots, known)
        return MomoSums(inner(new.mu, step), inner(new.mu, p), inner(g, p))

    def decide(
        self, sums: MomoSums, globals_: MomoGlobals, t: Array, **extra: Any
    ) -> tuple[MomoGlobals, tuple[Array, Array, Array]]:
        weight_sum = one_minus_power(self.b1, t)  # pyright: ignore[reportArgumentType]
        new, tau, shrink = _momo_step(self, sums, globals_, self.b1, weight_sum, extra["value"])
        return new, (self.prepare(globals_, t), tau, shrink)

    def update_leaf(self, g: Array, slots: Moments, p: Array, step: Step) -> tuple[Array, Moments]:
        known, tau, shrink = step.shared
        new, direction = self._moments(g, slots, known)
        return shrink * p + tau * direction, new


def polyak_sgd(
    learning_rate: Hyper = 1.0,
    *,
    max_learning_rate: Hyper = 1.0,
    scaling: Hyper = 1.0,
    f_min: Hyper = 0.0,
    eps: Hyper = 0.0,
    variant: str = "sps",
) -> GradientTransformation:
    """Polyak's step size: `scale_by_polyak`, then the learning rate, which is 1 in the paper."""
    direction = scale_by_polyak(
        scaling=scaling, max_learning_rate=max_learning_rate, f_min=f_min, eps=eps, variant=variant
    )
    return descending(direction, learning_rate)


def momo(
    learning_rate: Hyper = 1.0,
    b1: Hyper = 0.9,
    lower_bound: Hyper = 0.0,
    weight_decay: Hyper = 0.0,
    adapt_lower_bound: bool = False,
) -> GradientTransformation:
    """MoMo: `scale_by_momo`, which has the learning rate, with its sign turned."""
    return turned(
        scale_by_momo(
            learning_rate,
            b1=b1,
            lower_bound=lower_bound,
            weight_decay=weight_decay,
            adapt_lower_bound=adapt_lower_bound,
        )
    )


def momo_adam(
    learning_rate: Hyper = 1e-2,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    lower_bound: Hyper = 0.0,
    weight_decay: Hyper = 0.0,
    adapt_lower_bound: bool = False,
) -> GradientTransformation:
    """MoMo-Adam: `scale_by_momo_adam`, which has the learning rate, with its sign turned."""
    return turned(
        scale_by_momo_adam(
            learning_rate,
            b1=b1,
            b2=b2,
            eps=eps,
            lower_bound=lower_bound,
            weight_decay=weight_decay,
            adapt_lower_bound=adapt_lower_bound,
        )
    )
