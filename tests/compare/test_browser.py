"""The page in a real browser, as wide as a phone and a desk, by pointer, touch and keys."""

from __future__ import annotations

import html
import pathlib

import numpy as np
import pytest

from gradtx import compare
from gradtx.compare.report import write
from gradtx.compare.results import from_json
from gradtx.compare.summary import best_rate, rate_losses, smooth
from gradtx.compare.wording import number

from .browser import CONTRAST, LETTERS, browser, path, place, visit
from .many import results

pytestmark = pytest.mark.slow

WIDTHS = {"phone": 390, "desk": 1280}


@pytest.fixture(scope="module")
def chromium():
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(folder) -> pathlib.Path:
    return folder / "report.html"


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> pathlib.Path:
    return write(results(), tmp_path_factory.mktemp("many"))


@pytest.fixture(scope="module")
def trials(folder):
    """Of logistic regression, by name."""
    kept = from_json((folder / "results.json").read_text("utf-8"))
    course = next(course for course in kept.courses if course.name == "logistic")
    return {trial.optimizer: trial for trial in course.trials}


def readout(tab) -> dict[str, str]:
    """What the box says of each optimizer."""
    rows = tab.locator(".readout tr").all()
    return {
        row.locator("td").first.inner_text(): row.locator(".value").inner_text() for row in rows
    }


def values_at(trials, step: int) -> dict[str, str]:
    found = {}
    for name, trial in trials.items():
        best, _ = best_rate(trial)
        look = list(trial.steps).index(step)
        found[name] = number(float(np.median(smooth(trial.train_loss[best]), 0)[look]))
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("which", ["page", "many"])
def test_it_can_be_read(chromium, which, width, scheme, request):
    tab = visit(chromium, request.getfixturevalue(which), width, color_scheme=scheme)
    for summary in tab.locator("summary").all():
        summary.click()  # what is folded is looked at too
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    *lightest, count = tab.evaluate(CONTRAST)
    assert count > 100
    assert lightest[0][0] >= 4.5, lightest
    assert tab.evaluate(LETTERS) >= 9
    shown, other = ("narrow", "wide") if width < 800 else ("wide", "narrow")
    assert tab.locator(f".plot.{shown} svg").first.is_visible()
    assert not any(plot.is_visible() for plot in tab.locator(f".plot.{other}").all())
    for plot in tab.locator(f".view:first-of-type .plot.{shown}").all():
        assert plot.bounding_box()["width"] <= width
    assert tab.errors == []
    tab.close()


def test_values_are_read_by_pointer_and_pinned(chromium, page, trials):
    tab = visit(chromium, page)
    x, y = place(tab, "logistic-curves", 0, 10, 0.3)
    tab.mouse.move(x, y)
    assert readout(tab) == values_at(trials, 10)
    assert tab.locator(".readout p span").inner_text() == "step 10"
    tab.mouse.move(5, 5)
    assert tab.locator(".readout").count() == 0
    tab.mouse.click(x, y)
    tab.mouse.move(5, 5)
    assert readout(tab) == values_at(trials, 10)
    assert tab.locator(".readout.pinned").count() == 1
    tab.mouse.click(x, y)  # the same again lets go
    assert tab.locator(".readout.pinned").count() == 0
    tab.mouse.click(x, y)
    tab.keyboard.press("Escape")
    assert tab.locator(".readout").count() == 0
    assert tab.errors == []


def test_values_are_read_by_keys(chromium, page, trials):
    tab = visit(chromium, page)
    plot = tab.locator("#logistic-curves .plot.wide").first
    slider = plot.locator('[role="slider"]')
    before = slider.get_attribute("aria-valuetext")
    tab.locator('#logistic-curves input[type="radio"]').first.focus()
    tab.keyboard.press("Tab")
    assert slider.evaluate("one => one === document.activeElement")
    tab.keyboard.press("Home")
    tab.keyboard.press("Home")
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    first, second = trials
    expected = values_at(trials, int(trials[first].steps[3]))
    assert readout(tab) == expected
    step = int(trials[first].steps[3])
    assert slider.get_attribute("aria-valuetext") == f"step {step}: {first} {expected[first]}"
    assert slider.get_attribute("aria-valuetext") != before
    tab.keyboard.press("ArrowDown")
    assert slider.get_attribute("aria-valuetext") == f"step {step}: {second} {expected[second]}"
    tab.keyboard.press("Enter")
    assert tab.locator(".readout.pinned").count() == 1
    assert second in tab.locator('[role="status"]').inner_text()
    tab.keyboard.press("Escape")
    assert tab.locator(".readout").count() == 0
    assert tab.locator('[role="status"]').inner_text() == ""


def test_values_are_read_by_touch(chromium, page, trials):
    tab = visit(chromium, page, WIDTHS["phone"], has_touch=True, is_mobile=True)
    x, y = place(tab, "logistic-curves", 0, 10, 0.3)
    tab.touchscreen.tap(x, y)
    assert readout(tab) == values_at(trials, 10)
    box = tab.locator(".readout").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= WIDTHS["phone"]
    assert box["y"] + box["height"] <= 800
    tab.locator(".readout .unpin").tap()
    assert tab.locator(".readout").count() == 0
    assert tab.errors == []


def test_sensitivity_tells_the_loss_of_a_rate(chromium, page, trials):
    tab = visit(chromium, page)
    name = "sgd"
    panel = list(trials).index(name)
    losses = [found.middle for found in rate_losses(trials[name])]
    x, y = place(tab, "logistic-sensitivity", panel, float(trials[name].rates[0]), losses[0])
    tab.mouse.move(x, y)
    assert readout(tab) == {name: number(losses[0])}
    assert tab.locator(".readout p span").inner_text() == "learning rate 0.01"


def test_an_optimizer_is_highlighted_everywhere(chromium, page):
    tab = visit(chromium, page)
    section = tab.locator("#logistic")
    button = section.locator("button.name", has_text="sgd")
    button.focus()
    tab.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert "sgd is highlighted" in tab.locator('[role="status"]').inner_text()
    lit = section.evaluate(
        """section => [...section.querySelectorAll(".plot .opt")]
          .filter((one) => one.checkVisibility())
          .map((one) => [one.dataset.opt, one.matches(".on"),
                         getComputedStyle(one).opacity])"""
    )
    wanted = section.locator("tr.opt", has_text="sgd").get_attribute("data-opt")
    assert {opt for opt, on, _ in lit if on} == {wanted}
    assert len({opt for opt, _, _ in lit}) == 2
    tab.locator('[role="status"] button').click()
    assert button.get_attribute("aria-pressed") == "false"


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_figures_are_switched_without_script(chromium, page, width):
    context = chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.set_viewport_size({"width": width, "height": 800})
    tab.goto(page.resolve().as_uri())
    steps, time = tab.locator("#logistic-curves .view").all()
    assert steps.is_visible()
    assert not time.is_visible()
    tab.locator("#logistic-curves label", has_text="time").click()
    assert time.is_visible()
    assert not steps.is_visible()
    assert "onds of one run" in time.locator("svg").first.text_content()
    context.close()


def test_tables_are_sorted(chromium, page, trials):
    tab = visit(chromium, page)
    table = tab.locator("#logistic table").first
    head = table.locator("thead th", has_text="bytes").first
    order = []
    for _ in range(2):
        head.locator("button").focus()
        tab.keyboard.press("Enter")
        order.append(
            (head.get_attribute("aria-sort"), table.locator("tbody .name").all_inner_texts())
        )
    rising = sorted(trials, key=lambda name: trials[name].state_bytes_per_parameter)
    assert order == [("ascending", rising), ("descending", rising[::-1])]
    assert table.locator('[aria-sort="ascending"], [aria-sort="descending"]').count() == 1


def test_the_name_stays_in_sight(chromium, page):
    tab = visit(chromium, page, WIDTHS["phone"])
    scroll = tab.locator("#logistic .scroll").first
    assert scroll.evaluate("one => one.scrollWidth > one.clientWidth")
    before = scroll.locator("tbody th").first.bounding_box()["x"]
    scroll.evaluate("one => one.scrollLeft = 200")
    assert scroll.evaluate("one => one.scrollLeft") == 200
    assert scroll.locator("tbody th").first.bounding_box()["x"] == before


def test_seventy_optimizers_are_one_page_that_is_not_large(many):
    page = many.read_text("utf-8")
    assert len(page.encode()) <= 2e6
    assert page.count('<tr class="family">') == page.count('<tbody class="folded">') == 6
    assert page.count('<tr class="opt"') == 70
    assert "Ends below the axis: sign_2" in page  # outliers stretch no axis, and are named
    assert "Cut off on the right: matrix_5" in page
    assert "Climbs above the axis on its way: Adam_3" in page


def test_families_fold_and_are_sorted_within(chromium, many):
    tab = visit(chromium, many)
    shown = tab.locator("tr.opt:visible")
    assert shown.count() == 6  # the best of each family
    first = tab.locator("tr.family button").first
    first.focus()
    tab.keyboard.press("Enter")
    assert first.get_attribute("aria-expanded") == "true"
    body = tab.locator("tbody").first
    rows = int(first.locator("small").inner_text().split()[0])
    assert shown.count() == 5 + rows
    tab.locator("thead th.name button").click()
    for family in tab.locator("tbody").all():
        texts = family.locator(".name").all_text_contents()
        assert texts == sorted(texts, key=str.casefold)
        assert len({text.split("_")[0] for text in texts}) == 1
    assert body.locator(".name").first.is_visible()
    height = tab.evaluate("document.documentElement.scrollHeight")
    assert height < 5000
    tab.close()


def test_in_a_notebook_it_is_a_frame(chromium, folder, tmp_path):
    """The script runs there, links stay in the frame, and the notebook keeps its own style."""
    kept = from_json((folder / "results.json").read_text("utf-8"))
    frame = compare.Comparison(kept)._repr_html_()
    assert "<script>" not in frame
    assert "<script>" in html.unescape(frame)
    book = tmp_path / "notebook.html"
    book.write_text(f"<!doctype html><body><p>cell</p>{frame}</body>", "utf-8")
    tab = visit(chromium, book)
    inside = tab.frames[1]
    inside.locator("nav a", has_text="Logistic").click()
    tab.wait_for_timeout(800)
    assert inside.url == "about:srcdoc"
    assert inside.evaluate("scrollY") > 500
    assert inside.locator('[role="slider"]').count() > 4
    assert tab.locator("p").evaluate("one => getComputedStyle(one).maxWidth") == "none"
    assert tab.errors == []


def test_without_a_browser_it_is_said(monkeypatch):
    monkeypatch.setenv("BROWSER", "/nowhere/browser")
    with pytest.raises(RuntimeError, match=r"no browser .*: install Chromium, or set BROWSER"):
        path()
