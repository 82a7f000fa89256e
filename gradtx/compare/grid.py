"""Runs in rows of one learning rate each: both rounds of a trial have one shape, compiled once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

WASTED = 1.5  # how many times as many runs as are wanted one shape may cost


class Grid(NamedTuple):
    """Learning rates with all seeds, cut into rows; runs that are not wanted fill it up."""

    rates: np.ndarray  # [rows]
    seeds: np.ndarray  # [rows, columns]
    wanted: tuple[int, int]  # learning rates, and seeds of each

    def runs(self, values: Any) -> Any:
        """Arrays [learning rates, seeds, ...] of arrays [rows, columns, ...]."""
        rates, seeds = self.wanted
        blocks = -(-seeds // self.seeds.shape[1])

        def of_one(x: Any) -> Any:
            kept = x[: rates * blocks]
            return kept.reshape(rates, blocks * x.shape[1], *x.shape[2:])[:, :seeds]

        return jax.tree.map(of_one, values)


def grid(rates: np.ndarray, seeds: Sequence[int], columns: int, rows: int = 0) -> Grid:
    """Such a grid with `columns`, and at least so many `rows`."""
    blocks = -(-len(seeds) // columns)
    of_one_rate = np.resize(np.asarray(seeds, np.int32), (blocks, columns))
    all_rates, all_seeds = np.repeat(rates, blocks), np.tile(of_one_rate, (len(rates), 1))
    rows = max(rows, len(all_rates))
    return Grid(
        np.resize(all_rates, rows), np.resize(all_seeds, (rows, columns)), (len(rates), len(seeds))
    )


def rows_for(first: int, seeds: int, columns: int, later: int = 3) -> int:
    """Rows that fit `first` learning rates with few seeds and `later` ones with all; 0 if none."""
    second = later * -(-seeds // columns)
    most = max(first, second)
    return most if most <= WASTED * min(first, second) else 0
