"""Norms of one array at a time: clipped, or measured against the norm of the parameter.

A block is a whole array, or one of those that it stacks: `axes=Axes("bio")`. A unit is what feeds
one output: the entries that share every index but those of the input axes.

    clip_by_block_rms            g min(1, threshold / RMS(g))                   of a block
    adaptive_grad_clip           g min(1, clipping max(||p||, eps) / ||g||)     of a unit
    scale_by_trust_ratio         g ||p|| / ||g||                                of a block
    scale_by_param_block_norm    g max(||p||, min_scale)                        of a block
    scale_by_param_block_rms     g max(RMS(p), min_scale)                       of a block
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from gradtx.axes import input_output_axes, unstacked_axes
from gradtx.hyper import AxesField
from gradtx.rule import HyperField, Rule, Step
from gradtx.struct import within
from gradtx.tree import norm, real_dtype


def block_norm(x: Array, axes: Any) -> Array:
    """The l2 norm of every block of `x`, which keeps its number of axes."""
    return norm(x, unstacked_axes(axes, x.ndim))


def block_rms(x: Array, axes: Any) -> Array:
    """The root mean square of every block of `x`, which keeps its number of axes."""
    return block_norm(x, axes) / math.sqrt(number_along(x, unstacked_axes(axes, x.ndim)))


def zero_for_each_block(x: Array, axes: Any) -> Array:
    """Real zeros, one for every block of `x`: a scalar where nothing is stacked."""
    inside = unstacked_axes(axes, x.ndim)
    stack = tuple(n for i, n in enumerate(x.shape) if i not in inside)
    return jnp.zeros(stack, real_dtype(x.dtype))


def number_along(x: Array, axes: tuple[int, ...]) -> int:
    """The number of entries along some axes, at least one."""
    return max(math.prod(x.shape[i] for i in axes), 1)


def unit_axes(axes: Any, ndim: int, owner: object) -> tuple[int, ...]:
    """The axes along which the entries of one unit lie; vectors are one unit."""
    if axes is None and ndim < 2:
        return tuple(range(ndim))
    axes = input_output_axes(axes, ndim, owner)
    return axes.of("i") or unstacked_axes(axes, ndim)


def shrinking(size: Array, most: Any) -> Array:
    """The factor that brings a norm down to `most`: one for smaller norms, none where it is inf.

    Zero where the norm is not finite: of what it scales, infinities and NaN become NaN, which
    guards see, and the rest zero. So it is for every clip of a norm, and in PyTorch and Optax.
    """
    far = size > most
    factor = jnp.where(far, most / jnp.where(far, size, 1), 1)
    return jnp.where(jnp.isfinite(size), factor, 0)


def ratio_or_one(a: Array, b: Array) -> Array:
    """a / b, but one where a norm is zero or the quotient would overflow."""
    sound = (a > 0) & (b > a / (jnp.finfo(a.dtype).max / 4))
    return jnp.where(sound, a / jnp.where(sound, b, 1), 1)


class clip_by_block_rms(Rule):
    """Scales every block down to a root mean square of at most `threshold`.

    u = g / max(1, RMS(g) / threshold), Shazeer & Stern 2018, 1804.04235. Differs from Optax in
    `axes`: a stack of layers is clipped layer by layer.
    """

    threshold: HyperField = within("(0, inf]")
    _: KW_ONLY
    axes: AxesField = None  # an `Axes` where arrays are stacked

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return g * shrinking(block_rms(g, self.axes), self.threshold), slots


class adaptive_grad_clip(Rule):
    """Clips the gradient of every unit by the norm of its parameters.

    u = g min(1, clipping max(||p||, eps) / ||g||), norms along the input axes. Brock+ 2021,
    2102.06171. A matrix is taken as (inputs, outputs), a vector as one unit; arrays of more axes
    need `axes`. Differs from Optax, which guesses them.
    """

    clipping: HyperField = within("(0, inf]")
    eps: HyperField = within("(0, inf)", default=1e-3)
    axes: AxesField = None  # an `Axes` of inputs, outputs and stacked axes

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        along = unit_axes(self.axes, g.ndim, "adaptive_grad_clip")
        most = self.clipping * jnp.maximum(norm(p, along), self.eps)
        return g * shrinking(norm(g, along), most), slots


class scale_by_trust_ratio(Rule):
    """Scales every block to the norm of its parameters: u = g trust_coefficient ||p|| / ||g||.

    Norms count as at least `min_norm`, and ||g|| + eps is divided by; where a norm is zero, u = g.
    You+ 2019, 1904.00962. Differs from Optax in `axes`: stacked layers have ratios of their own.
    """

    min_norm: HyperField = within("[0, inf)", default=0.0)
    trust_coefficient: HyperField = within("[0, inf)", default=1.0)
    eps: HyperField = within("[0, inf)", default=0.0)
    _: KW_ONLY
    axes: AxesField = None  # an `Axes` where arrays are stacked

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        ours, theirs = (jnp.maximum(block_norm(x, self.axes), self.min_norm) for x in (p, g))
        zero = (ours == 0) | (theirs == 0)
        trust = self.trust_coefficient * ratio_or_one(ours, theirs + self.eps)
        return g * jnp.where(zero, 1, trust), slots


class scale_by_param_block_norm(Rule):
    """Multiplies every block by the norm of its parameters, `min_scale` at least."""

    min_scale: HyperField = within("[0, inf)", default=1e-3)
    _: KW_ONLY
    axes: AxesField = None  # an `Axes` where arrays are stacked

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return g * jnp.maximum(block_norm(p, self.axes), self.min_scale), slots


class scale_by_param_block_rms(Rule):
    """Multiplies every block by the root mean square of its parameters, `min_scale` at least."""

    min_scale: HyperField = within("[0, inf)", default=1e-3)
    _: KW_ONLY
    axes: AxesField = None  # an `Axes` where arrays are stacked

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return g * jnp.maximum(block_rms(p, self.axes), self.min_scale), slots
