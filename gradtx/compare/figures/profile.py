"""The performance profile: on what share of the problems an optimizer is within a factor."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ..across import MOST, Across
from . import style
from .reading import Drawing, Line, Panel


def profile(found: Across, look: style.Look) -> Drawing:
    """Steps to the target and time; the first optimizers in colour, the others grey."""
    shape = (1, 2) if look.names_beside else (2, 1)
    figure = Figure((look.width, 4.3 if look.names_beside else 5.6), layout="constrained")
    panels = figure.subplots(*shape, squeeze=False).ravel()
    group = style.Group("", {i: style.color(i) for i in range(min(len(found.cells), style.MANY))})
    drawn = []
    for axes, of in zip(panels, ("steps", "time"), strict=True):
        style.limit(axes, "x", 1.0, MOST, log=True, ticks=6)
        style.limit(axes, "y", -2, 104, log=False)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        axes.set_title(f"Share of {len(found.problems)} problems, by {of} to the target")
        factors = [
            np.array([getattr(cell, of) for cell in cells]) for cells in found.cells.values()
        ]
        at = np.unique(np.concatenate([[1.0, MOST], *factors]).round(4))
        at = at[at <= MOST]
        ends, lines = [], []
        for i, (name, values) in enumerate(zip(found.cells, factors, strict=True)):
            shares = 100 * (values.round(4) <= at[:, None]).mean(1)
            if i not in group.hues:
                axes.step(at, shares, where="post", color=style.GHOST, lw=0.7, zorder=1)
                continue
            hue = group.hues[i]
            axes.step(
                at, shares, where="post", color=hue, lw=1.8, zorder=3, gid=f"opt-{i}", label=name
            )  # fmt: skip
            ends.append((i, float(shares[-1]), name, hue))
            lines.append(Line(i, hue, at, shares))
        if look.names_beside:
            style.label_ends(axes, ends, 3.4)
        axes.set_xlabel("within so many times the best")
        drawn.append(Panel(axes, lines, "within {} times the best", "{} %"))
    if not look.names_beside:
        style.legend(panels[-1], group, style.names_width(look, 1), gap=0.42)
    return Drawing(figure, drawn)
