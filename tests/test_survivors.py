"""What no test saw when it was broken on purpose: each holds a guard that had none."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gradtx as gx


def test_adadelta_survives_a_square_beyond_float32() -> None:
    tx = gx.scale_by_adadelta()
    state = tx.init(jnp.zeros(2))
    for g in ([1e25, 1.0], [1.0, 1.0]):
        u, state = tx.update(jnp.array(g), state)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((u, state)))


def test_a_percentile_is_not_differentiated_through_the_norms_it_remembers() -> None:
    """The limit stands between the norms 1 and s: its derivative in s is left out."""
    tx = gx.clip_by_percentile(50.0, window=2)
    _, state = tx.update(jnp.array([1.0, 0.0]), tx.init(jnp.zeros(2)))

    def length(s: jax.Array) -> jax.Array:
        return jnp.linalg.norm(tx.update(s * jnp.array([1.0, 0.0]), state)[0])

    value, slope = jax.value_and_grad(length)(jnp.float32(3.0))
    np.testing.assert_allclose(value, 2.0, rtol=1e-6)
    np.testing.assert_allclose(slope, 0.0, atol=1e-6)


def test_store_gives_updates_of_another_library_back_as_they_came() -> None:
    tx = gx.store(optax.scale_by_adam(), {"nu": "bfloat16"})
    g = jnp.ones(4, jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):
        u, _ = tx.update(g, tx.init(g), g)
    assert u.dtype == g.dtype


def test_noise_is_not_measured_by_one_micro_batch() -> None:
    """A cycle of which only one gradient counts says nothing about their variance."""
    tx = gx.accumulate(gx.sgd(0.0), 2, noise_scale=True, nonfinite="drop")
    state = tx.init(jnp.zeros(2))
    for g in ([1.0, 0.0], [0.0, 1.0]):
        _, state = tx.update(jnp.array(g), state)
    before = jax.device_get(state.noise)
    for g in ([1.0, 0.0], [jnp.nan, 1.0]):
        _, state = tx.update(jnp.array(g), state)
    np.testing.assert_array_equal(state.noise.variance, before.variance)
    np.testing.assert_array_equal(state.noise.square, before.square)


def test_the_loss_scale_stays_above_its_least() -> None:
    tx = gx.dynamic_loss_scale(gx.sgd(0.1), initial_scale=2.0, min_scale=1.0)
    state = tx.init(jnp.zeros(2))
    for _ in range(3):
        _, state = tx.update(jnp.array([jnp.nan, 0.0]), state)
    assert float(gx.loss_scale(state)) == 1.0
