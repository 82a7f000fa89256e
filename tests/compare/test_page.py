"""The page: contrast, tables and pictures for those who do not see or point as most do."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import numpy as np
import pytest

from gradtx.compare.figures import pictures, style
from gradtx.compare.figures.svg import inline
from gradtx.compare.page import source
from gradtx.compare.report import PAGE, files_of, summaries_of
from gradtx.compare.summary import rate_held, smooth, summarize_all

from .conftest import course, falling, trial
from .many import results

THEMES = re.findall(r":root \{(.*?)\}", source("style.css"), re.DOTALL)


def luminance(color: str) -> float:
    """Of WCAG 2.1."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark"])
def test_all_that_is_read_has_contrast(theme: str) -> None:
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", theme))
    written = ["ink", "muted", "bad", *(f"s{i}" for i in range(8))]
    for paper in ("paper", "card"):
        found = {name: contrast(colors[name], colors[paper]) for name in written}
        assert min(found.values()) >= 4.5, found
    assert contrast(colors["best-ink"], colors["best"]) >= 4.5
    assert contrast(colors["ink"], colors["rule"]) >= 4.5  # what a switch shows as chosen


def test_the_style_sheet_writes_in_no_other_colors() -> None:
    rules = re.sub(r":root \{.*?\}", "", source("style.css"), flags=re.DOTALL)
    written = set(re.findall(r"[{;\s]color: ([^;}]+?)\s*[;}]", rules))
    assert written <= {*(f"var(--{name})" for name in ("ink", "muted", "bad", "best-ink", "paper")),
                       "inherit"}  # fmt: skip


def test_names_in_pictures_have_contrast_on_paper() -> None:
    assert min(contrast(hue, "#ffffff") for hue in (*style.SERIES, style.MUTED)) >= 4.5
    light = dict(re.findall(r"--(s\d): (#[0-9a-f]{6})", THEMES[0]))
    assert tuple(light.values()) == style.SERIES


def test_tables_and_pictures_say_what_they_are(folder) -> None:
    page = (folder / "report.html").read_text("utf-8")
    plots = re.findall(
        r'<svg role="img" aria-labelledby="([^"]*)" aria-describedby="([^"]*)"', page
    )
    assert len(plots) == page.count('<div class="plot ')
    for name in {name for pair in plots for name in pair}:
        assert page.count(f'id="{name}"') == 1
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    tables = re.findall(r"<table>.*?</table>", page, re.DOTALL)
    assert len(tables) == 3
    for table in tables:
        head = table[: table.index("</thead>")]
        assert head.count('<th scope="col"') == head.count("<th ")
        assert table.count('<th scope="row"') == table.count("<tr") - 1
        assert "<caption" in table
        assert head.count('aria-sort="') == head.count("<button")
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_what_is_typed_is_text_and_no_markup() -> None:
    name = '<b>&"bold"</b>'
    made = course(trial(falling(0.1, 0.2), name=name), title="<i>", about="a & b")
    run = results()
    run.courses[:] = [made]
    page = str(files_of(run, summaries_of(run))[PAGE])
    assert "<b>&" not in page
    assert "<i>" not in page
    assert "&lt;b&gt;" in page


def test_numbers_on_the_page_are_those_of_the_results() -> None:
    """Every curve, and held-out values by learning rate."""
    rng = np.random.default_rng(0)
    losses = falling(0.4, 0.1, seeds=3) + 0.01 * rng.random((2, 3, 11))
    score = rng.random(losses.shape).astype(np.float32)
    made = course(trial(losses, score=score), score="accuracy")
    drawn = {picture.name: picture for picture in pictures(made, summarize_all(made))}

    def line(name: str, view: int, panel: int) -> list[list[float]]:
        numbers = json.loads(json.dumps(drawn[name].numbers, allow_nan=False))
        read = drawn[name].views[view].panels["narrow"][panel]["lines"][0]
        _, _, x, y, *_ = numbers["lines"][read]
        return [numbers["arrays"][x], numbers["arrays"][y]]

    one = made.trials[0]
    middle = np.median(smooth(one.train_loss[1]), 0)
    np.testing.assert_allclose(line("curves", 0, 0), [one.steps, middle], rtol=1e-5)
    np.testing.assert_allclose(line("curves", 1, 0), [one.steps * 1e-3 / 1e-3, middle], rtol=1e-5)
    middle = 100 * np.median(smooth(score[1]), 0)
    np.testing.assert_allclose(line("curves", 0, 1), [one.steps, middle], rtol=1e-5)
    held = [100 * found.middle for found in rate_held(one, made)]
    assert held == pytest.approx(100 * np.median(score[:, :, -1], 1))
    np.testing.assert_allclose(line("sensitivity", 1, 0), [one.rates, held], rtol=1e-5)


def test_paths_in_few_bytes_are_the_same_paths() -> None:
    """Relative and in tenths of a point, they lead to where they led."""
    from matplotlib.figure import Figure

    figure = Figure((5, 4))
    points = np.random.default_rng(1).random((40, 2)) * (360, 288)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 360), ylim=(0, 288))
    axes.axis("off")
    axes.plot(*points.T, gid="opt-7")
    svg = inline(figure, "salt")
    path = re.search(r'<g class="opt" data-opt="7">.*?<path d="M([^"]*)"', svg)
    assert path is not None
    numbers = [float(x) for x in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", path[1])]
    found = np.cumsum(np.reshape(numbers, (-1, 2)), axis=0)
    np.testing.assert_allclose(found, points * (1, -1) + (0, 288), atol=0.051)
