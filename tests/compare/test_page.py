"""The page: contrast, tables and pictures for those who do not see or point as most do."""

from __future__ import annotations

import re

import pytest

from gradtx.compare.figures import style
from gradtx.compare.page import STYLE

THEMES = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)


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


def test_names_in_pictures_have_contrast_on_paper() -> None:
    assert min(contrast(hue, "#ffffff") for hue in (*style.SERIES, style.MUTED)) >= 4.5
    light = dict(re.findall(r"--(s\d): (#[0-9a-f]{6})", THEMES[0]))
    assert tuple(light.values()) == style.SERIES


def test_tables_and_pictures_say_what_they_are(folder) -> None:
    page = (folder / "report.html").read_text("utf-8")
    assert len(re.findall(r"<svg [^>]*role=.img. aria-label=", page)) == page.count("<figure>")
    for table in re.findall(r"<table>.*?</table>", page, re.DOTALL):
        heads = re.search(r"<thead>.*?</thead>", table, re.DOTALL)
        assert heads is not None
        assert len(re.findall(r'<th scope="col"', heads.group())) == heads.group().count("<th ")
        rows = len(re.findall(r"<tr(?! class=.family)", table)) - 1
        assert table.count('<th scope="row"') == rows
