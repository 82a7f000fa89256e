"""One look for all figures: colours, axes, labels at the ends of lines."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from scipy.optimize import isotonic_regression

from ..results import Trial
from ..wording import number

# After Okabe and Ito, darker: names are written in these, and read at a contrast of 4.5 at least.
SERIES = (
    "#006ba6", "#b84e00", "#007a58", "#a8468c", "#8a5f00", "#0b7a8a", "#7a5a3c", "#5b5b9a",
)  # fmt: skip
INK, MUTED, RULE, GHOST = "#1c1e21", "#6b7076", "#e2e4e8", "#c9cdd3"
WIDTH = 10.6  # of a figure, in inches
FEW = 12  # up to so many optimizers have a panel each
MANY = 8  # more lines than this in one picture cannot be told apart

SETTINGS: dict[Any, Any] = {
    "font.size": 9.5,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "svg.fonttype": "none",
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.labelcolor": "linecolor",
    "legend.handlelength": 0.8,
    "figure.labelsize": 9.5,
}


class Group(NamedTuple):
    """Trials that share a panel: the colour of each, by its place among all trials."""

    title: str
    hues: dict[int, str]
    alone: bool = False  # one trial, which gives the panel its name


def each(trials: Sequence[Trial]) -> list[Group]:
    """A panel for every trial."""
    return [Group(trial.optimizer, {i: color(i)}, True) for i, trial in enumerate(trials)]


def groups(trials: Sequence[Trial], most: int = MANY) -> list[Group]:
    """All in one, or by family, a large family in several, when they are more than `most`."""
    if len(trials) <= most:
        return [Group("", {i: color(i) for i in range(len(trials))})]
    found = []
    for family in dict.fromkeys(trial.family for trial in trials):
        members = [i for i, trial in enumerate(trials) if trial.family == family]
        parts = -(-len(members) // MANY)
        size = -(-len(members) // parts)
        for part in range(parts):
            title = family if parts == 1 else f"{family} {part + 1}/{parts}"
            chosen = members[part * size : (part + 1) * size]
            found.append(Group(title, {i: color(k) for k, i in enumerate(chosen)}))
    return found


def panels(
    found: Sequence[Group], columns: int, height: float
) -> tuple[Figure, list[tuple[Axes, Group]]]:
    """A grid of titled axes, each `height` inches high, that share both axes: one a group."""
    columns = min(len(found), columns)
    rows = -(-len(found) // columns)
    figure = Figure((WIDTH, rows * height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    cells = list(grid.flat)
    for i, (cell, group) in enumerate(zip(cells, found, strict=False)):
        cell.tick_params(labelbottom=i + columns >= len(found), labelleft=i % columns == 0)
        cell.set_title(group.title, color=next(iter(group.hues.values())) if group.alone else INK)
    for cell in cells[len(found) :]:
        cell.remove()
    return figure, list(zip(cells, found, strict=False))


def color(place: int) -> str:
    return SERIES[place % len(SERIES)]


def limit(axes: Axes, which: str, low: float, high: float, log: bool, ticks: int = 7) -> None:
    """Let an axis go from `low` to `high`, if logarithmic with powers of ten, or 1-2-5 if short."""
    axes.set(**{f"{which}scale": "log" if log else "linear", f"{which}lim": (low, high)})
    if log:
        axis = axes.xaxis if which == "x" else axes.yaxis
        subs = (1.0,) if np.log10(high / low) > 2.2 else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(10, subs, numticks=ticks))
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axis.set_minor_locator(NullLocator())


def span(low: float, high: float, log: bool) -> tuple[float, float]:
    """Limits around values from `low` to `high`, with a margin."""
    if log:
        margin = (high / low) ** 0.06 if high > low else 1.5
        return low / margin, high * margin
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], height: float) -> None:
    """Names right of the axes, each at the place of (value, name, colour) on its y axis.

    Names that would cover each other in axes `height` inches high are moved apart and joined to
    their end by a thin line.
    """
    if not ends:
        return
    low, high = axes.transScale.transform([(1, limit) for limit in axes.get_ylim()])[:, 1]
    values = axes.transScale.transform([(1, value) for value, _, _ in ends])[:, 1]
    true = np.clip((values - low) / (high - low), 0, 1)
    size = 9.0
    gap = 1.35 * size / 72 / height
    for (_, name, hue), from_, to in zip(ends, true, spread(true, gap, -gap, 1 + gap), strict=True):
        axes.plot(
            (1.005, 1.03), (from_, to), color=hue, lw=0.8, transform=axes.transAxes, clip_on=False
        )
        axes.text(1.035, to, name, transform=axes.transAxes, color=hue, size=size, va="center")


def spread(wanted: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Positions close to `wanted`, at least `gap` apart, within [low, high] if they fit."""
    order = np.argsort(wanted, kind="stable")
    least = gap * np.arange(len(wanted))
    rising = isotonic_regression(wanted[order] - least).x  # the nearest in squares
    positions = np.empty(len(wanted))
    positions[order] = np.clip(rising, low, high - least[-1]) + least
    return positions
