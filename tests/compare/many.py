"""Results of seventy optimizers, made up: falling losses, held-out scores, some outliers."""

from __future__ import annotations

import numpy as np

from gradtx.compare.results import Course, Results, Trial

from .conftest import course, trial

FAMILIES = {"Adam": 23, "matrix": 13, "parameter-free": 10, "adaptive": 9, "sign": 8, "factored": 7}
LOOKS = 51


def results() -> Results:
    return Results("now", {"jax": "1"}, "here", "constant", False, [many()])


def many() -> Course:
    """Of which one is slow, one hardly learns, and one climbs far above the start on its way."""
    names = [(f"{family[:6]}_{i}", family) for family, n in FAMILIES.items() for i in range(n)]
    trials = [_trial(i, name, family) for i, (name, family) in enumerate(names)]
    return course(*trials, score="accuracy", held_out=400, steps=500, target=0.05)


def _trial(i: int, name: str, family: str) -> Trial:
    rng = np.random.default_rng(i)
    rates = [float(f"{x:.2g}") for x in np.logspace(-4, 1, 11)]
    depth = np.clip(1 + 0.05 * i - np.abs(np.arange(11) - 5 - i % 3), 0.05, None)
    part = np.linspace(0, 1, LOOKS)
    noise = rng.normal(0, 0.1, (11, 6, LOOKS)) * (part > 0)
    losses = 2.3 * 10 ** (-(depth[:, None, None] * part + noise * part))
    losses[10, : i % 6, 20:] = np.nan
    if name == "Adam_3":
        losses[:, :, 5:10] = 1e5
    if name == "sign_2":
        losses[:, :, 1:] = 2.2
    score = 1 - losses / 2.5
    return trial(
        losses, rates, name, family=family, steps=10 * np.arange(LOOKS),
        score=np.nan_to_num(score, nan=0.1).astype(np.float32),
        step_seconds=np.full(5, 1e-4 * (1 + i % 4 + 60 * (name == "matrix_5")), np.float32),
    )  # fmt: skip
