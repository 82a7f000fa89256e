"""The table of all problems: how often an optimizer is near the best, and its place on each."""

from . import wording
from .across import FACTORS, Across, Cell as Did
from .figures import style
from .figures.svg import VARIABLES
from .sheet import Cell, Column, Family, Row, Table


def crosstable(found: Across) -> Table:
    """The best first: by the mean factor in steps."""
    columns = [Column(["optimizer"], "name")]
    columns += [Column([f"within {f:g}×", "in steps"], down=True) for f in FACTORS]
    columns += [Column(["within 2×", "in time"], down=True)]
    columns += [Column([name], "place") for name in found.problems]
    rows = [_row(found, i, name) for i, name in enumerate(found.cells)]
    return Table(
        "the share of the problems on which each is near the fastest, and its place on each",
        columns,
        [Family("", rows)],
    )


def _row(found: Across, i: int, name: str) -> Row:
    shares = [found.share(name, factor, "steps") for factor in FACTORS]
    shares.append(found.share(name, 2.0, "time"))
    cells = [Cell(f"{100 * share:.0f} %", share) for share in shares]
    cells += [_on_one(did) for did in found.cells[name]]
    hue = f"var({VARIABLES[style.color(i)]})"
    return Row(i, name, cells, hue, dot=i < style.MANY)


def _on_one(did: Did) -> Cell:
    s = did.summary
    if not s.survivors:
        return Cell("diverged", mark="bad")
    if s.same_as is not None:
        return Cell("", spread=f"as {s.same_as}")
    at = f"at {wording.number(s.rate)}" if s.swept else ""
    return Cell(wording.place(s), float(s.place), spread=at)
