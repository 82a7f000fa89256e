"""What can be read off a figure: its lines, point by point, and where its axes lie."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .svg import VARIABLES

DIGITS = 6  # of numbers on the page, which shows three


class Line(NamedTuple):
    """A line of one optimizer. NaN in `y` is a run that diverged, infinity a seed that did."""

    opt: int
    hue: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    at: np.ndarray | None = None  # what is said of a point, if it is not x
    value: np.ndarray | None = None  # and if it is not y


class Panel(NamedTuple):
    """Axes with the lines on them, and in which words their numbers are said."""

    axes: Axes
    lines: list[Line]
    x: str  # "step {}"
    y: str = "{}"
    read: str = "column"  # all lines at one x, or the nearest "point", or a "cell" of a row


class Drawing(NamedTuple):
    """A figure, what can be read off it, and a sentence on what it leaves out."""

    figure: Figure
    panels: list[Panel]
    note: str = ""


class Store:
    """The numbers of several drawings, each array once."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._arrays: dict[tuple, int] = {}
        self._lines: dict[tuple, int] = {}

    def panels(self, drawing: Drawing) -> list[dict[str, Any]]:
        """Of a figure that was drawn: boxes in the units of the picture, limits, lines."""
        width, height = 72 * drawing.figure.get_size_inches()
        return [self._panel(panel, width, height) for panel in drawing.panels]

    def plain(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "arrays": [list(array) for array in self._arrays],
            "lines": [list(line) for line in self._lines],
        }

    def _panel(self, panel: Panel, width: float, height: float) -> dict[str, Any]:
        box = panel.axes.get_position()
        corner = (box.x0 * width, (1 - box.y1) * height, box.width * width, box.height * height)
        return {
            "box": [round(float(part), 1) for part in corner],
            "x": [*map(float, panel.axes.get_xlim()), int(panel.axes.get_xscale() == "log")],
            "y": [*map(float, panel.axes.get_ylim()), int(panel.axes.get_yscale() == "log")],
            "say": [panel.x, panel.y],
            "read": panel.read,
            "lines": [self._line(line) for line in panel.lines],
        }

    def _line(self, line: Line) -> int:
        arrays = (line.x, line.y, line.low, line.high, line.at, line.value)
        key = (line.opt, f"var({VARIABLES[line.hue]})", *map(self._array, arrays))
        return self._lines.setdefault(key, len(self._lines))

    def _array(self, array: np.ndarray | None) -> int | None:
        if array is None:
            return None
        key = tuple(map(_plain, np.asarray(array, np.float64).tolist()))
        return self._arrays.setdefault(key, len(self._arrays))


def _plain(value: float) -> float | int | None:
    if not np.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 1e9 else short
