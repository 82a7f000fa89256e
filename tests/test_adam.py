"""NAdam and AdaMax: arguments and identities. Adam itself is in `test_reference.py` and others."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from reference import adam as formulas, descend
from reference.arguments import EXACT, MASK, SPARED, Case, compared, same, scheduled
from steps import assert_one_trajectory, normal, updates

import gradtx

VARIANTS: dict[str, Case] = {
    "nadam": same(
        gradtx.nadam, formulas.nadam, learning_rate=0.01, b1=0.8, b2=0.95, eps=1e-3, eps_root=1e-2
    ),
    "nadam of keras": same(
        gradtx.nadam, formulas.nadam, learning_rate=0.01, eps=1e-7, momentum_decay=1.0
    ),
    "nadamw warmed": (
        partial(
            gradtx.nadamw,
            0.01,
            0.8,
            0.95,
            1e-3,
            1e-2,
            weight_decay=0.3,
            mask=MASK,
            momentum_decay=0.1,
        ),
        descend(formulas.decayed(formulas.nadam)),
        {"learning_rate": 0.01, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "eps_root": 1e-2}
        | {"weight_decay": SPARED, "momentum_decay": 0.1},
    ),
    "nadam scheduled": scheduled(
        gradtx.nadam, formulas.nadam, learning_rate=(0.01, 1e-3), b2=(0.999, 0.9), eps=(1e-2, 1e-4)
    ),
    "nadam warmed scheduled": scheduled(
        gradtx.nadam, formulas.nadam, learning_rate=(0.01, 1e-3), momentum_decay=(0.01, 0.1)
    ),
    "adamax": same(gradtx.adamax, formulas.adamax, learning_rate=0.01, b1=0.8, b2=0.9, eps=0.1),
    "adamaxw": (
        partial(gradtx.adamaxw, 0.01, weight_decay=0.3, mask=MASK),
        descend(formulas.decayed(formulas.adamax)),
        {"learning_rate": 0.01, "weight_decay": SPARED},
    ),
    "adamax scheduled": scheduled(
        gradtx.adamax, formulas.adamax, learning_rate=(0.01, 1e-3), b1=(0.95, 0.8), b2=(0.999, 0.9)
    ),
}
error_of = compared(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_arguments(name: str, x64: None) -> None:
    """With other arguments, too, parameters and updates are those of the formula, to 1e-12."""
    assert error_of(name) < EXACT


REDUCTIONS: dict[str, tuple[Any, Any]] = {
    "nadam without b1 is adam without b1": (
        gradtx.nadam(0.01, 0.0, 0.95),
        gradtx.adam(0.01, 0.0, 0.95),
    ),
    "nadam warmed up at once is nadam": (
        gradtx.nadam(0.01, 0.9, 0.95, momentum_decay=1e4),
        gradtx.nadam(0.01, 0.9, 0.95),
    ),
    "adamaxw without decay is adamax": (
        gradtx.adamaxw(0.01, weight_decay=0.0),
        gradtx.adamax(0.01),
    ),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction(name: str, x64: None) -> None:
    """Two ways to write one algorithm give one trajectory, to 1e-12."""
    assert_one_trajectory(*REDUCTIONS[name])


def test_nadam_is_quasi_hyperbolic_in_the_end(x64: None) -> None:
    """When 1 - b1^t is one, NAdam's numerator is mu + (1 - b1) (g - mu): QHAdam with nu1 = b1."""
    gs = normal(2, 500, 4)
    nadam, qhadam = gradtx.nadam(0.1), gradtx.qhadam(0.1, b1=0.9, b2=0.999, nu1=0.9)
    np.testing.assert_allclose(updates(nadam, gs)[400:], updates(qhadam, gs)[400:], rtol=1e-11)
