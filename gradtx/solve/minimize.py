"""The least value of a function by any transformation: the loop around `step`; results are data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gradtx.foreign import AnyTransformation, as_transformation
from gradtx.solve import implicit as of_optimum, loop
from gradtx.solve.box import within_box
from gradtx.solve.lbfgs import lbfgs
from gradtx.solve.loop import Progress, Tolerances
from gradtx.solve.minimum import Minimum as Minimum
from gradtx.solve.objective import Settings
from gradtx.struct import type_error, value_error
from gradtx.tree import Tree, is_inexact, named_leaves

L_BFGS = lbfgs()
INFINITE = float("inf")


def minimize(
    loss: Callable[..., Any] | None,
    params: Tree,
    tx: AnyTransformation = L_BFGS,
    *,
    args: tuple[Any, ...] = (),
    has_aux: bool = False,
    value_and_grad: Callable[..., Any] | None = None,
    gtol: ArrayLike = 1e-5,
    ftol: ArrayLike = 0.0,
    xtol: ArrayLike = 0.0,
    floor: ArrayLike = -INFINITE,
    max_evaluations: ArrayLike = 1000,
    history: int = 0,
    callback: Callable[[Progress], Any] | None = None,
    progress: bool | int = False,
    implicit: bool = False,
    jit: bool = True,
) -> Minimum:
    """The parameters for which `loss(params, *args)` is least, from `params` on: a `Minimum`.

    Every step of `tx` costs one evaluation. It ends where the largest entry of the gradient is at
    most `gtol`, where value or parameters of the best points change by less than `ftol` and `xtol`,
    relative to what they are or to one, or where a value is under `floor`. All are data: other
    numbers compile nothing, and `jax.vmap` runs over starts, `args`, tolerances and a stack of
    `tx`. With `has_aux` the loss returns `(value, aux)`. `value_and_grad` stands in for
    `jax.value_and_grad(loss)`. The values of the first `history` evaluations are kept.
    `callback(best)` is traced; true ends the run. `progress` prints a line now and then, or
    every so many evaluations: under `vmap` one for all. Evaluations that `tx` asks for itself, by
    `value_fn`, `grad_fn` or `hessian_diag_fn` (`hutchinson` of the loss), are not counted.

    With `implicit` the result has derivatives with respect to `args` and to what the loss closes
    over, -H^-1 d^2 f / dx dargs by conjugate gradients on products with the Hessian H at the
    optimum; with respect to start, `tx` and tolerances they are zero. With `jit=False` objective
    and callback are called from Python, with arrays whose numbers are known.
    """
    tx = as_transformation(tx, "minimize")
    if loss is None and value_and_grad is None:
        raise type_error("minimize", "there is no function", "Pass loss, or value_and_grad=")
    settings = Settings(loss, has_aux, value_and_grad, callback, history, progress, jit)
    _refuse_unusable(settings, implicit)
    if not isinstance(args, tuple | list):
        seen = f"args has the type {type(args).__name__}"
        raise type_error("minimize", seen, "Pass a tuple: args=(x,)")
    params = jax.tree.map(jnp.asarray, params)
    if not any(map(is_inexact, jax.tree.leaves(params))):
        seen = f"no array of floating numbers is in {_listed(params)}"
        raise value_error("minimize", seen, "Pass the point to start from")
    params = within_box(tx.bounds(params), params)
    tolerances = Tolerances(gtol, ftol, xtol, floor, max_evaluations)
    for name, x in tolerances._asdict().items():
        if jnp.ndim(x) != 0:
            seen = f"{name} has shape {list(jnp.shape(x))}"
            raise value_error("minimize", seen, "Pass one number, or run it under jax.vmap")
    if not jit:
        return loop.in_python(settings, tx, params, args, tolerances)
    if implicit:
        settings, args = of_optimum.without_closure(settings, params, args)
        return of_optimum.differentiable(settings, tx, params, args, tolerances)
    return loop.compiled(settings, tx, params, args, tolerances)


def _refuse_unusable(settings: Settings, implicit: bool) -> None:
    """Raises for what chooses code and cannot."""
    for name, least in (("history", 0), ("progress", 1)):
        given = getattr(settings, name)
        if not isinstance(given, int | np.integer) or (given < least and given is not False):
            do = f"Pass a whole number from {least} on" + (", or True" if least else "")
            raise value_error("minimize", f"{name} is {given!r}", do)
    if implicit and not settings.jit:
        seen = "implicit=True takes derivatives of the objective, which jit=False does not trace"
        raise value_error("minimize", seen, "Pass one of them")
    for name in ("loss", "value_and_grad", "callback"):
        try:
            hash(getattr(settings, name))
        except TypeError as error:
            seen = f"{name} cannot be hashed ({error}), so its program would not be found again"
            do = "Pass a function, and the arrays that it holds in params or args"
            raise type_error("minimize", seen, do) from error


def _listed(params: Tree) -> str:
    return ", ".join(path for path, _ in named_leaves(params)) or "the parameters"
