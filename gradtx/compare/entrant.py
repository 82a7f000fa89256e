"""Who runs: an optimizer over a range of learning rates."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax

from gradtx.foreign import as_transformation
from gradtx.schedules.decay import cosine_decay_schedule, linear_schedule
from gradtx.schedules.run import warmup_cosine_decay_schedule, wsd_schedule

Schedule = Callable[[Any, int], Any]

SCHEDULES: dict[str, Schedule] = {
    "constant": lambda peak, steps: peak,
    "cosine": cosine_decay_schedule,
    "warmup-cosine": lambda peak, steps: warmup_cosine_decay_schedule(
        0.0, peak, max(1, steps // 10), steps
    ),
    "linear": lambda peak, steps: linear_schedule(peak, 0.0, steps),
    "wsd": lambda peak, steps: wsd_schedule(
        peak, warmup_steps=max(1, steps // 20), total_steps=steps, decay_steps=max(1, steps // 5)
    ),
}


OWN = "your own"
"""The family of what is not in the catalogue."""


@dataclass(frozen=True)
class Entrant:
    """`make(learning_rate)` is the optimizer; `centre` is where its default sweep lies.

    What has no open learning rate is not `swept`: it runs once, under the learning rate 1. A search
    is not either, since it finds its steps by itself.
    """

    label: str
    make: Callable[[Any], Any]
    family: str
    about: str
    centre: float
    swept: bool = True


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Late:
    """The transformation that a function makes of a learning rate, made anew whenever it is used.

    The function may close over the learning rate, as those of Optax do; here it is a leaf.
    """

    learning_rate: Any
    function: Callable[[Any], Any] = field(metadata={"static": True})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(as_transformation(self.function(self.learning_rate)), name)
