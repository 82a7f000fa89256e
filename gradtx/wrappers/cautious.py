"""Steps that agree with the gradient, entry by entry: `cautious`."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from gradtx.axes import unstacked_axes
from gradtx.engine.step import At
from gradtx.hyper import AxesField
from gradtx.rule import HyperField, Rule, Step
from gradtx.struct import static, within
from gradtx.transform import State
from gradtx.tree import Tree, real_dtype, same_direction
from gradtx.wrappers.base import Wrapper


class _cautious_mask(Rule, called="cautious"):
    """Keeps the entries of `g` that agree with those of `p`, here the gradient."""

    floor: HyperField
    axes: AxesField
    descends: bool = static()

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        u = jnp.where(same_direction(-g if self.descends else g, p), g, 0)
        axes = unstacked_axes(self.axes, g.ndim)
        number = math.prod(g.shape[i] for i in axes)
        # Counted in what is kept, so that no mask is held beside it.
        count = jnp.sum(u != 0, axis=axes, keepdims=True, dtype=real_dtype(g.dtype))
        return u * (1 / jnp.maximum(count * (1 / max(number, 1)), self.floor)), slots


class cautious(Wrapper):
    """Zeroes the entries of another transformation's update that disagree with the gradient.

    u = u m / max(mean(m), floor) with m = 1 where u g > 0; the mean is over one array.
    Liang+ 2024, 2411.16085. It is made for a direction: `chain(cautious(scale_by_adam()),
    add_decayed_weights(0.1), scale_by_learning_rate(1e-3))`; around a complete optimizer, whose
    updates point down, give `descends=True`.
    """

    # Of the share of entries kept, by whose inverse the rest grows.
    floor: HyperField = within("(0, 1]", default=1e-3)
    _: KW_ONLY
    axes: AxesField = None  # stacked axes have shares of their own
    descends: bool = static(default=False)

    after = _cautious_mask

    def seen_params(self, state: State, params: Tree | None, updates: Tree, at: At) -> Tree | None:
        return updates
