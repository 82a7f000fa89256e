"""Momentum: a decaying sum of the updates so far."""

from __future__ import annotations

from typing import NamedTuple

from jax import Array

from gradtx.rule import HyperField, Rule, Step
from gradtx.struct import static, within


class scale_by_momentum(Rule):
    """Adds a decaying sum of past gradients: b = g + decay b, u = b.

    With `nesterov` u = g + decay b, the look-ahead form of Sutskever+ 2013 (PMLR 28). Polyak 1964.
    Differs from Keras, which keeps the learning rate inside b: equal while it is constant.
    """

    decay: HyperField = within("[0, 1]", default=0.9)
    nesterov: bool = static(default=False)

    class Slots(NamedTuple):
        trace: Array

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        trace = g + self.decay * slots.trace
        return (g + self.decay * trace if self.nesterov else trace), self.Slots(trace)
