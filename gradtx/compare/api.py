"""The comparison from Python: `gradtx.compare.run`."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

import gradtx.catalogue as catalogue

from . import parse
from .command import run as train
from .entrant import SCHEDULES
from .interrupt import CtrlC
from .objects import entrants_of
from .own import checked, load
from .plan import CLASSICS, SEEDS, Plan, asked, public, searches
from .problems import PROBLEMS, Problem
from .report import PAGE, files_of, summaries_of, write
from .results import Results
from .summary import Summary
from .wording import verdict


class Comparison:
    """What `run` returns: the report in a notebook, its first sentence when printed."""

    def __init__(self, results: Results) -> None:
        self.results = results

    @cached_property
    def summaries(self) -> dict[str, list[Summary]]:
        """By problem what each optimizer did, in the order in which they were given."""
        return summaries_of(self.results)

    @cached_property
    def _files(self) -> dict[str, Any]:
        return files_of(self.results, self.summaries)

    def figures(self) -> dict[str, bytes]:
        """The pictures as PNG files, by problem and name: "digits-mlp-curves"."""
        return {name[:-4]: x for name, x in self._files.items() if name.endswith(".png")}

    def save(self, folder: str | Path) -> Path:
        """Writes the report, the pictures and `results.json`; returns the path of the page."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        return write(self.results, path)

    def _repr_html_(self) -> str:
        """The page in a frame, so that its style and script are not those of the notebook."""
        return (
            f'<iframe title="gradtx compare" srcdoc="{escape(self._files[PAGE])}" '
            'sandbox="allow-scripts" style="width:100%;height:80vh;border:0"></iframe>'
        )

    def __repr__(self) -> str:
        return "\n".join(
            f"{course.title}: {verdict(self.summaries[course.name], course)}"
            for course in self.results.courses
        )


def run(
    problem: Problem | str | Sequence[Problem | str],
    optimizers: Mapping[str, Any] | Sequence[Any] = CLASSICS,
    *,
    learning_rates: Sequence[float] | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    schedule: str = "constant",
    batch_size: int | str | None = None,
    steps: int | None = None,
    seeds: int = SEEDS,
) -> Comparison:
    """Trains all optimizers on a problem, or several, as `gradtx compare` does.

    Problems are names or `Problem` objects. `optimizers` are names and expressions as at the
    command line, functions of the learning rate, or transformations that are ready, of Optax too;
    a mapping gives them names. Without any, L-BFGS runs beside the classics where the batch is the
    whole training set. Without `learning_rates` they are chosen around the typical one of
    each optimizer, with a finer second round. `sweep={"b1": [0.8, 0.9]}` puts one optimizer a value
    in the place of every expression that has a `b1`. `batch_size` ("full" for all examples) and
    `steps` are the problem's own if they are not given. Raises `ValueError` for what cannot be
    done, before anything is.
    """
    given = [problem] if isinstance(problem, Problem | str) else list(problem)
    sweeps = [f"{key}={','.join(map(repr, values))}" for key, values in (sweep or {}).items()]
    length, size = (None if x is None else str(x) for x in (steps, batch_size))
    try:
        plan = Plan(
            problems=[asked(_problem(one), length, size) for one in given],
            entrants=entrants_of(optimizers, catalogue.optimizers, public(), sweeps),
            rates=None
            if learning_rates is None
            else np.unique(np.asarray(learning_rates, np.float32)),
            schedule=parse.choose("schedule", schedule, SCHEDULES),
            seeds=parse.seeds(str(seeds)),
            output=None,
            searches=searches(optimizers),
        )
    except parse.BadInput as error:
        raise ValueError(f"gradtx.compare.run: {error}") from error
    with CtrlC() as ctrl_c:
        return Comparison(train(plan, ctrl_c))


def _problem(given: Any) -> Problem:
    if isinstance(given, Problem):
        return checked(given)
    if given in PROBLEMS:
        return PROBLEMS[given]()
    return load(given)
