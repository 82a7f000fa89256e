"""What a problem is: data, a loss, and how to judge what was learnt."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import jax
import numpy as np
from jax import Array

Params = Any
Data = Any


class Score(NamedTuple):
    """What a run is judged by on held-out examples, beside the loss; larger is better.

    It is a share of the examples, such as the accuracy.
    """

    name: str
    of: Callable[..., Array]  # of (params, held_out), or (params, aux, held_out)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A training problem: `Problem(draw=init, loss=loss, train=(x, y))` is enough.

    `draw(key)` gives the parameters, a tree of float arrays, and `loss(params, batch, key)` a
    scalar; the key is for dropout and the like. `train` is a tree of arrays with a row for each
    example, of which every step draws `batch_size`, or a function of a key that gives a batch, or
    an iterator of batches, of which as many are kept as there are steps. With `aux`, `draw` gives
    `(params, aux)` and `loss(params, aux, batch, key)` the loss and the next aux, such as the
    averages of batch normalization.
    """

    draw: Callable[[Array], Any]
    loss: Callable[..., Any]
    train: Data
    held_out: Data = None  # None: it is judged by the training loss alone
    # The loss by which it is judged, of (params, batch) or (params, aux, batch); None: `loss`.
    evaluate: Callable[..., Array] | None = None
    score: Score | None = None
    aux: bool = False
    steps: int = 500
    batch_size: int | None = 64  # None: the whole training set at every step
    target: float | None = None  # training loss whose first crossing is timed
    name: str = "problem"
    title: str = ""
    about: str = ""
    log: bool = False  # whether the loss falls over orders of magnitude, to zero in the end
    probe: int = 512  # training examples on which the training loss is measured
    rates: int = 9  # in the default sweep
    rates_per_decade: int = 2
    watch: Callable[[Params], Array] | None = None  # a point of the way, at every step
    show: Callable[[Params], Array] | None = None  # something to draw, at the end

    @property
    def judged_on_train(self) -> bool:
        return self.held_out is None

    @property
    def deterministic(self) -> bool:
        """Whether every step has the same function: the loss on all examples."""
        made = callable(self.train) or hasattr(self.train, "__next__")
        return self.batch_size is None and not made

    @property
    def examples(self) -> int:
        """The training examples; none where batches are made or read."""
        if callable(self.train) or hasattr(self.train, "__next__"):
            return 0
        shape = np.shape(next(iter(jax.tree.leaves(self.train)), 0))
        return shape[0] if shape and 0 not in shape else 0


class Described(TypedDict):
    """What problems that share data and loss do not share."""

    name: str
    title: str
    about: str
    steps: int
    target: float
