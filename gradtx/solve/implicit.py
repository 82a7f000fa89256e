"""Derivatives of an optimum: how it moves with the arguments of the loss.

Where the gradient G(x, args) is zero, dx = -H^-1 dG/dargs dargs, with the Hessian H = dG/dx. The
system is solved in real numbers: a complex array counts as two.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.dtypes import float0

from gradtx.solve import loop
from gradtx.solve.loop import Tolerances
from gradtx.solve.minimum import Minimum
from gradtx.solve.objective import Settings, objective
from gradtx.transform import GradientTransformation
from gradtx.tree import Tree, dot, is_inexact, real_dtype_of, wide

MOST = 1000  # products with the Hessian

Reals = list[Array]
"""All that moves, as real arrays."""


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def differentiable(
    settings: Settings,
    tx: GradientTransformation,
    params: Tree,
    args: tuple[Any, ...],
    tolerances: Tolerances,
) -> Minimum:
    """`loop.compiled`, with the derivatives of the optimum instead of those of the way there."""
    found = loop.compiled(settings, tx, params, args, tolerances)
    residual = _residual(settings, tx, found.params, args)
    return dataclasses.replace(found, implicit_residual=residual)


@differentiable.defjvp
def _differentiable_jvp(settings: Settings, primals: Any, tangents: Any) -> tuple[Any, Any]:
    tx, _, args, _ = primals
    found = differentiable(settings, *primals)
    dots = [None if _is_still(t) else t for t in jax.tree.leaves(tangents[2])]
    params, value, aux = _derivatives(settings, tx, found.params, args, dots)
    zeros = jax.tree.map(_no_tangent, found)
    aux = jax.tree.map(lambda x, t: t if is_inexact(x) else _no_tangent(x), found.aux, aux)
    return found, dataclasses.replace(zeros, params=params, value=value, aux=aux)


def without_closure(
    settings: Settings, params: Tree, args: tuple[Any, ...]
) -> tuple[Settings, tuple[Any, ...]]:
    """The same problem, in which what the objective closes over and is traced is an argument."""
    name = "loss" if settings.value_and_grad is None else "value_and_grad"
    converted, closed_over = jax.closure_convert(getattr(settings, name), params, *args)
    if not closed_over:
        return settings, args
    return settings._replace(**{name: converted}), (*args, *closed_over)


@functools.partial(jax.jit, static_argnums=0)
def _derivatives(
    settings: Settings,
    tx: GradientTransformation,
    params: Tree,
    args: tuple[Any, ...],
    dots: list[Array | None],
) -> tuple[Tree, Array, Any]:
    """The tangents of parameters, value and aux, along those of the leaves of `args`."""
    leaves, structure = jax.tree.flatten(args)
    real = real_dtype_of(params)
    whole = [_no_tangent(x) if t is None else t for x, t in zip(leaves, dots, strict=True)]
    moved = jax.tree.unflatten(structure, whole)
    at = _Optimum.of(settings, tx, params, args)
    cross = jax.jvp(lambda args: at.gradient(at.x, args), (args,), (moved,))[1]
    # Reverse mode takes no system whose right side is linear in some arrays and constant in others.
    tie = sum((0 * jnp.sum(b).astype(real) for b in cross), jnp.zeros((), real))
    right = [-jnp.where(f, b + tie.astype(b.dtype), 0) for f, b in zip(at.free, cross, strict=True)]
    # The matrix is symmetric, and so serves for the transposed system of reverse mode too.
    dx = lax.custom_linear_solve(at.hessian, right, solve=conjugate_gradients, symmetric=True)
    # At an optimum the value does not change with the parameters.
    value = jax.jvp(lambda args: at.evaluate(at.x, args).value, (args,), (moved,))[1]
    aux = jax.jvp(lambda x, args: at.evaluate(x, args).aux, (at.x, args), (dx, moved))[1]
    new = jax.jvp(at.whole, (at.x,), (dx,))[1]
    return new, value, aux


@functools.partial(jax.jit, static_argnums=0)
def _residual(
    settings: Settings, tx: GradientTransformation, params: Tree, args: tuple[Any, ...]
) -> Array:
    """How well a system with the same matrix is solved: |H z - r| / |r| for a random r."""
    at = _Optimum.of(settings, tx, params, args)
    keys = jax.random.split(jax.random.key(0), len(at.x))
    drawn = [jax.random.normal(key, x.shape, x.dtype) for key, x in zip(keys, at.x, strict=True)]
    right = [jnp.where(f, r, 0) for f, r in zip(at.free, drawn, strict=True)]
    left = at.hessian(conjugate_gradients(at.hessian, right))
    off = [a - b for a, b in zip(left, right, strict=True)]
    size = dot(right, right)
    found = jnp.sqrt(dot(off, off) / jnp.where(size > 0, size, 1))
    return jnp.where(jnp.isfinite(found), found, jnp.inf).astype(real_dtype_of(params))


class _Optimum(NamedTuple):
    """An optimum in real coordinates, and the objective around it."""

    x: Reals
    whole: Callable[[Reals], Tree]  # the parameters of other coordinates
    free: list[Any]  # where no bound holds them
    evaluate: Callable[[Reals, Any], Any]
    gradient: Callable[[Reals, Any], Reals]
    args: Any

    @classmethod
    def of(cls, settings: Settings, tx: Any, params: Tree, args: Any) -> _Optimum:
        def whole(x: Reals) -> Tree:
            return _filled(params, x)

        def evaluate(x: Reals, args: Any) -> Any:
            return objective(settings, args)(whole(x))

        def gradient(x: Reals, args: Any) -> Reals:
            grads = evaluate(x, args).grads
            pairs = zip(jax.tree.leaves(params), jax.tree.leaves(grads), strict=True)
            return _reals([jnp.asarray(g, p.dtype) for p, g in pairs if is_inexact(p)])

        x, box = _reals(params), tx.bounds(params)
        free: list[Any] = [True] * len(x)
        if box is not None:  # then all arrays are real
            moved = [i for i, p in enumerate(jax.tree.leaves(params)) if is_inexact(p)]
            inside = _inside(box, params)
            free = [inside[i] for i in moved]
        return cls(x, whole, free, evaluate, gradient, args)

    def hessian(self, v: Reals) -> Reals:
        """The product with the Hessian on what is free, the identity on the rest."""
        inside = [jnp.where(f, a, 0) for f, a in zip(self.free, v, strict=True)]
        found = jax.jvp(lambda x: self.gradient(x, self.args), (self.x,), (inside,))[1]
        return [jnp.where(f, h, a) for f, h, a in zip(self.free, found, v, strict=True)]


def conjugate_gradients(matvec: Callable[[Reals], Reals], right: Reals) -> Reals:
    """The solution of a symmetric positive definite system (Hestenes & Stiefel 1952).

    It ends where the residual has become small, after `MOST` products, or where the matrix turns
    out not to be positive, or not to its last digit: that is then finite, and no solution.
    """
    size = dot(right, right)
    entries = sum(x.size for x in right)
    eps = jnp.finfo(size.dtype).eps
    small = jnp.square(eps**0.75) * size

    def goes_on(now: Any) -> Array:
        rest, count, sound = now[3:6]
        return (rest > small) & (count < min(10 * entries, MOST)) & sound

    def step(now: Any) -> Any:
        z, residual, direction, rest, count, _, steepest = now
        image = matvec(direction)
        curvature, extent = dot(direction, image), dot(direction, direction)
        steepest = jnp.maximum(steepest, curvature / extent)
        sound = (curvature > eps * steepest * extent) & jnp.isfinite(curvature)
        length = jnp.where(sound, rest / jnp.where(sound, curvature, 1), 0)
        z, residual = _plus(z, length, direction), _plus(residual, -length, image)
        after = dot(residual, residual)
        direction = _plus(residual, after / rest, direction)
        return z, residual, direction, after, count + 1, sound, steepest

    zeros = [jnp.zeros_like(x) for x in right]
    start = zeros, right, right, size, jnp.int32(0), jnp.bool_(True), jnp.zeros_like(size)
    return lax.while_loop(goes_on, step, start)[0]


def _inside(box: tuple[Tree, Tree], params: Tree) -> list[Any]:
    """For each leaf of the parameters where it is between its bounds."""
    leaves, treedef = jax.tree.flatten(params)
    lower, upper = (treedef.flatten_up_to(side) for side in box)
    return [
        True if a is None else (a < x) & (x < b)
        for a, x, b in zip(lower, leaves, upper, strict=True)
    ]


def _plus(x: Reals, factor: Array, y: Reals) -> Reals:
    return [a + factor.astype(a.dtype) * b for a, b in zip(x, y, strict=True)]


def _reals(tree: Tree) -> Reals:
    """The arrays that move as real ones of at least single precision."""
    found: Reals = []
    for x in filter(is_inexact, jax.tree.leaves(tree)):
        x = x.astype(wide(x.dtype))
        found += [x.real, x.imag] if jnp.iscomplexobj(x) else [x]
    return found


def _filled(params: Tree, x: Reals) -> Tree:
    """The tree of parameters of these real arrays."""
    rest = iter(x)

    def whole(p: Any) -> Any:
        if not is_inexact(p):
            return p
        if jnp.iscomplexobj(p):
            return lax.complex(next(rest), next(rest)).astype(p.dtype)
        return next(rest).astype(p.dtype)

    return jax.tree.map(whole, params)


def _is_still(tangent: Any) -> bool:
    return getattr(tangent, "dtype", None) == float0


def _no_tangent(x: Any) -> Any:
    return jnp.zeros_like(x) if is_inexact(x) else np.zeros(jnp.shape(x), float0)
