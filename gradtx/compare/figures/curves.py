"""Learning curves: what the best learning rate of every optimizer did over time."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..results import Course, Trial
from ..summary import best_rate, floored, on_logs, smooth
from . import style


class Curve(NamedTuple):
    """Over all seeds of the best learning rate: the median and the quartiles, [E]."""

    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curves(course: Course) -> Figure:
    """Training loss, and the held-out score or loss, of all trials; a row of panels per family."""
    trials = course.trials
    found = style.groups(trials)
    train = [_curve(trial, trial.train_loss, course) for trial in trials]
    held = [_curve(trial, trial.judged, course) for trial in trials]
    drawn = {"Training loss": train}
    if not course.judged_on_train:
        drawn[f"Held-out {course.judged}"] = held
    height = 4.3 if len(found) == 1 else 2.9
    figure = Figure((style.WIDTH, height * len(found)), layout="constrained")
    grid = figure.subplots(len(found), len(drawn), squeeze=False, sharex=True, sharey="col")
    figure.get_layout_engine().set(wspace=0.05)  # pyright: ignore
    for column, (title, lines) in zip(grid.T, drawn.items(), strict=True):
        low, high, log = _limits(lines, lines is held and course.score is not None, course)
        for axes, group in zip(column, found, strict=True):
            style.limit(axes, "y", low, high, log)
            axes.set_xlim(0, course.steps)
            axes.set_title(f"{title}: {group.title}" if group.title else title)
            _draw(axes, trials, lines, group)
            ends = [
                (floored(curve.middle[-1]), trials[i].optimizer, hue)
                for i, hue in group.hues.items()
                if (curve := lines[i])
            ]
            style.label_ends(axes, ends, 0.8 * height)
        column[-1].set_xlabel("steps")
    return figure


def _draw(axes: Axes, trials: list[Trial], lines: list[Curve | None], group: style.Group) -> None:
    shade = 0.13 if len(group.hues) < 5 else 0.08
    for i, curve in enumerate(lines):
        if curve and i not in group.hues:
            axes.plot(trials[i].steps, curve.middle, color=style.GHOST, lw=0.7, zorder=1)
    for i, hue in group.hues.items():
        if curve := lines[i]:
            steps, low, high = trials[i].steps, floored(curve.low), floored(curve.high)
            axes.fill_between(steps, low, high, color=hue, alpha=shade, lw=0, gid=f"opt-{i}b")
            axes.plot(steps, floored(curve.middle), color=hue, gid=f"opt-{i}", zorder=3)


def _curve(trial: Trial, values: np.ndarray, course: Course) -> Curve | None:
    best, kept = best_rate(trial)
    if not kept.any():
        return None
    lost = -np.inf if values is trial.score else np.inf
    runs = np.where(kept[:, None], smooth(values[best]), lost)
    low, high = np.quantile(runs, (0.25, 0.75), axis=0, method="nearest")
    return Curve(np.median(runs, 0), low, high)


def _limits(lines: list[Curve | None], is_score: bool, course: Course) -> tuple[float, float, bool]:
    """Lowest and highest value to show, and whether on a logarithmic scale."""
    whole = [curve.middle for curve in lines if curve and np.isfinite(curve.middle).all()]
    middle = np.array(whole, np.float64)
    if not len(middle):
        return 0.0, 1.0, False
    if is_score:
        ends = middle[:, -max(1, middle.shape[1] // 4) :]
        low, high = float(ends.min()), float(middle.max())
        low = low - 0.6 * (high - low) - 0.02
        return max(low, float(middle.min()) - 0.02), high + 0.01 + 0.05 * (high - low), False
    low, high = float(floored(middle).min()), float(floored(middle).max())
    log = on_logs(course)
    return *style.span(low, high, log), log
