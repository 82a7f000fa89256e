"""Adam with another divisor: what the momentum is divided by tells these apart.

amsgrad         root of the largest mean square so far
adabelief       root of the mean of |g - mu|^2: how far gradients are from what was expected
yogi            root of a mean square that moves by a part of |g|^2, however large it is
radam           root mean square, rectified: not used at first, when few squares are in it
adam_atan2      the angle between momentum and root mean square: no eps, no scale
stable_adamw    Adam's, times the root mean square of g / sqrt(nu^) where that is above one
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from gradtx.axes import unstacked_axes
from gradtx.hyper import AxesField, AxesOf
from gradtx.optimizers.adam import Moments, corrections, moments
from gradtx.optimizers.decoupled import descending
from gradtx.paths import Labels, only_where
from gradtx.rule import Hyper, HyperField, Rule, Square, Step
from gradtx.struct import static, within
from gradtx.transform import GradientTransformation
from gradtx.tree import abs2, modulus, over, real_zeros_like, root


class scale_by_amsgrad(Rule):
    """Adam whose divisor never shrinks: nu_max = max(nu_max, nu).

    Three forms are published: u = mu / (sqrt(nu_max) + eps) in the "paper" (Reddi, Kale & Kumar
    2018, 1904.09237), mu^ / (sqrt(nu_max / (1 - b2^t)) + eps) in "torch" and Keras, and
    mu^ / (sqrt(max(nu_max, nu^)) + eps) as "max_of_corrected" in Optax.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of nu
    eps: HyperField = within("[0, inf)", default=1e-8)  # added to the root
    eps_root: HyperField = within("[0, inf)", default=0.0)  # added under the root
    _: KW_ONLY
    form: str = static(default="paper", among=("paper", "torch", "max_of_corrected"))

    class Slots(NamedTuple):
        mu: Array
        nu: Square
        nu_max: Square

    def shared(self, t: Array) -> tuple[Any, Any, Any]:
        if self.form == "paper":
            return 1, 1, 1
        c1, c2 = corrections(self, t)
        return (c1, 1, c2) if self.form == "torch" else (c1, c2, 1)

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        mu, nu = moments(self, g, slots)
        c1, before, after = step.shared
        largest = jnp.maximum(slots.nu_max, nu / before)
        denominator = root(largest / after + self.eps_root) + self.eps
        return over(mu / c1, denominator), self.Slots(mu, nu, largest)


class scale_by_belief(Rule):
    """Adam with a mean square of prediction errors: nu = b2 nu + (1 - b2) |g - mu|^2 + eps_root.

    u = mu^ / (sqrt(nu^) + eps), the new mu in nu. Zhuang+ 2020, 2010.07468, which takes eps of
    1e-16 for transformers and 1e-8 otherwise.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of nu
    eps: HyperField = within("(0, inf)", default=1e-16)  # added to the root
    # Added to nu at every step, and kept there.
    eps_root: HyperField = within("[0, inf)", default=1e-16)

    Slots = Moments

    shared = corrections

    def update_leaf(self, g: Array, slots: Moments, p: Array, step: Step) -> tuple[Array, Moments]:
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        # Added in this order it is one multiply-add for XLA, which then makes no copy of nu.
        nu = self.b2 * slots.nu + ((1 - self.b2) * abs2(g - mu) + self.eps_root)
        c1, c2 = step.shared
        return (mu / c1) / (root(nu / c2) + self.eps), Moments(mu, nu)


class scale_by_yogi(Rule):
    """Adam whose mean square cannot drop fast: nu = nu - (1 - b2) sign(nu - |g|^2) |g|^2.

    u = mu / (sqrt(nu) + eps). Zaheer+ 2018 (NeurIPS), Algorithm 2. Differs from Optax, which
    corrects the bias of both (`bias_correction`) and lets mu, too, start from 1e-6.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    # One minus the part of |g|^2 by which nu moves.
    b2: HyperField = within("[0, 1)", default=0.999)
    eps: HyperField = within("(0, inf)", default=1e-3)  # added to the root
    _: KW_ONLY
    # nu before the first step.
    initial_accumulator_value: HyperField = within("[0, inf)", default=1e-6)
    bias_correction: bool = static(default=False)

    Slots = Moments

    def init_leaf(self, p: Array) -> Moments:
        return Moments(jnp.zeros_like(p), real_zeros_like(p) + self.initial_accumulator_value)

    def shared(self, t: Array) -> tuple[Any, Any]:
        return corrections(self, t) if self.bias_correction else (1, 1)

    def update_leaf(self, g: Array, slots: Moments, p: Array, step: Step) -> tuple[Array, Moments]:
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        square = abs2(g)
        nu = slots.nu - (1 - self.b2) * jnp.sign(slots.nu - square) * square
        c1, c2 = step.shared
        return (mu / c1) / (root(nu / c2) + self.eps), Moments(mu, nu)


class scale_by_radam(Rule):
    """Adam whose divisor is corrected for its variance in the first steps (rectified Adam).

    With rho = rho_inf - 2 t b2^t / (1 - b2^t) and rho_inf = 2 / (1 - b2) - 1: where rho is above
    `threshold`, u = r mu^ / (sqrt(nu^ + eps_root) + eps) with
    r^2 = (rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho), before that u = mu^.
    Liu+ 2019, 1908.03265. Differs from PyTorch and Optax, whose threshold is 5: the first
    rectified step is the sixth there, the fifth here.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    b2: HyperField = within("(0, 1)", default=0.999)  # decay of nu
    eps: HyperField = within("[0, inf)", default=1e-8)  # added to the root
    eps_root: HyperField = within("[0, inf)", default=0.0)  # added under the root
    # Of rho; below 4, where r is no number, as 4.
    threshold: HyperField = within("[0, inf)", default=4.0)

    Slots = Moments

    def shared(self, t: Array) -> tuple[Array, Array, Array, Array]:
        # rho is small at first, but a difference of two numbers in the thousands: written with
        # coth(y) - 1 / y in the place of powers of b2, no digits cancel.
        b2 = jnp.asarray(self.b2, t.dtype)
        half = -0.5 * jnp.log(b2)
        rho = t * _one_minus_langevin(t * half) + 1 - _one_minus_langevin(half)
        most = (1 + b2) / (1 - b2)
        trusted = rho > jnp.maximum(self.threshold, 4)
        rho, most = jnp.where(trusted, rho, 5), jnp.where(trusted, most, 6)
        squared = (rho - 4) / (most - 4) * ((rho - 2) / (most - 2)) * (most / rho)
        return *corrections(self, t), trusted, jnp.sqrt(squared)

    def update_leaf(self, g: Array, slots: Moments, p: Array, step: Step) -> tuple[Array, Moments]:
        mu, nu = moments(self, g, slots)
        c1, c2, trusted, r = step.shared
        denominator = root(nu / c2 + self.eps_root) + self.eps
        factor = over(jnp.where(trusted, r, 1), jnp.where(trusted, denominator, 1))
        return (mu / c1) * factor, Moments(mu, nu)


def _one_minus_langevin(y: Array) -> Array:
    """1 - (coth(y) - 1 / y) for y > 0, with all digits for small y too."""
    small = y < 0.25
    x, z = jnp.where(small, y, 0.25), jnp.where(small, 0.25, y)
    s = x * x
    series = 1382 / 638512875
    for c in (2 / 93555, 1 / 4725, 2 / 945, 1 / 45, 1 / 3):
        series = c - s * series
    return jnp.where(small, 1 - x * series, 1 / z + 2 * jnp.exp(-2 * z) / jnp.expm1(-2 * z))


class scale_by_adam_atan2(Rule):
    """The angle of momentum and root mean square: u = a atan2(mu^, b sqrt(nu^)).

    The same for gradients of any scale, and never above a pi / 2: there is no eps. For small
    angles with a = 1 it is Adam. Everett+ 2024, 2407.05872. A complex mu^ keeps its direction.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of nu
    # So that u is the sign while gradients do not change.
    a: HyperField = within("(0, inf)", default=4 / math.pi)
    b: HyperField = within("(0, inf)", default=1.0)  # what the root mean square is multiplied by

    Slots = Moments

    def shared(self, t: Array) -> tuple[Array, Array, Array]:
        # Always a, but XLA does not know that t > 0: it would multiply a constant a with the
        # learning rate, and jit would change last digits.
        a = jnp.where(t > 0, self.a, 0)
        return *corrections(self, t), a

    def update_leaf(self, g: Array, slots: Moments, p: Array, step: Step) -> tuple[Array, Moments]:
        mu, nu = moments(self, g, slots)
        c1, c2, a = step.shared
        ahead, across = mu / c1, self.b * root(nu / c2)
        across = jnp.where((across == 0) & (ahead == 0), 1, across)
        if jnp.iscomplexobj(ahead):
            size = modulus(ahead)
            angle = lax.atan2(size, across) * (ahead / jnp.where(size > 0, size, 1))
        else:
            angle = lax.atan2(ahead, across)
        return a * angle, Moments(mu, nu)


class scale_by_stable_adamw(Rule):
    """AdamW with smaller steps for an array whose gradients are larger than nu says.

    u = (mu^ / (sqrt(nu^) + eps) + weight_decay p) / max(1, rms), rms^2 = mean of |g|^2 over
    max(nu^, eps^2), taken within `axes`. Wortsman+ 2023, 2304.13013. Bias is corrected at the end,
    which for constant b1, b2 is the same as the corrected decays of the paper.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.99)  # decay of nu
    # Added to the root, and the least it counts for in rms.
    eps: HyperField = within("(0, inf)", default=1e-8)
    weight_decay: HyperField = within("[0, inf)", default=1e-2)
    axes: AxesField = None  # the stacked ones are averaged over on their own

    Slots = Moments

    needs: ClassVar[tuple[str, ...]] = ("params",)

    shared = corrections

    def update_leaf(self, g: Array, slots: Moments, p: Array, step: Step) -> tuple[Array, Moments]:
        mu, nu = moments(self, g, slots)
        c1, c2 = step.shared
        # Written otherwise than below: XLA would store a root that is used twice.
        square = abs2(g / jnp.maximum(root(nu) * (1 / root(c2)), self.eps))
        mean = jnp.mean(square, axis=unstacked_axes(self.axes, g.ndim), keepdims=True)
        u = (mu / c1) / (root(nu / c2) + self.eps) + self.weight_decay * p
        return u * (1 / jnp.maximum(root(mean), 1)), Moments(mu, nu)


def amsgrad(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    *,
    form: str = "paper",
) -> GradientTransformation:
    """AMSGrad: `scale_by_amsgrad` in one of its three forms, then the learning rate."""
    return descending(scale_by_amsgrad(b1, b2, eps, eps_root, form=form), learning_rate)


def adabelief(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-16,
    eps_root: Hyper = 1e-16,
) -> GradientTransformation:
    """AdaBelief: `scale_by_belief`, then the learning rate."""
    return descending(scale_by_belief(b1, b2, eps, eps_root), learning_rate)


def yogi(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-3,
    *,
    initial_accumulator_value: Hyper = 1e-6,
    bias_correction: bool = False,
) -> GradientTransformation:
    """Yogi: `scale_by_yogi`, then the learning rate (1e-2 in the paper)."""
    direction = scale_by_yogi(
        b1,
        b2,
        eps,
        initial_accumulator_value=initial_accumulator_value,
        bias_correction=bias_correction,
    )
    return descending(direction, learning_rate)


def radam(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    threshold: Hyper = 4.0,
) -> GradientTransformation:
    """RAdam: `scale_by_radam`, then the learning rate.

    Differs from Optax in the default threshold, which is the paper's 4 (there 5).
    """
    return descending(scale_by_radam(b1, b2, eps, eps_root, threshold), learning_rate)


def adam_atan2(
    learning_rate: Hyper,
    *,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    a: Hyper = 4 / math.pi,
    b: Hyper = 1.0,
) -> GradientTransformation:
    """Adam-atan2: `scale_by_adam_atan2`, then the learning rate."""
    return descending(scale_by_adam_atan2(b1, b2=b2, a=a, b=b), learning_rate)


def stable_adamw(
    learning_rate: Hyper,
    *,
    b1: Hyper = 0.9,
    b2: Hyper = 0.99,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 1e-2,
    mask: Labels | None = None,
    axes: AxesOf = None,
) -> GradientTransformation:
    """StableAdamW: `scale_by_stable_adamw`, decay included, then the learning rate."""
    weight_decay = only_where(mask, weight_decay)
    return descending(
        scale_by_stable_adamw(b1, b2=b2, eps=eps, weight_decay=weight_decay, axes=axes),
        learning_rate,
    )
