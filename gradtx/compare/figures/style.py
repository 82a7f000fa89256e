"""One look for all figures: colours, axes, labels at the ends of lines."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ..wording import number

# Distinct for the colour-blind (after Okabe and Ito), and none too pale for white paper.
SERIES = (
    "#0072b2", "#d55e00", "#009e73", "#b5559a", "#c98700", "#3aa0d8", "#7a5a3c", "#5b5b9a",
)  # fmt: skip
INK, MUTED, RULE, GHOST = "#1c1e21", "#6b7076", "#e2e4e8", "#c9cdd3"
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
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


class Group(NamedTuple):
    """Trials that share a panel: its title, and their places among all trials."""

    title: str
    members: list[int]


def groups(families: Sequence[str], most: int = MANY) -> list[Group]:
    """All in one, or by family, a large family in several, when they are more than `most`."""
    if len(families) <= most:
        return [Group("", list(range(len(families))))]
    found = []
    for family in dict.fromkeys(families):
        members = [i for i, other in enumerate(families) if other == family]
        parts = -(-len(members) // MANY)
        size = -(-len(members) // parts)
        for part in range(parts):
            title = family if parts == 1 else f"{family} {part + 1}/{parts}"
            found.append(Group(title, members[part * size : (part + 1) * size]))
    return found


def new_figure(width: float, height: float) -> Figure:
    figure = Figure((width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A grid of `count` axes, each `height` inches high, that share both axes."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = new_figure(width, rows * height)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    cells = list(grid.flat)
    for cell in cells[count:]:
        cell.remove()
    for i, cell in enumerate(cells[:count]):
        cell.tick_params(labelbottom=i + columns >= count, labelleft=i % columns == 0)
    return figure, cells[:count]


def color(place: int) -> str:
    return SERIES[place % len(SERIES)]


def log_axis(axes: Axes, which: str, low: float, high: float, ticks: int = 7) -> None:
    """A logarithmic axis from `low` to `high`, labelled with powers of ten, or 1-2-5 if short."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    wide = np.log10(high / low)
    subs = (1.0,) if wide > 2.2 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(10, subs, numticks=ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_locator(NullLocator())


def span(values: Sequence[float], log: bool) -> tuple[float, float]:
    """Limits around `values`, with a margin."""
    low, high = min(values), max(values)
    if log:
        margin = (high / low) ** 0.06 if high > low else 1.5
        return low / margin, high * margin
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def label_ends(
    axes: Axes, ends: Sequence[tuple[float, str, str]], height: float, size: float = 9
) -> None:
    """Names right of the axes, each at the place of (value, name, colour) on its y axis.

    Names that would cover each other in axes `height` inches high are moved apart and joined to
    their end by a thin line.
    """
    if not ends:
        return
    low, high = axes.transScale.transform([(1, limit) for limit in axes.get_ylim()])[:, 1]
    values = axes.transScale.transform([(1, value) for value, _, _ in ends])[:, 1]
    true = np.clip((values - low) / (high - low), 0, 1)
    gap = 1.35 * size / 72 / height
    for (_, name, hue), from_, to in zip(ends, true, spread(true, gap, -gap, 1 + gap), strict=True):
        axes.plot(
            (1.005, 1.03), (from_, to), color=hue, lw=0.8, transform=axes.transAxes, clip_on=False
        )
        axes.annotate(
            name, (1.035, to), xycoords="axes fraction", color=hue, size=size, va="center"
        )


def spread(wanted: Sequence[float] | np.ndarray, gap: float, low: float, high: float) -> list:
    """Positions close to `wanted`, at least `gap` apart, within [low, high] if they fit."""
    order = np.argsort(wanted, kind="stable")
    placed: list[list[float]] = []  # clusters: [sum of wanted centres, members]
    for i in order:
        placed.append([float(wanted[i]), 1.0])
        while len(placed) > 1 and _top(placed[-2], gap) > _bottom(placed[-1], gap):
            value, members = placed.pop()
            before, count = placed[-1]
            total = members + count
            placed[-1] = [(value * members + before * count) / total, total]
    positions = []
    for centre, members in placed:
        half = gap * (members - 1) / 2
        centre = min(max(centre, low + half), high - half)
        positions += [centre - half + gap * k for k in range(int(members))]
    result = [0.0] * len(positions)
    for i, position in zip(order, positions, strict=True):
        result[i] = position
    return result


def _top(cluster: list[float], gap: float) -> float:
    return cluster[0] + gap * cluster[1] / 2


def _bottom(cluster: list[float], gap: float) -> float:
    return cluster[0] - gap * cluster[1] / 2
