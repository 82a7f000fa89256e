"""Losses and bytes of state with 8-bit slots beside float32: `-m benchmarks.low_precision`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import gradtx as gx
from gradtx.compare.entrant import SCHEDULES, Entrant
from gradtx.compare.problems import PROBLEMS
from gradtx.compare.race import Race

OPTIMIZERS: dict[str, tuple[Callable[[Any], Any], tuple[str, ...], float]] = {
    "adam": (gx.adam, ("mu", "nu"), 3e-3),
    "lion": (lambda rate: gx.lion(rate, weight_decay=0.0), ("mu",), 3e-4),
    "momentum": (lambda rate: gx.sgd(rate, momentum=0.9), ("trace",), 0.03),
}
"""What makes it, its slots, and a learning rate.

The rates are moderate. At the best ones on `digits-mlp` (adam 1e-2, momentum 0.1) a change of the
rate by 1e-5 already moves the mean of three losses by some per cent. Lion's best is 1e-3 there:
with 16 seeds its loss in 8 bits (dynamic) is 1.2 % higher, give or take 0.6 %, held out 0.8 %.
"""

# Arrays of these problems are small: all of them are stored all the same.
FORMATS: dict[str, Any] = {
    "float32": None,
    "8 bits, dynamic": gx.blockwise("dynamic", min_size=0),
    "8 bits, companded": gx.blockwise("companded", min_size=0),
    "bfloat16": gx.rounded("bfloat16"),
}


def entrant(label: str, make: Callable[[Any], Any], slots: tuple[str, ...], format: Any) -> Entrant:
    def stored(rate: Any) -> Any:
        tx = make(rate)
        return tx if format is None else gx.store(tx, dict.fromkeys(slots, format))

    return Entrant(label, stored, "", "", 0.0)


def rows(problems: list[str], seeds: int) -> Iterator[tuple[str, str, str, Any, Any]]:
    """`(problem, optimizer, format, trial, trial in float32)`, as they are ready."""
    for problem in problems:
        race = Race(PROBLEMS[problem](), range(seeds), SCHEDULES["cosine"])
        for name, (make, slots, rate) in OPTIMIZERS.items():
            plain = None
            for label, format in FORMATS.items():
                trial = race.run(
                    entrant(label, make, slots, format), np.array([rate]), lambda _: None
                )
                plain = trial if plain is None else plain
                yield problem, name, label, trial, plain


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.low_precision", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("problems", nargs="*", default=["digits-mlp", "text-transformer"])
    options = parser.parse_args()
    table = Table(
        title=f"8-bit slots beside float32, {options.seeds} seeds, JAX {jax.__version__}",
        caption="losses after the last step, means over seeds (with the standard error); in "
        "brackets the change from float32",
    )
    for heading in ("problem", "optimizer", "slots"):
        table.add_column(heading)
    for heading in ("training loss", "", "held-out loss", "", "bytes of state a parameter"):
        table.add_column(heading, justify="right")
    console = Console()
    console.width = max(console.width, 130)  # a log file has no width of its own
    with console.status("training"):
        for problem, name, label, trial, plain in rows(options.problems, options.seeds):
            cells = []
            for losses, exact in (
                (trial.train_loss, plain.train_loss),
                (trial.held_loss, plain.held_loss),
            ):
                last, wide = losses[0, :, -1], exact[0, :, -1]
                error = last.std(ddof=1) / len(last) ** 0.5 if len(last) > 1 else 0.0
                change = last.mean() / wide.mean() - 1
                cells += [f"{last.mean():.4f} ± {error:.4f}", f"({change:+.2%})"]
            table.add_row(problem, name, label, *cells, f"{trial.state_bytes_per_parameter:.3f}")
            console.log(problem, name, label, *cells, highlight=False)
    console.print(table)


if __name__ == "__main__":
    main()
