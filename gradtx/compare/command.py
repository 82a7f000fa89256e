"""`gradtx compare` from options to report."""

import argparse
import dataclasses
import sys
import time
import webbrowser
from pathlib import Path

from . import kept, machine
from .entrant import SCHEDULES, Entrant
from .interrupt import CtrlC
from .parse import BadInput
from .plan import Plan, read, writable
from .progress import Ticker
from .race import Race
from .report import write
from .results import Course, Results, Trial
from .summary import summarize
from .table import print_catalogue, print_table
from .wording import outcome


def compare(options: argparse.Namespace, ctrl_c: CtrlC) -> int:
    """Do what the options say; returns the exit code."""
    if options.list:
        print_catalogue()
        return 0
    try:
        if options.results:
            results, output = _again(options)
        else:
            plan = read(options)
            results, output = run(plan, ctrl_c), plan.output or Path()
        if not results.courses:
            said = (
                "interrupted before any optimizer was finished" if ctrl_c.heard else "nothing ran"
            )
            print(f"gradtx compare: {said}: there is nothing to report", file=sys.stderr)
            return 130 if ctrl_c.heard else 1
        return _report(results, output, options.open, ctrl_c)
    except BadInput as error:
        print(f"gradtx compare: {error}", file=sys.stderr)
        return 2


def _again(options: argparse.Namespace) -> tuple[Results, Path]:
    """What earlier runs have measured, and where its report goes."""
    results, folders = kept.load(options.results)
    alone = len(folders) == 1
    output = writable(Path(options.output) if options.output_given or not alone else folders[0])
    if not alone and output.resolve() in {folder.resolve() for folder in folders}:
        raise BadInput(f"The report of several runs would replace {output}: give another --output.")
    return results, output


def _report(results: Results, output: Path, shown: bool, ctrl_c: CtrlC) -> int:
    try:
        with ctrl_c.held("\nThe report is being written; Ctrl-C again leaves without it.\n"):
            if ctrl_c.heard:
                print("Interrupted: the report holds what was finished.", file=sys.stderr)
            report = write(results, output)
            print_table(results)
            print(f"Report: {report}", flush=True)
            if shown and not webbrowser.open(report.resolve().as_uri()):
                print("gradtx compare: there is no browser to open it in", file=sys.stderr)
    except KeyboardInterrupt:
        again = f"gradtx compare --from {output}"
        print(f"Left without the report: {again} makes it.", file=sys.stderr)
    return 130 if ctrl_c.heard else 0


def run(plan: Plan, ctrl_c: CtrlC) -> Results:
    """All that was finished, which `results.json` holds after every optimizer."""
    results = Results(
        created=time.strftime("%Y-%m-%d %H:%M"),
        versions=machine.versions(),
        machine=machine.describe(),
        schedule=plan.schedule,
        interrupted=True,  # until it is over
        courses=[],
    )
    try:
        number = sum(len(plan.entrants_for(problem)) for problem in plan.problems)
        with machine.one_thread_a_matrix(), Ticker(number) as ticker:

            def advance(part: float) -> None:
                ctrl_c.check()
                ticker.advance(part)

            for problem in plan.problems:
                schedule = SCHEDULES[plan.schedule]
                race = Race(problem, plan.seeds, schedule, plan.finer, plan.looks)
                course = race.course()
                for entrant in plan.entrants_for(problem):
                    ticker.begin(f"{problem.name}: {entrant.label}")
                    rates = plan.rates_for(problem, entrant)
                    try:
                        trial = race.run(entrant, rates, advance)
                    except Exception as error:  # one that fails must not lose the others
                        ctrl_c.check()  # which may have been what failed
                        line = _failed(course, entrant, error)
                    else:
                        with ctrl_c.held():
                            _keep(results, course, trial, plan.output)
                        line = outcome(summarize(trial, course), course)
                    ticker.end(f"{problem.name}: {line}")
                    ctrl_c.check()
    except KeyboardInterrupt:
        ctrl_c.heard = True
    return dataclasses.replace(results, interrupted=ctrl_c.heard)


def _keep(results: Results, course: Course, trial: Trial, folder: Path | None) -> None:
    """Add what is finished, also to the folder; the first replaces what an earlier run left."""
    if not results.courses and folder is not None:
        kept.forget(folder)
    if not course.trials:
        results.courses.append(course)
    course.trials.append(trial)
    if folder is not None:
        kept.save(results, folder)


def _failed(course: Course, entrant: Entrant, error: Exception) -> str:
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    course.failures[entrant.label] = f"{type(error).__name__}: {said}"
    return f"{entrant.label} failed, {course.failures[entrant.label]}"
