"""Prints evaluations on published problems beside SciPy and Optax; see `minima.py` for times.

`python -m benchmarks.searches`. The gradient is to be at most 1e-6 in every entry, in float64, with
ten pairs in memory. Optax's objective counts how often it is evaluated.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from problems_bounded import BOUNDED
from problems_mgh import BADLY_SCALED, NAMES, PROBLEMS, any_loss, long_start, loss
from rich.console import Console
from rich.table import Table

import gradtx as gx

GTOL, MOST = 1e-6, 2000
both = jax.jit(jax.value_and_grad(any_loss))


class Found(NamedTuple):
    iterations: int
    evaluations: int
    value: float
    gradient: float

    def __str__(self) -> str:
        return f"{self.iterations}/{self.evaluations}{'' if self.gradient <= GTOL else '*'}"


def ours(name: str) -> Found:
    more = {"value_and_grad": both, "args": (NAMES.index(name),)}
    found = gx.minimize(None, long_start(name), gtol=GTOL, max_evaluations=MOST, **more)
    counts = int(found.iterations), int(found.evaluations)
    return Found(*counts, float(found.value), float(found.grad_norm))


def scipys(
    function: Callable[[Any], Any],
    start: Any,
    bounds: Any = None,
    method: str = "L-BFGS-B",
    gtol: float = GTOL,
) -> Found:
    def evaluate(x: Any) -> tuple[float, Any]:
        value, slope = function(x)
        return float(value), np.asarray(slope)

    options: dict[str, Any] = {"gtol": gtol, "maxiter": 20000}
    if method == "L-BFGS-B":
        options |= {"ftol": 0.0, "maxcor": 10, "maxfun": 20000}
    more = {"method": method, "bounds": bounds, "options": options}
    with warnings.catch_warnings(action="ignore"):
        found = scipy.optimize.minimize(evaluate, start, jac=True, **more)
    slope = found.jac
    if bounds is not None:
        lower, upper = np.transpose(bounds)
        slope = np.clip(found.x - slope, lower, upper) - found.x
    return Found(found.nit, found.nfev, float(found.fun), float(np.abs(slope).max()))


def optaxs(name: str) -> Found:
    params, number = jnp.asarray(long_start(name)), NAMES.index(name)
    state, made, iterations = _optax().init(params), 0, 0
    _calls.clear()
    for iterations in range(MOST):  # noqa: B007 - read below
        value, slope, new, after = jax.block_until_ready(_optax_step(params, state, number))
        if float(jnp.abs(slope).max()) <= GTOL:
            break  # what this step evaluated behind the minimum does not count
        params, state = new, after
        jax.effects_barrier()
        made = len(_calls)
    return Found(iterations, made, float(value), float(jnp.abs(slope).max()))


def _optax() -> Any:
    return optax.lbfgs(memory_size=10)


_calls: list[None] = []


@jax.jit
def _optax_step(params: Any, state: Any, number: Any) -> Any:
    def counted(x: Any) -> Any:
        jax.debug.callback(lambda _: _calls.append(None), x[0])
        return any_loss(x, number)

    value, slope = optax.value_and_grad_from_state(counted)(params, state=state)
    updates, state = _optax().update(
        slope, state, params, value=value, grad=slope, value_fn=counted
    )
    return value, slope, optax.apply_updates(params, updates), state


def counts(console: Console) -> Table:
    table = Table(
        title=f"iterations/evaluations; SciPy {scipy.__version__}, Optax {optax.__version__}",
        caption="* the gradient did not become small enough",
    )
    for heading in ("problem (n)", "SciPy", "Optax", "gradtx", "value"):
        table.add_column(heading, justify="left" if heading == "problem (n)" else "right")
    totals = np.zeros(3, int)
    for number, name in enumerate(NAMES):
        n = PROBLEMS[name].start.size

        def function(x: Any, number: int = number, n: int = n) -> Any:
            value, slope = both(np.pad(x, (0, 100 - n)), number)
            return value, np.asarray(slope)[:n]

        found = scipys(function, PROBLEMS[name].start), optaxs(name), ours(name)
        if name not in BADLY_SCALED:
            totals += [one.evaluations for one in found]
        table.add_row(f"{name} ({n})", *map(str, found), f"{found[-1].value:.6g}")
        console.log(f"{name}: {', '.join(map(str, found))}", highlight=False)
    table.add_section()
    table.add_row("evaluations on the 28 that are scaled well", *map(str, totals), "")
    return table


def bounded(console: Console) -> Table:
    table = Table(title="within bounds: iterations/evaluations", caption="as above")
    for heading in ("problem (n)", "SciPy", "gradtx", "value", "published"):
        table.add_column(heading, justify="left" if heading == "problem (n)" else "right")
    totals = np.zeros(2, int)
    for name, problem in BOUNDED.items():
        start, lower, upper = (
            np.asarray(x, float) for x in (problem.start, problem.lower, problem.upper)
        )
        slopes = jax.jit(jax.value_and_grad(problem.function))
        tx = gx.lbfgsb(lower=lower, upper=upper)
        one = gx.minimize(None, start, tx, value_and_grad=slopes, gtol=GTOL, max_evaluations=MOST)
        counts = int(one.iterations), int(one.evaluations)
        here = Found(*counts, float(one.value), float(one.grad_norm))
        there = scipys(slopes, start, list(zip(lower, upper, strict=True)))
        totals += there.evaluations, here.evaluations
        numbers = str(there), str(here), f"{here.value:.6g}", f"{problem.minimum:.6g}"
        table.add_row(f"{name} ({start.size})", *numbers)
        console.log(f"{name}: {there}, {here}", highlight=False)
    table.add_section()
    table.add_row("evaluations", *map(str, totals), "", "")
    return table


DIRECTIONS = {
    "lbfgs, wolfe": gx.lbfgs(),
    "lbfgs, hager_zhang": gx.hager_zhang(gx.chain(gx.scale_by_lbfgs(), gx.scale(-1.0))),
    "lbfgs, backtracking": gx.backtracking(gx.chain(gx.scale_by_lbfgs(), gx.scale(-1.0))),
    "bfgs": gx.bfgs(),
    "bfgs, al-baali": gx.bfgs(scaling="al-baali"),
    "bfgs, broyden": gx.bfgs(scaling="broyden"),
    "nonlinear_cg": gx.nonlinear_cg(),
    "newton_cg": gx.newton_cg(),
}
OF_SCIPY = ("L-BFGS-B", "BFGS", "CG")


def directions(console: Console) -> Table:
    """All methods on the problems that are scaled well, from 3000 evaluations on given up."""
    table = Table(title="evaluations on the 28 problems that are scaled well", caption="as above")
    for heading in ("method", "evaluations", "solved"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    names = [name for name in NAMES if name not in BADLY_SCALED]
    found: dict[str, list[Found]] = {name: [] for name in (*OF_SCIPY, *DIRECTIONS)}
    for name in names:
        start = PROBLEMS[name].start
        slopes = jax.jit(jax.value_and_grad(lambda x, name=name: loss(x, name)))
        for method in OF_SCIPY:
            found[method].append(scipys(slopes, start, method=method))
        for method, tx in DIRECTIONS.items():
            function = functools.partial(loss, name=name)
            one = gx.minimize(function, start, tx, gtol=GTOL, max_evaluations=3000)
            counts = int(one.iterations), int(one.evaluations)
            found[method].append(Found(*counts, float(one.value), float(one.grad_norm)))
        console.log(name, highlight=False)
    for method, ends in found.items():
        solved = sum(end.gradient <= GTOL for end in ends)
        title = f"SciPy {method}" if method in OF_SCIPY else method
        table.add_row(title, str(sum(end.evaluations for end in ends)), f"{solved} of {len(ends)}")
    return table


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    console = Console()
    console.width = max(console.width, 110)
    tables = [counts(console), bounded(console), directions(console)]
    for table in tables:
        console.print(table)


if __name__ == "__main__":
    main()
