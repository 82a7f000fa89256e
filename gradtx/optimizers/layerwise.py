"""Steps in proportion to the norm of the layer, for large batches.

What the step of a layer is in proportion to tells them apart, with r = mu^ / (sqrt(nu^) + eps):

    lars        ||p|| / (||g|| + decay ||p||)      g + decay p
    lamb        ||p|| / ||r + decay p||            r + decay p
    novograd    1 / sqrt(average of ||g||^2)       g
    fromage     ||p|| / ||g||                      g, and a shrinking that keeps the norm bounded

A layer is an array, or one of those that it stacks: `axes=Axes("bio")`.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.chain import chain
from gradtx.hyper import AxesField, AxesOf
from gradtx.optimizers.adam import scale_by_adam
from gradtx.optimizers.decoupled import descending, turned
from gradtx.paths import Labels, only_where
from gradtx.rule import Hyper, HyperField, OptionalHyperField, Rule, Square, Step
from gradtx.struct import within
from gradtx.transform import GradientTransformation
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.momentum import scale_by_momentum
from gradtx.transforms.norms import (
    block_norm,
    ratio_or_one,
    scale_by_trust_ratio,
    zero_for_each_block,
)
from gradtx.tree import norm, not_begun, root


class scale_by_lars(Rule):
    """Gives decayed gradients the norm of the layer: u = trust (g + weight_decay p).

    trust = trust_coefficient ||p|| / (||g|| + weight_decay ||p|| + eps), one where either norm is
    zero. You+ 2017, 1708.03888. Differs from Optax, which divides by ||g + weight_decay p||.
    """

    weight_decay: HyperField = within("[0, inf)", default=5e-4)
    _: KW_ONLY
    # None leaves out the trust ratio.
    trust_coefficient: OptionalHyperField = within("[0, inf)", default=1e-3)
    eps: HyperField = within("[0, inf)", default=0.0)
    axes: AxesField = None  # an `Axes` where arrays are stacked

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        decayed = g + self.weight_decay * p
        if self.trust_coefficient is None:
            return decayed, slots
        length, slope = block_norm(p, self.axes), block_norm(g, self.axes)
        both = slope + self.weight_decay * length
        trust = self.trust_coefficient * ratio_or_one(length, both + self.eps)
        return jnp.where((length == 0) | (both == 0), 1, trust) * decayed, slots


class scale_by_novograd(Rule):
    """Momentum of gradients in units of their usual norm: mu = b1 mu + (g / d + weight_decay p).

    d = nu + eps, nu^2 = b2 nu^2 + (1 - b2) ||g||^2 from nu = ||g|| at the first g; u = mu.
    Ginsburg+ 2019, 1905.11286. Differs from Optax in b1 and b2, which there are 0.9 and 0.25.
    """

    b1: HyperField = within("[0, 1)", default=0.95)  # decay of mu
    b2: HyperField = within("[0, 1)", default=0.98)  # decay of nu
    eps: HyperField = within("(0, inf)", default=1e-8)
    _: KW_ONLY
    weight_decay: HyperField = within("[0, inf)", default=0.0)
    axes: AxesField = None  # an `Axes` where arrays are stacked

    class Slots(NamedTuple):
        mu: Array
        nu: Square  # for every layer, or rather its root, which does not overflow
        begun: Array  # 0 before the first step of this array, then 1

    needs: ClassVar[tuple[str, ...]] = ("params",)
    cut: ClassVar[bool | None] = False

    def init_leaf(self, p: Array) -> Slots:
        return self.Slots(jnp.zeros_like(p), zero_for_each_block(p, self.axes), not_begun(p))

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        size = block_norm(g, self.axes)
        both = [root(self.b2) * slots.nu.reshape(size.shape), root(1 - self.b2) * size]
        nu = jnp.where(slots.begun > 0, norm(jnp.stack(both), (0,))[0], size)
        normal = g * (1 / (nu + self.eps))
        mu = self.b1 * slots.mu + (normal + self.weight_decay * p)
        return mu, self.Slots(mu, nu.reshape(slots.nu.shape), jnp.ones_like(slots.begun))


class scale_by_fromage(Rule):
    """The step that turns a layer by a fixed angle: u = (1 - c) p + c learning_rate trust g.

    c = 1 / sqrt(1 + learning_rate^2), trust = ||p|| / ||g||, one where either norm is zero: so
    p - u has at most sqrt(2) times the norm of p, and p itself where g is orthogonal to it.
    Bernstein+ 2020, 2002.03432.
    """

    learning_rate: HyperField
    _: KW_ONLY
    axes: AxesField = None  # an `Axes` where arrays are stacked

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        rate = self.learning_rate
        stretch = root(1 + rate * rate)
        trust = ratio_or_one(block_norm(p, self.axes), block_norm(g, self.axes))
        lost = (rate / stretch) * (rate / (1 + stretch))  # 1 - 1 / stretch without cancellation
        return lost * p + (rate / stretch * trust) * g, slots


def lars(
    learning_rate: Hyper,
    weight_decay: Hyper = 5e-4,
    weight_decay_mask: Labels | None = None,
    trust_coefficient: Hyper = 1e-3,
    eps: Hyper = 0.0,
    trust_ratio_mask: Labels | None = None,
    momentum: Hyper = 0.9,
    nesterov: bool = False,
    *,
    axes: AxesOf = None,
) -> GradientTransformation:
    """LARS: `scale_by_lars`, learning rate, momentum; so the rate is inside it, as published.

    The masks tell which arrays decay and which get a trust ratio: the paper spares biases and the
    parameters of normalisations. Differs from Optax in the default decay, which is 0 there.
    """
    weight_decay = only_where(weight_decay_mask, weight_decay)
    trust_coefficient = only_where(trust_ratio_mask, trust_coefficient, None)
    direction = scale_by_lars(weight_decay, trust_coefficient=trust_coefficient, eps=eps, axes=axes)
    return chain(descending(direction, learning_rate), scale_by_momentum(momentum, nesterov))


def lamb(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-6,
    eps_root: Hyper = 0.0,
    weight_decay: Hyper = 0.01,
    mask: Labels | None = None,
    *,
    axes: AxesOf = None,
) -> GradientTransformation:
    """LAMB: `scale_by_adam`, decoupled weight decay, `scale_by_trust_ratio`, learning rate.

    Differs from Optax in the default decay (none there), from Keras, which decays after the trust
    ratio, and from NVIDIA's, which clips the global norm first: chain `clip_by_global_norm(1.0)`.
    """
    decay = add_decayed_weights(only_where(mask, weight_decay))
    direction = chain(scale_by_adam(b1, b2, eps, eps_root), decay, scale_by_trust_ratio(axes=axes))
    return descending(direction, learning_rate)


def novograd(
    learning_rate: Hyper,
    b1: Hyper = 0.95,
    b2: Hyper = 0.98,
    eps: Hyper = 1e-8,
    *,
    weight_decay: Hyper = 0.0,
    axes: AxesOf = None,
) -> GradientTransformation:
    """NovoGrad: `scale_by_novograd`, then the learning rate (0.01 in the paper)."""
    return descending(
        scale_by_novograd(b1, b2, eps, weight_decay=weight_decay, axes=axes), learning_rate
    )


def fromage(learning_rate: Hyper, *, axes: AxesOf = None) -> GradientTransformation:
    """Fromage: `scale_by_fromage` downhill; the learning rate (0.01 in the paper) is an angle."""
    return turned(scale_by_fromage(learning_rate, axes=axes))
