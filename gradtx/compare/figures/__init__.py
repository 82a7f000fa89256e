"""Pictures of a course, and how they become PNG files and inline SVG."""

import io
import re
from html import escape
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure

from ..across import Across
from ..results import Course
from ..summary import Summary
from . import style
from .curves import curves
from .heat import heat, tables
from .plane import plane
from .profile import profile
from .sensitivity import sensitivity
from .swing import swing


class Picture(NamedTuple):
    """A figure as bytes of a PNG file and as SVG to be put into a page."""

    name: str
    title: str
    caption: str
    png: bytes
    svg: str


def pictures(course: Course, summaries: list[Summary]) -> list[Picture]:
    """All pictures of `course`, the most telling first."""
    with rc_context(style.SETTINGS):
        found = []
        if all(trial.path is not None for trial in course.trials):
            found.append(_picture(course, "paths", plane(course)))
        found.append(_picture(course, "curves", curves(course)))
        found.append(_picture(course, "sensitivity", sensitivity(course, summaries)))
        swept = tables([trial.optimizer for trial in course.trials])
        if swept:
            found.append(_picture(course, "heat", heat(course, swept)))
        if all(trial.trace is not None for trial in course.trials):
            found.append(_picture(course, "swing", swing(course)))
        return found


def profile_picture(found: Across) -> Picture:
    """The picture of all problems together."""
    with rc_context(style.SETTINGS):
        return _made("all", "profile", profile(found))


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
        "Final training loss against the learning rate. The ring marks the best, the bar below "
        "the usable range (at least 90 % of the best's progress on this scale), the shade lies "
        "between the quartiles of the seeds; "
        "▲ diverged, △ diverged for some seeds. What ends above the loss at the start is cut off. "
        "In grey, all others.",
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


def _picture(course: Course, name: str, figure: Figure) -> Picture:
    return _made(course.name, name, figure)


def _made(owner: str, name: str, figure: Figure) -> Picture:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=160, facecolor="white")
    title, caption = _WORDS[name]
    svg = _svg(figure, f"{owner}-{name}").replace(
        "<svg ", f'<svg role="img" aria-label="{escape(f"{title}. {caption}")}" ', 1
    )
    return Picture(name, title, caption, png.getvalue(), svg)


VARIABLES = {
    style.INK: "--ink",
    style.MUTED: "--muted",
    style.RULE: "--rule",
    style.GHOST: "--ghost",
} | {hue: f"--s{i}" for i, hue in enumerate(style.SERIES)}


def _svg(figure: Figure, salt: str) -> str:
    """The figure as an SVG element whose colours and font are those of the page around it."""
    text = io.StringIO()
    with rc_context({"svg.hashsalt": salt}):  # names that are the same every time, and unique
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[^"]*"', "", svg, count=2)  # those of <svg> come first
    svg = re.sub(r'id="opt-(\d+)b?"', r'class="opt" data-opt="\1"', svg)
    svg = re.sub(r' id="(figure|axes|patch|line2d|text|xtick|ytick|matplotlib|legend|FillBetween'
                 r'PolyCollection|PolyCollection|LineCollection|PathCollection|QuadContourSet|QuadMesh)'
                 r'[._\d]*"', "", svg)  # fmt: skip
    svg = svg.replace("'DejaVu Sans'", "inherit")
    for hue, variable in VARIABLES.items():
        svg = svg.replace(hue, f"var({variable})")
    return svg
