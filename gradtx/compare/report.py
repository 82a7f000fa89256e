"""The report folder: one page to look at, the pictures in it as files, and all the figures."""

import dataclasses
from html import escape
from pathlib import Path

from . import wording
from .figures import VARIABLES, Picture, pictures, style
from .page import page
from .ranges import ranges_cell, ranges_head
from .results import Course, Results, to_json
from .summary import Summary, summarize


def write(results: Results, folder: Path) -> Path:
    """Write `report.html`, PNG files and `results.json` into `folder`; returns the page's path."""
    summaries = {course.name: [summarize(t, course) for t in course.trials]
                 for course in results.courses}  # fmt: skip
    plain = {name: [dataclasses.asdict(s) for s in found] for name, found in summaries.items()}
    (folder / "results.json").write_text(to_json(results, plain), "utf-8")
    sections = []
    for course in results.courses:
        found = pictures(course, summaries[course.name])
        for picture in found:
            (folder / f"{course.name}-{picture.name}.png").write_bytes(picture.png)
        sections.append(_section(course, summaries[course.name], found))
    body = f"{_header(results)}<main>{''.join(sections)}</main>{_footer(results)}"
    path = folder / "report.html"
    path.write_text(page(escape(_title(results)), body), "utf-8")
    return path


def _title(results: Results) -> str:
    if len(results.courses) == 1:
        return f"Optimizers on {results.courses[0].name}"
    return f"Optimizers on {len(results.courses)} problems"


def _header(results: Results) -> str:
    first = results.courses[0].trials[0]
    seeds = f"{len(first.seeds)} seed{'s' * (len(first.seeds) > 1)}"
    count = max(len(course.trials) for course in results.courses)
    rates = sorted({len(trial.rates) for course in results.courses for trial in course.trials})
    swept = f"{rates[0]}" if len(rates) == 1 else f"{rates[0]} to {rates[-1]}"
    said = (
        f"{count} optimizer{'s' * (count > 1)}, {swept} learning rates, {seeds}, "
        f"{results.schedule} schedule · {results.created}"
    )
    stopped = (
        '<p class="bad">Interrupted: this report holds what was finished.</p>'
        if results.interrupted
        else ""
    )
    links = "".join(
        f'<a href="#{escape(course.name)}">{escape(course.title)}</a>' for course in results.courses
    )
    nav = f"<nav>{links}</nav>" if len(results.courses) > 1 else ""
    return (
        f'<header><h1>{escape(_title(results))}</h1><p class="muted">{escape(said)}</p>'
        f"{stopped}{nav}</header>"
    )


def _section(course: Course, summaries: list[Summary], found: list[Picture]) -> str:
    batch = "" if course.judged_on_train else (
        f" {course.examples:,} training examples, "
        + ("all of them at every step." if course.batch_size is None
           else f"mini-batches of {course.batch_size}.")
    )  # fmt: skip
    about = f"{course.about}{batch} {course.parameters:,} parameters, {course.steps:,} steps."
    failed = "".join(
        f'<p class="bad">{escape(name)} failed. {escape(reason)}</p>'
        for name, reason in course.failures.items()
    )
    words = _words(course, summaries)
    figures = "".join(
        f"<h3>{escape(p.title)}</h3><figure><figcaption>{escape(p.caption)}</figcaption>"
        f"{p.svg}</figure>"
        for p in found
    )
    return (
        f'<section id="{escape(course.name)}"><h2>{escape(course.title)}</h2>'
        f'<p class="muted">{escape(about)}</p>'
        f'<p class="verdict">{escape(wording.verdict(summaries, course))}</p>'
        f"{_table(course, summaries)}{_notes(course)}{failed}"
        f"{figures + words if _many(course) else words + figures}</section>"
    )


def _hues(course: Course) -> dict[int, str]:
    """The colour of each trial: its own where there are few, its place in the family otherwise."""
    return {
        i: f"var({VARIABLES[hue]})"
        for group in style.groups(course.trials, most=style.FEW)
        for i, hue in group.hues.items()
    }


def _table(course: Course, summaries: list[Summary]) -> str:
    judged = course.score or "loss"
    heads = ["optimizer", f"learning rates{ranges_head(course)}", "best<br>rate",
             "training<br>loss", f"held-out<br>{judged}", "usable<br>decades",
             f"steps to<br>{wording.number(course.target)}", "time<br>a step",
             "state bytes<br>a parameter"]  # fmt: skip
    if course.judged_on_train:
        heads.pop(4)
    best = _best(course, summaries)
    rows, hues = [], _hues(course)
    order = sorted(range(len(summaries)), key=lambda i: _rank(summaries[i]))
    families = list(dict.fromkeys(course.trials[i].family for i in order))
    grouped = _many(course)
    for family in families if grouped else [None]:
        if family is not None:
            rows.append(f'<tr class="family"><td colspan="{len(heads)}">{escape(family)}</td></tr>')
        for i in order:
            if family is None or course.trials[i].family == family:
                rows.append(_row(course, summaries[i], i, hues[i], best))
    head = "".join(f"<th>{head}</th>" for head in heads)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(course: Course, s: Summary, i: int, hue: str, best: dict[str, object]) -> str:
    def cell(key: str, text: str, value: object = None) -> str:
        mark = ' class="best"' if value is not None and value == best.get(key) else ""
        return f"<td{mark}>{text}</td>"

    name = (
        f'<td title="{escape(course.trials[i].about)}"><span class="dot" '
        f'style="background:{hue}"></span><span class="name">{escape(s.optimizer)}</span></td>'
    )
    cells = [name, f"<td>{ranges_cell(course, course.trials[i], s, hue)}</td>"]
    if not s.survivors:
        cells.append(f'<td class="bad" colspan="{4 + (not course.judged_on_train)}">diverged</td>')
    else:
        edge = " <small>edge</small>" if s.at_edge else ""
        lost = s.seeds - s.survivors
        some = f' <small class="bad">{lost} diverged</small>' if lost else ""
        cells += [cell("", wording.number(s.rate) + edge)]
        spread = f" <small>{wording.loss_deviation(s, course)}</small>"
        cells += [cell("loss", wording.loss(s, course) + spread + some, s.loss)]
        if not course.judged_on_train:
            spread = wording.held_deviation(s, course)
            text = f"{wording.held(s.held, course)} <small>{spread}</small>"
            cells.append(cell("held", text, s.held))
        whole = s.reached == s.seeds
        cells.append(cell("decades", wording.decades(s), s.decades if whole else None))
        target = s.steps_to_target if whole else None
        cells.append(cell("target", wording.to_target(s), target))
    cells.append(cell("time", wording.seconds(s.step_seconds)))
    cells.append(cell("bytes", f"{s.state_bytes_per_parameter:.1f}"))
    return f'<tr class="opt" data-opt="{i}">{"".join(cells)}</tr>'


def _best(course: Course, summaries: list[Summary]) -> dict[str, object]:
    """The values to be highlighted, by column, where there is something to compare."""
    running = [s for s in summaries if s.survivors]
    if len(running) < 2:
        return {}
    reached = [s.steps_to_target for s in running if s.reached == s.seeds]
    return {
        "loss": min(s.loss for s in running),
        "held": (max if course.score else min)(s.held for s in running),
        "decades": max((s.decades for s in running if s.reached == s.seeds), default=None),
        "target": min(reached, default=None),
    }


def _notes(course: Course) -> str:
    scale = "logarithm of the loss" if course.log else "loss"
    over = "geometric mean" if course.log else "mean"
    factor = " (×/÷, as a factor)" if course.log else ""
    return (
        '<p class="muted" style="margin-top:12px">The best learning rate has the lowest final '
        f"training loss ({over} over seeds, last tenth of the run) among those at which the fewest "
        f"seeds diverged; ± is the standard deviation over seeds{factor}. A learning rate is "
        "usable if it gives up at most a tenth of the progress that the best one made, measured "
        f"in the {scale}; ≥ where the sweep ended before the range did. Bars show the usable "
        "range, rings the best rate, ▲ rates at which runs diverged. Time is that of one step of "
        "all runs of the optimizer together, divided by their number, compilation excluded.</p>"
    )


def _words(course: Course, summaries: list[Summary]) -> str:
    hues = _hues(course)
    cards = "".join(
        f'<div class="opt" data-opt="{i}" style="--hue:{hues[i]}">'
        f"<b>{escape(summaries[i].optimizer)}</b>"
        f"{escape(wording.sentence(summaries[i], summaries, course))}</div>"
        for i in sorted(range(len(summaries)), key=lambda i: _rank(summaries[i]))
    )
    return f'<h3>In words</h3><div class="words">{cards}</div>'


def _many(course: Course) -> bool:
    return len(course.trials) > style.FEW


def _rank(summary: Summary) -> tuple[bool, float]:
    return (not summary.survivors, summary.loss)


def _footer(results: Results) -> str:
    facts = {"Made with": ", ".join(f"{k} {v}" for k, v in results.versions.items()),
             "On": results.machine, "All figures": "results.json, beside this page"}  # fmt: skip
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return f"<footer><dl>{listed}</dl></footer>"
