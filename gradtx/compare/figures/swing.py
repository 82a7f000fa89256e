"""What the policies learnt: the pendulum from hanging down, after training."""

import numpy as np
from matplotlib.figure import Figure

from ..problems.pendulum import STEP
from ..results import Course
from ..summary import best_rate
from . import style


def swing(course: Course) -> Figure:
    """Height of the pendulum over time, a panel for every optimizer, a line for every seed."""
    trials = course.trials
    columns = 4 if len(trials) <= style.FEW else 6
    figure, panels = style.panels(style.each(trials), columns, 7 / columns)
    for i, (axes, _) in enumerate(panels):
        trial = trials[i]
        _, kept = best_rate(trial)
        for k, angle in enumerate(trial.trace[kept] if trial.trace is not None else ()):
            width, alpha = (2.0, 1.0) if k == 0 else (1.0, 0.55)
            time = STEP * np.arange(1, len(angle) + 1)
            hue = style.color(i)
            axes.plot(time, np.cos(angle), color=hue, lw=width, alpha=alpha, gid=f"opt-{i}")
        axes.set_ylim(-1.1, 1.1)
        axes.set_yticks([-1, 0, 1], ["down", "level", "up"])
    figure.supxlabel("seconds", color=style.MUTED)
    return figure
