"""The whole command: its report, what happens at Ctrl-C, and after a failure."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from gradtx import catalogue
from gradtx.compare import race as race_module
from gradtx.compare.cli import _options, main
from gradtx.compare.plan import read
from gradtx.compare.problems import PROBLEMS, SUITE_LOOKS, SUITES
from gradtx.compare.results import Results, from_json, to_json

from .conftest import course, falling, trial

SMALL = ["logistic", "--steps", "4", "--learning-rates", "0.1", "--seeds", "1"]


def test_the_report_is_whole_and_needs_nothing_from_elsewhere(folder):
    page = (folder / "report.html").read_text("utf-8")
    assert not re.findall(r"""\b(?:src|href)\s*=\s*["'](?!\#)[^"']*""", page)
    assert not re.findall(r"@import|url\((?!#)", page)
    assert "<link" not in page
    assert page.count("<svg") > 6
    for name in ("adam(b1=0.5)", "sgd", "Oblique quadratic", "Logistic regression"):
        assert name in page
    assert page.rstrip().endswith("</html>")


def test_pictures_are_files_too(folder):
    names = {path.name for path in folder.glob("*.png")}
    assert names == {
        "all-profile.png",
        "quadratic-paths.png", "quadratic-curves.png", "quadratic-curves-time.png",
        "quadratic-sensitivity.png",
        "logistic-curves.png", "logistic-curves-time.png",
        "logistic-sensitivity.png", "logistic-sensitivity-held.png",
    }  # fmt: skip
    for name in names:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_runs_that_diverge_are_in_the_results_and_on_the_page(folder):
    text = (folder / "results.json").read_text("utf-8")
    raw = json.loads(text)
    sgd = next(s for s in raw["summary"]["quadratic"] if s["optimizer"] == "sgd")
    assert sgd["diverged"] == 4  # two of the three learning rates, with both seeds
    assert sgd["loss"]["middle"] < 10
    assert "NaN" not in text
    assert "Infinity" not in text
    assert 'fill="var(--bad)"' in (folder / "report.html").read_text("utf-8")


def test_results_come_back_as_they_were():
    losses = falling(0.3, 0.1)
    losses[1, 0, 3:] = np.nan
    one = trial(losses, score=np.float32(np.random.default_rng(0).random((2, 2, 11))),
                path=np.ones((5, 2), np.float32) / 3)  # fmt: skip
    before = Results("now", {"jax": "1"}, "here", "constant", False,
                     [course(one, failures={"x": "y"})])  # fmt: skip
    after = from_json(to_json(before, {"anything": float("nan")}))
    assert to_json(after) == to_json(before)
    again = after.courses[0].trials[0]
    for name, value in vars(one).items():
        np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)
        if isinstance(value, np.ndarray):
            assert getattr(again, name).dtype == value.dtype, name
    assert after.courses[0].failures == {"x": "y"}


def test_the_written_results_can_be_read(folder):
    results = from_json((folder / "results.json").read_text("utf-8"))
    assert [c.name for c in results.courses] == ["quadratic", "logistic"]
    assert results.courses[1].trials[0].train_loss.shape == (3, 2, 21)


@pytest.mark.usefixtures("no_pictures")
def test_ctrl_c_keeps_what_is_finished(tmp_path, capsys, monkeypatch):
    run = race_module.Race.run

    def interrupted(self, entrant, rates, progress):
        if entrant.label == "adam":
            raise KeyboardInterrupt
        return run(self, entrant, rates, progress)

    monkeypatch.setattr(race_module.Race, "run", interrupted)
    options = [*SMALL, "--optimizers", "sgd", "adam", "adamw", "--output", str(tmp_path)]
    assert main(["compare", *options]) == 130
    results = from_json((tmp_path / "results.json").read_text("utf-8"))
    assert results.interrupted
    assert [t.optimizer for t in results.courses[0].trials] == ["sgd"]
    assert "Interrupted" in (tmp_path / "report.html").read_text("utf-8")
    assert "Interrupted" in capsys.readouterr().err


def test_ctrl_c_before_anything_is_finished(tmp_path, capsys, monkeypatch):
    def interrupted(*_: object):
        raise KeyboardInterrupt

    monkeypatch.setattr(race_module.Race, "run", interrupted)
    assert main(["compare", *SMALL, "--output", str(tmp_path)]) == 130
    assert "nothing to report" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_pictures")
def test_an_optimizer_that_fails_does_not_lose_the_others(tmp_path, capsys, monkeypatch):
    def broken(learning_rate):
        def init(params):
            raise ZeroDivisionError("no state for you")

        return SimpleNamespace(init=init) if isinstance(learning_rate, float) else 0

    row = SimpleNamespace(make=broken, family="", about="", learning_rate=0.1)
    monkeypatch.setitem(catalogue.optimizers, "broken", row)
    options = [*SMALL, "--optimizers", "broken", "sgd", "--output", str(tmp_path)]
    assert main(["compare", *options]) == 0
    assert "broken failed" in (tmp_path / "report.html").read_text("utf-8")
    results = from_json((tmp_path / "results.json").read_text("utf-8"))
    assert [t.optimizer for t in results.courses[0].trials] == ["sgd"]
    assert list(results.courses[0].failures) == ["broken"]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("batch_size", ["1", "full"])
def test_batch_sizes(batch_size, tmp_path):
    options = [*SMALL, "--optimizers", "sgd", "--batch-size", batch_size]
    assert main(["compare", *options, "--output", str(tmp_path)]) == 0
    results = from_json((tmp_path / "results.json").read_text("utf-8"))
    assert results.courses[0].batch_size == (None if batch_size == "full" else 1)


def test_the_module_runs_alone():
    done = subprocess.run(
        [sys.executable, "-m", "gradtx.compare", "--optimizers", "adma"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "adam" in done.stderr


def test_the_small_suite_has_all_problems(tmp_path):
    """Each as long as the suite says, unless another length is asked for."""
    options = _options(["compare", "--suite", "small", "--output", str(tmp_path)])
    plan = read(options)
    assert [problem.name for problem in plan.problems] == list(PROBLEMS)
    assert {problem.name: problem.steps for problem in plan.problems} == SUITES["small"]
    assert plan.looks == SUITE_LOOKS
    options.steps = "7"
    assert {problem.steps for problem in read(options).problems} == {7}
