"""Adam with another momentum, Adan to MARS: arguments, identities, faults of others."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import adam as formulas, descend, each
from reference.arguments import EXACT, MASK, SPARED, Case, compared, same, scheduled
from steps import assert_one_trajectory, updates

import gradtx

FAULTY_OPTAX = optax.__version__ == "0.2.8"

VARIANTS: dict[str, Case] = {
    "adan": (
        partial(gradtx.adan, 0.01, 0.9, 0.8, 0.95, 1e-3, weight_decay=0.3, mask=MASK),
        each(formulas.adan_step),
        {"learning_rate": 0.01, "b1": 0.9, "b2": 0.8, "b3": 0.95, "eps": 1e-3}
        | {"weight_decay": SPARED},
    ),
    "adan without the proximal step": (
        partial(gradtx.adan, 0.01, weight_decay=0.3, proximal=False),
        each(formulas.adan_step),
        {"learning_rate": 0.01, "weight_decay": 0.3, "proximal": False},
    ),
    "ademamix scheduled": scheduled(
        gradtx.ademamix,
        formulas.ademamix,
        learning_rate=(0.01, 1e-3),
        alpha=(0.0, 5.0),
        b3=(0.9, 0.9999),
        weight_decay=(0.3, 0.1),
        eps_root=(1e-2, 1e-3),
    ),
    "ademamix masked": (
        partial(gradtx.ademamix, 0.01, weight_decay=0.3, mask=MASK),
        descend(formulas.ademamix),
        {"learning_rate": 0.01, "weight_decay": SPARED},
    ),
    **{
        f"simplified_ademamix {correct}": same(
            gradtx.simplified_ademamix,
            formulas.simplified_ademamix,
            learning_rate=1e-4,
            b1=0.95,
            b2=0.9,
            alpha=100.0,
            eps=1e-3,
            eps_root=1e-2,
            weight_decay=0.3,
            correct_bias=correct,
        )
        for correct in (False, True)
    },
    "qhadam": same(
        gradtx.qhadam,
        formulas.qhadam,
        learning_rate=0.01,
        b1=0.9,
        b2=0.95,
        nu1=0.4,
        nu2=0.8,
        eps=1e-3,
    ),
    "mars": same(
        gradtx.mars,
        formulas.mars,
        learning_rate=0.01,
        b1=0.9,
        b2=0.95,
        gamma=0.5,
        eps=1e-3,
        weight_decay=0.3,
    ),
}
error_of = compared(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_arguments(name: str, x64: None) -> None:
    """With other arguments, too, parameters and updates are those of the formula, to 1e-12."""
    assert error_of(name) < EXACT


SMALL = gradtx.scale(0.01)  # so that no norm is above one

REDUCTIONS: dict[str, tuple[Any, Any]] = {
    "qhadam with nu 1 is adam": (
        gradtx.qhadam(0.01, b1=0.9, b2=0.95, nu1=1.0, nu2=1.0),
        gradtx.adam(0.01, 0.9, 0.95),
    ),
    "qhm with nu 0 is descent": (
        gradtx.chain(gradtx.scale_by_qhm(0.9, nu=0.0), gradtx.scale(-0.1)),
        gradtx.sgd(0.1),
    ),
    "qhm with nu 1 is momentum": (
        gradtx.chain(gradtx.scale_by_qhm(0.9, nu=1.0), gradtx.scale(-0.1)),
        gradtx.chain(gradtx.scale(1 - 0.9), gradtx.sgd(0.1, 0.9)),
    ),
    "qhm with nu b is nesterov": (
        gradtx.chain(gradtx.scale_by_qhm(0.9, nu=0.9), gradtx.scale(-0.1)),
        gradtx.chain(gradtx.scale(1 - 0.9), gradtx.sgd(0.1, 0.9, nesterov=True)),
    ),
    "ademamix with alpha 0 is adam": (
        gradtx.ademamix(0.01, 0.8, 0.95, alpha=0.0),
        gradtx.adam(0.01, 0.8, 0.95),
    ),
    "simplified ademamix corrected is adam": (
        gradtx.simplified_ademamix(0.01, 0.8, 0.95, correct_bias=True),
        gradtx.adam(0.01, 0.8, 0.95),
    ),
    "mars with gamma 0 is adamw": (
        gradtx.chain(SMALL, gradtx.mars(0.01, gamma=0.0, weight_decay=0.3)),
        gradtx.chain(SMALL, gradtx.adamw(0.01, 0.95, 0.99, weight_decay=0.3)),
    ),
    "adan blind to changes is adam": (
        gradtx.adan(0.01, 0.9, 0.0, 0.95, weight_decay=0.0),
        gradtx.adam(0.01, 0.9, 0.95),
    ),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction(name: str, x64: None) -> None:
    """Two ways to write one algorithm give one trajectory, to 1e-12."""
    assert_one_trajectory(*REDUCTIONS[name])


def test_e1_adan_of_growing_gradients(x64: None) -> None:
    """For g = 1, 2 the second u is (3 / 2 + b2 / 2) / sqrt((1 + (2 + b2)^2) / 2) without decays."""
    b = 1 - 1e-9  # decays of nearly one make corrected averages plain means
    u = updates(gradtx.scale_by_adan(b, 0.92, b, 1e-30), jnp.asarray([1.0, 2.0]))
    delta = 0.08 / (1 - 0.92**2)
    expected = (1.5 + 0.92 * delta) / np.sqrt((1 + 2.92**2) / 2)
    np.testing.assert_allclose(u, [1.0, expected], rtol=1e-6)


def test_e8_ademamix_keeps_its_dtypes() -> None:
    """In bfloat16, too, a step returns the state as it was, which `lax.scan` asks for."""
    gs = jnp.ones((3, 2), jnp.bfloat16)
    assert updates(gradtx.ademamix(0.1), gs).dtype == jnp.bfloat16
    if FAULTY_OPTAX:
        with pytest.raises(TypeError, match="carry"), jax.numpy_dtype_promotion("standard"):
            updates(optax.contrib.ademamix(0.1, mu_dtype=jnp.bfloat16), jnp.ones((3, 2)))


def test_e19_simplified_ademamix_sums() -> None:
    """Its momentum is a sum of gradients: for g = 1 the t-th u is 1 + b1 + ... + b1^(t-1)."""
    gs, sums = jnp.ones(4), np.cumsum(0.99 ** np.arange(4))
    plain = gradtx.scale_by_simplified_ademamix(alpha=3.0)
    np.testing.assert_allclose(updates(plain, gs), sums + 3, rtol=1e-5)
    mean = plain.replace(correct_bias=True)
    np.testing.assert_allclose(updates(mean, gs), np.full(4, 4.0), rtol=1e-5)


def test_mars_clips_each_stacked_layer(x64: None) -> None:
    """The norm is that of one layer where `axes` says that layers are stacked."""
    g = jnp.asarray([[3.0, 4.0], [0.03, 0.04]])
    for axes, expected in ((None, g / jnp.sqrt(25.0025)), (gradtx.Axes("bi"), [g[0] / 5, g[1]])):
        tx = gradtx.correct_variance(axes=axes)
        u, _ = tx.update(g, tx.init(g), g)
        np.testing.assert_allclose(u, np.asarray(expected), rtol=1e-12)
