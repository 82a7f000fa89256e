"""How the final loss depends on the learning rate, and where runs diverge."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..results import Course, Trial
from ..summary import FLOOR, Summary, diverged, final, rate_losses
from . import style


def sensitivity(course: Course, summaries: list[Summary]) -> Figure:
    """A panel for every optimizer, the others grey behind it; for every family if many."""
    trials = course.trials
    alone = len(trials) <= 12
    if alone:
        found = [style.Group(trial.optimizer, [i]) for i, trial in enumerate(trials)]
        figure, cells = style.panels(len(found), 4, 10.6, 2.15)
    else:
        found = style.groups([trial.family for trial in trials])
        figure, cells = style.panels(len(found), 2, 10.6, 2.9)
    lines = [rate_losses(trial.train_loss, course.log)[0] for trial in trials]
    lowest, highest = _range(trials, lines)
    rates = np.concatenate([trial.rates for trial in trials])
    log = course.log or highest > 8 * lowest
    for axes, group in zip(cells, found, strict=True):
        low, high = style.span([float(rates.min()), float(rates.max())], log=True)
        style.log_axis(axes, "x", low, high, ticks=4)
        bottom, top = style.span([lowest, highest], log)
        if log:
            style.log_axis(axes, "y", bottom, top * (top / bottom) ** 0.1)
        else:
            axes.set_ylim(bottom, top + 0.12 * (top - bottom))
        for i, trial in enumerate(trials):
            if i not in group.members:
                axes.plot(trial.rates, _shown(lines[i]), color=style.GHOST, lw=0.7, zorder=1)
        for k, i in enumerate(group.members):
            hue = style.color(i if alone else k)
            _draw(axes, trials[i], lines[i], summaries[i], hue, f"opt-{i}", alone)
        axes.set_title(group.title, color=style.color(group.members[0]) if alone else style.INK)
        if not alone:
            axes.legend(
                loc="center left",
                bbox_to_anchor=(1.0, 0.5),
                frameon=False,
                fontsize=8.5,
                labelcolor="linecolor",
                handlelength=0.8,
            )
    figure.supxlabel("learning rate", color=style.MUTED, size=9.5)
    figure.supylabel("final training loss", color=style.MUTED, size=9.5)
    return figure


def _draw(
    axes: Axes,
    trial: Trial,
    line: np.ndarray,
    summary: Summary,
    hue: str,
    gid: str,
    alone: bool,
) -> None:
    bad = diverged(trial.train_loss)
    last = final(trial.train_loss)
    alive = ~bad.all(1)
    if alone and alive.any():
        low = np.where(bad, np.inf, last)[alive].min(1)
        high = np.where(bad, -np.inf, last)[alive].max(1)
        axes.fill_between(
            trial.rates[alive], _shown(low), _shown(high), color=hue, alpha=0.15, lw=0
        )
    axes.plot(
        trial.rates,
        _shown(line),
        color=hue,
        marker="o",
        ms=3.2,
        lw=1.6,
        label=trial.optimizer,
        gid=gid,
        zorder=3,
    )
    if not np.isnan(summary.loss):
        axes.plot(
            [summary.rate],
            [_shown(summary.loss)],
            "o",
            ms=8,
            mfc="none",
            mec=hue,
            mew=1.4,
            zorder=4,
        )
    across = axes.get_xaxis_transform()
    for seeds, full in ((bad.all(1), True), (bad.any(1) & ~bad.all(1), False)):
        if not seeds.any():
            continue
        axes.plot(
            trial.rates[seeds],
            np.full(seeds.sum(), 0.955),
            "^",
            ms=5,
            mfc=hue if full else "none",
            mec=hue,
            mew=1,
            transform=across,
            clip_on=False,
            zorder=4,
        )
    if alone and summary.decades > 0:
        axes.plot(
            summary.usable,
            (0.025, 0.025),
            color=hue,
            lw=4,
            alpha=0.45,
            transform=across,
            solid_capstyle="butt",
        )


def _range(trials: list[Trial], lines: list[np.ndarray]) -> tuple[float, float]:
    """From the lowest loss of all to the loss at the start: what lies above is no progress."""
    finite = np.concatenate([line[~np.isnan(line)] for line in lines])
    start = max(float(np.nanmedian(trial.train_loss[:, :, 0])) for trial in trials)
    if not len(finite):
        return start / 10, start
    lowest = max(float(finite.min()), FLOOR)
    return lowest, max(start, lowest * 1.01)


def _shown(loss):
    return np.maximum(loss, FLOOR)
