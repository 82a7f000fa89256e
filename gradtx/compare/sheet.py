"""What a table on the page is made of."""

import re
from dataclasses import dataclass, field

from .ranges import Range


@dataclass(frozen=True)
class Column:
    """`sorted` is "none", or "ascending" for the one by which the rows come sorted."""

    lines: list[str]
    kind: str = "number"  # or "name", "place", "range"
    sorted: str = "none"  # empty: by this nobody sorts
    down: bool = False  # whether more is better, and comes first
    ticks: list[tuple[float, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Cell:
    """Text, its number for sorting (none where there is none), and what stands beside it."""

    text: str = ""
    value: float | None = None
    spread: str | None = None
    wide: int = 0  # letters of the widest spread of the column
    warning: str = ""
    mark: str = ""  # "best" or "bad"
    range: Range | None = None


@dataclass(frozen=True)
class Row:
    """An optimizer: `opt` is its place among those of the section."""

    opt: int
    name: str
    cells: list[Cell]
    hue: str
    dot: bool = True
    about: str = ""
    remark: str = ""

    @property
    def parts(self) -> list[str]:
        """The name in parts between which a line may end."""
        return re.findall(r".+?(?:[(_]|, |$)", self.name)


@dataclass(frozen=True)
class Family:
    """Rows that fold behind the first, if they have a title."""

    title: str
    rows: list[Row]


@dataclass(frozen=True)
class Table:
    caption: str
    columns: list[Column]
    families: list[Family]
