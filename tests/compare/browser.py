"""A real browser without a window, and what the tests ask of a page in it."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# The lightest contrast of what is written against what is behind it, over the whole page.
CONTRAST = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const color = rgb(getComputedStyle(element).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    throw new Error("nothing is behind");
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility() || element.closest("script, .unseen")) continue;
    const style = getComputedStyle(element);
    const color = rgb(element.closest("svg") ? style.fill : style.color);
    const pair = [light(color), light(behind(element))].sort((a, b) => a - b);
    found.push([(pair[1] + 0.05) / (pair[0] + 0.05), text]);
  }
  return found.sort((a, b) => a[0] - b[0]).slice(0, 3).concat([found.length]);
}"""

# How high the smallest visible letters of the figures are, in pixels of the screen: their font.
LETTERS = """() => Math.min(...[...document.querySelectorAll(".plot > svg")]
  .filter((svg) => svg.checkVisibility())
  .flatMap((svg) => [...svg.querySelectorAll("text")].map((text) =>
    parseFloat(getComputedStyle(text).fontSize)
      * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)))"""


def path() -> str:
    """Of the browser: $BROWSER, or Chromium where the system has it. An error if there is none."""
    named = os.environ.get("BROWSER")
    names = [named] if named else ["chromium", "chromium-browser", "google-chrome", "chrome"]
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise RuntimeError(
            f"no browser ({', '.join(names)}): install Chromium, or set BROWSER to the path of one"
        )
    return found


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path(), args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()


def visit(opened: Any, page: pathlib.Path, width: int = 1280, **options: Any) -> Any:
    """The page in a window of that width; what goes wrong in it is in `tab.errors`."""
    tab = opened.new_page(viewport={"width": width, "height": 800}, **options)
    tab.errors = []
    tab.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.on("console", lambda said: tab.errors.append(said.text))
    tab.goto(page.resolve().as_uri())
    return tab


def place(tab: Any, figure: str, panel: int, x: float, y: float) -> tuple[float, float]:
    """Where on the screen the values x and y are, in a panel of a figure that is visible."""
    return tab.evaluate(
        """([figure, panel, x, y]) => {
          const plot = [...document.querySelectorAll(`#${figure} .plot`)]
            .find((one) => one.checkVisibility());
          const svg = plot.querySelector("svg");
          svg.scrollIntoView({block: "center", behavior: "instant"});
          const { box, ...axes } = JSON.parse(plot.dataset.panels)[panel];
          const [left, top, width, height] = box;
          const part = (value, [low, high, log]) =>
            log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
          const shown = svg.getBoundingClientRect();
          const scale = shown.width / svg.viewBox.baseVal.width;
          return [shown.left + scale * (left + width * part(x, axes.x)),
                  shown.top + scale * (top + height * (1 - part(y, axes.y)))];
        }""",
        [figure, panel, x, y],
    )
