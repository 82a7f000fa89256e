"""Adam with another numerator: what is divided by sqrt(nu^) + eps tells these apart.

adan                    mean of g plus b2 times the mean of its changes; nu of their sum
ademamix                mean of g plus alpha times a mean with a far longer memory
simplified_ademamix     sum of g with a long memory plus alpha g
qhadam                  part of the mean, the rest g itself; nu likewise
mars                    mean of c = g plus a part of its change, clipped; nu of c
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.axes import unstacked_axes
from gradtx.chain import chain
from gradtx.hyper import AxesField, AxesOf
from gradtx.optimizers.adam import Moments, corrections, moments, scale_by_adam
from gradtx.optimizers.decoupled import decoupled, descending
from gradtx.paths import Labels, only_where
from gradtx.rule import Hyper, HyperField, Rule, Square, Step
from gradtx.struct import static, within
from gradtx.transform import GradientTransformation
from gradtx.tree import abs2, norm, not_begun, one_minus_power, over, real_zeros_like, root


class scale_by_adan(Rule):
    """Nesterov momentum from the changes d = g - g_(t-1) of the gradient, d = 0 at first.

    mu = b1 mu + (1 - b1) g, delta = b2 delta + (1 - b2) d, nu = b3 nu + (1 - b3) |g + b2 d|^2,
    u = (mu^ + b2 delta^) / (sqrt(nu^) + eps). Xie+ 2022, 2208.06677, which writes 1 - b for b.
    Differs from Optax, which multiplies d and delta by 1 - b2 (0.08) where the paper has b2.
    """

    b1: HyperField = within("[0, 1)", default=0.98)  # decay of mu
    b2: HyperField = within("[0, 1)", default=0.92)  # decay of delta, and its weight
    b3: HyperField = within("[0, 1)", default=0.99)  # decay of nu
    eps: HyperField = within("(0, inf)", default=1e-8)  # added to the root

    class Slots(NamedTuple):
        mu: Array
        delta: Array
        nu: Square
        previous: Array
        begun: Array  # 0 before the first step of this array, then 1

    def init_leaf(self, p: Array) -> Slots:
        zeros = (jnp.zeros_like(p) for _ in range(3))
        return self.Slots(next(zeros), next(zeros), real_zeros_like(p), next(zeros), not_begun(p))

    def shared(self, t: Array) -> tuple[Array, Array, Array]:
        weight = self.b2 / one_minus_power(self.b2, t)
        return one_minus_power(self.b1, t), weight, one_minus_power(self.b3, t)

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        c1, weight, c3 = step.shared
        part, rest = slots.begun * self.b2, slots.begun * (1 - self.b2)
        d = g - slots.previous
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        delta = self.b2 * slots.delta + rest * d
        nu = self.b3 * slots.nu + (1 - self.b3) * abs2(g + part * d)
        u = (mu / c1 + weight * delta) / (root(nu / c3) + self.eps)
        return u, self.Slots(mu, delta, nu, g, jnp.ones_like(slots.begun))


class descend_proximally(Rule):
    """A descent step whose decay is taken at its end: p + u = (p - learning_rate g) / (1 + s).

    s = learning_rate weight_decay, so u = -learning_rate (g + weight_decay p) / (1 + s). The
    proximal step of Adan (2208.06677) for decay that does not belong to the loss.
    """

    learning_rate: HyperField
    _: KW_ONLY
    weight_decay: HyperField = within("[0, inf)", default=0.0)

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        rate = self.learning_rate / (1 + self.learning_rate * self.weight_decay)
        return -rate * (g + self.weight_decay * p), slots


class scale_by_ademamix(Rule):
    """Adam plus a momentum that remembers ten thousand steps.

    u = (mu^ + alpha mu_slow) / (sqrt(nu^ + eps_root) + eps), mu_slow = b3 mu_slow + (1 - b3) g not
    corrected. Pagliardini+ 2024, 2409.03137, which lets alpha grow from zero, as with
    alpha=linear_schedule(0.0, 5.0, steps), and b3 from b1.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of nu
    b3: HyperField = within("[0, 1)", default=0.9999)  # decay of mu_slow
    alpha: HyperField = within("[0, inf)", default=5.0)  # weight of mu_slow
    eps: HyperField = within("[0, inf)", default=1e-8)  # added to the root
    eps_root: HyperField = within("[0, inf)", default=0.0)  # added under the root

    class Slots(NamedTuple):
        mu: Array
        mu_slow: Array
        nu: Square

    shared = corrections

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        mu, nu = moments(self, g, slots)
        mu_slow = self.b3 * slots.mu_slow + (1 - self.b3) * g
        c1, c2 = step.shared
        denominator = root(nu / c2 + self.eps_root) + self.eps
        return over(mu / c1 + self.alpha * mu_slow, denominator), self.Slots(mu, mu_slow, nu)


class scale_by_simplified_ademamix(Rule):
    """A decaying sum of gradients and the gradient itself: u = (mu + alpha g) / (sqrt(nu^) + eps).

    mu = b1 mu + g is some 1 / (1 - b1) times a mean, so learning rates are 1 - b1 times Adam's;
    with `correct_bias` it is divided by (1 - b1^t) / (1 - b1). Morwani+ 2025, 2502.02431.
    """

    b1: HyperField = within("[0, 1)", default=0.99)  # decay of mu
    b2: HyperField = within("[0, 1)", default=0.95)  # decay of nu
    alpha: HyperField = within("[0, inf)", default=0.0)  # weight of the gradient
    eps: HyperField = within("[0, inf)", default=1e-8)  # added to the root
    eps_root: HyperField = within("[0, inf)", default=0.0)  # added under the root
    _: KW_ONLY
    correct_bias: bool = static(default=False)

    Slots = Moments

    def shared(self, t: Array) -> tuple[Any, Array]:
        weight = (1 - self.b1) / one_minus_power(self.b1, t) if self.correct_bias else 1
        return weight, one_minus_power(self.b2, t)

    def update_leaf(self, g: Array, slots: Moments, p: Array, step: Step) -> tuple[Array, Moments]:
        mu = self.b1 * slots.mu + g
        nu = self.b2 * slots.nu + (1 - self.b2) * abs2(g)
        weight, c2 = step.shared
        denominator = root(nu / c2 + self.eps_root) + self.eps
        return over(weight * mu + self.alpha * g, denominator), Moments(mu, nu)


class scale_by_qhm(Rule):
    """A part of the momentum and a part of the gradient: u = (1 - nu) g + nu mu.

    mu = b mu + (1 - b) g. With nu = 0 gradient descent, 1 momentum, b that of Nesterov.
    Ma & Yarats 2018, 1810.06801.
    """

    b: HyperField = within("[0, 1)", default=0.999)  # decay of mu
    _: KW_ONLY
    nu: HyperField = 0.7  # part of the momentum

    class Slots(NamedTuple):
        mu: Array

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        mu = self.b * slots.mu + (1 - self.b) * g
        return (1 - self.nu) * g + self.nu * mu, self.Slots(mu)


class scale_by_qhadam(Rule):
    """Adam with a part of the present gradient in both moments.

    u = ((1 - nu1) g + nu1 mu^) / (sqrt((1 - nu2) |g|^2 + nu2 nu^) + eps); Adam for nu1 = nu2 = 1.
    Ma & Yarats 2018, 1810.06801.
    """

    b1: HyperField = within("[0, 1)", default=0.995)  # decay of mu
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of nu
    nu1: HyperField = 0.7  # part of mu^
    nu2: HyperField = within("[0, 1]", default=1.0)  # part of nu^
    eps: HyperField = within("(0, inf)", default=1e-8)  # added to the root

    Slots = Moments

    shared = corrections

    def update_leaf(self, g: Array, slots: Moments, p: Array, step: Step) -> tuple[Array, Moments]:
        square = abs2(g)
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        nu = self.b2 * slots.nu + (1 - self.b2) * square
        c1, c2 = step.shared
        numerator = (1 - self.nu1) * g + self.nu1 * (mu / c1)
        denominator = root((1 - self.nu2) * square + self.nu2 * (nu / c2)) + self.eps
        return numerator / denominator, Moments(mu, nu)


class correct_variance(Rule):
    """Adds a part of the change of the gradient: c = g + gamma b1 / (1 - b1) (g - g_(t-1)).

    The change is 0 at first. Then the norm of c within `axes` is clipped to one. Yuan+ 2024
    (MARS), 2411.10438, in the form that remembers the last gradient rather than to take it again
    with the new batch.
    """

    b1: HyperField = within("[0, 1)", default=0.95)  # the decay of the momentum that follows
    _: KW_ONLY
    gamma: HyperField = 0.025  # 0 adds nothing, 1 is full recursive momentum
    axes: AxesField = None  # the stacked ones are clipped on their own

    class Slots(NamedTuple):
        previous: Array
        begun: Array  # 0 before the first step of this array, then 1

    def init_leaf(self, p: Array) -> Slots:
        return self.Slots(jnp.zeros_like(p), not_begun(p))

    def shared(self, t: Array) -> Array:
        return self.gamma * (self.b1 / (1 - jnp.asarray(self.b1, t.dtype)))

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        c = g + slots.begun * step.shared * (g - slots.previous)
        size = norm(c, unstacked_axes(self.axes, c.ndim))
        return c * (1 / jnp.maximum(size, 1)), self.Slots(g, jnp.ones_like(slots.begun))


def adan(
    learning_rate: Hyper,
    b1: Hyper = 0.98,
    b2: Hyper = 0.92,
    b3: Hyper = 0.99,
    eps: Hyper = 1e-8,
    *,
    weight_decay: Hyper = 2e-2,
    mask: Labels | None = None,
    proximal: bool = True,
) -> GradientTransformation:
    """Adan: `scale_by_adan`, then decay and learning rate (1e-3 in the paper) in one.

    That is `descend_proximally`, or without `proximal` decay as in `adamw`. Differs from Optax in
    the default decay, which is the authors' 0.02 (none there), and in its kind.
    """
    direction = scale_by_adan(b1, b2, b3, eps)
    if not proximal:
        return decoupled(direction, learning_rate, weight_decay, mask)
    weight_decay = only_where(mask, weight_decay)
    return chain(direction, descend_proximally(learning_rate, weight_decay=weight_decay))


def ademamix(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    b3: Hyper = 0.9999,
    alpha: Hyper = 5.0,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    *,
    weight_decay: Hyper = 0.0,
    mask: Labels | None = None,
) -> GradientTransformation:
    """AdEMAMix: `scale_by_ademamix`, decoupled weight decay, learning rate."""
    direction = scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root)
    return decoupled(direction, learning_rate, weight_decay, mask)


def simplified_ademamix(
    learning_rate: Hyper,
    b1: Hyper = 0.99,
    b2: Hyper = 0.95,
    alpha: Hyper = 0.0,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    weight_decay: Hyper = 0.0,
    mask: Labels | None = None,
    *,
    correct_bias: bool = False,
) -> GradientTransformation:
    """Simplified AdEMAMix: its link, decoupled weight decay, learning rate (1e-4 in the paper)."""
    direction = scale_by_simplified_ademamix(
        b1, b2, alpha, eps, eps_root, correct_bias=correct_bias
    )
    return decoupled(direction, learning_rate, weight_decay, mask)


def qhadam(
    learning_rate: Hyper,
    *,
    b1: Hyper = 0.995,
    b2: Hyper = 0.999,
    nu1: Hyper = 0.7,
    nu2: Hyper = 1.0,
    eps: Hyper = 1e-8,
) -> GradientTransformation:
    """QHAdam: `scale_by_qhadam`, then the learning rate."""
    return descending(scale_by_qhadam(b1, b2=b2, nu1=nu1, nu2=nu2, eps=eps), learning_rate)


def mars(
    learning_rate: Hyper,
    *,
    b1: Hyper = 0.95,
    b2: Hyper = 0.99,
    gamma: Hyper = 0.025,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: Labels | None = None,
    axes: AxesOf = None,
) -> GradientTransformation:
    """MARS-AdamW: `correct_variance`, then AdamW with the learning rate 3e-3 of the paper.

    The authors leave arrays of one axis to `adamw(learning_rate, 0.9, 0.95)`: see `partition`.
    """
    adamw = decoupled(scale_by_adam(b1, b2, eps), learning_rate, weight_decay, mask)
    return chain(correct_variance(b1, gamma=gamma, axes=axes), adamw)
