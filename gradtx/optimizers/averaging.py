"""Steps found from all gradients since the start, or from the last two.

What is stepped to or along tells them apart (x0 is the start):

    madgrad                       towards x0 - sum of sqrt(t) g / cbrt(sum of sqrt(t) |g|^2)
    cocob                         to x0 - a bet on the sum of g, every entry with its own wealth
    optimistic_gradient_descent   along 2 g - g of the step before
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.optimizers.decoupled import descending, turned
from gradtx.rule import Copy, Hyper, HyperField, Rule, Square, Step
from gradtx.struct import within
from gradtx.transform import GradientTransformation
from gradtx.tree import abs2, cube_root, modulus, not_begun, real_zeros_like, root


class scale_by_madgrad(Rule):
    """Dual averaging with cube roots: u = (1 - momentum) (p - z), z = x0 - s / (cbrt(nu) + eps).

    With l = (learning_rate + eps) sqrt(t): s = s + l g, nu = nu + l |g|^2. Defazio & Jelassi 2021,
    2101.11075. The learning rate is in here because it weighs the sums.
    """

    learning_rate: HyperField = 1e-2
    momentum: HyperField = within("[0, 1)", default=0.9)
    eps: HyperField = within("(0, inf)", default=1e-6)

    class Slots(NamedTuple):
        x0: Copy
        s: Array
        nu: Square

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def shared(self, t: Array) -> Array:
        return (self.learning_rate + self.eps) * root(t)

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        s = slots.s + step.shared * g
        nu = slots.nu + step.shared * abs2(g)
        u = (1 - self.momentum) * (p - slots.x0 + s / (cube_root(nu) + self.eps))
        return u, self.Slots(slots.x0, s, nu)


class scale_by_cocob(Rule):
    """Bets on the sign of every entry: u = p - w, w = x0 - s (L + R) / (L max(G + L, alpha L)).

    L = max(L, |g|), G = G + |g|, R = max(R - g (p - x0), 0), s = s + g. Orabona & Tommasi 2017,
    1705.07795, Algorithm 2 (COCOB-Backprop). It does not see the scale of gradients.
    """

    alpha: HyperField = within("(0, inf)", default=100.0)
    eps: HyperField = within("(0, inf)", default=1e-8)  # L before the first step

    class Slots(NamedTuple):
        x0: Copy
        s: Array
        largest: Square
        total: Square
        reward: Array

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_leaf(self, p: Array) -> Slots:
        zeros = real_zeros_like(p)
        return self.Slots(p, jnp.zeros_like(p), zeros + self.eps, zeros, zeros)

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        size, moved = modulus(g), p - slots.x0
        gain = (jnp.conj(g) * moved).real if jnp.iscomplexobj(g) else g * moved
        largest = jnp.maximum(slots.largest, size)
        total = slots.total + size
        reward = jnp.maximum(slots.reward - gain, 0)
        s = slots.s + g
        tiny = jnp.finfo(total.dtype).tiny
        wealth = 1 + reward / jnp.maximum(largest, tiny)
        bet = s * wealth / jnp.maximum(jnp.maximum(total + largest, self.alpha * largest), tiny)
        return moved + bet, self.Slots(slots.x0, s, largest, total, reward)


class scale_by_optimistic_gradient(Rule):
    """Looks ahead by the last change of the gradient: u = (alpha + beta) g - beta previous g.

    At the first step the previous gradient is g. Popov 1980; Mokhtari, Ozdaglar & Pattathil 2019,
    1901.08511 (the general form, with alpha and beta).
    """

    alpha: HyperField = 1.0
    beta: HyperField = 1.0

    class Slots(NamedTuple):
        previous: Array
        begun: Array  # 0 before the first step of this array, then 1

    def init_leaf(self, p: Array) -> Slots:
        return self.Slots(jnp.zeros_like(p), not_begun(p))

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        u = self.alpha * g + self.beta * slots.begun * (g - slots.previous)
        return u, self.Slots(g, jnp.ones_like(slots.begun))


def madgrad(
    learning_rate: Hyper = 1e-2, momentum: Hyper = 0.9, *, eps: Hyper = 1e-6
) -> GradientTransformation:
    """MADGRAD: `scale_by_madgrad`, which has the learning rate, with its sign turned.

    Differs from Optax in that eps is given by name: there the decay stands in its place.
    """
    return turned(scale_by_madgrad(learning_rate, momentum, eps))


def cocob(
    learning_rate: Hyper = 1.0, alpha: Hyper = 100.0, eps: Hyper = 1e-8
) -> GradientTransformation:
    """COCOB: `scale_by_cocob`, then the learning rate, the part of the way to the bet.

    Differs from Optax, which scales the gradients by it: that changes nothing but eps.
    """
    return descending(scale_by_cocob(alpha, eps), learning_rate)


def optimistic_gradient_descent(
    learning_rate: Hyper, alpha: Hyper = 1.0, beta: Hyper = 1.0
) -> GradientTransformation:
    """Optimistic gradient descent: `scale_by_optimistic_gradient`, then the learning rate."""
    return descending(scale_by_optimistic_gradient(alpha, beta), learning_rate)
