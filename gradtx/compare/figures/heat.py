"""Another hyperparameter against the learning rate: the final loss in a row for every value."""

import ast
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from ..results import Course, Trial
from ..summary import FLOOR, best_rate, diverged, floored, on_logs, rate_losses
from ..wording import number
from . import style
from .reading import Drawing, Line, Panel

_LOW_TO_HIGH = LinearSegmentedColormap.from_list(
    "losses", ["#0b3d66", "#1f78b4", "#7fb8da", "#d6e6f0", "#f6efe2"]
)
_ROW = 0.34  # inches


@dataclass
class Table:
    """Trials whose labels differ in plain values only: what these are, by place of the trial."""

    title: str = ""
    rows: dict[int, str] = field(default_factory=dict)


def tables(labels: Sequence[str]) -> list[Table]:
    """Those of two rows or more, in the order of their first."""
    found: dict[str, list[tuple[int, list[tuple[str, str]]]]] = {}
    for i, label in enumerate(labels):
        blanks = _Blanks()
        try:
            form = ast.unparse(blanks.visit(ast.parse(label, mode="eval")))
        except (SyntaxError, ValueError):  # a name given from Python may be any text
            continue
        found.setdefault(form, []).append((i, blanks.values))
    return [_table(labels, rows) for rows in found.values() if len(rows) > 1 and rows[0][1]]


def _table(labels: Sequence[str], rows: list[tuple[int, list[tuple[str, str]]]]) -> Table:
    columns = list(zip(*(values for _, values in rows), strict=True))
    moved = [k for k, column in enumerate(columns) if len(set(column)) > 1]
    keep = {k: column[0][1] for k, column in enumerate(columns) if k not in moved}
    title = ast.unparse(_Blanks(keep).visit(ast.parse(labels[rows[0][0]], mode="eval")))
    texts = {i: ", ".join(" = ".join(filter(None, values[k])) for k in moved) for i, values in rows}
    return Table(title.replace("...", "…"), texts)


class _Blanks(ast.NodeTransformer):
    """Puts ... in the place of every plain value, but for those to keep, and collects them all."""

    def __init__(self, keep: dict[int, str] | None = None) -> None:
        self.values: list[tuple[str, str]] = []  # the keyword, if it has one, and the text
        self._keep = keep or {}
        self._key = ""

    def visit_keyword(self, node: ast.keyword) -> ast.keyword:
        self._key = node.arg or ""
        super().generic_visit(node)
        self._key = ""
        return node

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, ast.expr) or not _plain(node):
            return super().visit(node)
        kept = len(self.values) in self._keep
        self.values.append((self._key, ast.unparse(node)))
        return node if kept else ast.Constant(...)


def _plain(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError):
        return False
    return True


def heat(course: Course, found: Sequence[Table], look: style.Look) -> Drawing:
    """A panel for every table, a row for every value, the cells of each its own rates."""
    trials = course.trials
    heights = [len(table.rows) for table in found]
    inches = _ROW * sum(heights) + 0.5 * len(found) + (0.6 if look.names_beside else 1.2)
    figure = Figure((look.width, inches), layout="constrained")
    panels = figure.subplots(
        len(found), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    shown = [trials[i] for table in found for i in table.rows]
    edges = np.concatenate([_edges(trial.rates) for trial in shown])
    norm = _norm(course, shown)
    mesh, drawn = None, []
    for axes, table in zip(panels, found, strict=True):
        style.limit(axes, "x", float(edges.min()), float(edges.max()), log=True)
        for row, i in enumerate(table.rows):
            mesh = _row(axes, row, trials[i], norm, f"opt-{i}")
        lines = [_line(i, row, trials[i]) for row, i in enumerate(table.rows)]
        drawn.append(Panel(axes, lines, "learning rate {}", read="cell"))
        axes.grid(visible=False)
        axes.set_yticks(range(len(table.rows)), list(table.rows.values()))
        axes.set_ylim(len(table.rows) - 0.5, -0.5)
        axes.set_title(textwrap.fill(table.title, int(11 * look.width)))
    if mesh is not None:
        shape: dict = {"aspect": 5 * inches, "pad": 0.015}
        if not look.names_beside:
            shape = {"location": "bottom", "aspect": 30, "pad": 0.15 / inches}
        bar = figure.colorbar(mesh, ax=list(panels), **shape)
        if bar.solids is not None:
            bar.solids.set_rasterized(False)  # in SVG else a bitmap
        bar.minorticks_off()
        if isinstance(norm, LogNorm):
            decades = np.ptp(np.log10(norm.inverse([0, 1])))
            subs = (1.0,) if decades > 2 else (1.0, 2.0, 5.0)
            ticks = 9 if look.names_beside else 5
            bar.long_axis.set_major_locator(LogLocator(10, subs, numticks=ticks))
        bar.long_axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        bar.outline.set_visible(False)
        bar.set_label("final training loss")
    panels[-1].set_xlabel("learning rate")
    return Drawing(figure, drawn)


def _line(i: int, row: int, trial: Trial) -> Line:
    losses = np.array([loss.middle for loss in rate_losses(trial)])
    return Line(i, style.MUTED, trial.rates, np.full(len(losses), row), value=losses)


def _row(axes: Axes, row: int, trial: Trial, norm: Normalize, gid: str) -> QuadMesh:
    losses = np.array([loss.middle for loss in rate_losses(trial)])
    losses = floored(np.where(np.isfinite(losses), losses, np.nan))
    mesh = axes.pcolormesh(
        _edges(trial.rates), [row - 0.46, row + 0.46], losses[None], cmap=_LOW_TO_HIGH, norm=norm,
        gid=gid, edgecolor="white", linewidth=0.6,
    )  # fmt: skip
    lost = np.isnan(losses) & diverged(trial).any(1)
    axes.plot(
        trial.rates[lost], np.full(lost.sum(), row), "^", ms=4.5, color=style.MUTED, gid=gid + "x"
    )
    best, _ = best_rate(trial)
    if np.isfinite(losses[best]):
        ring = "white" if norm(losses[best]) < 0.5 else "#222222"
        axes.plot(
            [trial.rates[best]], [row], "o", ms=7, mfc="none", mec=ring, mew=1.5, gid=gid + "r"
        )
        said = ("≤ " if losses[best] <= FLOOR else "") + number(losses[best])
        axes.annotate(
            said, (1, row), (6, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", size=9.5, gid=gid + "n",
        )  # fmt: skip
    return mesh


def _norm(course: Course, trials: Sequence[Trial]) -> Normalize:
    """From the lowest loss of all to the loss at the start: what lies above is no progress."""
    losses = np.concatenate([[loss.middle for loss in rate_losses(t)] for t in trials])
    start = max(float(np.nanmedian(trial.train_loss[:, :, 0])) for trial in trials)
    finite = losses[np.isfinite(losses)]
    low = float(finite.min()) if len(finite) else start / 10
    if on_logs(course):
        low = float(floored(low))
        return LogNorm(low, max(start, low * 1.01), clip=True)
    return Normalize(low, max(start, low + 0.01 * abs(low)), clip=True)


def _edges(rates: np.ndarray) -> np.ndarray:
    """Half-way between learning rates, in the logarithm, and as far beyond the first and last."""
    logs = np.log(rates.astype(np.float64))
    if len(logs) == 1:
        logs = logs[0] + np.array([-0.5, 0.5])
    else:
        inner = (logs[1:] + logs[:-1]) / 2
        logs = np.concatenate([[2 * logs[0] - inner[0]], inner, [2 * logs[-1] - inner[-1]]])
    return np.exp(logs)
