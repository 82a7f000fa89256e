"""All that is to be done, judged before anything is done."""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gradtx.catalogue as catalogue

from . import parse
from .entrant import SCHEDULES, Entrant
from .own import is_own, load
from .parse import BadInput
from .problems import PROBLEMS, SUITE_LOOKS, SUITES, Problem
from .race import LOOKS, default_rates
from .summary import FIRST

CLASSICS = (
    "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamw",
)  # fmt: skip

SEARCH = "lbfgs"
"""What runs beside them where all steps have the same function."""

SEEDS = 12


@dataclass(frozen=True)
class Plan:
    """What to run."""

    problems: list[Problem]
    entrants: list[Entrant]
    rates: np.ndarray | None  # None: around the typical one of each optimizer
    schedule: str
    seeds: list[int]
    output: Path | None  # None: nothing is written on the way
    looks: int = LOOKS
    # Those that are compared beside the others where the problem is deterministic.
    searches: Sequence[Entrant] = ()

    def entrants_for(self, problem: Problem) -> list[Entrant]:
        return [*self.entrants, *(self.searches if problem.deterministic else ())]

    @property
    def finer(self) -> bool:
        """Whether there is a second round: not around learning rates that were asked for."""
        return self.rates is None and len(self.seeds) > FIRST

    def rates_for(self, problem: Problem, entrant: Entrant) -> np.ndarray:
        if not entrant.swept:
            return np.ones(1, np.float32)
        return default_rates(problem, entrant.centre) if self.rates is None else self.rates


def public() -> dict[str, Any]:
    """All names of gradtx, which nothing inside imports; it is there by now."""
    return vars(sys.modules["gradtx"])


def read(options: argparse.Namespace) -> Plan:
    """The plan that command line options describe, or `BadInput`."""
    suite = SUITES[parse.choose("suite", options.suite, SUITES)] if options.suite else {}
    names = list(suite) or _problem_names(options.problems or ["digits-mlp"])
    lengths = {name: str(steps) for name, steps in suite.items()}
    typed = _optimizers(options.optimizers)
    found = parse.entrants(typed, catalogue.optimizers, public(), options.sweep or ())
    schedule = parse.choose("schedule", options.schedule, SCHEDULES)
    rates = parse.rates(options.learning_rates) if options.learning_rates else None
    seeds = parse.seeds(options.seeds or str(SEEDS))
    for entrant in found:
        _try(entrant, schedule)
    output = writable(Path(options.output))
    return Plan(
        problems=[
            asked(_made(name), options.steps or lengths.get(name), options.batch_size)
            for name in names
        ],
        entrants=found,
        rates=rates,
        schedule=schedule,
        seeds=seeds,
        output=output,
        looks=SUITE_LOOKS if suite else LOOKS,
        searches=searches(options.optimizers),
    )


def asked(problem: Problem, steps: str | None, batch_size: str | None) -> Problem:
    """`problem` with the length and the batch size that were asked for; `None` leaves its own."""
    if steps is not None:
        count = parse.whole(steps, "the number of steps", most=10_000_000)
        problem = dataclasses.replace(problem, steps=count)
    if batch_size is None:
        return problem
    size = None
    if batch_size != "full":
        size = parse.whole(batch_size, "the batch size (or full)", most=1_000_000)
    if not problem.examples:
        raise BadInput(f"{problem.name} has no training examples: leave out the batch size.")
    if size and size > problem.examples:
        raise BadInput(
            f"{problem.name} has {problem.examples:,} training examples: give a batch size up to "
            f"that, or full, not {size:,}."
        )
    return dataclasses.replace(problem, batch_size=size)


def _made(name: str) -> Problem:
    return load(name) if is_own(name) else PROBLEMS[name]()


def _problem_names(typed: Sequence[str]) -> list[str]:
    names = [name for text in typed for name in text.split(",") if name]
    if names == ["all"]:
        return list(PROBLEMS)
    known = (name if is_own(name) else parse.choose("problem", name, PROBLEMS) for name in names)
    return list(dict.fromkeys(known))


def _optimizers(typed: Sequence[str] | None) -> Sequence[str]:
    if typed is None:
        return CLASSICS
    for text in typed:
        if text in PROBLEMS:
            raise BadInput(f"{text!r} is a problem: name problems before --optimizers.")
    return typed


def searches(given: object) -> list[Entrant]:
    """What is compared on deterministic problems if no optimizers were given."""
    chosen = given is None or given is CLASSICS
    return parse.entrants([SEARCH], catalogue.optimizers, public()) if chosen else []


def _try(entrant: Entrant, schedule: str) -> None:
    """Build an optimizer once, with plain numbers, so that impossible arguments show at once."""
    try:
        entrant.make(SCHEDULES[schedule](entrant.centre, 100))
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{entrant.label}: {error}") from error


def writable(folder: Path) -> Path:
    """`folder`, made if need be, after a file could be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(
            f"Cannot write to the folder {str(folder)!r} ({reason}): choose another --output."
        ) from error
    return folder
