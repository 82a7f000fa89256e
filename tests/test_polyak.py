"""Steps from the loss, Polyak's and MoMo's: arguments, identities, faults of others."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference.arguments import EXACT, Case, compared, falling, named

import gradtx as gx
from gradtx import tree

known_of_optax = pytest.mark.skipif(optax.__version__ != "0.2.8", reason="known of Optax 0.2.8")

VARIANTS: dict[str, Case] = {
    "polyak bounded": named("polyak_sgd", max_learning_rate=0.2, f_min=0.1),
    "polyak plus": named("polyak_sgd", variant="sps+", f_min=0.1, max_learning_rate=2.0),
    "polyak scaled": named("polyak_sgd", scaling=0.25, eps=0.1),
    "momo with decay": named("momo", weight_decay=0.1, b1=0.5, learning_rate=0.5),
    "momo bound": named("momo", lower_bound=-0.5),
    "momo adapts": named("momo", lower_bound=-0.5, adapt_lower_bound=True),
    "momo scheduled": named("momo", learning_rate=falling(1.0, 0.25), weight_decay=0.1),
    "momo_adam with decay": named("momo_adam", weight_decay=0.1, learning_rate=1.0, b2=0.9),
    "momo_adam adapts": named(
        "momo_adam", learning_rate=0.1, lower_bound=-0.5, adapt_lower_bound=True
    ),
}
error_of = compared(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name: str, x64: None) -> None:
    """Every argument agrees with the paper to 1e-12."""
    # The bound that momo_adam finds is a small difference, which multiplies every rounding by ten
    # in thirty steps.
    assert error_of(name, steps=30 if name == "momo_adam adapts" else 100) < EXACT


def polyak_step(scaling: float) -> float:
    """The factor of g for f = x^2 / 2 at x = 2, where gap / |g|^2 is a half."""
    tx = gx.polyak_sgd(scaling=scaling, max_learning_rate=100.0)
    x = jnp.asarray(2.0)
    update, _ = tx.update(x, tx.init(x), x, value=x**2 / 2)
    return float(-update / x)


def test_polyak_scaling_multiplies_the_step() -> None:
    """A quarter gives a quarter of the step (Optax: four times the step)."""
    assert polyak_step(1.0) == pytest.approx(0.5)
    assert polyak_step(0.25) == pytest.approx(0.125)


@known_of_optax
def test_polyak_scaling_of_optax_divides() -> None:
    """Optax 0.2.8 would not pass the test above."""
    tx = optax.polyak_sgd(scaling=0.25, max_learning_rate=100.0)
    x = jnp.asarray(2.0)
    update, _ = tx.update(x, tx.init(x), x, value=x**2 / 2)
    assert float(-update / x) == pytest.approx(2.0)


def test_a_negative_gap_is_taken_as_zero_by_sps_plus() -> None:
    """A loss below f_min turns the step of "sps" round; "sps+" makes none."""
    x = jnp.asarray([1.0, -2.0])
    for variant, expected in (("sps", 0.1 * x), ("sps+", 0 * x)):
        tx = gx.polyak_sgd(f_min=1.0, variant=variant)
        update, _ = tx.update(x, tx.init(x), x, value=0.5)
        np.testing.assert_allclose(update, expected, rtol=1e-6)


def test_needed_value_is_named() -> None:
    """The loss is asked for by its name."""
    x = jnp.ones(3)
    for tx in (gx.polyak_sgd(), gx.momo(), gx.momo_adam()):
        with pytest.raises(ValueError, match="'value' is missing"):
            tx.update(x, tx.init(x), x)


def test_momo_without_memory_is_polyak(x64: None) -> None:
    """b1 = 0: the model of the loss is its tangent, whose root is Polyak's step."""
    x = {"a": jnp.asarray([0.5, -1.0]), "b": jnp.asarray(2.0)}
    ours, theirs = gx.momo(0.7, b1=0.0), gx.polyak_sgd(max_learning_rate=0.7, variant="sps+")
    state, other = ours.init(x), theirs.init(x)
    for _ in range(5):
        value = tree.sum_squares(x) / 2
        u, state = ours.update(x, state, x, value=value)
        v, other = theirs.update(x, other, x, value=value)
        for k in x:
            np.testing.assert_allclose(u[k], v[k], rtol=1e-12)
        x = gx.apply_updates(x, u)


def test_polyak_comes_closer_at_every_step(x64: None) -> None:
    """|x - x*|^2 falls by at least gap^2 / |g|^2 on a convex function (Polyak 1969)."""
    curvature = jnp.asarray([1.0, 10.0, 100.0])
    tx = gx.polyak_sgd(max_learning_rate=1e9)
    x = jnp.asarray([1.0, -2.0, 0.5])
    state = tx.init(x)
    for _ in range(30):
        value, g = jnp.sum(curvature * x**2) / 2, curvature * x
        new, state = tx.step(g, state, x, value=value)
        gain = value**2 / jnp.sum(g**2)
        assert jnp.sum(new**2) <= jnp.sum(x**2) - gain * (1 - 1e-12)
        x = new
