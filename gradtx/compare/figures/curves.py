"""Learning curves: what the best learning rate of every optimizer did over time."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..results import Course, Trial
from ..summary import FLOOR, best_rate, diverged, smooth
from . import style


class Curve(NamedTuple):
    """Over the seeds that survived the best learning rate: middle, lowest and highest, [E]."""

    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curves(course: Course) -> Figure:
    """Training loss, and the held-out score or loss, of all trials; a row of panels per family."""
    trials = course.trials
    found = style.groups([trial.family for trial in trials])
    kinds = ["train"] if course.judged_on_train else ["train", "held"]
    height = 4.3 if len(found) == 1 else 2.9
    figure = style.new_figure(10.6, height * len(found))
    grid = figure.subplots(
        len(found),
        len(kinds),
        squeeze=False,
        sharex=True,
        sharey="col",
    )
    figure.get_layout_engine().set(wspace=0.05)  # pyright: ignore
    drawn = {kind: [_curve(trial, kind, course.log) for trial in trials] for kind in kinds}
    for column, kind in enumerate(kinds):
        limits, log = _limits([curve for curve in drawn[kind] if curve], kind, course)
        for row, group in enumerate(found):
            axes = grid[row, column]
            if log:
                style.log_axis(axes, "y", *limits)
            else:
                axes.set_ylim(*limits)
            axes.set_xlim(0, course.steps)
            title = "Training loss" if kind == "train" else f"Held-out {course.score or 'loss'}"
            if row == len(found) - 1:
                axes.set_xlabel("steps")
            if row == 0 or group.title:
                axes.set_title(f"{title}: {group.title}" if group.title else title)
            _draw(axes, trials, drawn[kind], group)
    for column, kind in enumerate(kinds):
        for row, group in enumerate(found):
            ends = [
                (_shown(curve.middle[-1]), trials[i].optimizer, style.color(k))
                for k, i in enumerate(group.members)
                if (curve := drawn[kind][i])
            ]
            style.label_ends(grid[row, column], ends, 0.8 * height)
    return figure


def _draw(axes: Axes, trials: list[Trial], drawn: list[Curve | None], group: style.Group) -> None:
    for i, curve in enumerate(drawn):
        if curve and i not in group.members:
            axes.plot(trials[i].steps, curve.middle, color=style.GHOST, lw=0.7, zorder=1)
    for k, i in enumerate(group.members):
        if curve := drawn[i]:
            steps, hue = trials[i].steps, style.color(k)
            low, high = _shown(curve.low), _shown(curve.high)
            axes.fill_between(
                steps,
                low,
                high,
                color=hue,
                alpha=0.13 if len(group.members) < 5 else 0.08,
                lw=0,
                gid=f"opt-{i}b",
            )
            axes.plot(steps, _shown(curve.middle), color=hue, gid=f"opt-{i}", zorder=3)


def _curve(trial: Trial, kind: str, log: bool) -> Curve | None:
    values = trial.train_loss if kind == "train" else trial.held_loss
    if kind == "held" and trial.score is not None:
        values = trial.score
    best, _ = best_rate(trial.train_loss, log)
    kept = values[best][~diverged(trial.train_loss)[best]]
    if not len(kept):
        return None
    kept = smooth(kept)
    return Curve(np.median(kept, 0), kept.min(0), kept.max(0))


def _limits(found: list[Curve], kind: str, course: Course) -> tuple[tuple[float, float], bool]:
    if not found:
        return (0.0, 1.0), False
    middle = np.array([curve.middle for curve in found], np.float64)
    if kind == "held" and course.score:
        ends = middle[:, -max(1, middle.shape[1] // 4) :]
        low, high = float(ends.min()), float(middle.max())
        low = low - 0.6 * (high - low) - 0.02
        return (max(low, float(middle.min()) - 0.02), high + 0.01 + 0.05 * (high - low)), False
    low, high = float(_shown(middle).min()), float(_shown(middle).max())
    log = course.log or high > 8 * low
    return style.span([low, high], log), log


def _shown(loss):
    return np.maximum(loss, FLOOR)
