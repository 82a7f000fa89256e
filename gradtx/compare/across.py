"""Several problems in one view: who is near the best on how many of them.

On every problem each optimizer takes so many times the steps, or the time, that the fastest one
takes to the target; an optimizer is within a factor on a share of the problems. That share as a
function of the factor is its performance profile (Dolan & More 2002, doi 10.1007/s101070100263).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .results import Course
from .summary import Summary

FACTORS = (1.0, 1.5, 2.0, 4.0)
MOST = 16.0  # beyond this factor all are the same: far away


class Cell(NamedTuple):
    """What an optimizer did on one problem."""

    summary: Summary
    steps: float  # times those of the fastest to the target, infinite if it was not reached
    time: float


@dataclass(frozen=True)
class Across:
    """Optimizers that ran on all problems, the best first: by their mean factor in steps."""

    problems: list[str]  # by name
    cells: dict[str, list[Cell]]  # by optimizer, one for each problem

    def share(self, optimizer: str, factor: float, of: str) -> float:
        """Of the problems, that on which it is within a factor of the best in "steps" or "time"."""
        found = [getattr(cell, of) for cell in self.cells[optimizer]]
        return float(np.mean(np.array(found) <= factor * (1 + 1e-9)))


def across(courses: list[Course], summaries: dict[str, list[Summary]]) -> Across | None:
    """The view across problems that have a target, where there are several of them."""
    timed = [course for course in courses if course.target is not None]
    if len(timed) < 2:
        return None
    by_name = [{s.optimizer: s for s in summaries[course.name]} for course in timed]
    names = [name for name in by_name[0] if all(name in found for found in by_name)]
    if len(names) < 2:
        return None
    columns = []
    for found in by_name:
        steps = np.array([_steps(found[name]) for name in names])
        times = steps * [found[name].step_seconds.middle for name in names]
        columns.append((_factors(steps), _factors(times)))
    cells = {
        name: [
            Cell(found[name], float(steps[k]), float(times[k]))
            for found, (steps, times) in zip(by_name, columns, strict=True)
        ]
        for k, name in enumerate(names)
    }
    order = sorted(names, key=lambda name: (_mean(cells[name]), names.index(name)))
    return Across([course.name for course in timed], {name: cells[name] for name in order})


def _steps(summary: Summary) -> float:
    return summary.steps_to_target if summary.survivors else np.inf


def _factors(values: np.ndarray) -> np.ndarray:
    least = values.min()
    if not np.isfinite(least):
        return np.full(len(values), np.inf)
    return np.where(np.isfinite(values), values / max(least, 1e-12), np.inf)


def _mean(cells: list[Cell]) -> float:
    """The geometric mean of the factors in steps, what is far away counted as `MOST`."""
    return float(np.mean(np.log([min(cell.steps, MOST) for cell in cells])))
