"""Trajectories over the contours of a function of two variables."""

from collections.abc import Sequence

import numpy as np

from ..problems.surfaces import SURFACES, height
from ..results import Course
from . import style
from .reading import Drawing, Line, Panel

MOST = 250  # points of a way that are drawn, of many ways a third


def plane(course: Course, shown: Sequence[int], look: style.Look) -> Drawing:
    """The way of the best learning rate, a panel for every optimizer, or family if many."""
    surface = SURFACES[course.name]
    trials = course.trials
    if len(shown) <= style.FEW:
        found, columns = style.each(trials, shown), look.columns
        figure, panels = style.panels(
            trials, found, look, columns, 2.5 if look.names_beside else 1.9
        )
    else:
        found, columns = style.groups(trials, shown), 3 if look.names_beside else 1
        figure, panels = style.panels(trials, found, look, columns, 3.6)
    most = MOST if len(shown) <= style.FEW else MOST // 3
    x, y = np.meshgrid(np.linspace(*surface.x, 80), np.linspace(*surface.y, 80))
    depth = np.log10(np.asarray(height(course.name, x, y)) + 1e-3)
    levels = np.linspace(depth.min(), depth.max(), 10)[2:-1]
    drawn = []
    for axes, group in panels:
        axes.grid(visible=False)
        axes.contour(x, y, depth, levels, colors=style.GHOST, linewidths=0.7, linestyles="solid")
        axes.plot(*surface.minimum, "*", color=style.INK, ms=9, zorder=5)
        lines = []
        for i, hue in group.hues.items():
            path = trials[i].path
            if path is None:
                continue
            steps = np.flatnonzero(np.isfinite(path).all(1))
            marker = "." if len(steps) < 120 and group.alone else None
            steps = steps[np.unique(np.linspace(0, len(steps) - 1, most).astype(int))]
            kept = path[steps]
            axes.plot(
                *kept.T, color=hue, lw=1.1, marker=marker, ms=2.5, label=trials[i].optimizer,
                gid=f"opt-{i}", zorder=3,
            )  # fmt: skip
            axes.plot(*kept[0], "o", color=hue, ms=5, mfc="none", zorder=4, gid=f"opt-{i}r")
            heights = np.asarray(height(course.name, *kept.T))
            lines.append(Line(i, hue, kept[:, 0], kept[:, 1], at=steps, value=heights))
        axes.set(xlim=surface.x, ylim=surface.y)
        drawn.append(Panel(axes, lines, "step {}", "height {}", read="point"))
        if not group.alone:
            style.legend(axes, group, style.names_width(look, columns), gap=0.25)
    return Drawing(figure, drawn)
