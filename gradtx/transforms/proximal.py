"""Proximal links: after the step of an optimizer, the map that makes a penalty smaller.

    proximal_l1             weight sum |p|                     exact zeros
    proximal_elastic_net    the same + l2_weight / 2 sum |p|^2
    proximal_group          weight sum of norms of groups      groups that are zero
    proximal_nuclear        weight sum of singular values      matrices of a low rank

They come last in a chain, and lead to the y that makes eta penalty(y) + |y - (p + g)|^2 / 2 least,
eta being the `learning_rate` of what comes before. `chain(sgd(0.1), proximal_l1(w,
learning_rate=0.1))` is the proximal gradient method (ISTA). Behind Adam, which has a measure of
length of its own, zeros are as exact, and the point reached is another. `gradtx.proximal` has the
maps as functions.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar

from jax import Array

from gradtx.axes import layout, on_matrices, unstacked_axes
from gradtx.hyper import AxesField
from gradtx.nearest import elastic, less_length, soft, soft_singular, update_to
from gradtx.rule import HyperField, Rule, Step
from gradtx.struct import within
from gradtx.tree import norm


class proximal_l1(Rule):
    """Ends in soft thresholding: every modulus of p + g less eta weight, or zero.

    Donoho 1995; Daubechies, Defrise & De Mol 2004. eta is `learning_rate`.
    """

    weight: HyperField = within("[0, inf)")
    _: KW_ONLY
    learning_rate: HyperField = within("[0, inf)")  # that of the step before

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return update_to(g, p, soft(p + g, self.learning_rate * self.weight)), slots


class proximal_elastic_net(Rule):
    """Ends in soft thresholding, divided by 1 + eta l2_weight. Zou & Hastie 2005."""

    weight: HyperField = within("[0, inf)")
    _: KW_ONLY
    l2_weight: HyperField = within("[0, inf)")
    learning_rate: HyperField = within("[0, inf)")  # that of the step before

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        eta = self.learning_rate
        return update_to(g, p, elastic(p + g, eta * self.weight, eta * self.l2_weight)), slots


class proximal_group(Rule):
    """Makes every group of p + g shorter by eta weight, and zero where that is all of it.

    A group is an array, or each of those that `axes` stack: with `Axes("ib")` every column, with
    `Axes("bi")` every row. Yuan & Lin 2006, who weigh groups of n entries by sqrt(n).
    """

    weight: HyperField = within("[0, inf)")
    _: KW_ONLY
    learning_rate: HyperField = within("[0, inf)")  # that of the step before
    axes: AxesField = None  # an `Axes`: its stacked axes tell groups apart

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        moved = p + g
        length = norm(moved, unstacked_axes(self.axes, g.ndim))
        return update_to(g, p, less_length(moved, length, self.learning_rate * self.weight)), slots


class proximal_nuclear(Rule):
    """Ends in matrices whose singular values are those of p + g less eta weight, or zero.

    Cai, Candes & Shen 2010, 0810.3286. One singular value decomposition of every matrix.
    """

    weight: HyperField = within("[0, inf)")
    _: KW_ONLY
    learning_rate: HyperField = within("[0, inf)")  # that of the step before
    axes: AxesField = None  # an `Axes`: which axes are inputs, outputs, stacked

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        less = self.learning_rate * self.weight
        how = layout(self.axes, g.shape, "proximal_nuclear")
        aim = on_matrices(lambda matrix: soft_singular(matrix, less), p + g, how)
        return update_to(g, p, aim), slots
