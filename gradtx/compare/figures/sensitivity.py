"""How the final loss depends on the learning rate, and where runs diverge."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..results import Course, Trial
from ..summary import FLOOR, Summary, diverged, floored, on_logs, rate_losses
from . import style


def sensitivity(course: Course, summaries: list[Summary]) -> Figure:
    """A panel for every optimizer, the others grey behind it; for every family if many."""
    trials = course.trials
    if len(trials) <= style.FEW:
        figure, panels = style.panels(style.each(trials), 4, 2.15)
    else:
        figure, panels = style.panels(style.groups(trials), 2, 2.9)
    lines = [_line(trial) for trial in trials]
    lowest, highest = _range(trials, lines)
    rates = np.concatenate([trial.rates for trial in trials])
    low, high = style.span(float(rates.min()), float(rates.max()), log=True)
    log = on_logs(course)
    bottom, top = style.span(lowest, highest, log)
    top = top * (top / bottom) ** 0.1 if log else top + 0.12 * (top - bottom)  # room for triangles
    for axes, group in panels:
        style.limit(axes, "x", low, high, log=True, ticks=4)
        style.limit(axes, "y", bottom, top, log)
        for i, trial in enumerate(trials):
            if i not in group.hues:
                axes.plot(trial.rates, floored(lines[i]), color=style.GHOST, lw=0.7, zorder=1)
        for i, hue in group.hues.items():
            _draw(axes, trials[i], lines[i], summaries[i], hue, f"opt-{i}", group.alone)
        if not group.alone:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    figure.supxlabel("learning rate", color=style.MUTED)
    figure.supylabel("final training loss", color=style.MUTED)
    return figure


def _draw(
    axes: Axes, trial: Trial, line: np.ndarray, summary: Summary, hue: str, gid: str, alone: bool
) -> None:
    rates = trial.rates
    bad, ran = diverged(trial), trial.ran
    alive = np.isfinite(line)
    if alone and alive.any():
        low, _, high = np.array(rate_losses(trial))[alive].T
        high = np.where(np.isfinite(high), high, axes.get_ylim()[1])
        axes.fill_between(rates[alive], floored(low), floored(high), color=hue, alpha=0.15, lw=0)
    axes.plot(
        rates, floored(line), color=hue, marker="o", ms=3.2, lw=1.6, label=trial.optimizer,
        gid=gid, zorder=3,
    )  # fmt: skip
    if np.isfinite(summary.loss.middle):
        best = floored(summary.loss.middle)
        axes.plot([summary.rate], [best], "o", ms=8, mfc="none", mec=hue, mew=1.4, zorder=4)
    across = axes.get_xaxis_transform()
    whole = (bad | ~ran).all(1)
    for lost, fill in ((whole, hue), (bad.any(1) & ~whole, "none")):
        if lost.any():
            axes.plot(
                rates[lost], np.full(lost.sum(), 0.955), "^", ms=5, mfc=fill, mec=hue, mew=1,
                transform=across, clip_on=False, zorder=4,
            )  # fmt: skip
    if alone and summary.decades > 0:
        axes.plot(
            summary.usable, (0.025, 0.025), color=hue, lw=4, alpha=0.45, transform=across,
            solid_capstyle="butt",
        )  # fmt: skip


def _line(trial: Trial) -> np.ndarray:
    """The final loss of every rate [R], NaN where it has none."""
    middle = np.array([found.middle for found in rate_losses(trial)])
    return np.where(np.isfinite(middle), middle, np.nan)


def _range(trials: list[Trial], lines: list[np.ndarray]) -> tuple[float, float]:
    """From the lowest loss of all to the loss at the start: what lies above is no progress."""
    finite = np.concatenate([line[~np.isnan(line)] for line in lines])
    start = max(float(np.nanmedian(trial.train_loss[:, :, 0])) for trial in trials)
    if not len(finite):
        return start / 10, start
    lowest = max(float(finite.min()), FLOOR)
    return lowest, max(start, lowest * 1.01)
