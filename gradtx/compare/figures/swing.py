"""What the policies learnt: the pendulum from hanging down, after training."""

from collections.abc import Sequence

import numpy as np

from ..problems.pendulum import STEP
from ..results import Course
from ..summary import best_rate
from . import style
from .reading import Drawing, Line, Panel


def swing(course: Course, shown: Sequence[int], look: style.Look) -> Drawing:
    """Height of the pendulum over time, a panel for every optimizer, a line for every seed."""
    trials = course.trials
    found = style.each(trials, shown)
    height = 1.75 if look.names_beside else 1.6
    figure, panels = style.panels(trials, found, look, look.columns, height)
    drawn = []
    for i, (axes, group) in zip(shown, panels, strict=True):
        trial, hue, lines = trials[i], group.hues[i], []
        _, kept = best_rate(trial)
        for k, angle in enumerate(trial.trace[kept] if trial.trace is not None else ()):
            width, alpha = (2.0, 1.0) if k == 0 else (1.0, 0.55)
            time, top = STEP * np.arange(1, len(angle) + 1), np.cos(angle)
            axes.plot(time, top, color=hue, lw=width, alpha=alpha, gid=f"opt-{i}" + "s" * k)
            if k == 0:
                lines.append(Line(i, hue, time, top))
        axes.set_ylim(-1.1, 1.1)
        axes.set_yticks([-1, 0, 1], ["down", "level", "up"])
        drawn.append(Panel(axes, lines, "{} s", "height {}"))
    figure.supxlabel("seconds", color=style.MUTED)
    return Drawing(figure, drawn)
