"""Learning curves: what the best learning rate of every optimizer did, by step and by second."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ..results import Course, Trial
from ..summary import Summary, best_rate, floored, on_logs, smooth
from ..wording import join, number
from . import style
from .reading import Drawing, Line, Panel


class Curve(NamedTuple):
    """Over all seeds of the best learning rate: the median and the quartiles, [E]."""

    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Scale(NamedTuple):
    """An axis of values: its limits, and how its numbers are said."""

    low: float
    high: float
    log: bool
    say: str


class Across(NamedTuple):
    """The axis of progress: where each optimizer is at each look, and how that is said."""

    at: list[np.ndarray]
    high: float
    say: str
    label: str


def curves(
    course: Course,
    summaries: list[Summary],
    shown: Sequence[int],
    look: style.Look,
    timed: bool = False,
) -> Drawing:
    """Training loss, and the held-out score or loss, of what is shown; panels by family."""
    trials = course.trials
    found = style.groups(trials, shown)
    columns = {"Training loss": [_curve(trial, trial.train_loss, course) for trial in trials]}
    scales = [_losses([columns["Training loss"][i] for i in shown], on_logs(course))]
    if not course.judged_on_train:
        percent = 100.0 if course.score else 1.0
        held = [_curve(trial, percent * trial.judged, course) for trial in trials]
        columns[f"Held-out {course.judged}"] = held
        kept = [held[i] for i in shown]
        scales.append(_scores(kept) if course.score else _losses(kept, on_logs(course)))
    across = _time(course, summaries, shown) if timed else _steps(course)
    names = [[trials[i].optimizer for i in group.hues] for group in found]
    figure, grid, height = _grid(names, len(columns), look)
    drawn = []
    for column, (title, lines), scale in zip(grid.T, columns.items(), scales, strict=True):
        for axes, group in zip(column, found, strict=True):
            style.limit(axes, "y", scale.low, scale.high, scale.log)
            if scale.say != "{}":
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
            axes.set_xlim(0, across.high)
            axes.set_title(f"{title}: {group.title}" if group.title else title)
            read = _draw(axes, trials, lines, group, shown, across, scale)
            drawn.append(Panel(axes, read, across.say, scale.say))
            if look.names_beside:
                style.label_ends(axes, _ends(trials, lines, group, across), 0.8 * height)
    for axes in grid.ravel()[-2:] if look.names_beside else grid.flat:
        axes.set_xlabel(across.label)
    if not look.names_beside:
        for axes, group in zip(grid[:, -1], found, strict=True):
            style.legend(axes, group, style.names_width(look, 1), gap=0.42)
    return Drawing(figure, drawn, _left_out(trials, columns, shown, scales, across))


def _grid(
    names: list[list[str]], columns: int, look: style.Look
) -> tuple[Figure, np.ndarray, float]:
    """Axes [groups, columns], all below each other on a narrow page, and the height of each."""
    beside = look.names_beside
    height = 4.3 if beside and len(names) == 1 else 2.9 if beside else 2.5
    count = len(names) * columns
    across = min(2, count) if beside else 1
    rows = -(-count // across)
    width = style.names_width(look, 1)
    below = 0 if beside else sum(style.legend_height(each, width) for each in names)
    figure = Figure((look.width, height * rows + below), layout="constrained")
    shared = ("col" if columns > 1 else True) if beside else False
    grid = figure.subplots(rows, across, squeeze=False, sharex=beside, sharey=shared)
    figure.get_layout_engine().set(wspace=0.05, hspace=0.04)  # pyright: ignore
    for axes in grid.flat[count:]:
        axes.remove()
    for axes in grid.flat[max(count - across, 0) : count]:
        axes.tick_params(labelbottom=True)
    return figure, grid.ravel()[:count].reshape(len(names), columns), height


def _draw(
    axes: Axes,
    trials: list[Trial],
    lines: list[Curve | None],
    group: style.Group,
    shown: Sequence[int],
    across: Across,
    scale: Scale,
) -> list[Line]:
    """The group in colour; where few are shown, the others grey behind it."""
    show = floored if scale.log else np.asarray
    few = len(shown) <= style.FEW
    for i in shown if few else ():
        if i not in group.hues and (curve := lines[i]):
            axes.plot(across.at[i], show(curve.middle), color=style.GHOST, lw=0.7, zorder=1)
    shade = 0.13 if len(group.hues) < 5 else 0.08
    read = []
    for i, hue in group.hues.items():
        if curve := lines[i]:
            x, (middle, low, high) = across.at[i], map(show, curve)
            if few:
                axes.fill_between(x, low, high, color=hue, alpha=shade, lw=0, gid=f"opt-{i}b")
            axes.plot(
                x, middle, color=hue, gid=f"opt-{i}", zorder=3, label=trials[i].optimizer,
                lw=1.8 if few else 1.3,
            )  # fmt: skip
            read.append(Line(i, hue, x, *((middle, low, high) if few else (middle,))))
    return read


def _ends(
    trials: list[Trial], lines: list[Curve | None], group: style.Group, across: Across
) -> list[tuple[int, float, str, str]]:
    """Where each line leaves the axes: its end, or what it is at the last second shown."""
    found = []
    for i, hue in group.hues.items():
        if curve := lines[i]:
            last = np.searchsorted(across.at[i], across.high * (1 + 1e-9), side="right") - 1
            found.append((i, float(floored(curve.middle[last])), trials[i].optimizer, hue))
    return found


def _curve(trial: Trial, values: np.ndarray, course: Course) -> Curve | None:
    best, kept = best_rate(trial)
    if not kept.any():
        return None
    scored = course.score is not None and values is not trial.train_loss
    runs = np.where(kept[:, None], smooth(values[best], trial.exact), -np.inf if scored else np.inf)
    low, high = np.quantile(runs, (0.25, 0.75), axis=0, method="nearest")
    return Curve(np.median(runs, 0), low, high)


def _steps(course: Course) -> Across:
    return Across(
        [t.steps for t in course.trials], course.steps, f"{course.unit} {{}}", f"{course.unit}s"
    )


def _time(course: Course, summaries: list[Summary], shown: Sequence[int]) -> Across:
    """Steps as seconds of each optimizer, up to where most of them are at their end."""
    at = [t.steps * s.step_seconds.middle for t, s in zip(course.trials, summaries, strict=True)]
    high = style.high_fence(np.array([at[i][-1] for i in shown]), low=0.0)
    unit, name = (1.0, "seconds") if high >= 1 else (1e-3, "milliseconds")
    short = "s" if unit == 1 else "ms"
    return Across([x / unit for x in at], high / unit, f"{{}} {short}", f"{name} of one run")


def _middles(lines: list[Curve | None]) -> np.ndarray:
    return np.array([c.middle for c in lines if c and np.isfinite(c.middle).all()], np.float64)


def _losses(lines: list[Curve | None], log: bool) -> Scale:
    """From the lowest of all to the start: what lies above is no progress."""
    middle = _middles(lines)
    if not len(middle):
        return Scale(0.0, 1.0, False, "{}")
    if log:
        middle = floored(middle)
    low, start = float(middle.min()), float(np.median(middle[:, 0]))
    return Scale(*style.span(low, max(start, 1.01 * low if log else low), log), log, "{}")


def _scores(lines: list[Curve | None]) -> Scale:
    """Around what is reached at the end, in percent, but for what is far below most of it."""
    middle = _middles(lines)
    if not len(middle):
        return Scale(0.0, 100.0, False, "{} %")
    ends = middle[:, -max(1, middle.shape[1] // 4) :]
    low, high = style.low_fence(ends.min(1)), float(middle.max())
    low = max(low - 0.6 * (high - low) - 2, float(middle.min()) - 2)
    return Scale(low, high + 1 + 0.05 * (high - low), False, "{} %")


def _left_out(
    trials: list[Trial],
    columns: dict[str, list[Curve | None]],
    shown: Sequence[int],
    scales: list[Scale],
    across: Across,
) -> str:
    """A sentence on whose lines leave the axes where a reader would look for them: at the end."""
    out: dict[str, list[str]] = {}
    for i in shown:
        name, end = trials[i].optimizer, across.at[i][-1]
        if end > 1.001 * across.high:
            out.setdefault("Cut off on the right", []).append(
                f"{name} (to {across.say.format(number(end))})"
            )
        for lines, scale in zip(columns.values(), scales, strict=True):
            if (curve := lines[i]) and not scale.low <= floored(curve.middle[-1]) <= scale.high:
                value = number(float(curve.middle[-1]))
                where = "below" if curve.middle[-1] < scale.low else "above"
                out.setdefault(f"Ends {where} the axis", []).append(
                    f"{name} ({scale.say.format(value)})"
                )
            elif curve and scale.say == "{}" and np.nanmax(curve.middle) > 2 * scale.high > 0:
                out.setdefault("Climbs above the axis on its way", []).append(name)
    return " ".join(f"{what}: {_some(list(dict.fromkeys(names)))}." for what, names in out.items())


def _some(names: list[str]) -> str:
    """Not more than a reader wants to read."""
    return join(names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} others"])
