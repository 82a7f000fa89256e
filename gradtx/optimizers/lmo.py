"""Steps to where a norm ball reaches farthest along the momentum: `scale_by_lmo`."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY

import jax.numpy as jnp
from jax import Array

from gradtx.axes import as_matrices, from_matrices, layout
from gradtx.hyper import AxesField
from gradtx.optimizers.muon import Momentum
from gradtx.optimizers.polar import Polar, newton_schulz
from gradtx.rule import BatchedRule, HyperField, Step
from gradtx.struct import static, within
from gradtx.tree import inverse, norm


class scale_by_lmo(BatchedRule):
    """The point of a norm ball that lies farthest along an average of the gradients, times radius.

    d = decay d + (1 - decay) g. With inputs n and outputs m: "spectral" sqrt(m / n) O, the
    orthogonal factor of d, for hidden matrices; "columns" sqrt(m) d / |d|, norms over outputs, for
    embeddings with tokens as inputs; "sign" sign(d) / n for the last layer, sign(d) where no axes
    are given. Pethick+ 2025, 2502.07529.
    """

    radius: HyperField = within("[0, inf)", default=1.0)
    _: KW_ONLY
    decay: HyperField = within("[0, 1)", default=0.9)  # one minus the paper's alpha
    norm: str = static(default="spectral", among=("spectral", "columns", "sign"))
    polar: Polar = static(default=newton_schulz())
    axes: AxesField = None  # an `Axes`

    Slots = Momentum

    def init_leaf(self, p: Array) -> Momentum:
        if self.norm != "sign":
            layout(self.axes, p.shape, "scale_by_lmo")
        return Momentum(jnp.zeros_like(p))

    def before_leaf(
        self, g: Array, slots: Momentum, p: Array, step: Step
    ) -> tuple[list[Array], Array]:
        d = self.decay * slots.mu + (1 - self.decay) * g
        if self.norm == "sign" and self.axes is None:
            return [], d
        return as_matrices(d, layout(self.axes, g.shape, "scale_by_lmo")), d

    def together(self, x: Array) -> Array:
        n, m = (max(size, 1) for size in x.shape[-2:])
        if self.norm == "sign":
            return jnp.sign(x) * (1 / n)
        if self.norm == "columns":
            return x * (math.sqrt(m) * inverse(norm(x, (x.ndim - 1,))))
        return math.sqrt(m / n) * self.polar.factor(x)

    def after_leaf(self, results: list[Array], kept: Array) -> tuple[Array, Momentum]:
        if not results:
            return self.radius * jnp.sign(kept), Momentum(kept)
        far = from_matrices(results, layout(self.axes, kept.shape, "scale_by_lmo"))
        return self.radius * far, Momentum(kept)
