"""The table of the page: one notation in a column, who is marked, what is said of the lost."""

from __future__ import annotations

import numpy as np
import pytest

from gradtx.compare.notation import aligned, notation, seconds
from gradtx.compare.ranking import ranking
from gradtx.compare.summary import summarize_all

from .conftest import course, falling, trial


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.0123, 2.3, 0.5], ["0.0123", "2.3000", "0.5000"]),
        ([0.5, 12.0], ["0.500", "12.000"]),
        ([3e-7, 0.5, 1.0], ["3.00×10⁻⁷", "5.00×10⁻¹", "1.00×10⁰"]),
        ([250.0, 1000.0, np.nan], ["250", "1000", "–"]),
        ([-1.5, 0.0, np.inf], ["-1.50", "0.00", "diverged"]),
    ],
)
def test_a_column_has_one_notation(values, texts):
    assert [notation(values)(value) for value in values] == texts


def test_points_stand_below_each_other():
    rates = [0.001, 0.25, 3.0]
    texts = aligned([notation(rates, 2)(rate) for rate in rates])
    assert len({len(text) for text in texts}) == 1
    assert [text.rstrip("\u2007\u2008") for text in texts] == ["0.001", "0.25", "3"]


def test_times_have_one_unit():
    unit, write = seconds([2e-3, 5e-4, 1.5e-2])
    assert unit == "ms"
    assert [write(value) for value in (2e-3, 1.5e-2)] == ["2.00", "15.00"]


def cells(table, name):
    """Of one optimizer, by the head of the column."""
    heads = [" ".join(column.lines) for column in table.columns]
    row = next(row for family in table.families for row in family.rows if row.name == name)
    return dict(zip(heads[1:], row.cells, strict=True))


def test_the_best_of_each_column_is_marked():
    first = trial(falling(0.9, 0.2, 0.9, seeds=12), name="deep")
    wide = trial(falling(0.3, 0.3, 0.3, seeds=12), name="wide")
    last = trial(falling(0.9, 0.48, 0.9, seeds=12), name="last")
    made = course(first, wide, last)
    table = ranking(made, summarize_all(made))
    assert [row.name for row in table.families[0].rows] == ["deep", "wide", "last"]
    marked = {
        name: {head for head, cell in cells(table, name).items() if cell.mark == "best"}
        for name in ("deep", "wide", "last")
    }
    assert marked["deep"] == {"training loss", "held-out loss", "steps to 0.5"}
    assert marked["wide"] == {"usable decades"}
    assert marked["last"] == set()


def test_what_diverged_is_said_and_comes_last():
    losses = falling(0.1, seeds=3)
    losses[0, 1, 5:] = np.nan
    lost = falling(0.5, seeds=3)
    lost[:, :, 3:] = np.nan
    made = course(trial(lost, name="lost"), trial(losses, name="some"))
    table = ranking(made, summarize_all(made))
    assert [row.name for row in table.families[0].rows] == ["some", "lost"]
    assert cells(table, "some")["training loss"].warning == "1 diverged"
    assert cells(table, "lost")["training loss"].text == "diverged"
    assert cells(table, "lost")["training loss"].value is None
    same = course(trial(losses, name="one"), trial(losses, name="two"))
    rows = ranking(same, summarize_all(same)).families[0].rows
    assert [row.remark for row in rows] == ["", "same as one"]
