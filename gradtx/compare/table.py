"""What is printed on the terminal at the end, and by `--list`."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import gradtx.catalogue as catalogue

from . import wording
from .problems import PROBLEMS
from .results import Course, Results
from .summary import Summary, summarize


def print_table(results: Results) -> None:
    console = Console()
    for course in results.courses:
        summaries = [summarize(trial, course) for trial in course.trials]
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
    table.add_column("\noptimizer", overflow="fold", min_width=max(9, min(longest, 16)))
    heads = ["best\nrate", "training\nloss", f"held-out\n{course.score or 'loss'}",
             "usable\ndecades", f"steps to\n{wording.number(course.target)}", "time\na step",
             "bytes a\nparameter"]  # fmt: skip
    if course.judged_on_train:
        heads.pop(2)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    running = [s for s in summaries if s.survivors]
    lowest = min((s.loss for s in running), default=0.0)
    for s in sorted(summaries, key=lambda s: (not s.survivors, s.loss)):
        if not s.survivors:
            cells = ["diverged", "–"] + ["–"] * (not course.judged_on_train)
        else:
            cells = [wording.number(s.rate), wording.loss(s, course)]
            if not course.judged_on_train:
                spread = wording.held_deviation(s, course)
                cells.append(f"{wording.held(s.held, course)} {spread}".replace(" %", ""))
        cells += [
            wording.decades(s) if s.survivors else "–",
            wording.to_target(s) if s.survivors else "–",
            wording.seconds(s.step_seconds),
            f"{s.state_bytes_per_parameter:.1f}",
        ]
        best = bool(running) and s.loss == lowest
        table.add_row(Text(s.optimizer), *map(Text, cells), style="bold" if best else "")
    return table


def print_catalogue() -> None:
    console = Console()
    problems = Table(title="Problems", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    problems.add_column("name", no_wrap=True)
    problems.add_column("what it is")
    for name, make in PROBLEMS.items():
        problems.add_row(name, Text(make().about))
    console.print(problems)
    rows = Table(title="Optimizers", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    rows.add_column("name", no_wrap=True)
    rows.add_column("what it does")
    rows.add_column("sweep\naround", justify="right")
    families = dict.fromkeys(row.family for row in catalogue.optimizers.values())
    for family in families:
        rows.add_row(Text(family, "dim italic"))
        for name, row in catalogue.optimizers.items():
            if row.family == family:
                rate = wording.number(row.learning_rate or 1.0)
                rows.add_row(f"  {name}", Text(row.about), rate)
    console.print(rows)
