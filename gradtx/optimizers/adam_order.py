"""Adam in another order: the gradient is divided before it enters the momentum.

laprop    by the root mean square with this gradient in it
adopt     by the root mean square without it, clipped
acprop    by the deviation without it; no momentum in the update
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.optimizers.adam import Moments, corrections
from gradtx.optimizers.decoupled import descending
from gradtx.rule import Hyper, HyperField, Rule, Square, Step
from gradtx.struct import within
from gradtx.transform import GradientTransformation
from gradtx.tree import abs2, modulus, not_begun, one_minus_power, real_zeros_like, root


class scale_by_laprop(Rule):
    """Momentum of divided gradients: mu = b1 mu + (1 - b1) g / (sqrt(nu^) + eps), u = mu^.

    Ziyin, Wang & Ueda 2020, 2002.04839. Differs from the authors' code, which keeps the learning
    rate inside mu: equal while it is constant.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of nu
    eps: HyperField = within("(0, inf)", default=1e-15)  # added to the root

    Slots = Moments

    shared = corrections

    def update_leaf(self, g: Array, slots: Moments, p: Array, step: Step) -> tuple[Array, Moments]:
        c1, c2 = step.shared
        nu = self.b2 * slots.nu + (1 - self.b2) * abs2(g)
        mu = self.b1 * slots.mu + (1 - self.b1) * (g / (root(nu / c2) + self.eps))
        return mu / c1, Moments(mu, nu)


class scale_by_adopt(Rule):
    """Momentum of gradients divided by the root mean square of those before, clipped.

    mu = b1 mu + (1 - b1) clip(g / max(sqrt(nu), eps), (t - 1)^clip_power), u = mu, and only then
    nu = b2 nu + (1 - b2) |g|^2. The first step moves nothing and sets nu = |g|^2.
    Taniguchi+ 2024, 2411.02853. A complex quotient keeps its direction: its modulus is clipped.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    b2: HyperField = within("[0, 1)", default=0.9999)  # decay of nu
    eps: HyperField = within("(0, inf)", default=1e-6)  # the least that is divided by
    _: KW_ONLY
    clip_power: HyperField = within("(0, inf)", default=0.25)  # the power of t - 1 that clips

    class Slots(NamedTuple):
        mu: Array
        nu: Square
        begun: Array  # 0 before the first step of this array, then 1

    def init_leaf(self, p: Array) -> Slots:
        return self.Slots(jnp.zeros_like(p), real_zeros_like(p), not_begun(p))

    def shared(self, t: Array) -> Array:
        return jnp.maximum(t - 1, 1) ** self.clip_power

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        limit, b2 = slots.begun * step.shared, slots.begun * self.b2
        divided = _clipped(g / jnp.maximum(root(slots.nu), self.eps), limit)
        mu = self.b1 * slots.mu + (1 - self.b1) * divided
        nu = b2 * slots.nu + (1 - b2) * abs2(g)
        return mu, self.Slots(mu, nu, jnp.ones_like(slots.begun))


def _clipped(x: Array, limit: Array) -> Array:
    if not jnp.iscomplexobj(x):
        return jnp.clip(x, -limit, limit)
    size = modulus(x)
    return x * jnp.where(size > limit, limit / jnp.where(size > limit, size, 1), 1)


class scale_by_acprop(Rule):
    """Gradients divided by the root mean square error of predictions: u = g / (sqrt(nu^) + eps).

    Only then nu = b2 nu + (1 - b2) |g - mu|^2 + eps and mu = b1 mu + (1 - b1) g, both from before;
    the first step is u = g. Zhuang+ 2021, 2110.05454. Differs from the authors' code, which takes
    the error against the new mu: b1 times this one. Its eps is 1e-16 unless one passes 1e-8, as
    they do for images: with it, the second step of a parameter without a first is g / 1e-8.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of nu
    # Added to the root, and to nu at every step.
    eps: HyperField = within("(0, inf)", default=1e-8)

    Slots = Moments

    def shared(self, t: Array) -> Array:
        return one_minus_power(self.b2, jnp.maximum(t - 1, 1))

    def update_leaf(self, g: Array, slots: Moments, p: Array, step: Step) -> tuple[Array, Moments]:
        # After the first step of an array no nu is below eps.
        denominator = jnp.where(slots.nu > 0, root(slots.nu / step.shared) + self.eps, 1)
        nu = self.b2 * slots.nu + ((1 - self.b2) * abs2(g - slots.mu) + self.eps)
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        return g / denominator, Moments(mu, nu)


def laprop(
    learning_rate: Hyper, *, b1: Hyper = 0.9, b2: Hyper = 0.999, eps: Hyper = 1e-15
) -> GradientTransformation:
    """LaProp: `scale_by_laprop`, then the learning rate (4e-4 in the paper)."""
    return descending(scale_by_laprop(b1, b2=b2, eps=eps), learning_rate)


def adopt(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.9999,
    eps: Hyper = 1e-6,
    *,
    clip_power: Hyper = 0.25,
) -> GradientTransformation:
    """ADOPT: `scale_by_adopt`, then the learning rate."""
    return descending(scale_by_adopt(b1, b2, eps, clip_power=clip_power), learning_rate)


def acprop(
    learning_rate: Hyper, b1: Hyper = 0.9, b2: Hyper = 0.999, eps: Hyper = 1e-8
) -> GradientTransformation:
    """ACProp: `scale_by_acprop`, then the learning rate."""
    return descending(scale_by_acprop(b1, b2, eps), learning_rate)
