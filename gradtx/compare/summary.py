"""Figures drawn from a trial: one learning rate is chosen, and how much the choice matters.

There is one statistic: the median over seeds of the loss at the end of a run, that of a run that
diverged being infinite. It chooses the learning rate, it is in the table, the curves are medians
whose last point it is, and the words quote it. Its spread is from the first to the third quartile.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import ranks
from .results import Course, Trial

SMOOTH = 0.1  # the final loss is the mean over this last part of the looks
FAR = 3.0  # a run that ends above this multiple of its first loss has diverged
NEAR = 0.1  # a learning rate is usable if it gives up at most this part of the best's progress
FIRST = 3  # seeds of the first round; the second, around the best rate, has all of them
FLOOR = 1e-12  # losses below are all the same on a logarithmic scale


class Spread(NamedTuple):
    """A median over seeds between the first and the third quartile."""

    low: float
    middle: float
    high: float


NOTHING = Spread(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Summary:
    """How an optimizer did on a problem; losses and scores are those of its best learning rate.

    A learning rate is *usable* if its final training loss lies above the best by at most 10 % of
    the best's progress from the starting loss, both on the scale on which they are drawn.
    `decades` is the log10 width of the usable range around the best, the edges interpolated
    between learning rates that were tried; nothing is claimed beyond the last one, or towards one
    that diverged.
    """

    optimizer: str
    place: int  # among those that the seeds tell apart; several may share one
    shared: bool  # whether they do
    same_as: str | None  # the optimizer that it is the same as on this problem, and not ranked
    rate: float  # NaN where none was swept
    loss: Spread  # final training loss
    held: Spread  # final held-out score, or loss where there is no score
    decades: float
    usable: tuple[float, float]  # learning rates
    open_ended: bool  # the sweep ended before the usable range did
    at_edge: bool  # the best learning rate is the first or the last that was tried
    steps_to_target: float  # median over seeds, infinite if half of them did not reach it
    reached: int  # seeds that reached the target
    survivors: int  # seeds that did not diverge
    seeds: int
    diverged: int  # runs, over all learning rates
    runs: int
    step_seconds: Spread  # per run: the time of a stack of runs divided by their number
    state_bytes_per_parameter: float

    @property
    def swept(self) -> bool:
        """Whether its learning rate was swept; what is ready has one of its own."""
        return not math.isnan(self.rate)

    @property
    def all_reached(self) -> bool:
        """Whether every seed reached the target, so that widths and steps can be compared."""
        return self.reached == self.seeds


def final(values: np.ndarray, exact: bool = False) -> np.ndarray:
    """Values [..., E] at the end, float64 [...]: the mean over the last tenth of the looks, or the
    last one where values are exact.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        return values[..., -window(values, exact) :].astype(np.float64).mean(-1)


def smooth(values: np.ndarray, exact: bool = False) -> np.ndarray:
    """Values [..., E] as the mean over the tenth of the looks that ends at each, so that the last
    one is `final`.
    """
    wide = window(values, exact)
    padded = np.concatenate([np.repeat(values[..., :1], wide - 1, -1), values], -1)
    views = np.lib.stride_tricks.sliding_window_view(padded.astype(np.float64), wide, axis=-1)
    with np.errstate(invalid="ignore", over="ignore"):
        return views.mean(-1)


def floored(loss: Any) -> Any:
    """Losses as they are compared and drawn on a logarithmic scale."""
    return np.maximum(loss, FLOOR)


def window(values: np.ndarray, exact: bool = False) -> int:
    return 1 if exact else max(1, round(SMOOTH * values.shape[-1]))


def spread(values: np.ndarray) -> Spread:
    """The quartiles of values over seeds [S], some of which may be infinite."""
    if not len(values):
        return NOTHING
    # Not between two values, of which one may be infinite: the nearest to the middle.
    low, high = np.quantile(values, (0.25, 0.75), method="nearest")
    return Spread(float(low), float(np.median(values)), float(high))


def diverged(trial: Trial) -> np.ndarray:
    """Which runs [R, S] ended badly: a loss not finite, or far above the first one."""
    losses = trial.train_loss
    finite = np.isfinite(losses).all(-1)
    with np.errstate(invalid="ignore"):
        far = final(losses, trial.exact) > FAR * np.abs(losses[..., 0])
    return np.asarray((~finite | far) & trial.ran)


def outcomes(trial: Trial) -> np.ndarray:
    """The final training loss of all runs [R, S]: infinite if diverged, NaN if there was none."""
    last = np.where(diverged(trial), np.inf, final(trial.train_loss, trial.exact))
    return np.where(trial.ran, last, np.nan)


def rate_losses(trial: Trial) -> list[Spread]:
    """What each learning rate leads to, over the seeds that were run with it."""
    return [spread(row[ran]) for row, ran in zip(outcomes(trial), trial.ran, strict=True)]


def rate_held(trial: Trial, course: Course) -> list[Spread]:
    """The same on held-out data: the final score, or loss where there is none."""
    last = np.where(diverged(trial), worst(course), final(trial.judged, trial.exact))
    return [spread(row[ran]) for row, ran in zip(last, trial.ran, strict=True)]


def worst(course: Course) -> float:
    """What a run that diverged counts as on held-out data."""
    return -np.inf if course.score else np.inf


def best_rate(trial: Trial) -> tuple[int, np.ndarray]:
    """The best learning rate of those that all seeds were run with, and which seeds survive it.

    A rate at which a seed diverged can only win if none is free of that.
    """
    bad, whole = diverged(trial), np.all(trial.ran, axis=1)
    middle = np.array([found.middle for found in rate_losses(trial)])
    fewest = bad.sum(1)[whole].min()
    best = int(np.argmin(np.where(whole & (bad.sum(1) == fewest), middle, np.inf)))
    best = best if whole[best] else int(np.argmax(whole))  # all are infinite
    return best, ~bad[best]


def on_logs(course: Course) -> bool:
    """Whether losses are drawn, and progress is measured, on a logarithmic scale."""
    return course.log or not any(bool((t.train_loss[t.ran] < 0).any()) for t in course.trials)


def summarize_all(course: Course) -> list[Summary]:
    """The summaries of all trials, in their order, with the places that the seeds tell apart."""
    runs = [(t.rates, np.where(t.ran[..., None], t.train_loss, np.nan)) for t in course.trials]
    same = ranks.doubles(runs)
    losses = [outcomes(trial)[best_rate(trial)[0]] for trial in course.trials]
    ranked = [i for i, other in enumerate(same) if other is None and np.isfinite(losses[i]).any()]
    place = dict(zip(ranked, ranks.places(_levels(losses, ranked, course)), strict=True))
    last = len(ranked) + 1  # nothing of these survived
    for i, other in enumerate(same):
        place.setdefault(i, last if other is None else place.get(other, last))
    often = [place[i] for i in ranked]
    names = [None if other is None else course.trials[other].optimizer for other in same]
    return [
        summarize(trial, course, place[i], often.count(place[i]) > 1, names[i])
        for i, trial in enumerate(course.trials)
    ]


def by_place(summary: Summary) -> tuple[bool, bool, int, float]:
    """In the order of the table: by place, then by loss; last what is not ranked."""
    loss = summary.loss.middle if summary.survivors else 0.0
    return not summary.survivors, summary.same_as is not None, summary.place, loss


def _levels(losses: list[np.ndarray], ranked: list[int], course: Course) -> np.ndarray:
    """The losses of those that are ranked [K, S], on the scale on which they are compared."""
    if not ranked:
        return np.zeros((0, 1))
    stacked = np.stack([losses[i] for i in ranked])
    return np.log10(floored(stacked)) if on_logs(course) else stacked


def summarize(
    trial: Trial,
    course: Course,
    place: int = 1,
    shared: bool = False,
    same_as: str | None = None,
) -> Summary:
    bad = diverged(trial)
    best, kept = best_rate(trial)
    last = outcomes(trial)[best]
    held = np.where(kept, final(trial.judged[best], trial.exact), worst(course))
    crossings = [
        _crossing(trial.steps, run, math.inf if course.target is None else course.target)
        if survived
        else math.inf
        for run, survived in zip(trial.train_loss[best], kept, strict=True)
    ]
    low, high, open_ended = _usable(trial, course, best)
    alive = bool(np.any(kept))
    return Summary(
        optimizer=trial.optimizer,
        place=place,
        shared=shared,
        same_as=same_as,
        rate=float(trial.rates[best]) if trial.swept else math.nan,
        loss=spread(last) if alive else NOTHING,
        held=spread(held) if alive else NOTHING,
        decades=math.log10(high / low),
        usable=(low, high),
        open_ended=open_ended,
        at_edge=len(trial.rates) > 1 and best in (0, len(trial.rates) - 1),
        steps_to_target=float(np.quantile(crossings, 0.5, method="higher")),
        reached=int(np.isfinite(crossings).sum()),
        survivors=int(kept.sum()),
        seeds=len(trial.seeds),
        diverged=int(bad.sum()),
        runs=trial.runs,
        step_seconds=spread(np.asarray(trial.step_seconds)),
        state_bytes_per_parameter=trial.state_bytes_per_parameter,
    )


def _usable(trial: Trial, course: Course, best: int) -> tuple[float, float, bool]:
    """Lowest and highest usable learning rate, and whether the sweep cut the range short."""
    bad = np.any(diverged(trial), axis=1)
    if bad[best]:
        rate = float(trial.rates[best])
        return rate, rate, False
    logs = on_logs(course)

    def level(loss: Any) -> Any:
        return np.log10(floored(loss)) if logs else np.asarray(loss)

    start = trial.train_loss[:, :, 0][trial.ran].astype(np.float64)
    first = float(np.median(level(start[np.isfinite(start)])))
    found = level(np.array([rate.middle for rate in rate_losses(trial)]))
    limit = found[best] + NEAR * max(first - found[best], 0.0)
    place = np.log10(trial.rates.astype(np.float64))
    edges, cut = [], False
    for way in (-1, 1):
        at = best
        while 0 <= at + way < len(place) and not bad[at + way] and found[at + way] <= limit:
            at += way
        beyond = at + way
        edge = float(place[at])
        if not 0 <= beyond < len(place):
            cut = cut or len(place) > 1
        elif not bad[beyond]:
            part = (limit - found[at]) / (found[beyond] - found[at])
            edge += float(part * (place[beyond] - place[at]))
        edges.append(10**edge)
    return edges[0], edges[1], cut


def _crossing(steps: np.ndarray, loss: np.ndarray, target: float) -> float:
    """When a run first reached `target`, interpolated between the two looks around it."""
    below = np.flatnonzero(loss <= target)
    if not len(below):
        return math.inf
    i = int(below[0])
    if i == 0:
        return 0.0
    part = (loss[i - 1] - target) / (loss[i - 1] - loss[i])
    return float(steps[i - 1] + part * (steps[i] - steps[i - 1]))
