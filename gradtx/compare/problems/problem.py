"""What a problem is: data, a loss, and how to judge what was learnt."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import jax
from jax import Array

Params = Any
Data = Any


class Score(NamedTuple):
    """What a run is judged by on held-out examples, beside the loss; larger is better."""

    name: str
    of: Callable[[Params, Data], Array]


@dataclass(frozen=True)
class Problem:
    """A training problem; `train` and `held_out` are trees of arrays, one row an example.

    `loss(params, batch, key)` is a scalar, `batch` being rows of `train`. `log` says that the
    loss falls over orders of magnitude and is to be compared on a logarithmic scale. `watch`
    (parameters to a point) is recorded at every step, `show` (parameters to a trace) at the end.
    """

    name: str
    title: str
    about: str
    draw: Callable[[Array], Params]
    loss: Callable[[Params, Data, Array], Array]
    train: Data
    held_out: Data
    steps: int
    batch_size: int | None  # None: the whole training set at every step
    target: float  # training loss whose first crossing is timed
    score: Score | None = None
    log: bool = False
    probe: int = 512  # training examples on which the training loss is measured
    rates: int = 7  # in the default sweep
    rates_per_decade: int = 2
    watch: Callable[[Params], Array] | None = None
    show: Callable[[Params], Array] | None = None
    judged_on_train: bool = False  # there is no held-out set: the loss is the whole truth

    @property
    def examples(self) -> int:
        return len(jax.tree.leaves(self.train)[0])


class Described(TypedDict):
    """What problems that share data and loss do not share."""

    name: str
    title: str
    about: str
    steps: int
    target: float
