"""Who runs: an optimizer of the catalogue with arguments, over a range of learning rates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Entrant:
    """`make(learning_rate)` is the optimizer; `centre` is where its default sweep lies."""

    label: str
    make: Callable[[Any], Any]
    family: str
    about: str
    centre: float
