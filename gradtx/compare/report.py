"""The report folder: one page to look at, the pictures in it as files, and all the figures."""

import dataclasses
from pathlib import Path
from typing import Any

from . import wording
from .across import across
from .crosstable import crosstable
from .figures import Picture, pictures, profile_picture
from .figures.svg import compact
from .kept import forget, put, save
from .page import render
from .ranking import ranking
from .results import Course, Results
from .summary import FIRST, Summary, on_logs, summarize_all

PAGE = "report.html"

Summaries = dict[str, list[Summary]]


def summaries_of(results: Results) -> Summaries:
    """What each optimizer did, by the name of the problem."""
    return {course.name: summarize_all(course) for course in results.courses}


def files_of(results: Results, summaries: Summaries) -> dict[str, str | bytes]:
    """The page, which needs nothing from elsewhere, and the pictures on it, by name of the file."""
    sections = [_section(course, summaries[course.name]) for course in results.courses]
    if together := _together(results, summaries):
        sections.insert(0, together)
    page = compact(
        render(
            title=_title(results),
            about=_about(results),
            interrupted=results.interrupted,
            sections=sections,
            facts={
                "Made with": ", ".join(f"{k} {v}" for k, v in results.versions.items()),
                "On": results.machine,
                "All figures": "results.json, beside this page",
            },
        )
    )
    shown: list[Picture] = [picture for section in sections for picture in section["pictures"]]
    files = {name: png for picture in shown for name, png in picture.files.items()}
    return {**files, PAGE: page}


def write(results: Results, folder: Path) -> Path:
    """Write the page, the pictures and `results.json` into `folder`; returns the page's path."""
    summaries = summaries_of(results)
    plain = {name: [dataclasses.asdict(s) for s in found] for name, found in summaries.items()}
    files = files_of(results, summaries)
    forget(folder)
    save(dataclasses.replace(results, files=list(files)), folder, plain)
    for name, content in files.items():
        put(folder / name, content)
    return folder / PAGE


def _together(results: Results, summaries: Summaries) -> dict[str, Any] | None:
    """The section about all problems, where there are several."""
    found = across(results.courses, summaries)
    if found is None:
        return None
    return {
        "id": "all",
        "title": "All problems",
        "about": "",
        "verdict": _unbroken(wording.overall(found)),
        "table": crosstable(found),
        "notes": [
            "Left the share of the problems on which an optimizer takes at most so many times the "
            "steps of the fastest to the target; right its place on each problem, by final "
            "training loss, and its best learning rate."
        ],
        "failures": {},
        "pictures": [profile_picture(found)],
    }


def _section(course: Course, summaries: list[Summary]) -> dict[str, Any]:
    size = course.batch_size
    batch = f"mini-batches of {size}." if size else "all of them at every step."
    data = "" if course.judged_on_train else f" {course.examples:,} training examples, {batch}"
    length = f"{course.parameters:,} parameters, {course.steps:,} {course.unit}s."
    return {
        "id": course.name,
        "title": course.title,
        "about": f"{course.about}{data} {length}",
        "verdict": _unbroken(wording.verdict(summaries, course)),
        "table": ranking(course, summaries),
        "notes": _notes(course),
        "failures": course.failures,
        "pictures": pictures(course, summaries),
    }


def _unbroken(text: str) -> str:
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _title(results: Results) -> str:
    if len(results.courses) == 1:
        return f"Optimizers on {results.courses[0].name}"
    return f"Optimizers on {len(results.courses)} problems"


def _about(results: Results) -> str:
    first = results.courses[0].trials[0]
    seeds = f"{len(first.seeds)} seed{'s' * (len(first.seeds) > 1)}"
    if not first.ran.all():
        seeds += f" around the best learning rate ({FIRST} elsewhere)"
    count = max(len(course.trials) for course in results.courses)
    rates = sorted({len(trial.rates) for course in results.courses for trial in course.trials})
    swept = f"{rates[0]}" if len(rates) == 1 else f"{rates[0]} to {rates[-1]}"
    return (
        f"{count} optimizer{'s' * (count > 1)}, {swept} learning rates, {seeds}, "
        f"{results.schedule} schedule · {results.created}"
    )


def _notes(course: Course) -> list[str]:
    scale = "logarithm of the loss" if on_logs(course) else "loss"
    notes = [
        "The best learning rate has the lowest final training loss (median over seeds, "
        f"{'last look' if course.deterministic else 'last tenth of the run'}) among those at which "
        "the fewest seeds diverged; beside each median stand its quartiles.",
        "Optimizers share a place (=) where the seeds do not tell them apart: seed by seed, by the "
        "signed-rank test of Wilcoxon, with an error of 5 % for all comparisons together (Holm).",
        "A learning rate is usable if it gives up at most a tenth of the progress that the best "
        f"one made, measured in the {scale}; ≥ where the sweep ended before the range did. Bars "
        "show the usable range, rings the best rate, ▲ rates at which runs diverged; “edge” stands "
        "where a better rate may lie beyond those that were tried.",
        "Time is that of one step of all runs of the optimizer together, divided by their number, "
        "compilation excluded, with its quartiles over the run.",
    ]
    if course.score:
        notes.insert(
            2,
            f"Held out are {course.held_out:,} examples, so that one of them is "
            f"{100 / course.held_out:.2g} %: results within a standard error of the best one are "
            "marked like it.",
        )
    return notes
