"""Step sizes from the squared gradients so far, without momentum of their own.

What g is divided by tells them apart, with v = sum of |g|^2 or its moving average:

    adagrad     sqrt(sum) + eps
    rmsprop     sqrt(average + eps), or sqrt(average) + eps; centred: the variance in v's place
    adadelta    sqrt(average + eps) / sqrt(average of |u|^2 + eps)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.chain import chain
from gradtx.optimizers.decoupled import descending
from gradtx.rule import Hyper, HyperField, Rule, Square, Step
from gradtx.struct import static, within
from gradtx.transform import GradientTransformation
from gradtx.transforms.momentum import scale_by_momentum
from gradtx.tree import abs2, one_minus_power, real_zeros_like, root


class scale_by_adagrad(Rule):
    """Divides by the root of the sum of squares: G = G + |g|^2, u = g / (sqrt(G) + eps).

    Duchi, Hazan & Singer 2011 (JMLR 12). Differs from Optax and Keras, which put eps inside the
    root; the same as PyTorch.
    """

    initial_accumulator_value: HyperField = within("[0, inf)", default=0.0)
    eps: HyperField = within("(0, inf)", default=1e-10)

    class Slots(NamedTuple):
        sum_of_squares: Square

    def init_leaf(self, p: Array) -> Slots:
        return self.Slots(real_zeros_like(p) + self.initial_accumulator_value)

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        total = slots.sum_of_squares + abs2(g)
        return g / (root(total) + self.eps), self.Slots(total)


def _weight_sum(self: Any, t: Array) -> Any:
    """What averages are divided by: the sum of their weights, if their bias is corrected."""
    return one_minus_power(self.decay, t) if self.bias_correction else 1


class scale_by_rms(Rule):
    """Divides by the root of the mean square: nu = decay nu + (1 - decay) |g|^2.

    u = g / sqrt(nu + eps), or g / (sqrt(nu) + eps) without `eps_in_sqrt`. Tieleman & Hinton 2012,
    lecture 6.5. Differs from PyTorch in the place of eps (give `eps_in_sqrt=False`).
    """

    decay: HyperField = within("[0, 1)", default=0.9)
    eps: HyperField = within("(0, inf)", default=1e-8)
    initial_scale: HyperField = within("[0, inf)", default=0.0)  # nu before the first step
    eps_in_sqrt: bool = static(default=True)
    bias_correction: bool = static(default=False)  # divides nu by 1 - decay^t

    class Slots(NamedTuple):
        nu: Square

    def init_leaf(self, p: Array) -> Slots:
        return self.Slots(real_zeros_like(p) + self.initial_scale)

    shared = _weight_sum

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        nu = self.decay * slots.nu + (1 - self.decay) * abs2(g)
        return g / _root_with_eps(nu / step.shared, self.eps, self.eps_in_sqrt), self.Slots(nu)


class scale_by_stddev(Rule):
    """Divides by the root of the centred mean square nu - |mu|^2 (Graves 2013, 1308.0850).

    mu = decay mu + (1 - decay) g, nu likewise of |g|^2; eps as in `scale_by_rms`. The difference,
    which rounding can make negative, is kept at zero or above.
    """

    decay: HyperField = within("[0, 1)", default=0.9)
    eps: HyperField = within("(0, inf)", default=1e-8)
    initial_scale: HyperField = within("[0, inf)", default=0.0)  # nu before the first step
    eps_in_sqrt: bool = static(default=True)
    bias_correction: bool = static(default=False)  # divides mu and nu by 1 - decay^t

    class Slots(NamedTuple):
        mu: Array
        nu: Square

    def init_leaf(self, p: Array) -> Slots:
        return self.Slots(jnp.zeros_like(p), real_zeros_like(p) + self.initial_scale)

    shared = _weight_sum

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        mu = self.decay * slots.mu + (1 - self.decay) * g
        nu = self.decay * slots.nu + (1 - self.decay) * abs2(g)
        variance = jnp.maximum(nu / step.shared - abs2(mu / step.shared), 0)
        return g / _root_with_eps(variance, self.eps, self.eps_in_sqrt), self.Slots(mu, nu)


def _root_with_eps(square: Array, eps: Array, inside: bool) -> Array:
    return root(square + eps) if inside else root(square) + eps


class scale_by_adadelta(Rule):
    """Gives the step the unit of the parameter: u = sqrt(e_x + eps) / sqrt(e_g + eps) g.

    e_g = rho e_g + (1 - rho) |g|^2 before, e_x likewise of |u|^2 after. Zeiler 2012, 1212.5701.
    """

    rho: HyperField = within("(0, 1)", default=0.95)
    eps: HyperField = within("(0, inf)", default=1e-6)

    class Slots(NamedTuple):
        e_g: Square
        e_x: Square

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        rest = 1 - self.rho
        # Kept finite, since the quotients below would turn an overflow into NaN.
        square = jnp.minimum(abs2(g), jnp.finfo(g.dtype).max / 2)
        e_g = self.rho * slots.e_g + rest * square
        denominator = e_g + self.eps
        e_x = self.rho * slots.e_x + rest * (slots.e_x + self.eps) * (square / denominator)
        # The old e_x, found from the new one: so a donated buffer is overwritten without a copy.
        r = square * (1 / denominator)
        old = (e_x - rest * self.eps * r) / (self.rho + rest * r)
        return root((old + self.eps) / denominator) * g, self.Slots(e_g, e_x)


def adagrad(
    learning_rate: Hyper, initial_accumulator_value: Hyper = 0.0, eps: Hyper = 1e-10
) -> GradientTransformation:
    """Adagrad: `scale_by_adagrad`, then the learning rate.

    Differs from Optax in the defaults: sums begin at 0 (there 0.1), and eps is 1e-10 (1e-7).
    """
    return descending(scale_by_adagrad(initial_accumulator_value, eps), learning_rate)


def rmsprop(
    learning_rate: Hyper,
    decay: Hyper = 0.9,
    eps: Hyper = 1e-8,
    initial_scale: Hyper = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Hyper | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> GradientTransformation:
    """RMSProp: `scale_by_rms` (`scale_by_stddev` if centred), momentum if any, learning rate.

    Differs from Optax, Graves and Keras, which put the learning rate before the momentum: equal
    while it is constant; the same as PyTorch.
    """
    normalize = scale_by_stddev if centered else scale_by_rms
    direction = normalize(decay, eps, initial_scale, eps_in_sqrt, bias_correction)
    if momentum is not None:
        direction = chain(direction, scale_by_momentum(momentum, nesterov))
    return descending(direction, learning_rate)


def adadelta(
    learning_rate: Hyper = 1.0, rho: Hyper = 0.95, eps: Hyper = 1e-6
) -> GradientTransformation:
    """AdaDelta: `scale_by_adadelta`, then the learning rate, which is 1 in the paper.

    Differs from Optax, whose default has no learning rate and climbs, and in rho (there 0.9).
    """
    return descending(scale_by_adadelta(rho, eps), learning_rate)
