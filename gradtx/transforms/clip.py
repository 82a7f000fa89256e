"""Clipping.

clip                   every entry
clip_by_norm           the norm of every array
clip_by_global_norm    the norm of all arrays together

No clip hides what is not finite from a guard further out. Where a norm decides and is not finite,
infinities and NaN become NaN and all that it scales besides zero, as in PyTorch and Optax. `clip`
decides entry by entry: infinity is brought to its bound, NaN stays. An infinite limit limits
nothing: `clip_by_global_norm(inf)` is how one logs a norm.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.rule import HyperField, JointRule, LengthSums, NoNumbers, Rule, Step, measure_length
from gradtx.struct import within
from gradtx.transforms.norms import shrinking
from gradtx.tree import global_norm, modulus


class clip(Rule):
    """Clips every entry: u = min(max(g, -max_delta), max_delta).

    A complex entry keeps its direction: its modulus is clipped.
    """

    max_delta: HyperField = within("(0, inf]")

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        if jnp.iscomplexobj(g):
            size = modulus(g)
            far = size > self.max_delta
            return g * jnp.where(far, self.max_delta / jnp.where(far, size, 1), 1), slots
        return jnp.clip(g, -self.max_delta, self.max_delta), slots


class clip_by_norm(Rule):
    """Scales every array on its own down to an l2 norm of at most `max_norm`."""

    max_norm: HyperField = within("(0, inf]")

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return g * shrinking(global_norm(g), self.max_norm), slots


class clip_by_global_norm(JointRule):
    """Scales all arrays together so that their joint l2 norm is at most `max_norm`.

    u = g min(1, max_norm / ||g||), Pascanu+ 2012, 1211.5063. The norm is taken in float32 or wider
    and neither overflows nor underflows.
    """

    max_norm: HyperField = within("(0, inf]")

    Sums = LengthSums

    measure_leaf = measure_length

    def decide(
        self, sums: LengthSums, globals_: NoNumbers, t: Array, **extra: Any
    ) -> tuple[NoNumbers, Array]:
        return globals_, shrinking(sums.length, self.max_norm)
