"""Second moments in less memory than one number for every parameter.

What is remembered of |g|^2 for an n by m matrix tells them apart:

    adafactor    means over rows and over columns: n + m numbers, whose product is their estimate
    came         the same, and once more for how far the update strays from its momentum
    sm3          the largest entry of every row and column: n + m numbers, an upper bound
    adam_mini    one mean for every output: m numbers
"""

from __future__ import annotations

import functools
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from gradtx.chain import chain
from gradtx.hyper import AxesField, AxesOf
from gradtx.optimizers.adam import corrections
from gradtx.optimizers.decoupled import decoupled, descending
from gradtx.optimizers.factored_saving import by_axes, by_sides
from gradtx.optimizers.factoring import (
    Sides,
    Squares,
    mean,
    packed,
    reduced_shape,
    sides_of,
    stack_in_front,
    stack_put_back,
    stacked,
    unpacked,
    zeros_of,
)
from gradtx.paths import Labels, only_where
from gradtx.rule import Hyper, HyperField, OptionalHyperField, Rule, Square, Step
from gradtx.struct import static, within
from gradtx.transform import GradientTransformation
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.norms import scale_by_param_block_rms, unit_axes
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.tree import abs2, one_minus_power, real_dtype, real_zeros_like, root


class scale_by_factored_rms(Rule):
    """Divides by a root mean square estimated from rows and columns, then clips its RMS.

    With s = |g|^2 + eps and w = t^-decay_rate: R = (1 - w) R + w mean of s along columns, C along
    rows, V = R C / mean(R), U = g / sqrt(V), u = U / max(1, RMS(U) / clipping_threshold).
    Shazeer & Stern 2018, 1804.04235, algorithm 4. Rows and columns are the last two axes, or the
    input and the output axes of `axes`; arrays without both keep all of V. Differs from Optax,
    which takes the two largest axes (and PyTorch, which keeps s above eps instead of adding it).
    """

    _: KW_ONLY
    decay_rate: HyperField = within("[0, inf)", default=0.8)
    eps: HyperField = within("(0, inf)", default=1e-30)
    clipping_threshold: OptionalHyperField = within("(0, inf)", default=1.0)  # None does not clip
    factored: bool = static(default=True)
    factor_small: bool = static(default=True)  # False spares matrices with a side below 128
    axes: AxesField = None  # an `Axes`: stacked ones are kept apart

    cut: ClassVar[bool | None] = False  # XLA would store it between two passes

    class Slots(NamedTuple):
        means: Square  # of rows, then of columns; a zero for arrays that are not factored
        v: Square  # of arrays that are not factored; a zero for others

    def _sides(self, shape: tuple[int, ...]) -> Sides | None:
        return sides_of(self.axes, shape, self.factor_small) if self.factored else None

    def init_leaf(self, p: Array) -> Slots:
        sides = self._sides(stack_in_front(p, self.axes).shape)
        return self.Slots(*zeros_of(p, self.axes, sides))

    saved_leaf, loaded_leaf = by_sides(v="means")

    def shared(self, t: Array) -> Array:
        return t**-self.decay_rate

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        stack, g = len(stacked(self.axes, g.ndim)), stack_in_front(g, self.axes)
        sides = self._sides(g.shape)
        v = Squares.from_slots(slots.means, slots.v, g.shape, self.axes, sides)
        v = v.averaged(g, self.eps, step.shared, sides)
        u, square = v.normalized(g, sides)
        if self.clipping_threshold is not None:
            u = u * _clip_factor(square, self.clipping_threshold, stack)
        means, full = v.slots(self.axes, sides)
        return stack_put_back(u, self.axes), self.Slots(means, full)


def _clip_factor(square: Array, threshold: Array, stack: int) -> Array:
    """The factor that brings the root of the mean of `square` down to `threshold`."""
    rms = root(mean(square, tuple(range(stack, square.ndim))))
    return threshold / jnp.maximum(rms, threshold)


class scale_by_came(Rule):
    """Momentum of factored updates, divided by how far these stray from it.

    U as in `scale_by_factored_rms` but with a constant w = 1 - b2; mu = b1 mu + (1 - b1) U; S is
    the factored average, of decay b3, of |U - mu|^2 + eps_instability; u = mu / sqrt(S). Arrays
    that are not factored have u = mu. Luo+ 2023, 2307.02047, and the authors' code for vectors.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of v
    b3: HyperField = within("[0, 1)", default=0.9999)  # decay of S
    eps: HyperField = within("(0, inf)", default=1e-30)
    eps_instability: HyperField = within("(0, inf)", default=1e-16)
    clipping_threshold: HyperField = within("(0, inf)", default=1.0)
    axes: AxesField = None  # an `Axes`: stacked ones are kept apart

    cut: ClassVar[bool | None] = False  # XLA would store it between two passes

    class Slots(NamedTuple):
        mu: Array
        means: Square  # of |g|^2, as in `scale_by_factored_rms`
        v: Square
        instability: Square  # the means of |U - mu|^2

    def _sides(self, shape: tuple[int, ...]) -> Sides | None:
        return sides_of(self.axes, shape)

    saved_leaf, loaded_leaf = by_sides(v="means", instability="instability")

    def init_leaf(self, p: Array) -> Slots:
        sides = self._sides(stack_in_front(p, self.axes).shape)
        means, v = zeros_of(p, self.axes, sides)
        return self.Slots(jnp.zeros_like(p), means, v, means)

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        stack, g = len(stacked(self.axes, g.ndim)), stack_in_front(g, self.axes)
        sides = self._sides(g.shape)
        v = Squares.from_slots(slots.means, slots.v, g.shape, self.axes, sides)
        v = v.averaged(g, self.eps, 1 - self.b2, sides)
        u, square = v.normalized(g, sides)
        u = u * _clip_factor(square, self.clipping_threshold, stack)
        mu = self.b1 * stack_in_front(slots.mu, self.axes) + (1 - self.b1) * u
        back, (means, full) = stack_put_back(mu, self.axes), v.slots(self.axes, sides)
        if sides is None:
            return back, self.Slots(back, means, full, slots.instability)
        s = Squares.from_slots(slots.instability, full, g.shape, self.axes, sides)
        s = s.averaged(u - mu, self.eps_instability, 1 - self.b3, sides)
        u = stack_put_back(s.normalized(mu, sides)[0], self.axes)
        return u, self.Slots(back, means, full, s.slots(self.axes, sides)[0])


# Upper bounds -----------------------------------------------------------------------------------


def _line_shapes(shape: tuple[int, ...], stack: int) -> list[tuple[int, ...]]:
    """For each axis behind the stacked ones, the shape that has no other of them."""
    return [reduced_shape(shape, along) for along in _all_but_one(range(stack, len(shape)))]


def _all_but_one(axes: range) -> list[tuple[int, ...]]:
    return [tuple(j for j in axes if j != i) for i in axes]


class scale_by_sm3(Rule):
    """Divides by the root of a bound on the sum of squares, kept for every index of every axis.

    nu = min over axes of their bounds + |g|^2, u = g / sqrt(nu) (0 where nu is), and the new bound
    of an index is the largest nu that it takes part in. For vectors it is Adagrad. Anil+ 2019,
    1901.11150, SM3-II. Differs from Optax, which adds 1e-8 to nu.
    """

    _: KW_ONLY
    axes: AxesField = None  # an `Axes` where arrays are stacked

    class Slots(NamedTuple):
        bounds: Square  # one number for every index of every axis, one axis after the other

    saved_leaf, loaded_leaf = by_axes("bounds", _line_shapes)

    def init_leaf(self, p: Array) -> Slots:
        stack, front = len(stacked(self.axes, p.ndim)), stack_in_front(p, self.axes)
        if p.ndim - stack < 2:
            return self.Slots(real_zeros_like(p))
        shapes = _line_shapes(front.shape, stack)
        return self.Slots(packed([jnp.zeros(x, real_dtype(p.dtype)) for x in shapes], stack))

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        stack = len(stacked(self.axes, g.ndim))
        if g.ndim - stack < 2:
            nu = slots.bounds + abs2(g)
            return _over_root_or_zero(g, nu), self.Slots(nu)
        g = stack_in_front(g, self.axes)
        bounds = unpacked(slots.bounds, _line_shapes(g.shape, stack), stack)
        nu = functools.reduce(jnp.minimum, jnp.broadcast_arrays(*bounds)) + abs2(g)
        along = _all_but_one(range(stack, g.ndim))
        largest = [jnp.max(nu, axis=axes, initial=0, keepdims=True) for axes in along]
        u = stack_put_back(_over_root_or_zero(g, nu), self.axes)
        return u, self.Slots(packed(largest, stack))


def _over_root_or_zero(g: Array, nu: Array) -> Array:
    positive = nu > 0
    return jnp.where(positive, g * lax.rsqrt(jnp.where(positive, nu, 1)), 0)


# One number for a block -------------------------------------------------------------------------


class scale_by_adam_mini(Rule):
    """Adam with one nu for every block: nu = b2 nu + (1 - b2) mean over the block of |g|^2.

    A block is what feeds one output: the entries along the input axes of `axes`, or all that are
    not stacked where there is none: Axes("io") for most kernels, Axes("ibi") for queries and keys
    by heads, Axes("bo") for embeddings by rows. Without `axes` a matrix is (inputs, outputs), any
    other array one block. Zhang+ 2024, 2406.16793.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of nu
    eps: HyperField = within("(0, inf)", default=1e-8)  # added to the root
    axes: AxesField = None  # an `Axes` of inputs, outputs and stacked axes

    cut: ClassVar[bool | None] = False  # XLA would store it between two passes

    class Slots(NamedTuple):
        mu: Array
        nu: Square

    def _along(self, ndim: int) -> tuple[int, ...]:
        if self.axes is None and ndim != 2:
            return tuple(range(ndim))
        return unit_axes(self.axes, ndim, "scale_by_adam_mini")

    def init_leaf(self, p: Array) -> Slots:
        along = self._along(p.ndim)
        blocks = mean(real_zeros_like(p), along)
        # One number for a whole array is a scalar; other blocks keep the number of axes.
        shape = () if len(along) == p.ndim else blocks.shape
        return self.Slots(jnp.zeros_like(p), blocks.reshape(shape))

    shared = corrections

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        most = jnp.finfo(g.dtype).max / 4  # an infinite nu would stop all later steps
        square = jnp.minimum(mean(abs2(g), self._along(g.ndim)), most)
        nu = self.b2 * slots.nu.reshape(square.shape) + (1 - self.b2) * square
        c1, c2 = step.shared
        u = mu * (1 / (c1 * (root(nu / c2) + self.eps)))
        return u, self.Slots(mu, nu.reshape(slots.nu.shape))


class average_updates(Rule):
    """A moving average of the updates: mu = decay mu + (1 - decay) g, u = mu.

    With `debias` u = mu / (1 - decay^t), as Optax's `ema`.
    """

    decay: HyperField = within("[0, 1)", default=0.9)
    debias: bool = static(default=False)

    class Slots(NamedTuple):
        mu: Array

    def shared(self, t: Array) -> Array:
        return one_minus_power(self.decay, t)

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        mu = self.decay * slots.mu + (1 - self.decay) * g
        return mu / step.shared if self.debias else mu, self.Slots(mu)


# Optimizers -------------------------------------------------------------------------------------


class scale_by_relative_step(Rule):
    """A descent step that shrinks: u = -min(learning_rate, 1 / sqrt(t)) g, t from 1.

    Shazeer & Stern 2018, 1804.04235, section 9.
    """

    learning_rate: HyperField

    def shared(self, t: Array) -> Array:
        return lax.rsqrt(t)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return -jnp.minimum(self.learning_rate, step.shared) * g, slots


def adafactor(
    learning_rate: Hyper = 1e-2,
    *,
    decay_rate: Hyper = 0.8,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: Hyper | None = 1.0,
    momentum: Hyper | None = None,
    weight_decay: Hyper | None = None,
    mask: Labels | None = None,
    eps: Hyper = 1e-30,
    min_scale: Hyper = 1e-3,
    factored: bool = True,
    factor_small: bool = True,
    relative_step: bool = True,
    axes: AxesOf = None,
) -> GradientTransformation:
    """Adafactor: `scale_by_factored_rms`, then the size of the parameter and min(lr, 1 / sqrt(t)).

    So the paper's, and PyTorch's. T5X: `relative_step=False`, `factor_small=False` and, if wanted,
    `momentum`, an average of the updates. Differs from Optax, which has no relative step, and from
    it and T5X in the decay, which is multiplied by the learning rate, and in its place after the
    momentum (T5X: inside): equal while it is constant.
    """
    rms = scale_by_factored_rms(
        decay_rate=decay_rate,
        eps=eps,
        clipping_threshold=clipping_threshold,
        factored=factored,
        factor_small=factor_small,
        axes=axes,
    )
    parts: list[GradientTransformation] = [rms]
    if multiply_by_parameter_scale:
        parts.append(scale_by_param_block_rms(min_scale, axes=axes))
    if momentum is not None:
        parts.append(average_updates(momentum))
    if weight_decay is not None:
        parts.append(add_decayed_weights(only_where(mask, weight_decay)))
    descend = scale_by_relative_step if relative_step else scale_by_learning_rate
    return chain(*parts, descend(learning_rate))


def came(
    learning_rate: Hyper,
    *,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    b3: Hyper = 0.9999,
    eps: Hyper = 1e-30,
    eps_instability: Hyper = 1e-16,
    clipping_threshold: Hyper = 1.0,
    weight_decay: Hyper = 0.0,
    mask: Labels | None = None,
    axes: AxesOf = None,
) -> GradientTransformation:
    """CAME: `scale_by_came`, decoupled weight decay, learning rate (2e-4 in the paper)."""
    direction = scale_by_came(
        b1,
        b2=b2,
        b3=b3,
        eps=eps,
        eps_instability=eps_instability,
        clipping_threshold=clipping_threshold,
        axes=axes,
    )
    return decoupled(direction, learning_rate, weight_decay, mask)


def sm3(
    learning_rate: Hyper, momentum: Hyper = 0.9, *, axes: AxesOf = None
) -> GradientTransformation:
    """SM3: `scale_by_sm3`, an average of the updates, then the learning rate."""
    return descending(chain(scale_by_sm3(axes=axes), average_updates(momentum)), learning_rate)


def adam_mini(
    learning_rate: Hyper,
    *,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: Labels | None = None,
    axes: AxesOf = None,
) -> GradientTransformation:
    """Adam-mini: `scale_by_adam_mini`, decoupled weight decay, learning rate."""
    return decoupled(
        scale_by_adam_mini(b1, b2=b2, eps=eps, axes=axes), learning_rate, weight_decay, mask
    )
