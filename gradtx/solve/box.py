"""Bounds of parameters: a box, and the points of it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx.paths import label_tree
from gradtx.struct import type_error, value_error
from gradtx.tree import (
    Extra,
    Tree,
    is_inexact,
    is_none,
    named_leaves,
    path_string,
    real_dtype_of,
    wide,
    widened,
)

BOUNDS = "lower", "upper"
NEAR = 4  # units in the last place by which rounding may miss a bound


class Box(NamedTuple):
    """Trees like the parameters: for each array numbers or arrays that broadcast to it, or None."""

    lower: Tree
    upper: Tree


def box_of(called: object, lower: Tree | None, upper: Tree | None, params: Tree) -> Box | None:
    """The box of some parameters, from (prefix) trees; None where there is no bound at all."""
    if lower is None and upper is None:
        return None
    sides = (("lower", lower, -jnp.inf), ("upper", upper, jnp.inf))
    return Box(*(_side(called, *side, params) for side in sides))


def _side(called: object, name: str, value: Tree | None, none: float, params: Tree) -> Tree:
    leaves = named_leaves(params)
    given = label_tree(f"{called}: {name}", value, params)
    found = [
        _bound(called, name, none if b is None else b, path, p) if is_inexact(p) else None
        for (path, p), b in zip(leaves, given, strict=True)
    ]
    return jax.tree.structure(params, is_leaf=is_none).unflatten(found)


def _bound(called: object, name: str, bound: Any, path: str, p: Any) -> Array:
    if jnp.iscomplexobj(p):
        seen = f"the array at {path!r} is complex, and {name} is {bound}"
        raise type_error(called, seen, "Bound real arrays only: real and imaginary parts")
    shape, own = np.shape(bound), np.shape(p)
    if shape not in ((), own):
        seen = f"{name} at {path!r} has shape {list(shape)}, the array {list(own)}"
        raise value_error(called, seen, "Give one number, or one for every entry")
    return jnp.asarray(bound, wide(p.dtype))


def refuse_crossed(called: object, lower: Tree | None, upper: Tree | None) -> None:
    """Raises where plain numbers or arrays leave no room; of trees that are alike."""
    try:
        pairs = jax.tree_util.tree_map_with_path(lambda at, a, b: (at, a, b), lower, upper)
    except ValueError:
        return  # one of them is a prefix of the other, and the parameters tell whose
    for at, a, b in jax.tree.leaves(pairs, is_leaf=lambda x: isinstance(x, tuple)):
        known = isinstance(a, _KNOWN) and isinstance(b, _KNOWN)
        if known and np.any(np.asarray(a) > np.asarray(b)):
            where = f" at {path_string(at)!r}" if at else ""
            seen = f"lower is above upper{where}: {a} > {b}"
            raise value_error(called, seen, "Exchange them")


_KNOWN = (int, float, np.ndarray, np.generic)


def moved(base: Array, step: Array, extra: Extra) -> Array:
    """base + step within the bounds, of which one is taken where rounding has just missed it."""
    x = base + step
    if "lower" not in extra:
        return x
    rounding = NEAR * jnp.finfo(x.dtype).eps
    for bound in (extra["lower"], extra["upper"]):
        near = jnp.abs(x - bound) <= rounding * jnp.maximum(jnp.abs(base), jnp.abs(bound))
        x = jnp.where(near & jnp.isfinite(bound), bound, x)
    return jnp.clip(x, extra["lower"], extra["upper"])


def within_box(box: tuple[Tree, Tree] | None, params: Tree) -> Tree:
    """The parameters, each entry clipped to its bounds, in their dtypes."""
    if box is None:
        return params

    def clip(p: Any, lower: Any, upper: Any) -> Any:
        if lower is None or not is_inexact(p):
            return p
        p = jnp.asarray(p)
        return jnp.clip(p, lower.astype(p.dtype), upper.astype(p.dtype))

    return jax.tree.map(clip, params, *box, is_leaf=is_none)


def projected(box: tuple[Tree, Tree] | None, grads: Tree, params: Tree) -> Tree:
    """The gradients, each entry at most as long as its way downhill to the bound."""
    if box is None:
        return grads

    def cut(g: Any, p: Any, lower: Any, upper: Any) -> Any:
        return g if lower is None else p - jnp.clip(p - g, lower, upper)

    return jax.tree.map(cut, widened(grads), widened(params), *box, is_leaf=is_none)


def is_within(box: Box, params: Tree) -> Array:
    """Whether all entries are within their bounds."""
    pairs = zip(jax.tree.leaves(within_box(box, params)), jax.tree.leaves(params), strict=True)
    return _all([jnp.all(a == b) for a, b in pairs if is_inexact(b)])


def _all(flags: list[Array]) -> Array:
    """Whether all hold, as they do for a tree without arrays."""
    return functools.reduce(jnp.logical_and, flags, jnp.ones((), bool))


def room(box: Box, base: Tree, direction: Tree) -> Array:
    """How often a direction can be gone from a point before a bound is met."""

    real = real_dtype_of(base)

    def of_one(x: Any, d: Any, lower: Any, upper: Any) -> Array | None:
        if lower is None or x is None:
            return None
        way = jnp.where(d > 0, upper, lower) - x
        often = jnp.where(d == 0, jnp.inf, way / jnp.where(d == 0, 1, d))
        return jnp.min(often, initial=jnp.inf).astype(real)

    found = jax.tree.map(of_one, base, direction, *box, is_leaf=is_none)
    return functools.reduce(jnp.minimum, jax.tree.leaves(found), jnp.full((), jnp.inf, real))


def is_bounded(box: Box) -> Array:
    """Whether every bound is finite."""
    return _all([jnp.isfinite(x).all() for x in jax.tree.leaves(box)])
