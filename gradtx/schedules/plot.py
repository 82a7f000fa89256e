"""A schedule as a picture: lines in axes of matplotlib, and SVG for notebooks."""

from __future__ import annotations

import importlib.util
import io
import math
import re
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.core import Tracer

from gradtx.schedules.base import Schedule, evaluate
from gradtx.struct import complaint, value_error
from gradtx.struct.along import along

MOST_POINTS = 2000  # of a line; of longer ones every n-th count
MOST_LINES = 32  # of a stack; of larger ones as many, evenly chosen
FEW = 8  # lines that are named
USUAL = 1000  # updates that are shown of a schedule without a length
INK = "#7f7f80"  # stands for the colour of text around the picture


def plot(schedule: Schedule, steps: int | None = None, ax: Any = None) -> Any:
    """See `Schedule.plot`."""
    called = f"{schedule}.plot"
    if importlib.util.find_spec("matplotlib") is None:
        do = "Install it: pip install matplotlib"
        raise ImportError(complaint(called, "matplotlib is not installed", do))
    if not _is_known(schedule):
        seen = "its numbers are traced or were deleted"
        raise value_error(called, seen, "Draw it outside of jit, vmap and grad")
    if steps is not None and not steps > 0:
        raise value_error(called, f"steps is {steps}", "Give the number of updates to show")
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.figure(figsize=(7, _height(schedule)), layout="constrained").subplots()
    counts = _counts(schedule, steps)
    lines = _lines(schedule)
    for place, (name, line) in enumerate(lines):
        colour = None if len(lines) == 1 else _colour(place / (len(lines) - 1))
        few = len(counts) <= 100
        values = np.asarray(_values(line, counts))
        ax.plot(counts, values, color=colour, label=name, marker="." if few else None)
    if 1 < len(lines) <= FEW and lines[0][0]:
        ax.legend(fontsize="small", frameon=False)
    ax.set_title(repr(schedule), loc="left", fontsize="small", family="monospace", parse_math=False)
    ax.set_xlabel("updates done")
    ax.set_ylabel("value")
    ax.grid(alpha=0.25)
    ax.margins(x=0.01)
    return ax


def picture(schedule: Schedule) -> str | None:
    """The same as SVG in the colours of the page around it, None where it cannot be drawn."""
    if importlib.util.find_spec("matplotlib") is None or not _is_known(schedule):
        return None
    from matplotlib.figure import Figure
    from matplotlib.style import context

    coloured = ("axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "text.color")
    style: dict[Any, Any] = {
        **dict.fromkeys((*coloured, "xtick.color", "ytick.color", "grid.color"), INK),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "gradtx",
    }
    with context(["default", style]):
        figure = Figure(figsize=(7, _height(schedule)), layout="constrained")
        plot(schedule, ax=figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    whole = svg[svg.index("<svg") :].replace(INK, "currentColor")
    # HTML leaves out the spaces that indent the title.
    return re.sub("(?<=>) +(?=[^ <])", lambda spaces: "&#160;" * len(spaces[0]), whole)


def _height(schedule: Schedule) -> float:
    return 2.6 + 0.16 * repr(schedule).count("\n")


def _colour(share: float) -> Any:
    import matplotlib as mpl

    return mpl.colormaps["viridis"](0.3 + 0.45 * share)  # which is seen on white and on black


def _is_known(schedule: Schedule) -> bool:
    return not any(
        isinstance(x, Tracer)
        or (isinstance(x, Array) and (x.is_deleted() or not x.is_fully_addressable))
        for x in jax.tree.leaves(schedule)
    )


def _counts(schedule: Schedule, steps: int | None) -> np.ndarray:
    if steps is None:
        steps = math.ceil(1.05 * schedule.span()) or USUAL
    steps = min(steps, 2**31 - 2)
    return np.unique(np.linspace(0, steps, min(steps, MOST_POINTS) + 1).astype(np.int32))


def _lines(schedule: Schedule) -> list[tuple[str, Schedule]]:
    """The schedules of a stack, with what tells them apart; one that is no stack alone."""
    stack = jax.tree.map(_values_of, schedule, is_leaf=lambda x: isinstance(x, along))
    flat, treedef = jax.tree_util.tree_flatten_with_path(stack)
    sizes = max((np.shape(x) for _, x in flat), key=len, default=())
    places = list(np.ndindex(sizes))
    some = np.unique(np.linspace(0, len(places) - 1, MOST_LINES).astype(int))
    found = []
    for place in (places[i] for i in some):
        ours = [np.asarray(x)[place[: np.ndim(x)]] if np.ndim(x) else x for _, x in flat]
        names = [
            f"{jax.tree_util.keystr(path, simple=True, separator='.')} = {ours[i]:.4g}"
            for i, (path, x) in enumerate(flat)
            if np.ndim(x) and np.ptp(np.asarray(x)) > 0
        ]
        found.append((", ".join(names), treedef.unflatten(ours)))
    return found


def _values_of(x: Any) -> Any:
    return x.values if isinstance(x, along) else x


@jax.jit
def _values(schedule: Schedule, counts: Any) -> Array:
    return jax.vmap(lambda count: evaluate(schedule, count))(counts)
