"""Proximal maps of penalties, as functions of a tree: argmin_y penalty(y) + |y - x|^2 / 2.

    l1             weight sum |x|                    soft thresholding, to exact zeros
    squared_l2     weight / 2 sum |x|^2              x / (1 + weight)
    elastic_net    both
    group          weight sum of norms of groups     whole groups to zero
    nuclear        weight sum of singular values     to a lower rank

A penalty is a sum over arrays, so each has a map of its own. The links of these names, such as
`proximal_l1`, take such a map after the step of an optimizer. `weight` is a number, `by_path` or a
tree, like `tree` or like an upper part. Of complex arrays the moduli count, and phases stay.
Arithmetic is at least float32, what comes out has the dtypes that came in; integers and `None` stay
as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax import Array

from gradtx.axes import Axes, layout, on_matrices, unstacked_axes
from gradtx.hyper import AxesOf
from gradtx.nearest import elastic, less_length, on_arrays, soft, soft_singular
from gradtx.paths import label_tree
from gradtx.struct import value_error
from gradtx.tree import P, is_inexact, named_leaves, norm


def l1(tree: P, weight: Any) -> P:
    """Every modulus less `weight`, and zero where that is negative: soft thresholding."""
    return _each("l1", tree, soft, weight)


def squared_l2(tree: P, weight: Any) -> P:
    """x / (1 + weight)."""
    return _each("squared_l2", tree, _smaller, weight)


def _smaller(x: Array, weight: Array) -> Array:
    return x / (1 + weight)


def elastic_net(tree: P, weight: Any, l2_weight: Any) -> P:
    """`l1`, then `squared_l2`: of weight sum |x| + l2_weight / 2 sum |x|^2. Zou & Hastie 2005."""
    return _each("elastic_net", tree, elastic, weight, l2_weight)


def group(tree: P, weight: Any, *, axes: AxesOf = None) -> P:
    """Every group made shorter by `weight`, and zero where that is all of it. Yuan & Lin 2006.

    A group is an array, or each of those that `axes` stack: `Axes("ib")` makes one of every column.
    `axes` is an `Axes`, `by_path` or a tree of them.
    """
    return _each("group", tree, _shorter, weight, axes=axes)


def _shorter(x: Array, weight: Array, axes: Axes | None) -> Array:
    return less_length(x, norm(x, unstacked_axes(axes, x.ndim)), weight)


def nuclear(tree: P, weight: Any, *, axes: AxesOf = None) -> P:
    """All singular values less `weight`, and zero where that is negative. Cai+ 2010, 0810.3286.

    Arrays of two axes are matrices; `axes`, as in `group`, tells which others are.
    """
    return _each("nuclear", tree, _lower, weight, axes=axes)


def _lower(x: Array, weight: Array, axes: Axes | None) -> Array:
    how = layout(axes, x.shape, "proximal.nuclear")
    return on_matrices(lambda matrix: soft_singular(matrix, weight), x, how)


_NO_AXES = object()


def _each(
    called: str, tree: P, function: Callable[..., Array], *weights: Any, axes: Any = _NO_AXES
) -> P:
    """`function` of each array, with its weights and axes."""
    called = f"proximal.{called}"
    lists = [label_tree(called, value, tree) for value in weights]
    for weight in (weight for values in lists for weight in values):
        if isinstance(weight, int | float) and not weight >= 0:
            seen = f"the weight is {weight!r}"
            raise value_error(called, seen, "Pass a number of at least zero")
    named = named_leaves(tree)
    known: list[tuple[Any, ...]] = [()] * len(named)
    if axes is not _NO_AXES:
        known = [(own,) for own in label_tree(called, axes, tree)]
    rows = zip(named, known, strict=True)
    more = tuple((path, *own) for (path, x), own in rows if is_inexact(x))
    return on_arrays(_mapped, tree, *lists, static=(called, function, more))


def _mapped(xs: list[Array], *rest: Any) -> list[Array]:
    *lists, called, function, more = rest
    found = []
    for x, *weights, (path, *axes) in zip(xs, *lists, more, strict=True):
        try:
            found.append(function(x, *weights, *axes))
        except ValueError as error:
            seen, _, do = str(error).rstrip(".").partition(". ")
            raise value_error(called, f"at {path!r}: {seen}", do) from error
    return found
