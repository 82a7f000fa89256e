"""The table of a course: every optimizer in a row, the best first, of many by family."""

import math
from collections.abc import Callable
from dataclasses import replace

from . import wording
from .figures import style
from .figures.svg import VARIABLES
from .notation import Notation, aligned, notation, seconds
from .ranges import range_of, ticks
from .results import Course
from .sheet import Cell, Column, Family, Row, Table
from .summary import Spread, Summary, by_place


def ranking(course: Course, summaries: list[Summary]) -> Table:
    """Where there are few, each has the colour that it has in the figures."""
    many = len(summaries) > style.FEW
    hues = {} if many else _hues(course)
    columns, cells = _columns(course, summaries)
    rows = {
        i: Row(
            opt=i,
            name=s.optimizer,
            cells=[column[i] for column in cells],
            hue=f"var({VARIABLES[hues.get(i, style.MUTED)]})",
            dot=not many,
            about=course.trials[i].about,
            remark=f"same as {s.same_as}" if s.same_as else "",
        )
        for i, s in enumerate(summaries)
    }
    order = sorted(rows, key=lambda i: by_place(summaries[i]))
    families: dict[str, list[Row]] = {}
    for i in order:
        families.setdefault(course.trials[i].family if many else "", []).append(rows[i])
    said = "every optimizer at its best learning rate, the best first"
    return Table(said, columns, [Family(title, found) for title, found in families.items()])


def _hues(course: Course) -> dict[int, str]:
    hues = {}
    for group in style.groups(course.trials, range(len(course.trials)), most=style.FEW):
        hues |= group.hues
    return hues


def _columns(course: Course, summaries: list[Summary]) -> tuple[list[Column], list[list[Cell]]]:
    """The heads, with that of the name, and the cells below all others."""
    best = _best(course, summaries)
    columns = [Column(["optimizer"], "name"), Column(["place"], "place", "ascending")]
    cells = [[_place(s) for s in summaries]]

    def add(column: Column, found: list[Cell]) -> None:
        columns.append(column)
        cells.append(found)

    add(Column(["training", "loss"]), _losses(course, summaries, best["loss"]))
    if not course.judged_on_train:
        head = Column(["held-out", course.judged], down=course.score is not None)
        add(head, _held(course, summaries, best["held"]))
    add(Column(["best", "rate"]), _rates(summaries))
    add(
        Column(["learning rates"], "range", "", ticks=ticks(course)),
        [
            Cell(range=range_of(course, trial, s))
            for trial, s in zip(course.trials, summaries, strict=True)
        ],
    )
    add(
        Column(["usable", "decades"], down=True),
        _told(summaries, best["decades"], wording.decades, lambda s: s.decades),
    )
    if course.target is not None:
        first = best["steps_to_target"]
        add(
            Column([f"{course.unit}s to", wording.number(course.target)]),
            _told(summaries, first, wording.to_target, lambda s: s.steps_to_target),
        )
    unit, times = _times(summaries)
    add(Column(["time", f"{wording.a_step(course)}, {unit}"]), times)
    size = [s.state_bytes_per_parameter for s in summaries]
    add(Column(["state bytes", "a parameter"]), [Cell(f"{x:.1f}", x) for x in size])
    return columns, cells


def _place(s: Summary) -> Cell:
    """What is not ranked has none, and comes last."""
    if not s.survivors or s.same_as is not None:
        return Cell("")
    return Cell(wording.place(s), float(s.place))


def _losses(course: Course, summaries: list[Summary], best: set[str]) -> list[Cell]:
    write = notation([s.loss.middle for s in summaries])
    few = notation([s.loss.middle for s in summaries], digits=2)
    found = _spreads(summaries, [s.loss for s in summaries], write, few, best)
    for i, s in enumerate(summaries):
        lost = s.seeds - s.survivors
        if not s.survivors:
            found[i] = Cell("diverged", mark="bad")
        elif lost:
            found[i] = replace(found[i], warning=f"{lost} diverged")
    return found


def _held(course: Course, summaries: list[Summary], best: set[str]) -> list[Cell]:
    if course.score:
        found = [Spread(*(100 * x for x in s.held)) for s in summaries]
        return _spreads(summaries, found, _percent, _percent_low, best)
    held = [s.held.middle for s in summaries]
    return _spreads(summaries, [s.held for s in summaries], notation(held), notation(held, 2), best)


def _percent(value: float) -> str:
    return "–" if not math.isfinite(value) else f"{value:.1f} %"


def _percent_low(value: float) -> str:
    return "–" if math.isnan(value) else f"{max(value, 0):.1f}"  # a seed that diverged has none


def _spreads(
    summaries: list[Summary],
    spreads: list[Spread],
    write: Notation,
    write_edge: Notation,
    best: set[str],
) -> list[Cell]:
    """Medians with their quartiles, where there are several seeds."""
    edges = [
        f"{write_edge(x.low)} – {write_edge(x.high)}" if s.seeds > 1 and s.survivors else None
        for s, x in zip(summaries, spreads, strict=True)
    ]
    wide = max((len(text) for text in edges if text), default=0)
    return [
        Cell(write(x.middle), _finite(x.middle), edge, wide, mark=_mark(s, best))
        if s.survivors
        else Cell("–")
        for s, x, edge in zip(summaries, spreads, edges, strict=True)
    ]


def _told(
    summaries: list[Summary],
    best: set[str],
    say: Callable[[Summary], str],
    value: Callable[[Summary], float],
) -> list[Cell]:
    return [
        Cell(say(s), _finite(value(s)), mark=_mark(s, best)) if s.survivors else Cell("–")
        for s in summaries
    ]


def _rates(summaries: list[Summary]) -> list[Cell]:
    rates = [s.rate for s in summaries]
    texts = aligned([*map(notation(rates, digits=2), rates)])
    return [
        Cell(text, _finite(s.rate), warning="edge" if s.at_edge else "")
        if s.survivors
        else Cell("–")
        for s, text in zip(summaries, texts, strict=True)
    ]


def _times(summaries: list[Summary]) -> tuple[str, list[Cell]]:
    """The unit of all, and the cells."""
    unit, write = seconds([s.step_seconds.middle for s in summaries])
    edges = [f"{write(s.step_seconds.low)} – {write(s.step_seconds.high)}" for s in summaries]
    wide = max(map(len, edges))
    cells = [
        Cell(write(s.step_seconds.middle), _finite(s.step_seconds.middle), edge, wide)
        for s, edge in zip(summaries, edges, strict=True)
    ]
    return unit, cells


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _mark(s: Summary, best: set[str]) -> str:
    return "best" if s.optimizer in best else ""


def _best(course: Course, summaries: list[Summary]) -> dict[str, set[str]]:
    """Whose value is to be highlighted, by field, where there is something to compare."""
    running = [s for s in summaries if s.survivors and s.same_as is None]
    if len(running) < 2:
        return {key: set() for key in ("loss", "held", "decades", "steps_to_target")}
    reached = [s for s in running if s.all_reached]
    wide = max((s.decades for s in reached if s.swept), default=None)
    soon = min((s.steps_to_target for s in reached), default=None)
    top = (max if course.score else min)(running, key=lambda s: s.held.middle)
    first = min(s.place for s in running)
    return {
        "loss": {s.optimizer for s in running if s.place == first},
        "held": {s.optimizer for s in running if wording.held_alike(s, top, course)},
        "decades": {s.optimizer for s in reached if s.swept and s.decades == wide},
        "steps_to_target": {s.optimizer for s in reached if s.steps_to_target == soon},
    }
