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
arrays the sets hold the moduli, and phases stay; the linear ones (the last three) take them for
two real ones. Arithmetic is at least float32, what comes out has the dtypes that came in, and is in
the set up to its rounding. Integers and `None` stay.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.nearest import (
    above,
    along_unit,
    boxed,
    distance,
    inner_of,
    joined,
    number,
    of_length,
    on_arrays,
    shortened,
    size,
    soft,
    threshold,
    with_modulus,
)
from gradtx.paths import spread
from gradtx.tree import P, Tree, global_norm, inverse, modulus


def _entrywise(called: str, tree: P, lower: Any, upper: Any) -> P:
    bounds = [spread(f"projections.{called}", bound, tree) for bound in (lower, upper)]

    def project(xs: list[Array], low: list[Array], high: list[Array]) -> list[Array]:
        return [boxed(x, a, b) for x, a, b in zip(xs, low, high, strict=True)]

    return on_arrays(project, tree, *bounds)


def box(tree: P, lower: Any, upper: Any) -> P:
    """Every entry within [lower, upper]: numbers, or trees like `tree` or like an upper part."""
    return _entrywise("box", tree, lower, upper)


def hypercube(tree: P, scale: Any = 1.0) -> P:
    """Every entry within [0, scale]; `scale` is a number or a tree, as in `box`."""
    return _entrywise("hypercube", tree, 0.0, scale)


def non_negative(tree: P) -> P:
    """No entry below zero."""
    return _entrywise("non_negative", tree, 0.0, jnp.inf)


def linf_ball(tree: P, scale: Any = 1.0) -> P:
    """Every modulus at most `scale`."""
    scale = number("projections.linf_ball", "scale", scale)
    return on_arrays(lambda xs: [with_modulus(x, jnp.minimum(modulus(x), scale)) for x in xs], tree)


def simplex(tree: P, scale: Any = 1.0) -> P:
    """No entry below zero, and the sum of all `scale`: max(x - theta, 0).

    Held, Wolfe & Crowder 1974; Duchi+ 2008.
    """
    scale = number("projections.simplex", "scale", scale)

    def project(xs: list[Array]) -> list[Array]:
        theta = _theta([size(x) for x in xs], scale)
        return [above(x, theta) for x in xs]

    return on_arrays(project, tree)


def l1_ball(tree: P, scale: Any = 1.0) -> P:
    """The sum of all moduli at most `scale`: outside, soft thresholding. Duchi+ 2008."""
    return _l1("l1_ball", tree, scale, least=0.0)


def l1_sphere(tree: P, scale: Any = 1.0) -> P:
    """The sum of all moduli `scale`; a zero that becomes another number becomes positive."""
    return _l1("l1_sphere", tree, scale, least=-jnp.inf)


def _l1(called: str, tree: P, scale: Any, least: float) -> P:
    scale = number(f"projections.{called}", "scale", scale)

    def project(xs: list[Array]) -> list[Array]:
        # Inside of the ball theta is negative.
        theta = jnp.maximum(_theta([modulus(x) for x in xs], scale), least)
        return [soft(x, theta) for x in xs]

    return on_arrays(project, tree)


def _theta(sizes: list[Array], scale: Any) -> Array:
    return threshold(joined(sizes), scale, (0,)).reshape(())


def l2_ball(tree: P, scale: Any = 1.0) -> P:
    """The l2 norm of all arrays together at most `scale`."""
    scale = number("projections.l2_ball", "scale", scale)

    def project(xs: list[Array]) -> list[Array]:
        length = global_norm(xs)
        return [shortened(x, length, scale) for x in xs]

    return on_arrays(project, tree)


def l2_sphere(tree: P, scale: Any = 1.0) -> P:
    """The l2 norm of all arrays together `scale`; zero becomes equal entries."""
    scale = number("projections.l2_sphere", "scale", scale)

    def project(xs: list[Array]) -> list[Array]:
        length, ones = global_norm(xs), jnp.sqrt(jnp.asarray(float(sum(x.size for x in xs))))
        return [of_length(x, length, scale, ones.astype(length.dtype)) for x in xs]

    return on_arrays(project, tree)


def half_space(tree: P, normal: Tree, offset: Any) -> P:
    """<normal, x> at most `offset`; `normal` is a tree like `tree`, or like an upper part."""
    return _linear("half_space", tree, normal, offset, beyond=0.0)


def hyperplane(tree: P, normal: Tree, offset: Any) -> P:
    """<normal, x> equal to `offset`; `normal` as in `half_space`. Without a normal x stays."""
    return _linear("hyperplane", tree, normal, offset, beyond=-jnp.inf)


def _linear(called: str, tree: P, normal: Tree, offset: Any, beyond: float) -> P:
    offset = number(f"projections.{called}", "offset", offset, least=None)
    normals = spread(f"projections.{called}", normal, tree)

    def project(xs: list[Array], normals: list[Array]) -> list[Array]:
        normals = [jnp.broadcast_to(a, x.shape) for a, x in zip(normals, xs, strict=True)]
        length = global_norm(normals)
        units = [a * inverse(length) for a in normals]
        far = jnp.maximum(distance(inner_of(units, xs), length, offset), beyond)
        return [along_unit(x, -far, a) for x, a in zip(xs, units, strict=True)]

    return on_arrays(project, tree, normals)


def vector(tree: P, direction: Tree) -> P:
    """The nearest multiple of `direction`, a tree as `normal` in `half_space`; zero for none."""
    directions = spread("projections.vector", direction, tree)

    def project(xs: list[Array], directions: list[Array]) -> list[Array]:
        directions = [jnp.broadcast_to(a, x.shape) for a, x in zip(directions, xs, strict=True)]
        length = global_norm(directions)
        units = [a * inverse(length) for a in directions]
        far = inner_of(units, xs)
        return [along_unit(jnp.zeros_like(x), far, a) for x, a in zip(xs, units, strict=True)]

    return on_arrays(project, tree, directions)
