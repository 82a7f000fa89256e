"""Trajectories over the contours of a function of two variables."""

import numpy as np
from matplotlib.figure import Figure

from ..problems.surfaces import SURFACES, height
from ..results import Course
from . import style


def plane(course: Course) -> Figure:
    """The way of the best learning rate, a panel for every optimizer, or family if many."""
    surface = SURFACES[course.name]
    trials = course.trials
    if len(trials) <= style.FEW:
        figure, panels = style.panels(style.each(trials), 4, 2.5)
    else:
        figure, panels = style.panels(style.groups(trials), 3, 3.4)
    x, y = np.meshgrid(np.linspace(*surface.x, 90), np.linspace(*surface.y, 90))
    depth = np.log10(np.asarray(height(course.name, x, y)) + 1e-3)
    levels = np.linspace(depth.min(), depth.max(), 13)[1:-1]
    for axes, group in panels:
        axes.grid(visible=False)
        axes.contour(x, y, depth, levels, colors=style.GHOST, linewidths=0.7, linestyles="solid")
        axes.plot(*surface.minimum, "*", color=style.INK, ms=9, zorder=5)
        for i, hue in group.hues.items():
            path = trials[i].path
            if path is None:
                continue
            kept = path[np.isfinite(path).all(1)]
            marker = "." if len(kept) < 400 else None
            axes.plot(
                *kept.T, color=hue, lw=1.1, marker=marker, ms=2.5, label=trials[i].optimizer,
                gid=f"opt-{i}", zorder=3,
            )  # fmt: skip
            axes.plot(*kept[0], "o", color=hue, ms=5, mfc="none", zorder=4)
        axes.set(xlim=surface.x, ylim=surface.y)
        if not group.alone:
            axes.legend(fontsize=8)
    return figure
