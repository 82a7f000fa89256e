"""The loop of `minimize`: a turn is an evaluation, and what becomes of it.

The loop is compiled, or one of Python that calls the objective with numbers that are known. What
becomes of an evaluation is the same function in both.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import Tracer

from gradtx.curvature import hutchinson
from gradtx.engine.step import At
from gradtx.solve import minimum, report
from gradtx.solve.box import projected
from gradtx.solve.line import NO_LOWER_POINT, LineSearch, Search
from gradtx.solve.minimum import RUNNING, STOPPED, Minimum
from gradtx.solve.objective import Settings, answer, objective
from gradtx.struct import value_error
from gradtx.transform import GradientTransformation, State
from gradtx.tree import Tree, is_inexact, real_dtype_of, widened


class Tolerances(NamedTuple):
    gtol: Any
    ftol: Any
    xtol: Any
    floor: Any
    max_evaluations: Any


class Progress(NamedTuple):
    """What a callback of `minimize` gets to see after an evaluation."""

    params: Tree  # the best point so far
    value: Array
    grad_norm: Array
    aux: Any
    iterations: Array
    evaluations: Array


class _Carry(NamedTuple):
    params: Tree  # to be evaluated next
    state: State
    best: Progress
    status: Array
    history: Array
    tolerance: Array


@functools.partial(jax.jit, static_argnums=0)
def compiled(
    settings: Settings,
    tx: GradientTransformation,
    params: Tree,
    args: tuple[Any, ...],
    tolerances: Tolerances,
) -> Minimum:
    """The whole run as one program."""
    evaluate = objective(settings, args)

    def turn(now: _Carry) -> _Carry:
        # Nothing is fused across, so that numbers are those of the loop in Python.
        found = evaluate(lax.optimization_barrier(now.params))
        value, grads = lax.optimization_barrier((found.value, found.grads))
        asked = _functions(settings, tx, now.params, args)
        new, better = _judged(settings.history, tx, tolerances, now, value, grads, asked)
        aux = jax.tree.map(lambda a, b: jnp.where(better, a, b), found.aux, now.best.aux)
        new = _with_aux(new, aux)
        new = _stopped(new, answer(settings, new.best))
        if settings.progress is not False:
            report.traced(*_standing(settings, now, new))
        return new

    # Only what a loss returns beside its value has a shape to be found out by a trace of its own.
    shapes = jax.eval_shape(evaluate, params).aux if settings.has_aux else None
    aux = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    start = _with_aux(_start(settings.history, tx, params), aux)
    return _minimum(settings, lax.while_loop(lambda now: now.status == RUNNING, turn, start))


def in_python(
    settings: Settings,
    tx: GradientTransformation,
    params: Tree,
    args: tuple[Any, ...],
    tolerances: Tolerances,
) -> Minimum:
    """The run with an objective that is called from Python."""
    for name, x in {"tx": tx, "params": params, "args": args, "tolerances": tolerances}.items():
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(x)):
            seen = f"with jit=False {name} has numbers that are not known, under jit, vmap or grad"
            raise value_error("minimize", seen, "Call it outside of these, or leave jit=False out")
    evaluate = objective(settings, args)
    now = _start_compiled(settings.history, tx, params)
    while int(now.status) == RUNNING:
        before, found = now, evaluate(now.params)
        grads = jax.tree.map(jnp.asarray, found.grads)
        now = _with_aux(now, None)  # which may be anything
        asked = _functions(settings, tx, now.params, args)
        judged = _judged if asked else _judged_compiled
        now, better = judged(settings.history, tx, tolerances, now, found.value, grads, asked)
        first = before.best.evaluations == 0
        now = _with_aux(now, found.aux if first or better else before.best.aux)
        now = _stopped(now, answer(settings, now.best)) if settings.callback else now
        if settings.progress is not False:
            report.say(*_standing(settings, before, now))
    return _minimum(settings, now)


def _start(length: int, tx: GradientTransformation, params: Tree) -> _Carry:
    real = real_dtype_of(params)
    zero, infinite = jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, real)
    best = Progress(params, infinite, infinite, None, zero, zero)
    history = jnp.full((length,), jnp.nan, real)
    return _Carry(params, tx.init(params), best, zero, history, jnp.zeros((), real))


def _judged(
    length: int,
    tx: GradientTransformation,
    tolerances: Tolerances,
    now: _Carry,
    value: Array,
    grads: Tree,
    asked: dict[str, Any],
) -> tuple[_Carry, Array]:
    """What becomes of an evaluation, but for aux; whether it is the best."""
    real = value.dtype
    number = functools.partial(jnp.asarray, dtype=real)
    gtol, ftol, xtol, floor = map(number, tolerances[:4])
    most = jnp.asarray(tolerances.max_evaluations)
    size = _largest(projected(tx.bounds(now.params), grads, now.params), real)
    params, state = tx.step(grads, now.state, now.params, value=value, grad=grads, **asked)
    before, first = now.best, now.best.evaluations == 0
    accepted, iterations, stalled = _outcome(state, before)
    finite = jnp.isfinite(value) & jnp.isfinite(size)
    under = (value < floor) | (value == -jnp.inf)
    accepted = accepted | under
    small = accepted & finite & (size <= gtol)
    better = accepted & finite & ((value < before.value) | small | first)

    change = jnp.abs(before.value - value)
    scale = jnp.maximum(jnp.maximum(jnp.abs(before.value), jnp.abs(value)), 1)
    still = better & (change < ftol * scale)
    moved, extent = _distance(now.params, before.params, real)
    near = better & ~first & (moved < xtol * jnp.maximum(extent, 1))

    seen = before.evaluations + 1
    picked = jax.tree.map(
        lambda a, b: jnp.where(better, a, b),
        Progress(now.params, value, size, None, iterations, seen),
        before._replace(aux=None),
    )
    best = picked._replace(iterations=iterations, evaluations=seen)
    endings = (
        (minimum.USED_UP, seen.astype(most.dtype) >= most, None),
        (minimum.NO_LOWER, stalled, None),
        (minimum.CHANGE_OF_PARAMS, near, xtol),
        (minimum.CHANGE_OF_VALUE, still, ftol),
        (minimum.GRADIENT, small, gtol),
        (minimum.UNBOUNDED, under, None),
        (minimum.BAD_START, first & ~finite & ~under, None),
    )
    status = jnp.full((), RUNNING, jnp.int32)
    tolerance = zero = jnp.zeros((), real)
    for code, holds, met in endings:  # the last that holds
        status = jnp.where(holds, jnp.int32(code), status)
        tolerance = jnp.where(holds, zero if met is None else met, tolerance)
    kept = now.history
    if length:
        place = jnp.arange(length, dtype=jnp.int32) == before.evaluations
        kept = jnp.where(place, value, kept)
    return _Carry(params, state, best, status, kept, tolerance), better


_start_compiled = jax.jit(_start, static_argnums=0)
_judged_compiled = jax.jit(_judged, static_argnums=0)


def _minimum(settings: Settings, last: _Carry) -> Minimum:
    best = last.best
    return Minimum(
        best.params,
        best.value,
        best.grad_norm,
        best.aux,
        last.state,
        best.iterations,
        best.evaluations,
        last.status,
        last.history if settings.history else None,
        last.tolerance,
    )


def _functions(
    settings: Settings, tx: GradientTransformation, params: Tree, args: tuple[Any, ...]
) -> dict[str, Any]:
    evaluate, loss = objective(settings, args), settings.loss

    def diagonal(params: Tree, key: Array) -> Tree:
        return hutchinson(loss, params, key, *args, has_aux=settings.has_aux)  # pyright: ignore

    return functions_for(
        tx,
        params,
        lambda p: evaluate(p).value,
        lambda p: evaluate(p).grads,
        None if loss is None else diagonal,
    )


def functions_for(
    tx: GradientTransformation,
    params: Tree,
    value_fn: Callable[[Tree], Array],
    grad_fn: Callable[[Tree], Tree] | None = None,
    diagonal: Callable[[Tree, Array], Tree] | None = None,
) -> dict[str, Any]:
    """The functions that a part of `tx` calls itself: one of Optax may, a search of ours need not.

    With `value_fn` a search of ours would make all its evaluations in one step, uncounted.
    `diagonal` is an estimate of that of the Hessian at the parameters.
    """
    parts = [part for part, _ in tx.moments(At(0))]
    searches = any(isinstance(part, LineSearch) for part in parts)
    takes_any = any(part.own_extras() is None for part in parts) and not searches
    asked: dict[str, Any] = {}
    if takes_any or any("value_fn" in part.needs for part in parts):
        asked["value_fn"] = value_fn
    if grad_fn and any("grad_fn" in (*part.needs, *part.wants) for part in parts):
        asked["grad_fn"] = grad_fn  # Optax's searches refuse such arguments
    if diagonal and any("hessian_diag_fn" in (*part.needs, *part.wants) for part in parts):
        asked["hessian_diag_fn"] = functools.partial(diagonal, params)
    return asked


def _outcome(state: State, before: Progress) -> tuple[Array, Array, Array]:
    """Whether the point that was evaluated is accepted, how many are, and whether that is the end.

    Where there is no search every point is accepted.
    """
    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Search))
    found = [x for x in leaves if isinstance(x, Search)]
    if not found:
        yes = jnp.ones((), bool)
        return yes, before.evaluations, ~yes
    iterations = functools.reduce(jnp.add, [x.iterations for x in found])
    stalled = functools.reduce(jnp.logical_and, [x.status == NO_LOWER_POINT for x in found])
    accepted = (iterations > before.iterations) | (before.evaluations == 0)
    return accepted, iterations.astype(jnp.int32), stalled


def _largest(tree: Tree, real: Any) -> Array:
    """The largest |x| of all entries; NaN if there is one."""
    arrays = [x for x in jax.tree.leaves(widened(tree)) if is_inexact(x) and x.size]
    found = [jnp.max(jnp.abs(x)).astype(real) for x in arrays]
    return functools.reduce(jnp.maximum, found, jnp.zeros((), real))


def _distance(a: Tree, b: Tree, real: Any) -> tuple[Array, Array]:
    """The largest difference between the entries of two trees, and the largest entry."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    moved = [x - y for x, y in pairs if is_inexact(x)]
    return _largest(moved, real), _largest(a, real)


def _with_aux(now: _Carry, aux: Any) -> _Carry:
    return now._replace(best=now.best._replace(aux=aux))


def _stopped(now: _Carry, wanted: Array) -> _Carry:
    """The same, at its end if the callback wants that and nothing else is."""
    return now._replace(status=jnp.where((now.status == RUNNING) & wanted, STOPPED, now.status))


def _standing(settings: Settings, before: _Carry, now: _Carry) -> tuple[Any, ...]:
    """What there is to say of a run after an evaluation."""
    every = 0 if settings.progress is True else settings.progress
    going = before.status == RUNNING
    ended = ~going | (now.status != RUNNING)
    # Under `vmap` a run that has ended is evaluated with the others, and nothing becomes of it.
    new, old = ((x.evaluations, x.value, x.grad_norm) for x in (now.best, before.best))
    seen = [jnp.where(going, a, b) for a, b in zip(new, old, strict=True)]
    return jnp.int32(every), going, *seen, ended
