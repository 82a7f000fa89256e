"""Step sizes from the distance travelled so far, in the place of a learning rate.

What the gradient is multiplied by tells them apart, with r the largest |x - x0| so far:

    dog     r / sqrt(sum of |g|^2)
    ldog    the same, every array with its own r and sum
    dowg    r^2 / sqrt(sum of r^2 |g|^2)

The learning rate is 1, or a schedule that falls from 1. Distances and sums are kept in float32 or
wider whatever the dtype of the parameters. `prodigy` and `dadapt_adamw` are in `estimate.py`.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from gradtx.axes import unstacked_axes
from gradtx.hyper import AxesField, AxesOf
from gradtx.optimizers.decoupled import descending
from gradtx.rule import Copy, Hyper, HyperField, JointRule, Rule, Square, Step
from gradtx.struct import within
from gradtx.transform import GradientTransformation
from gradtx.tree import abs2, real_zeros_like, root


class DogSlots(NamedTuple):
    x0: Copy


class scale_by_dog(JointRule):
    """Multiplies by distance over gradients: u = r / sqrt(G + eps) g.

    r = max(r, ||x - x0||), from reps_rel (1 + ||x0||) on; G = G + ||g||^2, norms over all arrays.
    Ivgi, Hinder & Carmon 2023, 2302.12022. Evaluate the model with an average of its parameters.
    """

    # The first distance, relative to 1 + ||x0||; 1e-4 with batch norm.
    reps_rel: HyperField = within("(0, inf)", default=1e-6)
    _: KW_ONLY
    eps: HyperField = within("(0, inf)", default=1e-8)

    Slots = DogSlots

    class Globals(NamedTuple):
        max_dist: Array
        sum_of_squares: Array

    class Sums(NamedTuple):
        distance: Array  # |x - x0|^2
        gradient: Array  # |g|^2
        parameter: Array  # |x|^2 at the first step, then zero

    cut: ClassVar[bool | None] = True
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def prepare(self, globals_: Globals, t: Array) -> Array:
        return t

    def measure_leaf(self, g: Array, slots: DogSlots, p: Array, known: Array) -> Sums:
        size = lax.cond(known == 1, lambda p: jnp.sum(abs2(p)), lambda p: jnp.zeros_like(known), p)
        return self.Sums(jnp.sum(abs2(p - slots.x0)), jnp.sum(abs2(g)), size)

    def decide(
        self, sums: Sums, globals_: Globals, t: Array, **extra: Any
    ) -> tuple[Globals, Array]:
        start = self.reps_rel * (1 + root(sums.parameter))
        least = jnp.where(t == 1, start, globals_.max_dist)
        distance = jnp.maximum(least, root(sums.distance))
        total = globals_.sum_of_squares + sums.gradient
        return self.Globals(distance, total), distance / root(total + self.eps)


class scale_by_ldog(Rule):
    """`scale_by_dog` for every array alone: L-DoG of the same paper (section 3.3).

    With `axes` every matrix of a stack is on its own.
    """

    # The first distance, relative to 1 + ||x0||; 1e-4 with batch norm.
    reps_rel: HyperField = within("(0, inf)", default=1e-6)
    _: KW_ONLY
    eps: HyperField = within("(0, inf)", default=1e-8)
    axes: AxesField = None  # which axes are stacked; None: none

    class Slots(NamedTuple):
        x0: Copy
        max_dist: Array
        sum_of_squares: Square

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_leaf(self, p: Array) -> Slots:
        zeros = jnp.sum(real_zeros_like(p), unstacked_axes(self.axes, p.ndim))
        return self.Slots(p, zeros, zeros)

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        axes = unstacked_axes(self.axes, p.ndim)
        start = self.reps_rel * (1 + root(jnp.sum(abs2(p), axes)))
        least = jnp.where(slots.max_dist > 0, slots.max_dist, start)
        distance = jnp.maximum(least, root(jnp.sum(abs2(p - slots.x0), axes)))
        total = slots.sum_of_squares + jnp.sum(abs2(g), axes)
        factor = jnp.expand_dims(distance / root(total + self.eps), axes)
        return factor * g, self.Slots(slots.x0, distance, total)


class scale_by_dowg(JointRule):
    """Multiplies by distance over weighted gradients: u = r / (sqrt(v) + eps) g.

    r = max(r, ||x - x0||^2), v = v + r ||g||^2. Khaled, Mishchenko & Jin 2023, 2305.16284. Differs
    from the paper in eps, which the authors' code has.
    """

    init_estim_sq_dist: HyperField = within("(0, inf)", default=1e-4)  # r before the first step
    _: KW_ONLY
    eps: HyperField = within("(0, inf)", default=1e-4)

    Slots = DogSlots

    class Globals(NamedTuple):
        estim_sq_dist: Array
        weighted_sum: Array

    class Sums(NamedTuple):
        distance: Array  # |x - x0|^2
        gradient: Array  # |g|^2

    cut: ClassVar[bool | None] = True
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_globals(self) -> Globals:
        return self.Globals(self.init_estim_sq_dist, 0.0)  # pyright: ignore[reportArgumentType]

    def measure_leaf(self, g: Array, slots: DogSlots, p: Array, known: Any) -> Sums:
        return self.Sums(jnp.sum(abs2(p - slots.x0)), jnp.sum(abs2(g)))

    def decide(
        self, sums: Sums, globals_: Globals, t: Array, **extra: Any
    ) -> tuple[Globals, Array]:
        distance = jnp.maximum(globals_.estim_sq_dist, sums.distance)
        total = globals_.weighted_sum + distance * sums.gradient
        return self.Globals(distance, total), distance / (root(total) + self.eps)


# Optimizers ------------------------------------------------------------------------------------


def dog(
    learning_rate: Hyper = 1.0, reps_rel: Hyper = 1e-6, eps: Hyper = 1e-8
) -> GradientTransformation:
    """DoG: `scale_by_dog`, then the learning rate."""
    return descending(scale_by_dog(reps_rel, eps=eps), learning_rate)


def ldog(
    learning_rate: Hyper = 1.0, *, reps_rel: Hyper = 1e-6, eps: Hyper = 1e-8, axes: AxesOf = None
) -> GradientTransformation:
    """L-DoG: `scale_by_ldog`, then the learning rate."""
    return descending(scale_by_ldog(reps_rel, eps=eps, axes=axes), learning_rate)


def dowg(
    learning_rate: Hyper = 1.0, init_estim_sq_dist: Hyper = 1e-4, eps: Hyper = 1e-4
) -> GradientTransformation:
    """DoWG: `scale_by_dowg`, then the learning rate."""
    return descending(scale_by_dowg(init_estim_sq_dist, eps=eps), learning_rate)
