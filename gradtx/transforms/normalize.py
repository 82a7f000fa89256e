"""Gradients with norm one, or mean zero.

normalize     g / ||g||, of all arrays together
centralize    g - mean(g), over the inputs of every output
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.axes import input_output_axes
from gradtx.hyper import AxesField
from gradtx.rule import JointRule, LengthSums, NoNumbers, Rule, Step, measure_length
from gradtx.transforms.norms import number_along
from gradtx.tree import inverse


class normalize(JointRule):
    """Divides all arrays by their joint l2 norm: u = g / ||g||, and zero where all are zero.

    Differs from Optax, where zero gradients become NaN.
    """

    Sums = LengthSums

    measure_leaf = measure_length

    def decide(
        self, sums: LengthSums, globals_: NoNumbers, t: Array, **extra: Any
    ) -> tuple[NoNumbers, Array]:
        return globals_, inverse(sums.length)


class centralize(Rule):
    """Takes from every output neuron the mean over its inputs: u = g - mean(g).

    Yong+ 2020, 2004.01461. A matrix is taken as (inputs, outputs) and a vector left as it is;
    arrays of more axes need `axes`. Differs from Optax, which averages over the outputs.
    """

    axes: AxesField = None  # an `Axes` of inputs, outputs and stacked axes

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        if self.axes is None and g.ndim < 2:
            return g, slots
        inputs = input_output_axes(self.axes, g.ndim, "centralize").of("i")
        if not inputs:
            return g, slots
        return g - jnp.sum(g, axis=inputs, keepdims=True) / number_along(g, inputs), slots
