"""What is printed on the terminal at the end, and by `--list`."""

import re

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import gradtx.catalogue as catalogue

from . import wording
from .problems import PROBLEMS
from .results import Course, Results
from .summary import Summary, by_place, summarize_all

_NAME = "\noptimizer"
# Which columns are left out first where there is no room: the least important.
_SPARED = (
    "bytes a\nparameter",
    "time\na",
    "steps to",
    "evaluations to",
    "usable\ndecades",
    "held-out",
    "training",
)


def print_table(results: Results) -> None:
    console = Console()
    for course in results.courses:
        summaries = summarize_all(course)
        console.print()
        _print_course(console, course, summaries)
        console.print(Text(wording.verdict(summaries, course)))
        for name, reason in course.failures.items():
            console.print(Text(f"{name} failed. {reason}"), style="red")
    console.print()


def _print_course(console: Console, course: Course, summaries: list[Summary]) -> None:
    """The table with as many columns as there is room for, names wrapped rather than cut."""
    columns = _columns(course, summaries)
    names = columns[_NAME]
    least = max(len(line) for name in [_NAME, *names] for line in wrapped(name, 0).split("\n"))
    left_out: list[str] = []

    def room() -> int:
        return console.width - sum(
            _width(*each) + 2 for each in columns.items() if each[0] != _NAME
        )

    for head in [head for start in _SPARED for head in columns if head.startswith(start)]:
        if room() < least:
            del columns[head]
            left_out.insert(0, head.replace("\n", " "))
    columns[_NAME] = [wrapped(name, room()) for name in names]
    console.print(_table(course, columns, summaries))
    if left_out:
        console.print(Text(f"No room here for {wording.join(left_out)}: see the report."))
    console.print()


def _columns(course: Course, summaries: list[Summary]) -> dict[str, list[str]]:
    """Cells by head, the best optimizer first."""
    heads = ["\n", _NAME, *wording.heads(course), "bytes a\nparameter"]
    rows = [_cells(s, course) for s in sorted(summaries, key=by_place)]
    return {head: list(cells) for head, *cells in zip(heads, *rows, strict=True)}


def _cells(s: Summary, course: Course) -> list[str]:
    cells = [wording.number(s.rate), wording.loss(s, course)]
    if not course.judged_on_train:
        cells.append(wording.held(s, course))
    cells.append(wording.decades(s))
    cells += [] if course.target is None else [wording.to_target(s)]
    if not s.survivors:
        cells = ["diverged"] + ["–"] * (len(cells) - 1)
    cells += [wording.seconds(s.step_seconds.middle), f"{s.state_bytes_per_parameter:.1f}"]
    return [wording.place(s) if s.survivors else "", s.optimizer, *cells]


def _width(head: str, cells: list[str]) -> int:
    return max(map(len, [*head.split("\n"), *cells]))


def _pieces(name: str) -> list[str]:
    """A name in parts between which it may be broken: its arguments, and the run that it is of."""
    return re.split(r"(?<=\w\()|(?<=, )|(?= \()", name)


def wrapped(name: str, width: int) -> str:
    """A name in lines no wider than `width`, where its parts are not, the later ones indented."""
    first, *rest = _pieces(name)
    lines = [first]
    for piece in rest:
        if len((lines[-1] + piece).rstrip()) <= width:
            lines[-1] += piece
        else:
            lines.append(f"  {piece.lstrip()}")
    return "\n".join(line.rstrip() for line in lines)


def _table(course: Course, columns: dict[str, list[str]], summaries: list[Summary]) -> Table:
    table = Table(
        title=f"{course.title}, {course.steps:,} {course.unit}s",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for head in columns:
        name = head == _NAME
        table.add_column(head, justify="left" if name or not head.strip() else "right",
                         no_wrap=not name, overflow="fold" if name else "ellipsis")  # fmt: skip
    for s, *cells in zip(sorted(summaries, key=by_place), *columns.values(), strict=True):
        bold = s.place == 1 and s.survivors and s.same_as is None
        table.add_row(*map(Text, cells), style="bold" if bold else "")
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
