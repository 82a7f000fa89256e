"""Prints ratios gradtx / Optax, below one means that gradtx takes less, and how even steps are."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table

from benchmarks import matrices, measure
from benchmarks.measure import Ratio
from benchmarks.peers import pairs, wrapped

BIG = 16 * 2**20
"""Floats of the one large array."""


def many(n: int, shape: tuple[int, ...] = (8, 8)) -> dict[str, Any]:
    return {f"layer{i}": jnp.full(shape, 0.1) for i in range(n)}


def gpt2_small() -> dict[str, Any]:
    """148 arrays and 124 M floats, in the shapes of GPT-2 small."""
    d = 768
    block = {
        "ln1": {"scale": (d,), "bias": (d,)},
        "attention": {"qkv": (d, 3 * d), "qkv_bias": (3 * d,), "out": (d, d), "out_bias": (d,)},
        "ln2": {"scale": (d,), "bias": (d,)},
        "mlp": {"up": (d, 4 * d), "up_bias": (4 * d,), "down": (4 * d, d), "down_bias": (d,)},
    }
    shapes: dict[str, Any] = {f"block{i}": block for i in range(12)}
    shapes |= {"wte": (50257, d), "wpe": (1024, d), "ln_f": {"scale": (d,), "bias": (d,)}}
    return jax.tree.map(
        lambda shape: jnp.full(shape, 0.1), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


def rows(quick: bool) -> Iterator[tuple[str, str, str, Ratio]]:
    """`(optimizer, what is measured, on what, ratio)`, as they are ready."""
    both = pairs()
    adamw = both["adamw"]
    sizes = (10, 100, 150) if quick else (10, 100, 150, 1000)
    for n in sizes:
        where, params = f"{n} arrays of 8 x 8", many(n)
        lowering, compiling = measure.building(adamw, params, 3 if n == 1000 else 9)
        yield "adamw", "trace + lower", where, lowering
        yield "adamw", "compile", where, compiling
        yield "adamw", "step", where, measure.stepping(adamw, params, 21, 20)
        yield "adamw", "un-jitted update", where, measure.unjitted(adamw, params, 9)
        yield "adamw", "dispatch", where, measure.dispatching(adamw, many(n, (1,)), 21, 20)
    one = {"w": jnp.full((BIG // 16 if quick else BIG,), 0.1)}
    where = f"one array of {one['w'].size // 2**20} Mi"
    lowering, compiling = measure.building(adamw, one, 9)
    yield "adamw", "trace + lower", where, lowering
    yield "adamw", "compile", where, compiling
    yield "adamw", "un-jitted update", where, measure.unjitted(adamw, one, 7)
    steps = {name: measure.stepping(txs, one, 9, 2) for name, txs in both.items()}
    yield from ((name, "step", where, ratio) for name, ratio in steps.items())
    yield "all of these", "step", where, measure.geometric_mean(list(steps.values()))
    for name, txs in wrapped().items():
        places = (where, one, 4), ("150 arrays of 8 x 8", many(150), 20)
        for place, params, repeats in places:
            ratio = measure.stepping(txs, params, 9, repeats, measure.whole_step)
            yield name, "step, mean of a cycle of 4", place, ratio
    if not quick:
        tree = gpt2_small()
        for name in ("adamw", "rmsprop", "clip + adamw"):
            yield name, "step", "GPT-2 small", measure.stepping(both[name], tree, 7, 1)
    yield from matrices.rows(quick)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller arrays, fewer of them")
    quick = parser.parse_args().quick
    table = Table(
        title=f"gradtx / Optax {optax.__version__}, JAX {jax.__version__}, "
        f"{jax.devices()[0].device_kind}, Python {platform.python_version()}",
        caption="medians of rounds taken in turn; in brackets the quartiles of the ratio",
    )
    for heading in ("optimizer", "measured", "on"):
        table.add_column(heading)
    for heading in ("gradtx ms", "Optax ms", "ratio", ""):
        table.add_column(heading, justify="right")
    console = Console()
    console.width = max(console.width, 110)  # a log file has no width of its own
    with console.status("measuring"):
        for name, what, where, r in rows(quick):
            spread = f"[{r.low:.2f}, {r.high:.2f}]".replace("[", "\\[")
            table.add_row(
                name, what, where, f"{r.ours * 1e3:.3g}", f"{r.theirs * 1e3:.3g}",
                f"{r.median:.2f}", spread,
            )  # fmt: skip
            console.log(f"{r.median:.2f}  {name}: {what} on {where}", highlight=False)
        even = Table(title="steps of one cycle, from refresh to refresh")
        even.add_column("optimizer")
        for heading in ("median ms", "slowest ms", "ratio"):
            even.add_column(heading, justify="right")
        for name, usual, slowest in matrices.turns(quick):
            times = f"{usual * 1e3:.3g}", f"{slowest * 1e3:.3g}", f"{slowest / usual:.2f}"
            even.add_row(name, *times)
            console.log(f"{slowest / usual:.2f}  {name}: slowest step", highlight=False)
    console.print(table)
    console.print(even)


if __name__ == "__main__":
    main()
