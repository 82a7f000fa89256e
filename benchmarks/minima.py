"""Prints times of L-BFGS to a minimum beside SciPy, of a step beside Optax, of many fits at once.

`python -m benchmarks.minima`. In float64, with ten pairs in memory. SciPy has one thread: several
take up to a hundred times as long on small problems.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from problems_mgh import PROBLEMS, loss
from rich.console import Console
from rich.table import Table

import gradtx as gx
from benchmarks.measure import Ratio, seconds
from benchmarks.searches import GTOL, Found, scipys

LARGE, STARTS, STEPS = 1000, 64, 40


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


def rosenbrock(x: Any) -> Any:
    return loss(x, "extended Rosenbrock")


def training_loops() -> tuple[Any, Any]:
    """A step of both: one evaluation of gradtx, one iteration of Optax."""
    ours, theirs = gx.lbfgs(), optax.lbfgs(memory_size=10)

    def here(x: Any, state: Any) -> Any:
        value, grads = jax.value_and_grad(rosenbrock)(x)
        return ours.step(grads, state, x, value=value)

    def there(x: Any, state: Any) -> Any:
        value, grads = optax.value_and_grad_from_state(rosenbrock)(x, state=state)
        updates, state = theirs.update(
            grads, state, x, value=value, grad=grads, value_fn=rosenbrock
        )
        return optax.apply_updates(x, updates), state

    return (ours, here), (theirs, there)


def steps(console: Console, rounds: int = 15) -> Table:
    table = Table(
        title=f"a step of lbfgs beside Optax {optax.__version__}, on extended Rosenbrock",
        caption=f"{STEPS} in one compiled loop; of gradtx an evaluation, of Optax an iteration",
    )
    for heading in ("n", "what", "gradtx ms", "Optax ms", "ratio", ""):
        table.add_column(heading)

    def row(n: int, what: str, r: Ratio) -> None:
        spread = f"\\[{r.low:.2f}, {r.high:.2f}]"
        table.add_row(
            str(n), what, f"{r.ours * 1e3:.3g}", f"{r.theirs * 1e3:.3g}", f"{r.median:.2f}", spread
        )
        console.log(f"{r.median:.2f}  {what}, n = {n}", highlight=False)

    for n in (100, 1000, 10_000, 100_000):
        start = jnp.tile(jnp.asarray([-1.2, 1.0]), n // 2)
        loops = [_loop(tx, step, start) for tx, step in training_loops()]
        pairs = [tuple(seconds(loop) / STEPS for loop in loops) for _ in range(rounds)]
        row(n, "step", Ratio.of(*zip(*pairs, strict=True)))
    start = jnp.tile(jnp.asarray([-1.2, 1.0]), 50)
    built = [[_built(tx, step, start) for tx, step in training_loops()] for _ in range(7)]
    for k, what in enumerate(("trace + lower", "compile")):
        row(100, what, Ratio.of(*([one[side][k] for one in built] for side in (0, 1))))
    return table


def _loop(tx: Any, step: Callable[..., Any], start: Any) -> Callable[[], Any]:
    """Some steps in one compiled loop."""

    @jax.jit
    def run(x: Any, state: Any) -> Any:
        return jax.lax.scan(lambda now, _: (step(*now), None), (x, state), length=STEPS)[0]

    state = tx.init(start)
    jax.block_until_ready(run(start, state))
    return lambda: jax.block_until_ready(run(start, state))


def _built(tx: Any, step: Callable[..., Any], start: Any) -> tuple[float, float]:
    state = tx.init(start)
    jax.clear_caches()
    begin = time.perf_counter()
    lowered = jax.jit(step).lower(start, state)
    middle = time.perf_counter()
    lowered.compile()
    return middle - begin, time.perf_counter() - middle


def gaussian_process() -> tuple[Callable[[Any], Any], Any]:
    """Minus the marginal likelihood of 60 points in five dimensions, and starts."""
    random = np.random.default_rng(0)
    x = jnp.asarray(random.uniform(-2, 2, size=(60, 5)))
    y = jnp.sin(2 * x[:, 0]) + 0.5 * x[:, 1] ** 2 + 0.1 * random.normal(size=60)
    y = (y - y.mean()) / y.std()
    gaps = (x[:, None] - x[None]) ** 2

    def negative_likelihood(logs: Any) -> Any:
        lengths, size, noise = jnp.exp(logs[:5]), jnp.exp(logs[5]), jnp.exp(logs[6])
        kernel = size**2 * jnp.exp(-jnp.sum(gaps / lengths**2, axis=-1) / 2)
        lower = jnp.linalg.cholesky(kernel + (noise**2 + 1e-6) * jnp.eye(60))
        inside = jax.scipy.linalg.solve_triangular(lower, y, lower=True)
        return inside @ inside / 2 + jnp.sum(jnp.log(jnp.diagonal(lower)))

    return negative_likelihood, jnp.asarray(random.normal(size=(STARTS, 7)))


def fits(console: Console, rounds: int = 5) -> Table:
    function, starts = gaussian_process()
    slopes = jax.jit(jax.value_and_grad(function))
    solve = jax.jit(jax.vmap(lambda start: gx.minimize(function, start, gtol=1e-4)))
    one = jax.block_until_ready(solve(starts))
    others = [scipys(slopes, np.asarray(start), gtol=1e-4) for start in starts]

    def there() -> None:
        for start in starts:
            scipys(slopes, np.asarray(start), gtol=1e-4)

    pairs = [
        (seconds(lambda: jax.block_until_ready(solve(starts))), seconds(there))
        for _ in range(rounds)
    ]
    r = Ratio.of(*zip(*pairs, strict=True))
    table = Table(title=f"a Gaussian process of seven numbers, fitted from {STARTS} starts")
    for heading in ("", "gradtx, vmap", "SciPy, a loop", "ratio"):
        table.add_column(heading)
    table.add_row("seconds", f"{r.ours:.3g}", f"{r.theirs:.3g}", f"{r.median:.2f}")
    best = float(one.value.min()), min(end.value for end in others)
    table.add_row("lowest value", *(f"{value:.6g}" for value in best), "")
    evaluations = [end.evaluations for end in others]
    table.add_row("evaluations, longest", str(one.evaluations.max()), str(max(evaluations)), "")
    middle = str(int(jnp.median(one.evaluations))), str(statistics.median(evaluations))
    table.add_row("evaluations, median", *middle, "")
    console.log(f"{r.median:.2f}  {STARTS} fits of a Gaussian process", highlight=False)
    return table


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    console = Console()
    console.width = max(console.width, 110)
    for table in [times(console), steps(console), fits(console)]:
        console.print(table)


if __name__ == "__main__":
    main()
