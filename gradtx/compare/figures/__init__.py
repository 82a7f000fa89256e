"""Pictures of a course: each for a wide and a narrow page, as files, and with their numbers."""

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from matplotlib import rc_context

from ..across import Across
from ..results import Course
from ..summary import Summary, by_place
from . import style
from .curves import curves
from .heat import heat, tables
from .plane import plane
from .profile import profile
from .reading import Drawing, Store
from .sensitivity import sensitivity
from .svg import inline
from .swing import swing

Draw = Callable[[Sequence[int], style.Look], Drawing]


class View(NamedTuple):
    """One of the drawings between which a picture can be switched, in two widths."""

    label: str  # "steps"
    note: str
    svgs: dict[str, str]  # by the name of the look
    panels: dict[str, list[dict[str, Any]]]  # what can be read off, as `Store` gives it


class Picture(NamedTuple):
    """A figure with its title, its words and its numbers."""

    name: str
    title: str
    caption: str
    views: list[View]
    numbers: dict[str, Any]  # of all views
    files: dict[str, bytes]  # PNG by name
    folded: bool  # whether it is to be opened first


def pictures(course: Course, summaries: list[Summary]) -> list[Picture]:
    """All pictures of `course`, the most telling first.

    Of many optimizers they show the best of each family, and behind that, folded, all of them.
    """
    trials = course.trials
    every = list(range(len(trials)))
    shown = every if len(every) <= style.FEW else first_of_families(course, summaries)
    kinds: dict[str, dict[str, Draw]] = {}
    if all(trial.path is not None for trial in trials):
        kinds["paths"] = {"": partial(plane, course)}
    kinds["curves"] = {
        f"{course.unit}s": partial(curves, course, summaries),
        "time": partial(curves, course, summaries, timed=True),
    }
    kinds["sensitivity"] = {"training loss": partial(sensitivity, course, summaries)}
    if not course.judged_on_train:
        of = f"held-out {course.judged}"
        kinds["sensitivity"][of] = partial(sensitivity, course, summaries, held=True)
    swept = tables([trial.optimizer for trial in trials])
    if swept:
        kinds["heat"] = {"": lambda _, look: heat(course, swept, look)}
    if all(trial.trace is not None for trial in trials):
        kinds["swing"] = {"": partial(swing, course)}
    names = [trial.optimizer for trial in trials]
    found = []
    for name, draws in kinds.items():
        found.append(_picture(course.name, name, names, draws, shown))
        if len(shown) < len(every) and name in _BY_FAMILY:
            found.append(_picture(course.name, name, names, draws, every, folded=True))
    return found


def profile_picture(found: Across) -> Picture:
    """The picture of all problems together."""
    return _picture("all", "profile", list(found.cells), {"": lambda _, look: profile(found, look)})


def first_of_families(course: Course, summaries: list[Summary]) -> list[int]:
    """The best of each family, by place of the trial, the best first."""
    order = sorted(range(len(summaries)), key=lambda i: by_place(summaries[i]))
    first = {course.trials[i].family: i for i in reversed(order)}
    return [i for i in order if first[course.trials[i].family] == i][: style.MANY]


_BY_FAMILY = ("paths", "curves", "sensitivity")
_FILES = {"time": "-time"}  # beside the first view, which needs no addition

_WORDS = {
    "profile": (
        "Across problems",
        "The share of the problems on which an optimizer takes at most so many times the steps, or "
        "the time, that the fastest takes to the target: the performance profile. Left who is "
        "fastest, right who gets there at all.",
    ),
    "paths": (
        "The way down",
        "From the circle to the star, the best learning rate of each optimizer; contour lines are "
        "spaced by the logarithm of the height. Dots, where drawn, are single steps.",
    ),
    "curves": (
        "Learning curves",
        "Each optimizer with its best learning rate: the line is the median over seeds, the "
        "shade lies between their quartiles, both averaged over the tenth of the run that ends "
        "there.",
    ),
    "sensitivity": (
        "Sensitivity to the learning rate",
        "What a run ends with against its learning rate, median and quartiles over seeds. The ring "
        "marks the best rate by training loss, the bar below the usable range (at least 90 % of "
        "the best's progress on this scale); ▲ diverged, △ diverged for some seeds. What is worse "
        "than the start is cut off. In grey, the others.",
    ),
    "heat": (
        "Another hyperparameter beside the learning rate",
        "Final training loss (median over seeds) of optimizers that differ in values only, dark "
        "where it is low. The ring marks the best learning rate of a row, with its loss on the "
        "right, ▲ a rate at which runs diverged; what ends above the loss at the start is as pale "
        "as that.",
    ),
    "swing": (
        "What was learnt",
        "The pendulum, let go at rest nearly straight down, with the policy after training; one "
        "line a seed, the first one thick.",
    ),
}


def _picture(
    owner: str,
    name: str,
    names: list[str],
    draws: dict[str, Draw],
    shown: Sequence[int] = (),
    folded: bool = False,
) -> Picture:
    title, caption = _WORDS[name]
    if folded:
        name, title = f"{name}-all", f"{title}: all {len(shown)} optimizers by family"
    store, views, files = Store(names), [], {}
    with rc_context(style.SETTINGS):
        for place, (label, draw) in enumerate(draws.items()):
            svgs, panels, note = {}, {}, ""
            file = f"{owner}-{name}" + ("" if place == 0 else _FILES.get(label, "-held"))
            for look in (style.WIDE, style.NARROW):
                drawing = draw(shown, look)
                svgs[look.name] = inline(drawing.figure, f"{file}-{look.name}")
                panels[look.name], note = store.panels(drawing), drawing.note
                if look is style.WIDE:
                    drawing.figure.set_layout_engine("none")  # it is laid out
                    png = io.BytesIO()
                    drawing.figure.savefig(png, format="png", dpi=160, facecolor="white")
                    files[f"{file}.png"] = png.getvalue()
            views.append(View(label, note, svgs, panels))
    return Picture(name, title, caption, views, store.plain(), files, folded)
