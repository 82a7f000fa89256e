"""The Adam line: momentum divided by what tells how large gradients are, both bias-corrected.

adam      mu^ / (sqrt(nu^) + eps)
nadam     the momentum as it will be at the next step in the place of mu^
adamax    the largest decayed |g| so far in the place of sqrt(nu^)
...w      the same plus weight_decay p: decay that the division does not touch
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.optimizers.decoupled import decoupled, descending
from gradtx.paths import Labels
from gradtx.rule import Hyper, HyperField, Rule, Square, Step
from gradtx.struct import within
from gradtx.transform import GradientTransformation
from gradtx.tree import abs2, modulus, one_minus_power, over, real_dtype, real_zeros_like, root


class Moments(NamedTuple):
    mu: Array
    nu: Square


def moments(rule: Any, g: Array, old: Any) -> Moments:
    """The moving averages of g and |g|^2, with the decays b1 and b2 of a rule."""
    mu = rule.b1 * old.mu + (1 - rule.b1) * g
    return Moments(mu, rule.b2 * old.nu + (1 - rule.b2) * abs2(g))


def corrections(self: Any, t: Array) -> tuple[Array, Array]:
    """What corrects the bias of both, which start at zero: they are divided by 1 - b^t."""
    return one_minus_power(self.b1, t), one_minus_power(self.b2, t)


class scale_by_adam(Rule):
    """Momentum over root mean square: u = mu^ / (sqrt(nu^ + eps_root) + eps).

    mu = b1 mu + (1 - b1) g, nu = b2 nu + (1 - b2) |g|^2, mu^ = mu / (1 - b1^t), nu^ likewise.
    Kingma & Ba 2014, 1412.6980, Algorithm 1. Differs from TensorFlow and Keras, which add eps to
    the uncorrected root.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of nu
    eps: HyperField = within("[0, inf)", default=1e-8)  # added to the root
    eps_root: HyperField = within("[0, inf)", default=0.0)  # added under the root

    Slots = Moments

    shared = corrections

    def update_leaf(self, g: Array, slots: Moments, p: Array, step: Step) -> tuple[Array, Moments]:
        mu, nu = moments(self, g, slots)
        c1, c2 = step.shared
        return over(mu / c1, root(nu / c2 + self.eps_root) + self.eps), Moments(mu, nu)


class scale_by_nadam(Rule):
    """Adam whose momentum looks one step ahead, as that of Nesterov does.

    mu^ = b1 mu / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t). Dozat 2016 with a constant b1, the form
    of Optax; `scale_by_warmed_nadam` has the one in which the momentum grows.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of nu
    eps: HyperField = within("[0, inf)", default=1e-8)  # added to the root
    eps_root: HyperField = within("[0, inf)", default=0.0)  # added under the root

    Slots = Moments

    def shared(self, t: Array) -> tuple[Array, Array, Array]:
        ahead = self.b1 / one_minus_power(self.b1, t + 1)
        return ahead, (1 - self.b1) / one_minus_power(self.b1, t), one_minus_power(self.b2, t)

    def update_leaf(self, g: Array, slots: Moments, p: Array, step: Step) -> tuple[Array, Moments]:
        mu, nu = moments(self, g, slots)
        ahead, now, c2 = step.shared
        denominator = root(nu / c2 + self.eps_root) + self.eps
        return over(ahead * mu + now * g, denominator), Moments(mu, nu)


class scale_by_warmed_nadam(Rule):
    """NAdam whose momentum grows: m_t = b1 (1 - 0.96^(t momentum_decay) / 2).

    mu^ = m_(t+1) mu / (1 - m_1 ... m_(t+1)) + (1 - m_t) g / (1 - m_1 ... m_t), the rest as in
    `scale_by_nadam`. Dozat 2016, the form of PyTorch; Keras has momentum_decay = 1.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu, and where m_t ends
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of nu
    eps: HyperField = within("[0, inf)", default=1e-8)  # added to the root
    eps_root: HyperField = within("[0, inf)", default=0.0)  # added under the root
    momentum_decay: HyperField = within("[0, inf)", default=4e-3)  # how fast m_t grows

    class Slots(NamedTuple):
        mu: Array
        nu: Square
        reached: Array  # 1 - m_1 m_2 ... m_t, one number

    def init_leaf(self, p: Array) -> Slots:
        return self.Slots(jnp.zeros_like(p), real_zeros_like(p), jnp.zeros((), real_dtype(p.dtype)))

    def shared(self, t: Array) -> tuple[Array, Array, Array]:
        def m(t: Array) -> Array:
            return self.b1 * (1 - 0.5 * jnp.exp(t * self.momentum_decay * math.log(0.96)))

        return m(t), m(t + 1), one_minus_power(self.b2, t)

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        now, ahead, c2 = step.shared
        mu, nu = moments(self, g, slots)
        # Not as a difference from one, which would lose digits at first.
        reached = now * slots.reached + (1 - now)
        to_come = ahead * reached + (1 - ahead)
        numerator = (ahead / to_come) * mu + ((1 - now) / reached) * g
        denominator = root(nu / c2 + self.eps_root) + self.eps
        return over(numerator, denominator), self.Slots(mu, nu, reached)


class scale_by_adamax(Rule):
    """Momentum over the largest decayed gradient: nu = max(b2 nu, |g| + eps), u = mu^ / nu.

    Kingma & Ba 2014, 1412.6980, section 7.1, with eps where PyTorch and Optax have it. Differs from
    Keras, which adds it to nu.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of nu
    eps: HyperField = within("(0, inf)", default=1e-8)  # added to |g|

    Slots = Moments

    def shared(self, t: Array) -> Array:
        return one_minus_power(self.b1, t)

    def update_leaf(self, g: Array, slots: Moments, p: Array, step: Step) -> tuple[Array, Moments]:
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        nu = jnp.maximum(self.b2 * slots.nu, modulus(g) + self.eps)
        return (mu / step.shared) / nu, Moments(mu, nu)


def adam(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
) -> GradientTransformation:
    """Adam: `scale_by_adam`, then the learning rate (1e-3 in the paper)."""
    return descending(scale_by_adam(b1, b2, eps, eps_root), learning_rate)


def adamw(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    *,
    weight_decay: Hyper = 1e-4,
    mask: Labels | None = None,
) -> GradientTransformation:
    """AdamW: `scale_by_adam`, decoupled weight decay, learning rate (1711.05101).

    `mask` tells which arrays decay, in the forms that `masked` takes, such as "*/kernel".
    Differs from PyTorch in the default decay, which there is 1e-2.
    """
    return decoupled(scale_by_adam(b1, b2, eps, eps_root), learning_rate, weight_decay, mask)


def _nadam(
    b1: Hyper, b2: Hyper, eps: Hyper, eps_root: Hyper, momentum_decay: Hyper | None
) -> GradientTransformation:
    if momentum_decay is None:
        return scale_by_nadam(b1, b2=b2, eps=eps, eps_root=eps_root)
    return scale_by_warmed_nadam(
        b1, b2=b2, eps=eps, eps_root=eps_root, momentum_decay=momentum_decay
    )


def nadam(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    *,
    momentum_decay: Hyper | None = None,
) -> GradientTransformation:
    """NAdam: `scale_by_nadam`, then the learning rate.

    With a `momentum_decay` it is `scale_by_warmed_nadam`: 4e-3 gives that of PyTorch.
    """
    return descending(_nadam(b1, b2, eps, eps_root, momentum_decay), learning_rate)


def nadamw(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    *,
    weight_decay: Hyper = 1e-4,
    mask: Labels | None = None,
    momentum_decay: Hyper | None = None,
) -> GradientTransformation:
    """NAdam with decoupled weight decay; `mask` as in `adamw`, `momentum_decay` as in `nadam`."""
    direction = _nadam(b1, b2, eps, eps_root, momentum_decay)
    return decoupled(direction, learning_rate, weight_decay, mask)


def adamax(
    learning_rate: Hyper, b1: Hyper = 0.9, b2: Hyper = 0.999, eps: Hyper = 1e-8
) -> GradientTransformation:
    """AdaMax: `scale_by_adamax`, then the learning rate (2e-3 in the paper)."""
    return descending(scale_by_adamax(b1, b2, eps), learning_rate)


def adamaxw(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 1e-4,
    mask: Labels | None = None,
) -> GradientTransformation:
    """AdaMax with decoupled weight decay; `mask` as in `adamw`."""
    return decoupled(scale_by_adamax(b1, b2, eps), learning_rate, weight_decay, mask)
