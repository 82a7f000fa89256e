"""One look for all figures: colours, axes, labels at the ends of lines."""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import ScaledTranslation
from scipy.optimize import isotonic_regression

from ..results import Trial
from ..wording import number

# After Okabe and Ito, darker: names are written in these, and read at a contrast of 4.5 at least.
SERIES = (
    "#006ba6", "#b84e00", "#007a58", "#a8468c", "#8a5f00", "#0b7a8a", "#7a5a3c", "#5b5b9a",
)  # fmt: skip
INK, MUTED, RULE, GHOST = "#1c1e21", "#6b7076", "#e2e4e8", "#c9cdd3"
FEW = 12  # up to so many optimizers have a panel each
MANY = 8  # more lines than this in one picture cannot be told apart


class Look(NamedTuple):
    """The page a figure is made for: its own width is that of the page, and what fits there."""

    name: str
    width: float  # inches of 72 units each; the page shows more or fewer pixels for them
    columns: int  # of small panels
    names_beside: bool  # names at the ends of lines, and not in a legend below


WIDE = Look("wide", 10.6, 4, True)
NARROW = Look("narrow", 4.0, 2, False)

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
    "legend.fontsize": 9.5,
}


class Group(NamedTuple):
    """Trials that share a panel: the colour of each, by its place among all trials."""

    title: str
    hues: dict[int, str]
    alone: bool = False  # one trial, which gives the panel its name


def each(trials: Sequence[Trial], shown: Sequence[int]) -> list[Group]:
    """A panel for every trial that is shown."""
    return [Group(trials[i].optimizer, {i: color(k)}, True) for k, i in enumerate(shown)]


def groups(trials: Sequence[Trial], shown: Sequence[int], most: int = MANY) -> list[Group]:
    """All in one, or by family, a large family in several, when they are more than `most`."""
    if len(shown) <= most:
        return [Group("", {i: color(k) for k, i in enumerate(shown)})]
    found = []
    for family in dict.fromkeys(trials[i].family for i in shown):
        members = [i for i in shown if trials[i].family == family]
        parts = -(-len(members) // MANY)
        size = -(-len(members) // parts)
        for part in range(parts):
            title = family if parts == 1 else f"{family} {part + 1}/{parts}"
            chosen = members[part * size : (part + 1) * size]
            found.append(Group(title, {i: color(k) for k, i in enumerate(chosen)}))
    return found


def panels(
    trials: Sequence[Trial], found: Sequence[Group], look: Look, columns: int, height: float
) -> tuple[Figure, list[tuple[Axes, Group]]]:
    """A grid of titled axes, each `height` inches high, that share both axes: one a group."""
    columns = min(len(found), columns)
    if not look.names_beside and max(len(group.title) for group in found) > 20:
        columns = 1
    rows = -(-len(found) // columns)
    width = names_width(look, columns)
    names = [[trials[i].optimizer for i in group.hues] for group in found if not group.alone]
    below = max((legend_height(labels, width) for labels in names), default=0.0)
    inches = rows * (height + below) + 0.25
    figure = Figure((look.width, inches), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    figure.get_layout_engine().set(h_pad=0.06)  # pyright: ignore
    cells = list(grid.flat)
    for i, (cell, group) in enumerate(zip(cells, found, strict=False)):
        last = i + columns >= len(found)
        cell.tick_params(labelbottom=last or not group.alone, labelleft=i % columns == 0)
        hue = next(iter(group.hues.values())) if group.alone else INK
        text = textwrap.fill(group.title, int(11 * look.width / columns))
        title = cell.set_title(text, color=hue)
        if group.alone:
            title.set_gid(f"opt-{next(iter(group.hues))}t")
    for cell in cells[len(found) :]:
        cell.remove()
    return figure, list(zip(cells, found, strict=False))


def legend(axes: Axes, group: Group, width: float, gap: float) -> None:
    """The names of lines below axes that are so many inches wide, a `gap` of inches away."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    figure = axes.get_figure()
    assert figure is not None
    names = axes.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0, 0), ncols=_beside(labels, width),
        bbox_transform=axes.transAxes + ScaledTranslation(-0.03, -gap, figure.dpi_scale_trans),
        columnspacing=1.2, handletextpad=0.5, labelspacing=0.3, borderpad=0, borderaxespad=0,
    )  # fmt: skip
    for i, text, line in zip(group.hues, names.get_texts(), names.get_lines(), strict=False):
        text.set_gid(f"opt-{i}n")
        line.set_gid(f"opt-{i}m")


def names_width(look: Look, columns: int) -> float:
    """Inches for the names below axes, of which so many stand beside each other."""
    return 0.84 * look.width / columns


def legend_height(labels: Sequence[str], width: float) -> float:
    """Of a legend with these names, in inches."""
    return 0.18 * -(-len(labels) // _beside(labels, width))


def _beside(labels: Sequence[str], width: float) -> int:
    """How many names fit beside each other."""
    return max(1, min(4, int(width / (0.082 * max(map(len, labels), default=1) + 0.35))))


def color(place: int) -> str:
    return SERIES[place % len(SERIES)]


def limit(axes: Axes, which: str, low: float, high: float, log: bool, ticks: int = 7) -> None:
    """Let an axis go from `low` to `high`, if logarithmic with powers of ten, or more if short."""
    axes.set(**{f"{which}scale": "log" if log else "linear", f"{which}lim": (low, high)})
    if log:
        axis = axes.xaxis if which == "x" else axes.yaxis
        decades = np.log10(high / low)
        subs = (1.0,) if decades > 2.2 else (1.0, 2.0, 5.0)
        subs = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if decades < 0.8 else subs
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


def label_ends(axes: Axes, ends: Sequence[tuple[int, float, str, str]], height: float) -> None:
    """Names right of the axes, each at the place of (optimizer, value, name, colour) on its y axis.

    Names that would cover each other in axes `height` inches high are moved apart and joined to
    their end by a thin line.
    """
    if not ends:
        return
    low, high = axes.transScale.transform([(1, limit) for limit in axes.get_ylim()])[:, 1]
    values = axes.transScale.transform([(1, value) for _, value, _, _ in ends])[:, 1]
    true = np.clip((values - low) / (high - low), 0, 1)
    size = 9.5
    gap = 1.3 * size / 72 / height
    places = spread(true, gap, -gap, 1 + gap)
    for (i, _, name, hue), from_, to in zip(ends, true, places, strict=True):
        axes.plot(
            (1.005, 1.03), (from_, to), color=hue, lw=0.8, transform=axes.transAxes,
            clip_on=False, gid=f"opt-{i}e",
        )  # fmt: skip
        axes.text(
            1.035, to, name, transform=axes.transAxes, color=hue, size=size, va="center",
            gid=f"opt-{i}n",
        )  # fmt: skip


def high_fence(values: np.ndarray, low: float) -> float:
    """The highest of positive `values`, but for those that are far beyond most of them."""
    return min(float(values.max()), max(3 * float(np.median(values)), low))


def low_fence(values: np.ndarray) -> float:
    """The lowest of `values`, but for those that are far below most of them."""
    first, last = np.quantile(values, (0.25, 0.75))
    return max(float(values.min()), float(first - 3 * (last - first)))


def spread(wanted: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Positions close to `wanted`, at least `gap` apart, within [low, high] if they fit."""
    order = np.argsort(wanted, kind="stable")
    least = gap * np.arange(len(wanted))
    rising = isotonic_regression(wanted[order] - least).x  # the nearest in squares
    positions = np.empty(len(wanted))
    positions[order] = np.clip(rising, low, high - least[-1]) + least
    return positions
