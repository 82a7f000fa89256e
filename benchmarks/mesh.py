"""Prints Muon on eight simulated devices beside `optax.contrib.muon` on the same mesh.

`python -m benchmarks.mesh`. The devices share the cores of one machine, so that times tell how much
is computed, by all devices together, and nothing of the links between them; bytes tell that.
"""

from __future__ import annotations

import os

DEVICES = 8
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import argparse
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from rich.console import Console
from rich.table import Table

import gradtx as gx
from benchmarks import measure
from benchmarks.matrices import matrices, pair
from benchmarks.measure import Ratio

LAYOUTS = {"replicated": (), "rows laid over": ("data",), "columns laid over": (None, "data")}
MOVES = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
SIZES = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "pred": 1, "f64": 8, "s8": 1, "u8": 1}


class Side(NamedTuple):
    """One optimizer on the mesh, compiled."""

    step: Any
    params: Any
    state: Any
    each: int  # matrices that a device iterates on, in whole or in part
    moved: int  # bytes that collective operations leave on a device in a step
    held: int  # bytes of state on a device


def mesh() -> Any:
    return jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))


def laid(tree: Any, spec: tuple[Any, ...]) -> Any:
    """The matrices of a tree over the mesh, what else there is on all devices."""

    def put(x: Any) -> Any:
        own = PartitionSpec(*spec) if x.ndim > 1 else PartitionSpec()
        return jax.device_put(x, NamedSharding(mesh(), own))

    return jax.tree.map(put, tree)


def moved(text: str) -> int:
    """The bytes of the results of collective operations in a compiled program."""
    found = re.findall(rf"= (.*?) (?:{MOVES})(?:-start)?\(", text)
    arrays = [one for result in found for one in re.findall(r"(\w+)\[([\d,]*)\]", result)]
    return sum(
        SIZES[kind] * math.prod(int(n) for n in shape.split(",") if n) for kind, shape in arrays
    )


def side(tx: Any, params: Any, each: int) -> Side:
    state = tx.init(params)
    step = jax.jit(measure.train_step(tx))
    compiled = step.lower(params, state, params).compile()
    first = jax.devices()[0]
    shards = [s for x in jax.tree.leaves(state) for s in x.addressable_shards]
    held = sum(s.data.nbytes for s in shards if s.device == first)
    return Side(compiled, params, state, each, moved(compiled.as_text()), held)


def timed(ours: Side, theirs: Side, rounds: int) -> Ratio:
    """Both in turn."""
    times: list[list[float]] = [[], []]
    for k in range(rounds + 1):
        for found, one in zip(times, (ours, theirs), strict=True):
            params, state = one.params, jax.device_put(one.state, one.step.input_shardings[0][1])
            run = measure.seconds(
                lambda one=one, params=params, state=state: jax.block_until_ready(
                    one.step(params, state, params)
                )
            )
            found.extend([run] if k else [])
    return Ratio.of(*times)


def rows(quick: bool) -> Iterator[tuple[str, str, Side, Side, Ratio]]:
    """`(ours, layout, our side, Optax's, ratio of times)`, as they are ready."""
    plain, optaxs = pair()
    params = matrices(32 if quick else 128)
    count = sum(x.ndim == 2 for x in jax.tree.leaves(params))
    shared = gx.distribute(plain, mesh=mesh())
    share = {one.shape: one.each for one in shared.shared(params)}
    for layout, spec in LAYOUTS.items():
        there = laid(params, spec)
        theirs = side(optaxs, there, count)
        for name, tx, each in (
            ("distribute", shared, sum(share.values())),
            ("as it is", plain, count),
        ):
            ours = side(tx, there, each)
            yield name, layout, ours, theirs, timed(ours, theirs, 3 if quick else 7)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mesh", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller matrices, fewer rounds")
    quick = parser.parse_args().quick
    table = Table(
        title=f"muon on {DEVICES} simulated devices, gradtx / Optax {optax.__version__}, "
        f"JAX {jax.__version__}",
        caption="48 matrices; medians of rounds taken in turn, of the ratio its quartiles too",
    )
    for heading in ("gradtx", "matrices"):
        table.add_column(heading)
    for heading in ("of 48 a device", "MB moved", "MB of state", "ms", "ratio of times", ""):
        table.add_column(heading, justify="right")
    console = Console()
    console.width = max(console.width, 130)  # a log file has no width of its own
    for name, layout, ours, theirs, r in rows(quick):
        both = zip(ours[3:], theirs[3:], strict=True)
        each, *sizes = both
        shown = [f"{a / 1e6:.3g} / {b / 1e6:.3g}" for a, b in sizes]
        table.add_row(
            name, layout, f"{each[0]} / {each[1]}", *shown,
            f"{r.ours * 1e3:.3g} / {r.theirs * 1e3:.3g}", f"{r.median:.2f}",
            f"\\[{r.low:.2f}, {r.high:.2f}]",
        )  # fmt: skip
        console.log(f"{r.median:.2f}  muon, {name}, {layout}", highlight=False)
    console.print(table)


if __name__ == "__main__":
    main()
