"""Figures put into words; nothing is said that the figures do not say."""

import math
from collections.abc import Sequence

from . import ranks
from .across import Across
from .results import Course
from .summary import FLOOR, Summary

LEAST = 0.05  # decades that are not printed as none


def number(value: float, digits: int = 3) -> str:
    """As people write numbers: 0.012, 250, 2×10⁻⁷."""
    if math.isnan(value):
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:.0f}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    power = power_of_ten(int(exponent))
    return power if mantissa == "1" else f"{mantissa}×{power}"


def power_of_ten(exponent: int) -> str:
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def loss(summary: Summary, course: Course) -> str:
    low = summary.loss.middle <= FLOOR
    return ("≤ " if course.log and low else "") + number(max(summary.loss.middle, FLOOR * low))


def held(summary: Summary, course: Course) -> str:
    return percent(summary.held.middle) if course.score else number(summary.held.middle)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def place(summary: Summary) -> str:
    """1, or 1= where others have the same place."""
    if summary.same_as is not None:
        return ""
    return f"{summary.place}{'=' * summary.shared}"


def heads(course: Course) -> list[str]:
    """Over the columns of the terminal, in two lines each."""
    held_out = [] if course.judged_on_train else [f"held-out\n{course.judged}"]
    timed = [] if course.target is None else [f"{course.unit}s to\n{number(course.target)}"]
    return [
        "best\nrate",
        "training\nloss",
        *held_out,
        "usable\ndecades",
        *timed,
        f"time\n{a_step(course)}",
    ]


def a_step(course: Course) -> str:
    return "an evaluation" if course.deterministic else "a step"


def seconds(value: float) -> str:
    unit, size = ("s", 1.0) if value >= 1 else ("ms", 1e-3) if value >= 1e-3 else ("µs", 1e-6)
    scaled = value / size
    return f"{scaled:.0f} {unit}" if scaled >= 99.5 else f"{scaled:.2g} {unit}"


def decades(summary: Summary) -> str:
    if not summary.swept:
        return "–"
    return ("≥ " if summary.open_ended else "") + f"{summary.decades:.1f}"


def to_target(summary: Summary) -> str:
    if not summary.reached:
        return "not reached"
    some = "" if summary.all_reached else f" ({summary.reached}/{summary.seeds})"
    middle = summary.steps_to_target
    return f"{middle:.0f}{some}" if math.isfinite(middle) else some.strip(" ()")


def outcome(summary: Summary, course: Course) -> str:
    """One line for the terminal, when an optimizer is finished."""
    if not summary.survivors:
        return f"{summary.optimizer} diverged with every learning rate"
    judged = course.score or "held-out loss"
    end = "" if course.judged_on_train else f", {judged} {held(summary, course)}"
    at = f" at {number(summary.rate)}" if summary.swept else ""
    return f"{summary.optimizer} reached {loss(summary, course)}{at}{end}"


def verdict(summaries: list[Summary], course: Course) -> str:
    """The sentence over a course: who got lowest, and who cared least about the learning rate."""
    running = [s for s in summaries if s.survivors and s.same_as is None]
    if not running:
        return "Every optimizer diverged with every learning rate."
    first = min(running, key=lambda s: s.loss.middle)
    at = f" at a learning rate of {number(first.rate)}" if first.swept else ""
    parts = [
        f"{first.optimizer} reached the lowest training loss, {loss(first, course)}{at}"
        f"{_ahead(first, running)}"
    ]
    if not course.judged_on_train and len(running) > 1:
        best = _best_held(running, course)
        who = "it also" if best is first else best.optimizer
        level = [s.optimizer for s in running if s is not best and held_alike(s, best, course)]
        parts.append(f"{who} did best on held-out data, {held(best, course)}{_within(level)}")
    wide = _least_sensitive(running)
    if wide and len(running) > 1:
        parts.append(
            f"{wide.optimizer} cared least about the learning rate, with {decades(wide)} "
            "usable decades"
        )
    return "; ".join(parts) + "." + doubles(summaries)


def overall(found: Across) -> str:
    """The sentence over several problems: who is near the best on most of them."""
    first, *_ = found.cells
    near = found.share(first, 2.0, "steps")
    parts = [
        f"{first} came nearest over {len(found.problems)} problems: on {100 * near:.0f} % of them "
        "it took at most twice the steps of the fastest to the target"
    ]
    quick = max(found.cells, key=lambda name: found.share(name, 2.0, "time"))
    if found.share(quick, 2.0, "time") > found.share(first, 2.0, "time"):
        share = found.share(quick, 2.0, "time")
        parts.append(f"in time {quick} did so on {100 * share:.0f} %")
    return "; ".join(parts) + "."


def doubles(summaries: list[Summary]) -> str:
    """A sentence about those that are the same as another on this problem."""
    same: dict[str, list[str]] = {}
    for s in summaries:
        if s.same_as is not None:
            same.setdefault(s.same_as, []).append(s.optimizer)
    return "".join(
        f" {_capital(join(names))} {'is' if len(names) == 1 else 'are'} the same as {other} here."
        for other, names in same.items()
    )


def _ahead(first: Summary, running: list[Summary]) -> str:
    """Whether the seeds tell the first from the others."""
    if len(running) < 2:
        return ""
    needed = ranks.needed(len(running) - 1)
    if first.seeds < needed:
        seeds = "one seed tells" if first.seeds == 1 else f"{first.seeds} seeds tell"
        return f" ({seeds} no two of {len(running)} apart; {needed} can)"
    level = [s.optimizer for s in running if s is not first and s.place == first.place]
    if not level:
        return ", ahead of all others"
    named = join(level) if len(level) <= 3 else f"{len(level)} others"
    return f" ({first.seeds} seeds do not tell it from {named})"


def _within(level: list[str]) -> str:
    """Those that the held-out set does not tell from the best."""
    if not level:
        return ""
    named = join(level) if len(level) <= 3 else f"{len(level)} others"
    return f" (not told from {named})"


def held_margin(best: Summary, course: Course) -> float:
    """Held-out results that are no further apart are not told apart.

    A score is a share of the held-out examples: its standard error is what so few can tell. Of a
    loss half the distance of the quartiles over seeds stands for it.
    """
    share = best.held.middle
    if course.score:
        return math.sqrt(max(share * (1 - share), 1 / course.held_out) / course.held_out)
    return (best.held.high - best.held.low) / 2


def held_alike(one: Summary, best: Summary, course: Course) -> bool:
    return abs(one.held.middle - best.held.middle) <= held_margin(best, course)


def _least_sensitive(running: list[Summary]) -> Summary | None:
    """The widest usable range among those that reached the target: a wide range of bad learning
    rates is no merit.
    """
    reached = (s for s in running if s.all_reached and s.decades >= LEAST)
    return max(reached, key=lambda s: s.decades, default=None)


def _best_held(running: list[Summary], course: Course) -> Summary:
    return (max if course.score else min)(running, key=lambda s: s.held.middle)


def join(parts: Sequence[str], word: str = "and") -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
