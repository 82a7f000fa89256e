"""Prints evaluations of L-BFGS on published problems beside SciPy and Optax, times beside SciPy.

`python -m benchmarks.searches`. The gradient is to be at most 1e-6 in every entry, in float64, with
ten pairs in memory. Optax's objective counts how often it is evaluated. SciPy has one thread:
several take up to a hundred times as long on small problems.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from rich.console import Console
from rich.table import Table

import gradtx as gx
from benchmarks.measure import Ratio, seconds
from tests.problems_mgh import BADLY_SCALED, NAMES, PROBLEMS, any_loss, long_start, loss

GTOL, MOST = 1e-6, 2000
LARGE = 1000
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


def scipys(function: Callable[[Any], Any], start: Any) -> Found:
    def evaluate(x: Any) -> tuple[float, Any]:
        value, slope = function(x)
        return float(value), np.asarray(slope)

    options = {"gtol": GTOL, "ftol": 0.0, "maxcor": 10, "maxfun": 20000, "maxiter": 20000}
    found = scipy.optimize.minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options)
    return Found(found.nit, found.nfev, float(found.fun), float(np.abs(found.jac).max()))


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


def times(console: Console, rounds: int = 15) -> Table:
    table = Table(
        title=f"time to the minimum at n = {LARGE}, SciPy with the same jitted value and gradient",
        caption="medians of rounds taken in turn; in brackets the quartiles of the ratio",
    )
    for heading in ("problem", "gradtx", "SciPy", "gradtx ms", "SciPy ms", "ratio", ""):
        table.add_column(heading)
    for name in ("extended Rosenbrock", "Broyden tridiagonal"):
        start = np.tile(PROBLEMS[name].start[:2], LARGE // 2)
        slopes = jax.jit(jax.value_and_grad(lambda x, name=name: loss(x, name)))

        def here(start: Any = start, slopes: Any = slopes) -> Any:
            return jax.block_until_ready(gx.minimize(None, start, value_and_grad=slopes, gtol=GTOL))

        def there(start: Any = start, slopes: Any = slopes) -> Found:
            return scipys(slopes, start)

        one, other = here(), there()
        pairs = [(seconds(here), seconds(there)) for _ in range(rounds)]
        r = Ratio.of(*zip(*pairs, strict=True))
        spread = f"\\[{r.low:.2f}, {r.high:.2f}]"
        ending = f"{int(one.iterations)}/{int(one.evaluations)}"
        numbers = f"{r.ours * 1e3:.3g}", f"{r.theirs * 1e3:.3g}", f"{r.median:.2f}"
        table.add_row(name, ending, str(other), *numbers, spread)
        console.log(f"{r.median:.2f}  {name}", highlight=False)
    return table


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    console = Console()
    console.width = max(console.width, 110)
    tables = [times(console), counts(console)]
    for table in tables:
        console.print(table)


if __name__ == "__main__":
    main()
