"""Train and held-out parts of a data set, always the same ones."""

from typing import TypeVar

import jax
import numpy as np

Tree = TypeVar("Tree")


def split(data: Tree, held_out: float = 0.2) -> tuple[Tree, Tree]:
    """Rows of `data` in a fixed random order, cut into (train, held-out)."""
    rows = len(jax.tree.leaves(data)[0])
    order = np.random.default_rng(0).permutation(rows)
    cut = rows - round(held_out * rows)
    return (
        jax.tree.map(lambda a: a[order[:cut]], data),
        jax.tree.map(lambda a: a[order[cut:]], data),
    )
