"""The report folder: one page to look at, the pictures in it as files, and all the figures."""

import dataclasses
from html import escape
from pathlib import Path
from typing import NamedTuple

from . import wording
from .across import FACTORS, Cell, across
from .figures import VARIABLES, Picture, pictures, profile_picture, style
from .kept import forget, put, save
from .page import page
from .ranges import ranges_cell, ranges_head
from .results import Course, Results, Trial
from .summary import FIRST, Summary, on_logs, summarize_all

PAGE = "report.html"

Summaries = dict[str, list[Summary]]


def summaries_of(results: Results) -> Summaries:
    """What each optimizer did, by the name of the problem."""
    return {course.name: summarize_all(course) for course in results.courses}


def files_of(results: Results, summaries: Summaries) -> dict[str, str | bytes]:
    """The page, which needs nothing from elsewhere, and the pictures on it, by name of the file."""
    files: dict[str, str | bytes] = {}
    sections = _together(results, summaries, files)
    for course in results.courses:
        found = pictures(course, summaries[course.name])
        files |= {f"{course.name}-{picture.name}.png": picture.png for picture in found}
        sections += _section(course, summaries[course.name], found)
    body = f"{_header(results)}<main>{sections}</main>{_footer(results)}"
    return {**files, PAGE: page(escape(_title(results)), body)}


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


def _together(results: Results, summaries: Summaries, files: dict[str, str | bytes]) -> str:
    """The section about all problems, where there are several; its picture goes to `files`."""
    found = across(results.courses, summaries)
    if found is None:
        return ""
    picture = profile_picture(found)
    files["all-profile.png"] = picture.png
    heads = ["optimizer", *(f"within {f:g}×<br>in steps" for f in FACTORS), "within 2×<br>in time"]
    heads += map(escape, found.problems)
    rows = ""
    for name, cells in found.cells.items():
        shares = [found.share(name, factor, "steps") for factor in FACTORS]
        shares.append(found.share(name, 2.0, "time"))
        texts = [f"{100 * share:.0f} %" for share in shares]
        texts += [_on_one(cell) for cell in cells]
        rows += f'<tr><th scope="row"><span class="name">{escape(name)}</span></th>' + "".join(
            f"<td>{text}</td>" for text in texts
        )
    head = "".join(
        f'<th scope="col"{" class=name" * (i == 0)}>{head}</th>' for i, head in enumerate(heads)
    )
    return (
        '<section id="all"><h2>All problems</h2>'
        f'<p class="verdict">{escape(wording.overall(found))}</p>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        '</div><p class="muted" style="margin-top:12px">Left the share of the problems on which an '
        "optimizer takes at most so many times the steps of the fastest to the target; right its "
        "place on each problem, by final training loss, and its best learning rate.</p>"
        f"<h3>{escape(picture.title)}</h3><figure><figcaption>{escape(picture.caption)}"
        f"</figcaption>{picture.svg}</figure></section>"
    )


def _on_one(cell: Cell) -> str:
    s = cell.summary
    if not s.survivors:
        return '<span class="bad">diverged</span>'
    if s.same_as is not None:
        return f"<small>as {escape(s.same_as)}</small>"
    return f"{wording.place(s)} <small>at {wording.number(s.rate)}</small>"


def _title(results: Results) -> str:
    if len(results.courses) == 1:
        return f"Optimizers on {results.courses[0].name}"
    return f"Optimizers on {len(results.courses)} problems"


def _header(results: Results) -> str:
    first = results.courses[0].trials[0]
    seeds = f"{len(first.seeds)} seed{'s' * (len(first.seeds) > 1)}"
    if not first.ran.all():
        seeds += f" around the best learning rate ({FIRST} elsewhere)"
    count = max(len(course.trials) for course in results.courses)
    rates = sorted({len(trial.rates) for course in results.courses for trial in course.trials})
    swept = f"{rates[0]}" if len(rates) == 1 else f"{rates[0]} to {rates[-1]}"
    said = (
        f"{count} optimizer{'s' * (count > 1)}, {swept} learning rates, {seeds}, "
        f"{results.schedule} schedule · {results.created}"
    )
    head = f'<h1>{escape(_title(results))}</h1><p class="muted">{escape(said)}</p>'
    if results.interrupted:
        head += '<p class="bad">Interrupted: this report holds what was finished.</p>'
    if len(results.courses) > 1:
        links = (f'<a href="#{escape(c.name)}">{escape(c.title)}</a>' for c in results.courses)
        head += f"<nav>{''.join(links)}</nav>"
    return f"<header>{head}</header>"


def _section(course: Course, summaries: list[Summary], found: list[Picture]) -> str:
    size = course.batch_size
    batch = f"mini-batches of {size}." if size else "all of them at every step."
    data = "" if course.judged_on_train else f" {course.examples:,} training examples, {batch}"
    about = f"{course.about}{data} {course.parameters:,} parameters, {course.steps:,} steps."
    failed = "".join(
        f'<p class="bad">{escape(name)} failed. {escape(reason)}</p>'
        for name, reason in course.failures.items()
    )
    entries = _entries(course, summaries)
    words = _words(course, summaries, entries)
    figures = "".join(
        f"<h3>{escape(p.title)}</h3><figure><figcaption>{escape(p.caption)}</figcaption>"
        f"{p.svg}</figure>"
        for p in found
    )
    return (
        f'<section id="{escape(course.name)}"><h2>{escape(course.title)}</h2>'
        f'<p class="muted">{escape(about)}</p>'
        f'<p class="verdict">{escape(wording.verdict(summaries, course))}</p>'
        f"{_table(course, entries)}{_notes(course)}{failed}"
        f"{figures + words if _many(course) else words + figures}</section>"
    )


class Entry(NamedTuple):
    """A trial as the page shows it; `place` is where it stands among all trials."""

    place: int
    trial: Trial
    summary: Summary
    hue: str


def _entries(course: Course, summaries: list[Summary]) -> list[Entry]:
    """All trials, the best first. Each has a colour of its own where there are few, that of its
    place in the family otherwise.
    """
    hues = {}
    for group in style.groups(course.trials, most=style.FEW):
        hues |= group.hues
    found = [
        Entry(i, course.trials[i], summary, f"var({VARIABLES[hues[i]]})")
        for i, summary in enumerate(summaries)
    ]
    return sorted(found, key=lambda entry: by_place(entry.summary))


def _table(course: Course, entries: list[Entry]) -> str:
    heads = ["place", "optimizer", f"learning rates{ranges_head(course)}", *wording.heads(course),
             "state bytes\na parameter"]  # fmt: skip
    best = _best(course, [entry.summary for entry in entries])
    rows = [_row(course, entry, best) for entry in entries]
    if _many(course):
        families: dict[str, str] = {}
        for entry, row in zip(entries, rows, strict=True):
            family = entry.trial.family
            title = f'<tr class="family"><td colspan="{len(heads)}">{escape(family)}</td></tr>'
            families[family] = families.get(family, title) + row
        rows = list(families.values())
    names = {"optimizer": " class=name", heads[2]: " class=rates"}
    head = "".join(f'<th scope="col"{names.get(head, "")}>{head}</th>' for head in heads)
    head = head.replace("\n", "<br>")
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(course: Course, entry: Entry, best: dict[str, set[str]]) -> str:
    trial, s, hue = entry.trial, entry.summary, entry.hue

    def cell(text: str, key: str = "", counts: bool = True) -> str:
        mark = ' class="best"' if counts and key and s.optimizer in best.get(key, ()) else ""
        return f"<td{mark}>{text}</td>"

    cells = (
        f'<td class="place">{wording.place(s)}</td><th scope="row" title="{escape(trial.about)}">'
        f'<span class="dot" '
        f'style="background:{hue}"></span><span class="name">{escape(s.optimizer)}</span>'
        f"{_same(s)}</th>"
    ) + cell(ranges_cell(course, trial, s, hue))
    if not s.survivors:
        cells += f'<td class="bad" colspan="{len(wording.heads(course)) - 1}">diverged</td>'
    else:
        cells += cell(wording.number(s.rate) + (" <small>edge</small>" if s.at_edge else ""))
        lost = s.seeds - s.survivors
        some = f' <small class="bad">{lost} diverged</small>' if lost else ""
        spread = f" <small>{wording.loss_spread(s, course)}</small>"
        cells += cell(wording.loss(s, course) + spread + some, "loss")
        if not course.judged_on_train:
            spread = f" <small>{wording.held_spread(s, course)}</small>"
            cells += cell(wording.held(s, course) + spread, "held")
        cells += cell(wording.decades(s), "decades", s.all_reached)
        if course.target is not None:
            cells += cell(wording.to_target(s), "steps_to_target", s.all_reached)
    low, middle, high = map(wording.seconds, s.step_seconds)
    cells += cell(f"{middle} <small>{low} – {high}</small>")
    cells += cell(f"{s.state_bytes_per_parameter:.1f}")
    return f'<tr class="opt" data-opt="{entry.place}">{cells}</tr>'


def _same(summary: Summary) -> str:
    return f" <small>same as {escape(summary.same_as)}</small>" if summary.same_as else ""


def by_place(summary: Summary) -> tuple[bool, bool, int, float]:
    """In the order of the table: by place, then by loss; last what is not ranked."""
    loss = summary.loss.middle if summary.survivors else 0.0
    return not summary.survivors, summary.same_as is not None, summary.place, loss


def _best(course: Course, summaries: list[Summary]) -> dict[str, set[str]]:
    """Whose value is to be highlighted, by field, where there is something to compare."""
    running = [s for s in summaries if s.survivors and s.same_as is None]
    if len(running) < 2:
        return {}
    reached = [s for s in running if s.all_reached]
    wide = max((s.decades for s in reached), default=None)
    soon = min((s.steps_to_target for s in reached), default=None)
    top = (max if course.score else min)(running, key=lambda s: s.held.middle)
    first = min(s.place for s in running)
    return {
        "loss": {s.optimizer for s in running if s.place == first},
        "held": {s.optimizer for s in running if wording.held_alike(s, top, course)},
        "decades": {s.optimizer for s in reached if s.decades == wide},
        "steps_to_target": {s.optimizer for s in reached if s.steps_to_target == soon},
    }


def _notes(course: Course) -> str:
    scale = "logarithm of the loss" if on_logs(course) else "loss"
    margin = ""
    if course.score:
        margin = (
            f" Held out are {course.held_out:,} examples, so that one of them is "
            f"{100 / course.held_out:.2g} %: results within a standard error of the best one are "
            "marked like it."
        )
    return (
        '<p class="muted" style="margin-top:12px">The best learning rate has the lowest final '
        "training loss (median over seeds, last tenth of the run) among those at which the fewest "
        "seeds diverged; beside each median stand its quartiles. Optimizers share a place (=) "
        "where the seeds do not tell them apart: seed by seed, by the signed-rank test of "
        "Wilcoxon, with an error of 5 % for all comparisons together (Holm)." + margin + " A "
        "learning rate is usable if it gives up at most a tenth of the progress that the best one "
        f"made, measured in the {scale}; ≥ where the sweep ended before the range did. Bars show "
        "the usable range, rings the best rate, ▲ rates at which runs diverged. Time is that of "
        "one step of all runs of the optimizer together, divided by their number, compilation "
        "excluded, with its quartiles over the run.</p>"
    )


def _words(course: Course, summaries: list[Summary], entries: list[Entry]) -> str:
    cards = "".join(
        f'<div class="opt" data-opt="{entry.place}" style="--hue:{entry.hue}">'
        f"<b>{escape(entry.summary.optimizer)}</b>"
        f"{escape(wording.sentence(entry.summary, summaries, course))}</div>"
        for entry in entries
    )
    return f'<h3>In words</h3><div class="words">{cards}</div>'


def _many(course: Course) -> bool:
    return len(course.trials) > style.FEW


def _footer(results: Results) -> str:
    facts = {"Made with": ", ".join(f"{k} {v}" for k, v in results.versions.items()),
             "On": results.machine, "All figures": "results.json, beside this page"}  # fmt: skip
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return f"<footer><dl>{listed}</dl></footer>"
