"""How the final loss, or what is held out, depends on the learning rate; where runs diverge."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from ..results import Course, Trial
from ..summary import FLOOR, Spread, Summary, diverged, floored, on_logs, rate_held, rate_losses
from . import style
from .reading import Drawing, Line, Panel


def sensitivity(
    course: Course,
    summaries: list[Summary],
    shown: Sequence[int],
    look: style.Look,
    held: bool = False,
) -> Drawing:
    """A panel for every optimizer, the others grey behind it; for every family if many."""
    trials = course.trials
    alone = len(shown) <= style.FEW
    if alone:
        found, columns = style.each(trials, shown), look.columns
        figure, panels = style.panels(
            trials, found, look, columns, 2.15 if look.names_beside else 1.9
        )
    else:
        found, columns = style.groups(trials, shown), 3 if look.names_beside else 1
        figure, panels = style.panels(trials, found, look, columns, 3.1)
    scored = held and course.score is not None
    say = "{} %" if scored else "{}"
    log = on_logs(course) and not scored
    spreads = {i: _spreads(trials[i], course, held) for i in shown}
    bottom, top = _range(course, spreads, held)
    rates = np.concatenate([trials[i].rates for i in shown])
    low, high = style.span(float(rates.min()), float(rates.max()), log=True)
    drawn = []
    for axes, group in panels:
        style.limit(axes, "x", low, high, log=True, ticks=4 if look.names_beside else 3)
        style.limit(axes, "y", bottom, top, log)
        if scored:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        for i in shown if alone else ():
            if i not in group.hues:
                middle = _shown(spreads[i][:, 1], log)
                axes.plot(trials[i].rates, middle, color=style.GHOST, lw=0.7, zorder=1)
        lines = [
            _draw(axes, trials[i], spreads[i], summaries[i], Line(i, hue, *_NO), log, group.alone)
            for i, hue in group.hues.items()
        ]
        drawn.append(Panel(axes, lines, "learning rate {}", say))
        if not group.alone:
            style.legend(axes, group, style.names_width(look, columns), gap=0.25)
    figure.supxlabel("learning rate", color=style.MUTED)
    what = f"held-out {course.judged}" if held else "training loss"
    figure.supylabel(f"final {what}", color=style.MUTED)
    return Drawing(figure, drawn)


_NO = (np.zeros(0), np.zeros(0))


def _draw(
    axes: Axes,
    trial: Trial,
    spreads: np.ndarray,
    summary: Summary,
    line: Line,
    log: bool,
    alone: bool,
) -> Line:
    """The line of one optimizer with all that is marked on it; what can be read off it."""
    rates, hue, gid = trial.rates, line.hue, f"opt-{line.opt}"
    bad, ran = diverged(trial), trial.ran
    low, middle, high = _shown(spreads.T, log)
    alive = np.isfinite(middle)
    if alone and alive.any():
        within = [np.clip(np.nan_to_num(edge[alive]), *axes.get_ylim()) for edge in (low, high)]
        axes.fill_between(rates[alive], *within, color=hue, alpha=0.15, lw=0, gid=gid + "b")
    axes.plot(
        rates, np.where(alive, middle, np.nan), color=hue, marker="o" if alone else "", ms=3.2,
        lw=1.6 if alone else 1.3, label=trial.optimizer, gid=gid, zorder=3,
    )  # fmt: skip
    best = int(np.argmin(np.abs(rates - summary.rate)))
    if alive[best]:
        axes.plot(
            rates[best], middle[best], "o", ms=8, mfc="none", mec=hue, mew=1.4, zorder=4,
            gid=gid + "r",
        )  # fmt: skip
    across = axes.get_xaxis_transform()
    whole = (bad | ~ran).all(1)
    for lost, fill, kind in ((whole, hue, "x"), (bad.any(1) & ~whole, "none", "y")):
        if lost.any():
            axes.plot(
                rates[lost], np.full(lost.sum(), 0.955), "^", ms=5, mfc=fill, mec=hue, mew=1,
                transform=across, clip_on=False, zorder=4, ls="none", gid=gid + kind,
            )  # fmt: skip
    if alone and summary.decades > 0:
        axes.plot(
            summary.usable, (0.025, 0.025), color=hue, lw=4, alpha=0.45, transform=across,
            solid_capstyle="butt", gid=gid + "u",
        )  # fmt: skip
    return line._replace(x=rates, y=middle, low=low, high=high)


def _shown(values: np.ndarray, log: bool) -> np.ndarray:
    """As drawn; what diverged has no place on an axis."""
    return floored(values) if log else values


def _spreads(trial: Trial, course: Course, held: bool) -> np.ndarray:
    """Quartiles and median of every rate [R, 3], infinite where seeds diverged, in percent if a
    score.
    """
    found: list[Spread] = rate_held(trial, course) if held else rate_losses(trial)
    values = np.array(found)
    return 100 * values if held and course.score else values


def _range(course: Course, spreads: dict[int, np.ndarray], held: bool) -> tuple[float, float]:
    """From the best of all to the start: what lies beyond is no progress."""
    middle = np.concatenate([spread[:, 1] for spread in spreads.values()])
    finite = middle[np.isfinite(middle)]
    looked = [course.trials[i].judged if held else course.trials[i].train_loss for i in spreads]
    start = float(np.median([np.nanmedian(values[:, :, 0]) for values in looked]))
    if held and course.score:
        best = float(finite.max()) if len(finite) else 100.0
        low, high = style.span(min(100 * start, best), best, log=False)
        return low, high + 0.12 * (high - low)  # room for triangles
    log = on_logs(course)
    lowest = float(finite.min()) if len(finite) else start / 10
    lowest = max(lowest, FLOOR) if log else lowest
    low, high = style.span(lowest, max(start, lowest * 1.01 if log else lowest), log)
    return low, high * (high / low) ** 0.1 if log else high + 0.12 * (high - low)
