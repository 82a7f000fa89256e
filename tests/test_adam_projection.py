"""AdamP: arguments, and the radial part that its updates lose."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from reference import adam as formulas, descend
from reference.arguments import EXACT, MASK, SPARED, Case, compared, same
from steps import normal

import gradtx

VARIANTS: dict[str, Case] = {
    "adamp": same(
        gradtx.adamp, formulas.adamp, learning_rate=0.01, delta=1.0, wd_ratio=0.5, weight_decay=0.3
    ),
    "adamp by outputs": (
        partial(
            gradtx.adamp,
            0.01,
            delta=1.2,
            weight_decay=0.3,
            mask=MASK,
            axes=gradtx.by_path({"weight": gradtx.Axes("io"), "*": None}),
        ),
        descend(formulas.adamp),
        {"learning_rate": 0.01, "delta": 1.2, "weight_decay": SPARED, "outputs": True},
    ),
}
error_of = compared(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_arguments(name: str, x64: None) -> None:
    """With other arguments, too, parameters and updates are those of the formula, to 1e-12."""
    assert error_of(name) < EXACT


def test_adamp_keeps_lengths_where_gradients_do(x64: None) -> None:
    """Gradients at right angles to p lose their update's radial part, others keep it."""
    p = normal(8, 5, 4)
    g = normal(9, 5, 4)
    across = g - jnp.sum(g * p) / jnp.sum(p * p) * p
    for delta, other in ((0.1, across), (10.0, g)):
        u = gradtx.scale_by_adamp(delta=delta)
        u, _ = u.update(other, u.init(p), p)
        assert abs(float(jnp.sum(u * p))) < 1e-12
    plain, adam = gradtx.scale_by_adamp(delta=0.0), gradtx.scale_by_adam()
    np.testing.assert_allclose(
        plain.update(g, plain.init(p), p)[0], adam.update(g, adam.init(p), p)[0], rtol=1e-12
    )
    by_output = gradtx.scale_by_adamp(delta=10.0, axes=gradtx.Axes("io"))
    u, _ = by_output.update(g, by_output.init(p), p)
    np.testing.assert_allclose(jnp.sum(u * p, axis=0), 0, atol=1e-12)
