"""Decay of the parameters: links for the place between an algorithm and the learning rate.

What is added to the direction tells them apart, with w = weight_decay and lr the learning rate:

    add_decayed_weights    w p                      shrinks by lr w
    add_cautious_decay     w p where u p > 0        only where the step shrinks |p| anyway
    add_independent_decay  w p / peak               shrinks by w lr / peak
    add_corrected_decay    w p lr / peak            shrinks by w lr^2 / peak
    add_decay_to_start     w (p - start)            towards where training began
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.paths import Labels, only_where
from gradtx.rule import Copy, Hyper, HyperField, Rule, Step
from gradtx.struct import within
from gradtx.tree import not_begun, same_direction


class add_decayed_weights(Rule):
    """Adds the parameters: u = g + weight_decay p.

    Before an algorithm it is l2 regularisation, after it (and before the learning rate) decoupled
    weight decay (Loshchilov & Hutter 2017, 1711.05101). `mask`, in any form that `masked` takes,
    tells which arrays decay; with it `weight_decay` is 0 for the others, as with
    `add_decayed_weights(by_path({"*/bias": 0.0, "*": 1e-4}))`. Differs from Optax in the default,
    which is 0 there.
    """

    weight_decay: HyperField = within("[0, inf)", default=1e-4)

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def __init__(self, weight_decay: Hyper = 1e-4, mask: Labels | None = None) -> None:
        object.__setattr__(self, "weight_decay", only_where(mask, weight_decay))
        self.__post_init__()

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return g + self.weight_decay * p, slots


class add_cautious_decay(Rule):
    """Decays only entries that the step already shrinks: u = g + weight_decay p where g p > 0.

    Chen+ 2025, 2510.12402. It stands before the learning rate, like `add_decayed_weights`, and
    takes the same `weight_decay`.
    """

    weight_decay: HyperField = within("[0, inf)", default=1e-4)

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return g + jnp.where(same_direction(g, p), self.weight_decay * p, 0), slots


class add_independent_decay(Rule):
    """Decay whose size does not depend on the peak of the learning rate: u = g + w p / peak.

    Multiplied by the learning rate it shrinks p by w lr / peak: the schedule's shape acts on it,
    the schedule's height does not. The form that Loshchilov & Hutter 2017 (1711.05101) wrote;
    others call it fully decoupled.
    """

    peak_learning_rate: HyperField = within("(0, inf)")  # the largest value of the learning rate
    _: KW_ONLY
    weight_decay: HyperField = within("[0, inf)", default=1e-5)

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return g + self.weight_decay / jnp.asarray(self.peak_learning_rate) * p, slots


class add_corrected_decay(Rule):
    """Decay for layers before a normalisation, as in AdamC: u = g + w p lr / peak.

    Multiplied by the learning rate it shrinks p by w lr^2 / peak, which holds the gradient norm
    steady while the learning rate falls. Defazio 2025, 2506.02285. Give it the learning rate of the
    chain, schedule and all.
    """

    learning_rate: HyperField
    _: KW_ONLY
    peak_learning_rate: HyperField = within("(0, inf)")  # the largest value of the learning rate
    weight_decay: HyperField = within("[0, inf)", default=1e-4)

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        share = self.learning_rate / jnp.asarray(self.peak_learning_rate)
        return g + (self.weight_decay * share) * p, slots


class add_decay_to_start(Rule):
    """Pulls towards the parameters of the first step: u = g + weight_decay (p - start).

    L2-SP, Li, Grandvalet & Davoine 2018, 1802.01483, for fine-tuning.
    """

    weight_decay: HyperField = within("[0, inf)", default=1e-2)

    class Slots(NamedTuple):
        start: Copy
        begun: Array  # 0 before the first step of this array, then 1

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_leaf(self, p: Array) -> Slots:
        return self.Slots(jnp.zeros_like(p), not_begun(p))

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        # The first step finds it, so that shapes are enough for init.
        start = jnp.where(slots.begun > 0, slots.start, p)
        u = g + self.weight_decay * (p - start)
        return u, self.Slots(start, jnp.ones_like(slots.begun))
