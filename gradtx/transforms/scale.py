"""Multiplication by a number."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

from jax import Array

from gradtx.rule import HyperField, Rule, Step
from gradtx.struct import static


class scale(Rule):
    """Multiplies the update: u = step_size g."""

    step_size: HyperField

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return self.step_size * g, slots


class scale_by_learning_rate(Rule):
    """Turns a direction into a descent step: u = -learning_rate g.

    A negative learning rate ascends, here and in every optimizer but `rprop`.
    """

    learning_rate: HyperField
    _: KW_ONLY
    flip_sign: bool = static(default=True)  # False keeps the sign: u = learning_rate g

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return (-self.learning_rate if self.flip_sign else self.learning_rate) * g, slots
