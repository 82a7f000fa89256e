"""Nearest points of sets, as functions of a tree, all arrays of which are one vector.

    box, hypercube        lower <= x <= upper; 0 <= x <= scale      entry by entry
    non_negative          x >= 0                                    entry by entry
    linf_ball             max |x| <= scale                          entry by entry
    simplex               x >= 0, sum x = scale
    l1_ball, l1_sphere    sum |x| <= scale, = scale
    l2_ball, l2_sphere    ||x|| <= scale, = scale
    half_space            <normal, x> <= offset
    hyperplane            <normal, x> = offset
    vector                the multiples of `direction`

The links of these names, `projection_simplex` and so on, keep parameters in a set, and treat every
array alone, or every member of a stack; `jax.tree.map(simplex, tree)` does so here. Of complex
arrays the sets hold the moduli, and phases stay, unless a normal is complex itself. Arithmetic is
at least float32, what comes out has the dtypes that came in, and is in the set up to its rounding.
Integers and `None` stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.nearest import (
    above,
    boxed,
    joined,
    number,
    of_length,
    on_arrays,
    onto_plane,
    shortened,
    size,
    soft,
    threshold,
    with_modulus,
)
from gradtx.paths import label_tree
from gradtx.struct import value_error
from gradtx.tree import P, Tree, dot, global_norm, inverse, is_inexact, modulus, named_leaves


def _entrywise(called: str, tree: P, lower: Any, upper: Any) -> P:
    bounds = (label_tree(f"projections.{called}", bound, tree) for bound in (lower, upper))
    return on_arrays(_onto_box, tree, *bounds)


def _onto_box(xs: list[Array], low: list[Array], high: list[Array]) -> list[Array]:
    return [boxed(x, a, b) for x, a, b in zip(xs, low, high, strict=True)]


def box(tree: P, lower: Any, upper: Any) -> P:
    """Every entry within [lower, upper]: numbers, `by_path`, or trees like an upper part."""
    return _entrywise("box", tree, lower, upper)


def hypercube(tree: P, scale: Any = 1.0) -> P:
    """Every entry within [0, scale]; `scale` is a number or a tree, as in `box`."""
    return _entrywise("hypercube", tree, 0.0, scale)


def non_negative(tree: P) -> P:
    """No entry below zero."""
    return _entrywise("non_negative", tree, 0.0, jnp.inf)


def _of_scale(name: str, project: Callable[..., list[Array]], tree: P, scale: Any) -> P:
    return on_arrays(project, tree, numbers=(number(f"projections.{name}", "scale", scale),))


def linf_ball(tree: P, scale: Any = 1.0) -> P:
    """Every modulus at most `scale`."""
    return _of_scale("linf_ball", _onto_linf_ball, tree, scale)


def _onto_linf_ball(xs: list[Array], scale: Array) -> list[Array]:
    return [with_modulus(x, jnp.minimum(modulus(x), scale)) for x in xs]


def simplex(tree: P, scale: Any = 1.0) -> P:
    """No entry below zero, and the sum of all `scale`: max(x - theta, 0).

    Held, Wolfe & Crowder 1974; Duchi+ 2008.
    """
    return _of_scale("simplex", _onto_simplex, tree, scale)


def _onto_simplex(xs: list[Array], scale: Array) -> list[Array]:
    theta = _theta([size(x) for x in xs], scale)
    return [above(x, theta) for x in xs]


def l1_ball(tree: P, scale: Any = 1.0) -> P:
    """The sum of all moduli at most `scale`: outside, soft thresholding. Duchi+ 2008."""
    return _of_scale("l1_ball", _onto_l1_ball, tree, scale)


def _onto_l1_ball(xs: list[Array], scale: Array) -> list[Array]:
    # Inside of the ball theta is negative.
    theta = jnp.maximum(_theta([modulus(x) for x in xs], scale), 0)
    return [soft(x, theta) for x in xs]


def l1_sphere(tree: P, scale: Any = 1.0) -> P:
    """The sum of all moduli `scale`; a zero that becomes another number becomes positive."""
    return _of_scale("l1_sphere", _onto_l1_sphere, tree, scale)


def _onto_l1_sphere(xs: list[Array], scale: Array) -> list[Array]:
    theta = _theta([modulus(x) for x in xs], scale)
    return [soft(x, theta) for x in xs]


def _theta(sizes: list[Array], scale: Array) -> Array:
    return threshold(joined(sizes), scale, (0,)).reshape(())


def l2_ball(tree: P, scale: Any = 1.0) -> P:
    """The l2 norm of all arrays together at most `scale`."""
    return _of_scale("l2_ball", _onto_l2_ball, tree, scale)


def _onto_l2_ball(xs: list[Array], scale: Array) -> list[Array]:
    length = global_norm(xs)
    return [shortened(x, length, scale) for x in xs]


def l2_sphere(tree: P, scale: Any = 1.0) -> P:
    """The l2 norm of all arrays together `scale`; zero becomes equal entries."""
    return _of_scale("l2_sphere", _onto_l2_sphere, tree, scale)


def _onto_l2_sphere(xs: list[Array], scale: Array) -> list[Array]:
    length = global_norm(xs)
    ones = jnp.full_like(length, math.sqrt(sum(x.size for x in xs)))
    return [of_length(x, length, scale, ones) for x in xs]


def half_space(tree: P, normal: Tree, offset: Any) -> P:
    """<normal, x> at most `offset`; `normal` is a tree like `tree`, or like an upper part.

    The product is that of moduli where x is complex and the normal real, and its real part where
    both are complex.
    """
    return _linear("half_space", tree, normal, offset, one_sided=True)


def hyperplane(tree: P, normal: Tree, offset: Any) -> P:
    """<normal, x> equal to `offset`; `normal` as in `half_space`. Without a normal x stays."""
    return _linear("hyperplane", tree, normal, offset, one_sided=False)


def _linear(called: str, tree: P, normal: Tree, offset: Any, one_sided: bool) -> P:
    offset = number(f"projections.{called}", "offset", offset, least=None)
    normals = _directions(called, "normal", normal, tree)
    return on_arrays(_onto_plane, tree, normals, numbers=(offset,), static=(one_sided,))


def _onto_plane(
    xs: list[Array], normals: list[Array], offset: Array, one_sided: bool
) -> list[Array]:
    normals = [jnp.broadcast_to(a, x.shape) for a, x in zip(normals, xs, strict=True)]
    return onto_plane(xs, normals, offset, one_sided)


def vector(tree: P, direction: Tree) -> P:
    """The nearest real multiple of `direction`, a tree as `normal` in `half_space`; zero of none.

    Complex arrays are two real ones.
    """
    return on_arrays(_onto_line, tree, _directions("vector", "direction", direction, tree))


def _onto_line(xs: list[Array], directions: list[Array]) -> list[Array]:
    pairs = zip(directions, xs, strict=True)
    directions = [jnp.broadcast_to(a, x.shape).astype(x.dtype) for a, x in pairs]
    length = global_norm(directions)
    units = [a * inverse(length) for a in directions]
    far = dot(units, xs).astype(length.dtype)
    return [far * a for a in units]


def _directions(called: str, name: str, direction: Tree, tree: Tree) -> list[Any]:
    """One for each leaf. Raises `ValueError` for one that is complex where the leaf is real."""
    found = label_tree(f"projections.{called}", direction, tree)
    for (path, x), a in zip(named_leaves(tree), found, strict=True):
        if is_inexact(x) and jnp.iscomplexobj(a) and not jnp.iscomplexobj(x):
            seen = f"at {path!r} the {name} is complex, and the array real"
            raise value_error(f"projections.{called}", seen, "Take its real part")
    return found
