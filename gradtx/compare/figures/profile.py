"""The performance profile: on what share of the problems an optimizer is within a factor."""

import numpy as np
from matplotlib.figure import Figure

from ..across import MOST, Across
from . import style


def profile(found: Across) -> Figure:
    """Steps to the target left, time right; the first optimizers in colour, the others grey."""
    figure = Figure((style.WIDTH, 4.3), layout="constrained")
    panels = figure.subplots(1, 2, squeeze=False)[0]
    for axes, of in zip(panels, ("steps", "time"), strict=True):
        style.limit(axes, "x", 1.0, MOST, log=True, ticks=6)
        style.limit(axes, "y", -0.02, 1.04, log=False)
        axes.set_title(f"Share of {len(found.problems)} problems, by {of} to the target")
        ends = []
        for i, (name, cells) in enumerate(found.cells.items()):
            factors = np.sort([getattr(cell, of) for cell in cells])
            kept = factors[factors <= MOST]
            shares = np.arange(len(kept) + 1) / len(factors)
            x, y = np.r_[1.0, kept, MOST], np.r_[shares, shares[-1]]
            few = i < style.MANY
            hue = style.color(i) if few else style.GHOST
            axes.step(x, y, where="post", color=hue, lw=1.8 if few else 0.7, zorder=3 if few else 1)
            ends += [(float(y[-1]), name, hue)] if few else []
        style.label_ends(axes, ends, 3.4)
        axes.set_xlabel("within so many times the best")
    return figure
