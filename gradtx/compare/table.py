"""What is printed on the terminal at the end, and by `--list`."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import gradtx.catalogue as catalogue

from . import wording
from .problems import PROBLEMS
from .report import by_place
from .results import Course, Results
from .summary import Summary, summarize_all


def print_table(results: Results) -> None:
    console = Console()
    for course in results.courses:
        summaries = summarize_all(course)
        console.print()
        console.print(_table(course, summaries))
        console.print(Text(wording.verdict(summaries, course)))
        for name, reason in course.failures.items():
            console.print(Text(f"{name} failed. {reason}"), style="red")
    console.print()


def _table(course: Course, summaries: list[Summary]) -> Table:
    table = Table(
        title=f"{course.title}, {course.steps:,} steps",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    longest = max(len(trial.optimizer) for trial in course.trials)
    table.add_column("\n", no_wrap=True)
    table.add_column("\noptimizer", overflow="fold", min_width=max(9, min(longest, 16)))
    for head in (*wording.heads(course), "bytes a\nparameter"):
        table.add_column(head, justify="right", no_wrap=True)
    for s in sorted(summaries, key=by_place):
        cells = [wording.number(s.rate), wording.loss(s, course)]
        if not course.judged_on_train:
            cells.append(wording.held(s, course))
        cells.append(wording.decades(s))
        cells += [] if course.target is None else [wording.to_target(s)]
        if not s.survivors:
            cells = ["diverged"] + ["–"] * (len(cells) - 1)
        cells += [wording.seconds(s.step_seconds.middle), f"{s.state_bytes_per_parameter:.1f}"]
        bold = s.place == 1 and s.survivors and s.same_as is None
        place = wording.place(s) if s.survivors else ""
        table.add_row(place, Text(s.optimizer), *map(Text, cells), style="bold" if bold else "")
    return table


def print_catalogue() -> None:
    console = Console()
    problems = _listing("Problems", "what it is")
    for name, make in PROBLEMS.items():
        problems.add_row(name, Text(make().about))
    console.print(problems)
    rows = _listing("Optimizers", "what it does")
    rows.add_column("sweep\naround", justify="right")
    for family in dict.fromkeys(row.family for row in catalogue.optimizers.values()):
        rows.add_row(Text(family, "dim italic"))
        for name, row in catalogue.optimizers.items():
            if row.family == family:
                rate = wording.number(row.learning_rate or 1.0)
                rows.add_row(f"  {name}", Text(row.about), rate)
    console.print(rows)


def _listing(title: str, about: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column(about)
    return table
