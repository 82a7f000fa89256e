"""Adam that does not grow the norm of weights that a normalisation makes scale-invariant.

adamp    Adam's update without its part along the parameter, where the gradient has none
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from gradtx.axes import unstacked_axes
from gradtx.hyper import AxesField, AxesOf
from gradtx.optimizers.adam import Moments, corrections, moments
from gradtx.optimizers.decoupled import descending
from gradtx.paths import Labels, only_where
from gradtx.rule import Hyper, HyperField, Rule, Step
from gradtx.struct import within
from gradtx.transform import GradientTransformation
from gradtx.tree import inner, norm, root


class scale_by_adamp(Rule):
    """Adam without its part along p where the loss does not depend on the norm of p.

    Where |cos(g, p)| < delta / sqrt(size) for every output of `axes`, or else for the whole array,
    u = v - <v, p> p / |p|^2 with Adam's v, output by output or whole, and a decay of
    weight_decay wd_ratio p; elsewhere v and weight_decay p. Vectors are left to Adam. Heo+ 2020,
    2006.08217. Without `axes` only the whole array is looked at.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of nu
    eps: HyperField = within("(0, inf)", default=1e-8)  # added to the root
    delta: HyperField = 0.1  # the norm of p does not matter below this |cos(g, p)| sqrt(size)
    wd_ratio: HyperField = within("[0, inf)", default=0.1)  # what is left of the decay there
    weight_decay: HyperField = within("[0, inf)", default=0.0)
    axes: AxesField = None

    Slots = Moments

    needs: ClassVar[tuple[str, ...]] = ("params",)

    shared = corrections

    def update_leaf(self, g: Array, slots: Moments, p: Array, step: Step) -> tuple[Array, Moments]:
        mu, nu = moments(self, g, slots)
        c1, c2 = step.shared
        v = (mu / c1) / (root(nu / c2) + self.eps)
        whole = unstacked_axes(self.axes, g.ndim)
        if len(whole) < 2:
            return v + self.weight_decay * p, Moments(mu, nu)
        views = [whole] if self.axes is None else [self.axes.of("i"), whole]
        u, ratio, done = v, 1.0, False
        for axes in views:
            length = norm(p, axes)
            unit = p / jnp.where(length > 0, length, 1)
            along = jnp.abs(inner(g, unit, axes)) / jnp.maximum(norm(g, axes), self.eps)
            size = max(math.prod(g.shape[axis] for axis in axes), 1)
            most = jnp.max(along, axis=whole, keepdims=True, initial=0)
            here = (most < self.delta / math.sqrt(size)) & jnp.logical_not(done)
            u = jnp.where(here, v - inner(v, unit, axes) * unit, u)
            ratio = jnp.where(here, self.wd_ratio, ratio)
            done = here | done
        return u + self.weight_decay * ratio * p, Moments(mu, nu)


def adamp(
    learning_rate: Hyper,
    *,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    delta: Hyper = 0.1,
    wd_ratio: Hyper = 0.1,
    weight_decay: Hyper = 0.0,
    mask: Labels | None = None,
    axes: AxesOf = None,
) -> GradientTransformation:
    """AdamP: `scale_by_adamp`, decay included, then the learning rate."""
    weight_decay = only_where(mask, weight_decay)
    direction = scale_by_adamp(
        b1, b2=b2, eps=eps, delta=delta, wd_ratio=wd_ratio, weight_decay=weight_decay, axes=axes
    )
    return descending(direction, learning_rate)
