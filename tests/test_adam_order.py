"""LaProp and ADOPT, which divide before they average: arguments, an identity, a first step."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from reference import adam as formulas
from reference.arguments import EXACT, Case, compared, same, scheduled
from steps import assert_one_trajectory, updates

import gradtx

VARIANTS: dict[str, Case] = {
    "laprop": same(gradtx.laprop, formulas.laprop, learning_rate=0.01, b1=0.8, b2=0.95, eps=1e-3),
    "laprop scheduled": scheduled(
        gradtx.laprop, formulas.laprop, learning_rate=(0.01, 1e-3), b1=(0.95, 0.8), b2=(0.999, 0.9)
    ),
    "adopt of timm": same(
        gradtx.adopt, formulas.adopt, learning_rate=0.01, b1=0.8, b2=0.95, eps=0.3, clip_power=0.333
    ),
}
error_of = compared(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_arguments(name: str, x64: None) -> None:
    """With other arguments, too, parameters and updates are those of the formula, to 1e-12."""
    assert error_of(name) < EXACT


REDUCTIONS: dict[str, tuple[Any, Any]] = {
    "laprop without b1 is corrected rmsprop": (
        gradtx.laprop(0.01, b1=0.0, b2=0.95, eps=1e-3),
        gradtx.rmsprop(0.01, 0.95, 1e-3, eps_in_sqrt=False, bias_correction=True),
    ),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction(name: str, x64: None) -> None:
    """Two ways to write one algorithm give one trajectory, to 1e-12."""
    assert_one_trajectory(*REDUCTIONS[name])


def test_e18_adopt_clips_its_first_step_to_one() -> None:
    """The first gradient moves nothing; the second, ten times as large, counts as one."""
    u = updates(gradtx.scale_by_adopt(b1=0.0), jnp.asarray([0.3, 3.0, -30.0]))
    np.testing.assert_allclose(u, [0.0, 1.0, -(2**0.25)], rtol=1e-6)
