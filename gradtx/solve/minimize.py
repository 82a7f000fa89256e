"""The least value of a function by any transformation: the loop around `step`; results are data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer

from gradtx.curvature import hutchinson
from gradtx.engine.run import in_precision
from gradtx.engine.step import At
from gradtx.interop import AnyTransformation, as_transformation, foreign
from gradtx.rule import Hyper
from gradtx.solve.box import projected, within_box
from gradtx.solve.lbfgs import lbfgs
from gradtx.solve.line import NO_LOWER_POINT, Search, box_in
from gradtx.struct import type_error, value_error
from gradtx.transform import GradientTransformation, State
from gradtx.tree import Tree, is_inexact, named_leaves, real_dtype_of, widened

RUNNING, GRADIENT, CHANGE_OF_VALUE, CHANGE_OF_PARAMS, USED_UP, NO_LOWER, BAD_START = range(7)
UNBOUNDED, STOPPED = 7, 8
CONVERGED = (GRADIENT, CHANGE_OF_VALUE, CHANGE_OF_PARAMS)
REASONS = (
    "still running",
    "gradient {seen:.1g} <= {tolerance:.1g}",
    "the value changes by less than {tolerance:.1g}",
    "the parameters change by less than {tolerance:.1g}",
    "all evaluations are used up, gradient {seen:.1g}",
    "no lower point is found, gradient {seen:.1g}",
    "value or gradient of the start are not finite",
    "unbounded below",
    "stopped by the callback, gradient {seen:.1g}",
)
L_BFGS = lbfgs()


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        *("params", "value", "grad_norm", "aux", "state", "iterations", "evaluations", "status"),
        *("history", "tolerance"),
    ),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True, repr=False)
class Minimum:
    """What `minimize` found: arrays, in a stack of them where it ran under `jax.vmap`.

    `status` is 1 where the gradient is small enough, 2 and 3 where the value and the parameters
    change too little, 4 where all evaluations are used up, 5 where the search finds no lower point,
    6 where the start is not finite, 7 where the value is minus infinity, 8 where the callback says
    so.
    """

    params: Any  # the best point with a finite value that was accepted
    value: Array  # there
    grad_norm: Array  # the largest entry of the gradient there
    aux: Any  # what the loss returned there beside its value
    state: State  # of the transformation, to go on from
    iterations: Array  # points accepted after the start
    evaluations: Array
    status: Array
    history: Array | None  # the value of every evaluation, NaN for those that were not made
    tolerance: Array  # the one that was met, 0 if none

    @property
    def converged(self) -> Any:
        """Whether a tolerance was met."""
        status = jnp.asarray(self.status)
        return (status >= CONVERGED[0]) & (status <= CONVERGED[-1])

    @property
    def reason(self) -> Any:
        """Why it ended, in words: a string, or an array of them for a stack."""
        return _worded(_reason, self.status, self.grad_norm, self.tolerance)

    def __repr__(self) -> str:
        numbers = self.status, self.iterations, self.evaluations, self.grad_norm, self.tolerance
        if any(isinstance(x, Tracer) for x in numbers):
            return f"Minimum(status={self.status})"
        lines = np.atleast_1d(_worded(_line, *numbers)).ravel()
        more = [f"and {len(lines) - 8} more"] if len(lines) > 9 else []
        return "\n".join([*lines[: 8 if more else 9], *more])


def _worded(function: Callable[..., str], *numbers: Any) -> Any:
    found = np.vectorize(function, otypes=[object])(*map(np.asarray, numbers))
    return found.item() if found.ndim == 0 else found


def _reason(status: int, seen: float, tolerance: float) -> str:
    return REASONS[status].format(seen=seen, tolerance=tolerance)


def _line(status: int, iterations: int, evaluations: int, seen: float, tolerance: float) -> str:
    how = "converged in" if status in CONVERGED else "ended after"
    steps = f"{iterations} iteration{'s' * (iterations != 1)}"
    calls = f"{evaluations} evaluation{'s' * (evaluations != 1)}"
    return f"{how} {steps}, {calls}: {_reason(status, seen, tolerance)}"


def minimize(
    loss: Callable[..., Any] | None,
    params: Tree,
    tx: AnyTransformation = L_BFGS,
    *,
    args: tuple[Any, ...] = (),
    has_aux: bool = False,
    value_and_grad: Callable[..., Any] | None = None,
    gtol: Hyper = 1e-5,
    ftol: Hyper = 0.0,
    xtol: Hyper = 0.0,
    max_evaluations: Hyper = 1000,
    history: int = 0,
    callback: Callable[[Progress], Any] | None = None,
) -> Minimum:
    """The parameters for which `loss(params, *args)` is least, from `params` on: a `Minimum`.

    Every step of `tx` costs one evaluation. It ends where the largest entry of the gradient is at
    most `gtol`, or where value or parameters of the best points change by less than `ftol` and
    `xtol`, relative to what they are or to one. All are data: other numbers compile nothing, and
    `jax.vmap` runs over starts, `args`, tolerances and a stack of `tx`. With `has_aux` the loss
    returns `(value, aux)`. `value_and_grad` stands in for `jax.value_and_grad(loss)`. The values of
    the first `history` evaluations are kept. `callback(progress)` is traced; true ends the run.
    Evaluations that `tx` asks for itself, by `value_fn`, `grad_fn` or `hessian_diag_fn` (which is
    `hutchinson` of the loss), are not counted.
    """
    tx = as_transformation(tx, "minimize")
    if loss is None and value_and_grad is None:
        raise type_error("minimize", "there is no function", "Pass loss, or value_and_grad=")
    functions = loss, has_aux, value_and_grad, callback
    params = jax.tree.map(jnp.asarray, params)
    if not any(map(is_inexact, jax.tree.leaves(params))):
        seen = f"no array of floating numbers is in {_listed(params)}"
        raise value_error("minimize", seen, "Pass the point to start from")
    params = within_box(box_in(tx, params), params)
    tolerances = _Tolerances(gtol, ftol, xtol, max_evaluations)
    for name, x in tolerances._asdict().items():
        if jnp.ndim(x) != 0:
            seen = f"{name} has shape {list(jnp.shape(x))}"
            raise value_error("minimize", seen, "Pass one number, or run it under jax.vmap")
    return _minimize(functions, history, tx, params, args, tolerances)


class _Tolerances(NamedTuple):
    gtol: Any
    ftol: Any
    xtol: Any
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


@functools.partial(jax.jit, static_argnums=(0, 1))
def _minimize(
    functions: tuple[Any, ...],
    length: int,
    tx: GradientTransformation,
    params: Tree,
    args: tuple[Any, ...],
    tolerances: _Tolerances,
) -> Minimum:
    loss, has_aux, given, callback = functions
    evaluate = _evaluation(loss, has_aux, given, args)
    parts = [part for part, _ in tx.moments(At(0))]
    wanted = {name for part in parts for name in (*part.needs, *part.wants)}
    asked: dict[str, Any] = {}  # what Optax's searches do not know they refuse
    if any(isinstance(part, foreign) or "value_fn" in part.needs for part in parts):
        asked["value_fn"] = lambda p: evaluate(p)[0]
    if "grad_fn" in wanted:
        asked["grad_fn"] = lambda p: evaluate(p)[2]
    real, box = real_dtype_of(params), box_in(tx, params)
    number = functools.partial(jnp.asarray, dtype=real)
    gtol, ftol, xtol = map(number, tolerances[:3])

    def turn(now: _Carry) -> _Carry:
        value, aux, grads = evaluate(now.params)
        size = _largest(projected(box, grads, now.params), real)
        more = {**asked, "value": value, "grad": grads}
        if "hessian_diag_fn" in wanted and loss is not None:
            more["hessian_diag_fn"] = lambda key: hutchinson(
                loss, now.params, key, *args, has_aux=has_aux
            )
        new, state = tx.step(grads, now.state, now.params, **more)
        before, first = now.best, now.best.evaluations == 0
        accepted, iterations, stalled = _outcome(state, before)
        finite = jnp.isfinite(value) & jnp.isfinite(size)
        small = accepted & finite & (size <= gtol)
        better = accepted & finite & ((value < before.value) | small | first)

        change = jnp.abs(before.value - value)
        scale = jnp.maximum(jnp.maximum(jnp.abs(before.value), jnp.abs(value)), 1)
        still = better & (change < ftol * scale)
        moved, length_ = _distance(now.params, before.params, real)
        near = better & ~first & (moved < xtol * jnp.maximum(length_, 1))

        seen = before.evaluations + 1
        picked = jax.tree.map(
            lambda a, b: jnp.where(better, a, b),
            Progress(now.params, value, size, aux, iterations, seen),
            before,
        )
        best = picked._replace(iterations=iterations, evaluations=seen)
        stops = jnp.zeros((), bool) if callback is None else _asked(callback(best))
        endings = (
            (STOPPED, stops),
            (USED_UP, seen >= jnp.asarray(tolerances.max_evaluations)),
            (NO_LOWER, stalled),
            (CHANGE_OF_PARAMS, near),
            (CHANGE_OF_VALUE, still),
            (GRADIENT, small),
            (UNBOUNDED, value == -jnp.inf),
            (BAD_START, first & ~finite),
        )
        status = jnp.full((), RUNNING, jnp.int32)
        tolerance = jnp.zeros((), real)
        of = {GRADIENT: gtol, CHANGE_OF_VALUE: ftol, CHANGE_OF_PARAMS: xtol}
        for code, holds in endings:  # the last that holds
            status = jnp.where(holds, jnp.int32(code), status)
            tolerance = jnp.where(holds, of.get(code, jnp.zeros((), real)), tolerance)
        kept = now.history
        if length:
            place = jnp.arange(length, dtype=jnp.int32) == before.evaluations
            kept = jnp.where(place, value, kept)
        return _Carry(new, state, best, status, kept, tolerance)

    zero = jnp.zeros((), jnp.int32)
    # Only what a loss returns beside its value has a shape to be found out by a trace of its own.
    shapes = jax.eval_shape(evaluate, params)[1] if has_aux else None
    aux = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    infinite = jnp.full((), jnp.inf, real)
    start = Progress(params, infinite, infinite, aux, zero, zero)
    history = jnp.full((length,), jnp.nan, real)
    last = lax.while_loop(
        lambda now: now.status == RUNNING,
        turn,
        _Carry(params, tx.init(params), start, zero, history, jnp.zeros((), real)),
    )
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
        last.history if length else None,
        last.tolerance,
    )


def _evaluation(
    loss: Callable[..., Any] | None, has_aux: bool, given: Any, args: tuple[Any, ...]
) -> Callable[[Tree], tuple[Array, Any, Tree]]:
    """The function that gives value, aux and gradient at a point."""

    def one_number(params: Tree, *args: Any) -> Any:
        found = loss(params, *args)  # pyright: ignore[reportOptionalCall]
        _refuse_no_number(found, has_aux)
        return found

    both = given or jax.value_and_grad(one_number, has_aux=has_aux, allow_int=True)

    def evaluate(params: Tree) -> tuple[Array, Any, Tree]:
        found, grads = both(params, *args)
        _refuse_no_number(found, has_aux)
        value, aux = found if has_aux else (found, None)
        value = in_precision(jnp.asarray(value), real_dtype_of(params))
        # JAX gives the conjugate of the direction in which a complex parameter ascends.
        grads = jax.tree.map(lambda g: jnp.conj(g) if is_inexact(g) else g, grads)
        return value.astype(real_dtype_of(params)), aux, grads

    return evaluate


def _refuse_no_number(found: Any, has_aux: bool) -> None:
    """Raises where a loss returns anything but a number, or that and something else."""
    is_pair = isinstance(found, tuple) and len(found) == 2
    if is_pair != has_aux:
        seen = f"with has_aux={has_aux} the loss returns {type(found).__name__}"
        raise type_error("minimize", seen, "Return (value, aux) with has_aux=True, else the value")
    value: Any = found[0] if has_aux else found
    if jnp.ndim(value) != 0:
        seen = f"the loss returns an array of shape {list(jnp.shape(value))}"
        raise value_error("minimize", seen, "Return one number, such as the mean")


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


def _asked(answer: Any) -> Array:
    return jnp.zeros((), bool) if answer is None else jnp.asarray(answer, bool)


def _listed(params: Tree) -> str:
    return ", ".join(path for path, _ in named_leaves(params)) or "the parameters"
