"""`gradtx compare` from options to report."""

import argparse
import sys
import time

import numpy as np

from . import machine
from .entrant import SCHEDULES, Entrant
from .parse import BadInput
from .plan import Plan, read
from .progress import Ticker
from .race import Race
from .report import write
from .results import Course, Results
from .summary import summarize
from .table import print_catalogue, print_table
from .wording import outcome


def compare(options: argparse.Namespace) -> int:
    """Do what the options say; returns the exit code."""
    if options.list:
        print_catalogue()
        return 0
    try:
        plan = read(options)
    except BadInput as error:
        print(f"gradtx compare: {error}", file=sys.stderr)
        return 2
    created = time.strftime("%Y-%m-%d %H:%M")
    courses, interrupted = run(plan)
    courses = [course for course in courses if course.trials]
    if not courses:
        said = "interrupted before any optimizer was finished" if interrupted else "nothing ran"
        print(f"gradtx compare: {said}: there is nothing to report", file=sys.stderr)
        return 130 if interrupted else 1
    results = Results(
        created=created,
        versions=machine.versions(),
        machine=machine.describe(),
        schedule=plan.schedule,
        interrupted=interrupted,
        courses=courses,
    )
    report = write(results, plan.output)
    print_table(results)
    if interrupted:
        print("Interrupted: the report holds what was finished.", file=sys.stderr)
    print(f"Report: {report}")
    return 130 if interrupted else 0


def run(plan: Plan) -> tuple[list[Course], bool]:
    """All courses with the trials that were finished, and whether Ctrl-C ended it early."""
    courses: list[Course] = []
    try:
        with Ticker(len(plan.problems) * len(plan.entrants)) as ticker:
            for problem in plan.problems:
                race = Race(problem, plan.seeds, SCHEDULES[plan.schedule], plan.finer)
                courses.append(race.course())
                for entrant in plan.entrants:
                    ticker.begin(f"{problem.name}: {entrant.label}")
                    rates = plan.rates_for(problem, entrant)
                    line = _one(race, courses[-1], entrant, rates, ticker)
                    ticker.end(f"{problem.name}: {line}")
    except KeyboardInterrupt:
        return courses, True
    return courses, False


def _one(race: Race, course: Course, entrant: Entrant, rates: np.ndarray, ticker: Ticker) -> str:
    """Run one trial into `course`, and say in a line what came of it."""
    try:
        trial = race.run(entrant, rates, ticker.advance)
    except Exception as error:  # one optimizer that fails must not lose the others
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        course.failures[entrant.label] = f"{type(error).__name__}: {said}"
        return f"{entrant.label} failed, {course.failures[entrant.label]}"
    course.trials.append(trial)
    return outcome(summarize(trial, course), course)
