"""A small picture in a table cell: which learning rates were tried, and which are usable."""

import math
from typing import NamedTuple

import numpy as np

from .results import Course, Trial
from .summary import Summary, diverged
from .wording import number, power_of_ten

WIDTH = 132  # of the picture, as in the template


class Range(NamedTuple):
    """Places on the axis, in units of the picture; and what they say."""

    tried: list[float]
    lost: list[float]  # where runs diverged
    usable: tuple[float, float] | None  # from where and how wide
    best: float | None
    said: str


def ticks(course: Course) -> list[tuple[float, str]]:
    """The axis that all cells share: a few powers of ten, and where they are."""
    low, high = _span(course)
    powers = range(math.ceil(low), math.floor(high) + 1)
    every = max(1, -(-len(powers) // 4))
    return [(_place(10.0**k, course), _power(k)) for k in powers if k % every == 0]


def range_of(course: Course, trial: Trial, summary: Summary) -> Range:
    if not trial.swept:
        return Range([], [], None, None, "a learning rate of its own")
    bad = np.any(diverged(trial), axis=1)
    places = [_place(rate, course) for rate in trial.rates]
    lost = [place for place, was in zip(places, bad, strict=True) if was]
    tried = [place for place, was in zip(places, bad, strict=True) if not was]
    rates = f"tried {number(float(trial.rates[0]))} to {number(float(trial.rates[-1]))}"
    if not summary.survivors:
        return Range(tried, lost, None, None, rates)
    first, last, best = (_place(rate, course) for rate in (*summary.usable, summary.rate))
    low, high = summary.usable
    said = f"{rates}, usable {number(low, digits=2)} to {number(high, digits=2)}"
    return Range(tried, lost, (first, round(max(last - first, 1), 1)), best, said)


def _span(course: Course) -> tuple[float, float]:
    rates = np.log10(np.concatenate([trial.rates for trial in course.trials]))
    low, high = float(rates.min()), float(rates.max())
    margin = 0.5 if high == low else 0.0
    return low - margin, high + margin


def _place(rate: float, course: Course) -> float:
    low, high = _span(course)
    return round(12 + (WIDTH - 24) * (float(np.log10(rate)) - low) / (high - low), 1)


def _power(power: int) -> str:
    return f"{10.0**power:g}" if -2 <= power <= 3 else power_of_ten(power)
