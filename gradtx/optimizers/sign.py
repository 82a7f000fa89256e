"""Steps whose size the gradient does not set: only its sign counts.

What the sign is taken of tells them apart, with m a moving average of g:

    sign_sgd    g
    signum      m
    tiger       m, and decay of the parameters
    lion        b1 m + (1 - b1) g with the m of the step before, and decay of the parameters
    rprop       g, with a step size for every entry that grows while the sign lasts

The sign of a complex entry is its phase, z / |z|.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.optimizers.decoupled import decoupled, descending, turned
from gradtx.paths import Labels
from gradtx.rule import Hyper, HyperField, Rule, Step
from gradtx.struct import within
from gradtx.transform import GradientTransformation
from gradtx.tree import abs2, real_zeros_like


class scale_by_sign(Rule):
    """Replaces every entry by its sign: -1, 0 or 1 (Bernstein+ 2018, 1802.04434)."""

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return jnp.sign(g), slots


class scale_by_signum(Rule):
    """The sign of the momentum: mu = b1 mu + (1 - b1) g, u = sign(mu).

    Bernstein+ 2018, 1802.04434.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu

    class Slots(NamedTuple):
        mu: Array

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        return jnp.sign(mu), self.Slots(mu)


class scale_by_lion(Rule):
    """The sign between momentum and gradient: u = sign(b1 mu + (1 - b1) g), with the old mu.

    Then mu = b2 mu + (1 - b2) g. Chen+ 2023, 2302.06675.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # weight of mu in the update
    b2: HyperField = within("(0, 1)", default=0.99)  # decay of mu

    class Slots(NamedTuple):
        mu: Array

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        mu = self.b2 * slots.mu + (1 - self.b2) * g
        # b2 times the published sum, from the new mu: a donated buffer needs no copy.
        return jnp.sign(self.b1 * mu + (self.b2 - self.b1) * g), self.Slots(mu)


class scale_by_rprop(Rule):
    """A step size d of its own for every entry, by the sign of the product with the last gradient.

    From d = learning_rate it grows by eta_plus while the sign lasts; where it changes d shrinks by
    eta_minus and g counts as zero, also for the next step: u = sign(g) d. Riedmiller & Braun 1993
    in the form iRprop-, as PyTorch. Differs from Optax, which returns the update before this one.
    The direction of complex entries lasts while the real part of the product is positive. Here
    alone a negative learning rate is refused: it is a size, and the sizes keep their bounds.
    """

    learning_rate: HyperField = within("[0, inf)")  # if it moves, all step sizes move in proportion
    eta_minus: HyperField = within("(0, 1]", default=0.5)
    eta_plus: HyperField = within("[1, inf)", default=1.2)
    min_step_size: HyperField = within("[0, inf)", default=1e-6)
    max_step_size: HyperField = within("(0, inf]", default=50.0)

    class Slots(NamedTuple):
        step_sizes: Array  # in units of twice the learning rate
        # Of the gradient before, zero where they had changed, twice that while they last.
        signs: Array

    def check(self) -> None:
        self.require_order("min_step_size", "max_step_size")

    def init_leaf(self, p: Array) -> Slots:
        return self.Slots(real_zeros_like(p) + 0.5, jnp.zeros_like(p))

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        sign = jnp.sign(g)
        agreement = jnp.real(sign * jnp.conj(slots.signs))
        signs = jnp.where(agreement < 0, 0, jnp.where(agreement > 0, 2, 1) * sign)
        # Step sizes follow from the new signs alone, and are written as old plus change: so XLA
        # finds the update from the new ones, and the old buffer needs no copy.
        changed = jnp.where((signs == 0) & (sign != 0), self.eta_minus, 1)
        factor = jnp.where(abs2(signs) > 2, self.eta_plus, changed)
        old, rate = slots.step_sizes, 2 * self.learning_rate
        unit = jnp.maximum(rate, 1e-30)
        new = jnp.clip(old * factor, self.min_step_size / unit, self.max_step_size / unit)
        d = old + (new - old)
        return jnp.sign(signs) * (rate * d), self.Slots(d, signs)


def sign_sgd(learning_rate: Hyper) -> GradientTransformation:
    """signSGD: `scale_by_sign`, then the learning rate."""
    return descending(scale_by_sign(), learning_rate)


def signum(learning_rate: Hyper, b1: Hyper = 0.9) -> GradientTransformation:
    """Signum: `scale_by_signum`, then the learning rate."""
    return descending(scale_by_signum(b1), learning_rate)


def lion(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.99,
    *,
    weight_decay: Hyper = 1e-3,
    mask: Labels | None = None,
) -> GradientTransformation:
    """Lion: `scale_by_lion`, decoupled weight decay, learning rate (1e-4 in the paper).

    The decay is usually 3 to 10 times that of AdamW, the learning rate as much smaller.
    """
    return decoupled(scale_by_lion(b1, b2), learning_rate, weight_decay, mask)


def tiger(
    learning_rate: Hyper,
    *,
    b1: Hyper = 0.965,
    weight_decay: Hyper = 0.01,
    mask: Labels | None = None,
) -> GradientTransformation:
    """Tiger, Lion with b2 = b1: `scale_by_signum`, decoupled weight decay, learning rate.

    Su 2023 (kexue.fm/archives/9512).
    """
    return decoupled(scale_by_signum(b1), learning_rate, weight_decay, mask)


def rprop(
    learning_rate: Hyper,
    eta_minus: Hyper = 0.5,
    eta_plus: Hyper = 1.2,
    min_step_size: Hyper = 1e-6,
    max_step_size: Hyper = 50.0,
) -> GradientTransformation:
    """Rprop for full batches: `scale_by_rprop` downhill; the learning rate is its first step."""
    return turned(scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size))
