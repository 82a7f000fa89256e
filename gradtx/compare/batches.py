"""Where the batches of a problem come from: rows of arrays, a function, or an iterator."""

from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .problems import Problem


class Batches:
    """The batches of a problem; `data` is what `draw` gets as its first argument.

    Those of an iterator are read once, as many as there are steps, and stay in memory: every seed
    begins at another of them.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem, train = problem, problem.train
        if callable(train):
            self.data: Any = None
            self.probe = jax.jit(train)(jax.random.fold_in(jax.random.key(0), 2**31 - 1))
            return
        if hasattr(train, "__next__"):
            read = list(islice(train, problem.steps))
            self.data = jax.tree.map(lambda *rows: jnp.asarray(np.stack(rows)), *read)
            self.probe = jax.tree.map(lambda rows: rows[0], self.data)
            return
        self.data = jax.tree.map(jnp.asarray, train)
        self.probe = jax.tree.map(lambda rows: rows[: problem.probe], self.data)

    def draw(self, data: Any, key: Array, turn: Array) -> Any:
        """The batch of a step: drawn by a key, or the one whose turn it is."""
        problem = self._problem
        if callable(problem.train):
            return problem.train(key)
        if hasattr(problem.train, "__next__"):
            number = len(jax.tree.leaves(data)[0])
            return jax.tree.map(lambda rows: rows[turn % number], data)
        if problem.batch_size is None:
            return data
        rows = jax.random.randint(key, (problem.batch_size,), 0, problem.examples)
        return jax.tree.map(lambda a: a[rows], data)
