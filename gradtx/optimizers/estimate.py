"""Adam whose step size is an estimate of the distance to the solution.

What bounds the distance D from below tells them apart (x0 is the start):

    dadapt_adamw    n / ||s||_1 with n the sum of <g, s / sqrt(nu)>, s the sum of d g
    prodigy         the same with n the sum of <g, x0 - x>, weighted towards later gradients

The learning rate is 1, or a schedule that falls from 1. The estimates are kept in float32 or wider
whatever the dtype of the parameters.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.optimizers.decoupled import turned
from gradtx.rule import Copy, Hyper, HyperField, JointRule, Square, Step
from gradtx.struct import static, within
from gradtx.transform import GradientTransformation
from gradtx.tree import abs2, inner, modulus, one_minus_power, root

NO_LIMIT = 1e30  # of growth: more than any estimate grows by in a step, and finite in float32


def _correction(rule: Any, t: Array) -> Any:
    """What Adam's bias correction multiplies the step by, if it is asked for."""
    if not rule.use_bias_correction:
        return 1.0
    return root(one_minus_power(rule.b2, t)) / one_minus_power(rule.b1, t)


class EstimateSums(NamedTuple):
    numerator: Array
    l1: Array  # of the new s


class DadaptKnown(NamedTuple):
    weight: Array  # of g in s and mu: d times the learning rate
    root_b2: Array
    rest: Array  # 1 - root_b2


class scale_by_dadapt_adam(JointRule):
    """Adam with the step size d, a growing lower bound of the distance: D-Adaptation.

    With l = d learning_rate and q = sqrt(b2): n = q n + (1 - q) l <g, s / (sqrt(nu) + eps)> with
    old s and nu, mu = b1 mu + (1 - b1) l g, nu as in Adam, s = q s + (1 - q) l g,
    d = max(d, n / ((1 - q) ||s||_1)), u = mu / (sqrt(nu) + eps) + weight_decay l p.
    Defazio & Mishchenko 2023, 2301.07733. Differs from Optax: no bias correction unless asked for
    (as in the authors' code), nothing happens before the first gradient that is not zero. The
    learning rate is in here because the estimate needs it.
    """

    learning_rate: HyperField = 1.0
    _: KW_ONLY
    b1: HyperField = within("[0, 1)", default=0.9)
    b2: HyperField = within("(0, 1)", default=0.999)
    eps: HyperField = within("(0, inf)", default=1e-8)
    estim_lr0: HyperField = within("(0, inf)", default=1e-6)  # d before the first step
    weight_decay: HyperField = within("[0, inf)", default=0.0)  # decoupled
    # The most d may grow by in one step.
    growth_rate: HyperField = within("(0, inf]", default=NO_LIMIT)
    use_bias_correction: bool = static(default=False)

    class Slots(NamedTuple):
        mu: Array
        nu: Square
        s: Array

    class Globals(NamedTuple):
        estim_lr: Array  # d
        numerator: Array

    Sums = EstimateSums
    cut: ClassVar[bool | None] = True
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_globals(self) -> Globals:
        return self.Globals(self.estim_lr0, 0.0)  # pyright: ignore[reportArgumentType]

    def prepare(self, globals_: Globals, t: Array) -> DadaptKnown:
        weight = globals_.estim_lr * self.learning_rate * _correction(self, t)
        q = root(jnp.asarray(self.b2))
        return DadaptKnown(weight, q, (1 - self.b2) / (1 + q))

    def measure_leaf(self, g: Array, slots: Slots, p: Array, known: Any) -> EstimateSums:
        s = known.root_b2 * slots.s + known.rest * known.weight * g
        numerator = inner(g, slots.s / (root(slots.nu) + self.eps))
        return EstimateSums(numerator, jnp.sum(modulus(s)))

    def decide(
        self, sums: EstimateSums, globals_: Globals, t: Array, **extra: Any
    ) -> tuple[Globals, Any]:
        known = self.prepare(globals_, t)
        d, q = globals_.estim_lr, known.root_b2
        numerator = q * globals_.numerator + known.rest * known.weight * sums.numerator
        started = sums.l1 > 0
        estimate = numerator / (known.rest * jnp.where(started, sums.l1, 1))
        grown = jnp.maximum(d, jnp.minimum(estimate, d * self.growth_rate))
        new = self.Globals(jnp.where(started, grown, d), numerator)
        # Zero weights where all gradients are zero. They depend on both sums, so that XLA writes
        # the slots after it has read the old ones, and makes no copy.
        some = started & ~jnp.isnan(sums.numerator)
        weight, of_square = jnp.where(some, jnp.stack([known.weight, 1 - self.b2]), 0)
        return new, (known._replace(weight=weight), of_square, self.weight_decay * weight)

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        known, of_square, decay = step.shared
        mu = self.b1 * slots.mu + (1 - self.b1) * known.weight * g
        nu = self.b2 * slots.nu + of_square * abs2(g)
        s = known.root_b2 * slots.s + known.rest * known.weight * g
        return mu / (root(nu) + self.eps) + decay * p, self.Slots(mu, nu, s)


class ProdigyKnown(NamedTuple):
    d: Array
    rate: Array  # l = d times the learning rate
    weight: Array  # of g in s: l d / d0
    root_b2: Array


class scale_by_prodigy(JointRule):
    """Adam of d g, stepping by d, an estimate of the distance to the solution that grows.

    With l = d learning_rate, q = sqrt(b2) and w = l d / d0: mu = b1 mu + (1 - b1) d g,
    nu = b2 nu + (1 - b2) d^2 |g|^2, s = q s + w g, n = q n + w <g, x0 - x>,
    e = estim_lr_coef n / ||s||_1, d' = min(max of all e, growth_rate d),
    u = l mu / (sqrt(nu) + d' eps) + weight_decay l p. Mishchenko & Defazio 2023, 2306.06101.
    Differs from Optax: no bias correction unless asked for (as in the authors' code), nothing
    happens before the first gradient that is not zero. The learning rate is in here because the
    estimate needs it.
    """

    learning_rate: HyperField = 1.0
    _: KW_ONLY
    b1: HyperField = within("[0, 1)", default=0.9)
    b2: HyperField = within("(0, 1)", default=0.999)
    eps: HyperField = within("(0, inf)", default=1e-8)
    estim_lr0: HyperField = within("(0, inf)", default=1e-6)  # d0: d before the first step
    estim_lr_coef: HyperField = within("(0, inf)", default=1.0)  # multiplies the estimate
    weight_decay: HyperField = within("[0, inf)", default=0.0)  # decoupled
    # The most d may grow by in one step, once it has left d0.
    growth_rate: HyperField = within("(0, inf]", default=NO_LIMIT)
    use_bias_correction: bool = static(default=False)

    class Slots(NamedTuple):
        mu: Array
        nu: Square
        s: Array
        x0: Copy

    class Globals(NamedTuple):
        estim_lr: Array  # d
        estim_max: Array  # the largest estimate so far
        numerator: Array

    Sums = EstimateSums
    cut: ClassVar[bool | None] = True
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_globals(self) -> Globals:
        return self.Globals(self.estim_lr0, self.estim_lr0, 0.0)  # pyright: ignore[reportArgumentType]

    def prepare(self, globals_: Globals, t: Array) -> ProdigyKnown:
        d = globals_.estim_lr
        rate = d * self.learning_rate * _correction(self, t)
        return ProdigyKnown(d, rate, d / self.estim_lr0 * rate, root(jnp.asarray(self.b2)))

    def measure_leaf(self, g: Array, slots: Slots, p: Array, known: Any) -> EstimateSums:
        s = known.root_b2 * slots.s + known.weight * g
        return EstimateSums(inner(g, slots.x0 - p), jnp.sum(modulus(s)))

    def decide(
        self, sums: EstimateSums, globals_: Globals, t: Array, **extra: Any
    ) -> tuple[Globals, Any]:
        known = self.prepare(globals_, t)
        started = sums.l1 > 0
        numerator = known.root_b2 * globals_.numerator + known.weight * sums.numerator
        estimate = self.estim_lr_coef * numerator / jnp.where(started, sums.l1, 1)
        # The first growth has no limit.
        d = jnp.where(known.d == self.estim_lr0, jnp.maximum(known.d, estimate), known.d)
        largest = jnp.maximum(globals_.estim_max, estimate)
        found = jnp.minimum(largest, d * self.growth_rate), largest, numerator
        pairs = zip(found, globals_, strict=True)
        new = self.Globals(*(jnp.where(started, x, y) for x, y in pairs))
        return new, (known, jnp.where(started, known.rate, 0), new.estim_lr * self.eps)

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        known, rate, eps = step.shared
        mu = self.b1 * slots.mu + (1 - self.b1) * known.d * g
        nu = self.b2 * slots.nu + (1 - self.b2) * abs2(known.d * g)
        s = known.root_b2 * slots.s + known.weight * g
        denominator = jnp.maximum(root(nu) + eps, jnp.finfo(nu.dtype).tiny)
        u = rate * (mu / denominator + self.weight_decay * p)
        return u, self.Slots(mu, nu, s, slots.x0)


def dadapt_adamw(
    learning_rate: Hyper = 1.0,
    *,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    estim_lr0: Hyper = 1e-6,
    weight_decay: Hyper = 0.0,
    growth_rate: Hyper = NO_LIMIT,
    use_bias_correction: bool = False,
) -> GradientTransformation:
    """D-Adapted AdamW: minus `scale_by_dadapt_adam`, which has the learning rate in it."""
    direction = scale_by_dadapt_adam(
        learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        estim_lr0=estim_lr0,
        weight_decay=weight_decay,
        growth_rate=growth_rate,
        use_bias_correction=use_bias_correction,
    )
    return turned(direction)


def prodigy(
    learning_rate: Hyper = 1.0,
    *,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    estim_lr0: Hyper = 1e-6,
    estim_lr_coef: Hyper = 1.0,
    weight_decay: Hyper = 0.0,
    growth_rate: Hyper = NO_LIMIT,
    use_bias_correction: bool = False,
) -> GradientTransformation:
    """Prodigy: minus `scale_by_prodigy`, which has the learning rate in it."""
    direction = scale_by_prodigy(
        learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        estim_lr0=estim_lr0,
        estim_lr_coef=estim_lr_coef,
        weight_decay=weight_decay,
        growth_rate=growth_rate,
        use_bias_correction=use_bias_correction,
    )
    return turned(direction)
