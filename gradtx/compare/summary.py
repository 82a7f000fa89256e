"""Figures drawn from a trial: one learning rate is chosen, and how much the choice matters."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .results import Course, Trial

SMOOTH = 0.1  # the final loss is the mean over this last part of the looks
FAR = 3.0  # a run that ends above this multiple of its first loss has diverged
NEAR = 0.1  # a learning rate is usable if it gives up at most this part of the best's progress
FLOOR = 1e-12  # losses below are all the same on a logarithmic scale


@dataclass(frozen=True)
class Summary:
    """How an optimizer did on a problem; losses and scores are those of its best learning rate.

    A learning rate is *usable* if its final training loss lies above the best by at most 10 % of
    the best's progress from the starting loss (of the logarithm, where the problem says so).
    `decades` is the log10 width of the usable range around the best, the edges interpolated
    between learning rates that were tried; nothing is claimed beyond the last one, or towards one
    that diverged.
    """

    optimizer: str
    rate: float
    loss: float  # final training loss, over seeds
    loss_deviation: float
    held: float  # final held-out score, or loss where there is no score
    held_deviation: float
    decades: float
    usable: tuple[float, float]  # learning rates
    open_ended: bool  # the sweep ended before the usable range did
    at_edge: bool  # the best learning rate is the first or the last that was tried
    steps_to_target: float  # mean over the seeds that reached it, NaN if none did
    reached: int  # seeds that reached the target
    survivors: int  # seeds that did not diverge
    seeds: int
    diverged: int  # runs, over all learning rates
    runs: int
    step_seconds: float  # per run: the time of the whole stack divided by its runs
    stack_step_seconds: float
    state_bytes_per_parameter: float

    @property
    def all_reached(self) -> bool:
        """Whether every seed reached the target, so that widths and steps can be compared."""
        return self.reached == self.seeds

    @property
    def rank(self) -> tuple[bool, float]:
        """Smaller is better: by final training loss, and last those of which nothing survived."""
        return not self.survivors, self.loss


def final(values: np.ndarray) -> np.ndarray:
    """Values [..., E] at the end, the mean over the last tenth of the looks, float64 [...]."""
    with np.errstate(invalid="ignore", over="ignore"):
        return values[..., -window(values) :].astype(np.float64).mean(-1)


def smooth(values: np.ndarray) -> np.ndarray:
    """Values [..., E] as the mean over the tenth of the looks that ends at each, so that the last
    one is `final`.
    """
    wide = window(values)
    padded = np.concatenate([np.repeat(values[..., :1], wide - 1, -1), values], -1)
    views = np.lib.stride_tricks.sliding_window_view(padded.astype(np.float64), wide, axis=-1)
    with np.errstate(invalid="ignore", over="ignore"):
        return views.mean(-1)


def floored(loss: Any) -> Any:
    """Losses as they are compared and drawn on a logarithmic scale."""
    return np.maximum(loss, FLOOR)


def window(values: np.ndarray) -> int:
    return max(1, round(SMOOTH * values.shape[-1]))


def diverged(train_loss: np.ndarray) -> np.ndarray:
    """Which runs of [R, S, E] ended badly: a loss not finite, or far above the first one."""
    finite = np.isfinite(train_loss).all(-1)
    with np.errstate(invalid="ignore"):
        far = final(train_loss) > FAR * np.abs(train_loss[..., 0])
    return np.logical_or(~finite, far)


def rate_losses(train_loss: np.ndarray, log: bool) -> tuple[np.ndarray, np.ndarray]:
    """Final loss [R] and its deviation [R] over the seeds that did not diverge, NaN if all did.

    With `log` the mean is the geometric one, and the deviation that of the logarithm (base 10).
    """
    bad = diverged(train_loss)
    last = np.where(bad, np.nan, final(train_loss))
    kept = [row[~np.isnan(row)] for row in _levels(last, log)]
    mean = np.array([row.mean() if len(row) else np.nan for row in kept])
    deviation = np.array([row.std() if len(row) else np.nan for row in kept])
    return (10**mean if log else mean), deviation


def _levels(loss: np.ndarray, log: bool) -> np.ndarray:
    return np.log10(floored(loss)) if log else loss


def best_rate(train_loss: np.ndarray, log: bool) -> tuple[int, np.ndarray]:
    """The best learning rate, and which seeds [S] survive it.

    A rate at which a seed diverged can only win if none is free of that.
    """
    bad = diverged(train_loss)
    loss, _ = rate_losses(train_loss, log)
    fewest = bad.sum(1).min()
    candidates = np.where((bad.sum(1) == fewest) & ~np.isnan(loss), loss, np.inf)
    best = int(np.argmin(candidates))
    return best, ~bad[best]


def summarize(trial: Trial, course: Course) -> Summary:
    bad = diverged(trial.train_loss)
    best, kept = best_rate(trial.train_loss, course.log)
    loss, deviation = rate_losses(trial.train_loss, course.log)
    held = final(trial.judged[best][kept])
    crossings = [_crossing(trial.steps, run, course.target) for run in trial.train_loss[best][kept]]
    reached = [step for step in crossings if step is not None]
    low, high, open_ended = _usable(trial, course, best, loss, np.any(bad, axis=1))
    return Summary(
        optimizer=trial.optimizer,
        rate=float(trial.rates[best]),
        loss=float(loss[best]),
        loss_deviation=float(deviation[best]),
        held=_mean(held),
        held_deviation=float(held.std()) if len(held) else math.nan,
        decades=math.log10(high / low),
        usable=(low, high),
        open_ended=open_ended,
        at_edge=len(trial.rates) > 1 and best in (0, len(trial.rates) - 1),
        steps_to_target=_mean(np.array(reached)),
        reached=len(reached),
        survivors=int(kept.sum()),
        seeds=len(trial.seeds),
        diverged=int(bad.sum()),
        runs=trial.runs,
        step_seconds=trial.step_seconds / trial.runs,
        stack_step_seconds=trial.step_seconds,
        state_bytes_per_parameter=trial.state_bytes_per_parameter,
    )


def _usable(
    trial: Trial, course: Course, best: int, loss: np.ndarray, bad: np.ndarray
) -> tuple[float, float, bool]:
    """Lowest and highest usable learning rate, and whether the sweep cut the range short, from
    the final `loss` of every rate and whether a seed was lost there.
    """
    if bad[best]:
        rate = float(trial.rates[best])
        return rate, rate, False
    start = trial.train_loss[:, :, 0].astype(np.float64)
    first = float(_levels(start[np.isfinite(start)], course.log).mean())
    level = _levels(loss, course.log)
    limit = level[best] + NEAR * max(first - level[best], 0.0)
    place = np.log10(trial.rates.astype(np.float64))
    edges, cut = [], False
    for way in (-1, 1):
        at = best
        while 0 <= at + way < len(place) and not bad[at + way] and level[at + way] <= limit:
            at += way
        beyond = at + way
        edge = float(place[at])
        if not 0 <= beyond < len(place):
            cut = cut or len(place) > 1
        elif not bad[beyond]:
            part = (limit - level[at]) / (level[beyond] - level[at])
            edge += float(part * (place[beyond] - place[at]))
        edges.append(10**edge)
    return edges[0], edges[1], cut


def _crossing(steps: np.ndarray, loss: np.ndarray, target: float) -> float | None:
    """When a run first reached `target`, interpolated between the two looks around it."""
    below = np.flatnonzero(loss <= target)
    if not len(below):
        return None
    i = int(below[0])
    if i == 0:
        return 0.0
    part = (loss[i - 1] - target) / (loss[i - 1] - loss[i])
    return float(steps[i - 1] + part * (steps[i] - steps[i - 1]))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan
