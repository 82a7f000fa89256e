"""The arrays of a search: the base, the gradient there and the direction; the next trial."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.rule import Copy, JointRule, NormOf, Rule, Step
from gradtx.solve.box import BOUNDS, moved
from gradtx.tree import inner


class LineSlots(NamedTuple):
    base: Copy
    gradient: Array  # there
    direction: Array


class LineSums(NamedTuple):
    along: Array  # of what comes in, its inner product with the direction
    against: Array  # and with the gradient
    size: Array  # its norm


class Line(JointRule, called="LineSearch"):
    """Measures gradients and directions; its update is the next trial.

    Every search has one of its name.
    """

    Slots = LineSlots
    Sums = LineSums
    needs: ClassVar[tuple[str, ...]] = ("params",)
    wants: ClassVar[tuple[str, ...]] = BOUNDS
    trees: ClassVar[tuple[str, ...]] = BOUNDS

    def init_leaf(self, p: Array) -> LineSlots:
        return LineSlots(*(jnp.zeros_like(p) for _ in LineSlots._fields))

    def measure_leaf(self, g: Array, slots: LineSlots, p: Array, known: Any) -> LineSums:
        size: Any = NormOf(g)
        return LineSums(inner(g, slots.direction), inner(g, slots.gradient), size)

    def decide(self, sums: LineSums, globals_: Any, t: Array, **extra: Any) -> tuple[Any, Any]:
        return globals_, sums

    def update_leaf(
        self, g: Array, slots: LineSlots, p: Array, step: Step
    ) -> tuple[Array, LineSlots]:
        begun, length = step.shared
        trial = moved(slots.base, length * slots.direction, step.extra)
        return jnp.where(begun != 0, trial, moved(p, jnp.zeros_like(p), step.extra)), slots


class taken(Rule, called="LineSearch"):
    """Makes the point evaluated the base where it is accepted; its update is the gradient there."""

    Slots = LineSlots
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(
        self, g: Array, slots: LineSlots, p: Array, step: Step
    ) -> tuple[Array, LineSlots]:
        accepted = step.shared != 0
        gradient = jnp.where(accepted, g, slots.gradient)
        base = jnp.where(accepted, p, slots.base)
        return gradient, LineSlots(base, gradient, slots.direction)


class aimed_along(Rule, called="LineSearch"):
    """Makes what comes in the direction if it leads down, else the steepest descent.

    In a box it is the way to the nearest point of that.
    """

    Slots = LineSlots
    wants: ClassVar[tuple[str, ...]] = BOUNDS
    trees: ClassVar[tuple[str, ...]] = BOUNDS

    def update_leaf(
        self, g: Array, slots: LineSlots, p: Array, step: Step
    ) -> tuple[Array, LineSlots]:
        direction = jnp.where(step.shared != 0, g, -slots.gradient)
        if step.extra:
            direction = moved(slots.base, direction, step.extra) - slots.base
        return direction, slots._replace(direction=direction)
