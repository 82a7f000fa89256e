"""A small picture in a table cell: which learning rates were tried, and which are usable."""

import math

import numpy as np

from .results import Course, Trial
from .summary import Summary, diverged
from .wording import power_of_ten

WIDTH, HEIGHT = 168, 16


def ranges_head(course: Course) -> str:
    """The axis that the cells below share: a few powers of ten."""
    low, high = _span(course)
    powers = range(math.ceil(low), math.floor(high) + 1)
    every = max(1, -(-len(powers) // 5))
    texts = "".join(
        f'<text x="{_place(10.0**power, course):.1f}" y="12" text-anchor="middle" font-size="11" '
        f'fill="currentColor">{_power(power)}</text>'
        for power in powers
        if power % every == 0
    )
    return f'<svg width="{WIDTH}" height="{HEIGHT}" overflow="visible">{texts}</svg>'


def ranges_cell(course: Course, trial: Trial, summary: Summary, hue: str) -> str:
    """Ticks for the rates that were tried, a bar for the usable range, a ring for the best."""
    middle = HEIGHT / 2
    places = [_place(rate, course) for rate in trial.rates]
    bad = np.any(diverged(trial), axis=1)
    parts = [
        f'<line x1="{places[0]:.1f}" x2="{places[-1]:.1f}" y1="{middle}" y2="{middle}" '
        'stroke="var(--ghost)"/>'
    ]
    for place, lost in zip(places, bad, strict=True):
        dot = f'<circle cx="{place:.1f}" cy="{middle}" r="1.5" fill="var(--ghost)"/>'
        triangle = f'<path d="M{place - 3.2:.1f} {middle + 3}h6.4l-3.2-6z" fill="var(--bad)"/>'
        parts.append(triangle if lost else dot)
    if summary.survivors:
        first, last, best = (_place(rate, course) for rate in (*summary.usable, summary.rate))
        parts.append(
            f'<rect x="{first:.1f}" y="{middle - 3}" width="{max(last - first, 1):.1f}" height="6" '
            f'rx="3" style="fill:{hue}" opacity=".55"/>'
            f'<circle cx="{best:.1f}" cy="{middle}" r="4.2" fill="var(--paper)" stroke-width="2" '
            f'style="stroke:{hue}"/>'
        )
    return f'<svg width="{WIDTH}" height="{HEIGHT}">{"".join(parts)}</svg>'


def _span(course: Course) -> tuple[float, float]:
    rates = np.log10(np.concatenate([trial.rates for trial in course.trials]))
    low, high = float(rates.min()), float(rates.max())
    margin = 0.5 if high == low else 0.0
    return low - margin, high + margin


def _place(rate: float, course: Course) -> float:
    low, high = _span(course)
    return 12 + (WIDTH - 24) * (float(np.log10(rate)) - low) / (high - low)


def _power(power: int) -> str:
    return f"{10.0**power:g}" if -2 <= power <= 3 else power_of_ten(power)
