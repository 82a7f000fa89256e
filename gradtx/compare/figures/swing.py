"""What the policies learnt: the pendulum from hanging down, after training."""

import numpy as np
from matplotlib.figure import Figure

from ..problems.pendulum import STEP
from ..results import Course
from ..summary import best_rate, diverged
from . import style


def swing(course: Course) -> Figure:
    """Height of the pendulum over time, a panel for every optimizer, a line for every seed."""
    trials = course.trials
    columns = 4 if len(trials) <= style.FEW else 6
    figure, panels = style.panels(style.each(trials), columns, 7 / columns)
    for i, (axes, _) in enumerate(panels):
        trial = trials[i]
        best, first = best_rate(trial.train_loss, course.log)
        bad = diverged(trial.train_loss)[best]
        for seed, angle in enumerate(trial.trace if trial.trace is not None else ()):
            if bad[seed]:
                continue
            time = STEP * np.arange(1, len(angle) + 1)
            axes.plot(
                time, np.cos(angle), color=style.color(i), lw=2.0 if seed == first else 1.0,
                alpha=1.0 if seed == first else 0.55, gid=f"opt-{i}",
            )  # fmt: skip
        axes.set_ylim(-1.1, 1.1)
        axes.set_yticks([-1, 0, 1], ["down", "level", "up"])
    figure.supxlabel("seconds", color=style.MUTED)
    return figure
