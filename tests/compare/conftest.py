"""One small comparison that several tests look at."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from gradtx.compare.problems import PROBLEMS, Problem
from gradtx.compare.results import Course, Trial


@cache
def problem(name: str) -> Problem:
    return PROBLEMS[name]()


def trial(
    train_loss: np.ndarray, rates: list[float] | None = None, name: str = "adam", **changes: object
) -> Trial:
    """A trial with the given losses [R, S, E], everything else plain."""
    rows, seeds, looks = train_loss.shape
    plain = {
        "problem": "made-up",
        "optimizer": name,
        "family": "Adam",
        "about": "about",
        "rates": np.asarray(rates or np.logspace(-3, rows - 4, rows), np.float32),
        "seeds": list(range(seeds)),
        "ran": np.ones((rows, seeds), bool),
        "steps": 10 * np.arange(looks),
        "train_loss": np.asarray(train_loss, np.float32),
        "held_loss": np.asarray(train_loss, np.float32),
        "score": None,
        "path": None,
        "trace": None,
        "compile_seconds": 1.0,
        "step_seconds": np.full(3, 1e-3, np.float32),
        "state_bytes_per_parameter": 8.0,
    }
    return Trial(**(plain | changes))


def course(*trials: Trial, **changes: object) -> Course:
    plain = {
        "name": "made-up",
        "title": "Made up",
        "about": "A problem.",
        "steps": 100,
        "batch_size": 8,
        "examples": 100,
        "parameters": 10,
        "target": 0.5,
        "log": False,
        "score": None,
        "held_out": 100,
        "judged_on_train": False,
        "trials": list(trials),
    }
    return Course(**(plain | changes))


def falling(*ends: float, start: float = 1.0, seeds: int = 2, looks: int = 11) -> np.ndarray:
    """Losses [R, S, E] that go straight from `start` to each of `ends` and stay there."""
    down = np.concatenate([np.linspace(0, 1, looks - 2), [1.0, 1.0]])
    rows = [start + (end - start) * down for end in ends]
    return np.repeat(np.array(rows)[:, None], seeds, axis=1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory):
    """A report of a small run: two optimizers, a problem of the plane and one with data."""
    from gradtx.compare.cli import main

    output = tmp_path_factory.mktemp("report")
    code = main(
        ["compare", "quadratic", "logistic", "--optimizers", "adam(b1=0.5)", "sgd", "--steps", "20",
         "--learning-rates", "1e-2:1e3:3", "--seeds", "2", "--output", str(output)]
    )  # fmt: skip
    assert code == 0
    return output


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without pictures, which take most of their time, for tests of all the rest."""
    monkeypatch.setattr("gradtx.compare.report.pictures", lambda course, summaries: [])
