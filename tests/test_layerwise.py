"""Layer-wise methods and links: other arguments, stacks of layers, known faults, identities."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings, strategies as st
from reference import REFERENCES, error, run, trajectory
from stacked import assert_stack_is_list

import gradtx
from gradtx import Axes

RATE = {"learning_rate": 0.01}
VARIANTS = {
    "lars": (
        gradtx.lars,
        "lars",
        {"learning_rate": 1.0, "weight_decay": 0.1, "trust_coefficient": 0.01, "momentum": 0.5},
    ),
    "lars nesterov": (gradtx.lars, "lars", {"learning_rate": 10.0, "nesterov": True, "eps": 0.1}),
    "lamb": (
        gradtx.lamb,
        "lamb",
        {**RATE, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "eps_root": 0.01, "weight_decay": 0.3},
    ),
    "novograd": (
        gradtx.novograd,
        "novograd",
        {**RATE, "b1": 0.9, "b2": 0.25, "eps": 0.1, "weight_decay": 0.3},
    ),
    "fromage": (gradtx.fromage, "fromage", {"learning_rate": 0.5}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_arguments(name, x64):
    """Other arguments than the published ones agree with the reference too."""
    make, reference, hyper = VARIANTS[name]
    found = run({name: lambda: make(**hyper)}, jnp.dtype("float64"))[name]
    assert error(found, trajectory(REFERENCES[reference], **hyper)) < 1e-12


# Stacks ----------------------------------------------------------------------------------------

STACKS = {
    "lars": (lambda axes: gradtx.lars(1.0, axes=axes), ("o", "io", "iio")),
    "lamb": (lambda axes: gradtx.lamb(0.1, axes=axes), ("o", "io", "iio")),
    "novograd": (lambda axes: gradtx.novograd(0.1, axes=axes), ("o", "io", "iio")),
    "fromage": (lambda axes: gradtx.fromage(0.1, axes=axes), ("o", "io", "iio")),
    "trust ratio": (lambda axes: gradtx.scale_by_trust_ratio(axes=axes), ("o", "io", "iio")),
    "param norm": (lambda axes: gradtx.scale_by_param_block_norm(axes=axes), ("o", "io")),
    "param rms": (lambda axes: gradtx.scale_by_param_block_rms(axes=axes), ("o", "io")),
    "block rms": (lambda axes: gradtx.clip_by_block_rms(0.1, axes=axes), ("o", "io", "iio")),
    "agc": (lambda axes: gradtx.adaptive_grad_clip(0.1, axes=axes), ("o", "io", "iiio", "oi")),
    "centralize": (lambda axes: gradtx.centralize(axes), ("o", "io", "iiio", "oi")),
}


@pytest.mark.parametrize(("name", "letters"), [(k, x) for k, v in STACKS.items() for x in v[1]])
@settings(deadline=None, max_examples=2)
@given(seed=st.integers(0, 1000))
def test_a_stack_is_the_list_of_its_layers(name, letters, seed):
    """E15: layers in one leaf are measured one by one."""
    with jax.enable_x64(True):
        assert_stack_is_list(STACKS[name][0], letters, seed)


def test_axes_by_path():
    """Some arrays are stacks, others not."""
    axes = gradtx.by_path({"stack": Axes("bio"), "*": None})
    tx = gradtx.lamb(0.1, axes=axes)
    w = jnp.arange(1.0, 13.0).reshape(2, 3, 2)
    params = {"stack": w, "one": w[0]}
    grads = {"stack": 1 / w, "one": 1 / w[0]}
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["stack"][0], updates["one"], rtol=1e-6)


@pytest.mark.parametrize("tx", [gradtx.centralize(), gradtx.adaptive_grad_clip(0.1)], ids=str)
def test_no_guess_of_inputs(tx):
    """An array of three axes could be anything."""
    w = jnp.ones((2, 3, 4))
    with pytest.raises(ValueError, match="Give axes"):
        tx.update(w, tx.init(w), w)


# Known faults ----------------------------------------------------------------------------------


def test_zero_gradients_are_normalized_to_zero():
    """E13: no 0 / 0; and numbers too small for their inverse do no harm."""
    tx = gradtx.normalize()
    for size in (0.0, 1e-42):
        g = {"a": jnp.full(3, size), "b": jnp.zeros((2, 2))}
        u, _ = tx.update(g, tx.init(g))
        assert all(np.isfinite(x).all() and np.abs(x).max() <= 1 for x in jax.tree.leaves(u))
    for size in (1e-30, 1.0, 1e30):
        g = jnp.array([3.0, -4.0]) * size
        np.testing.assert_allclose(tx.update(g, tx.init(g))[0], [0.6, -0.8], rtol=1e-5)


def test_lars_adds_norms():
    """E16: ||g|| + decay ||p||, also where gradient and decay cancel."""
    p = jnp.array([3.0, 4.0])
    g = -0.1 * p
    tx = gradtx.scale_by_lars(weight_decay=0.1, trust_coefficient=1.0)
    np.testing.assert_allclose(tx.update(g, tx.init(p), p)[0], 0, atol=1e-6)
    g = jnp.array([4.0, -3.0])  # at a right angle to p
    u, _ = tx.update(g, tx.init(p), p)
    np.testing.assert_allclose(u, 5 / (5 + 0.1 * 5) * (g + 0.1 * p), rtol=1e-6)


def test_lars_spares_what_masks_say():
    """Biases get neither decay nor trust ratio: plain momentum."""
    tx = gradtx.lars(
        0.1,
        0.3,
        weight_decay_mask=lambda path, x: x.ndim > 1,
        trust_ratio_mask=lambda path, x: x.ndim > 1,
    )
    params = {"bias": jnp.ones(2), "kernel": jnp.ones((2, 2))}
    grads = {"bias": jnp.array([1.0, 2.0]), "kernel": jnp.ones((2, 2))}
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["bias"], -0.1 * grads["bias"], rtol=1e-6)
    ratio = 1e-3 * 2 / (2 + 0.3 * 2)
    np.testing.assert_allclose(updates["kernel"], np.full((2, 2), -0.1 * ratio * 1.3), rtol=1e-5)


def test_centralize_takes_the_mean_over_inputs():
    """E24: every column of a kernel (inputs, outputs) gets mean zero, a bias stays."""
    g = {"w": jnp.arange(6.0).reshape(2, 3) ** 2, "b": jnp.arange(3.0)}
    tx = gradtx.centralize()
    u, _ = tx.update(g, tx.init(g))
    np.testing.assert_allclose(u["w"].mean(axis=0), 0, atol=1e-6)
    assert np.abs(u["w"].mean(axis=1)).max() > 1
    np.testing.assert_array_equal(u["b"], g["b"])
    conv = jnp.arange(16.0).reshape(2, 2, 2, 2) ** 2
    u, _ = gradtx.centralize(Axes("iiio")).update(conv, tx.init(conv))
    np.testing.assert_allclose(u.mean(axis=(0, 1, 2)), 0, atol=1e-5)


# Peers -----------------------------------------------------------------------------------------

PEERS = {
    "lamb": (
        lambda: gradtx.lamb(0.01, weight_decay=0.1),
        lambda: optax.lamb(0.01, weight_decay=0.1),
    ),
    "novograd": (
        lambda: gradtx.novograd(0.01, 0.9, 0.25, 1e-6),
        lambda: optax.novograd(0.01, 0.9, 0.25, 1e-6),
    ),
    "trust ratio": (
        lambda: gradtx.chain(gradtx.scale_by_trust_ratio(0.5, 0.3, 0.1), gradtx.scale(-0.1)),
        lambda: optax.chain(optax.scale_by_trust_ratio(0.5, 0.3, 0.1), optax.scale(-0.1)),
    ),
    "agc": (
        lambda: gradtx.chain(gradtx.adaptive_grad_clip(0.3), gradtx.scale(-0.1)),
        lambda: optax.chain(optax.adaptive_grad_clip(0.3), optax.scale(-0.1)),
    ),
    "block rms": (
        lambda: gradtx.chain(gradtx.clip_by_block_rms(0.5), gradtx.scale(-0.1)),
        lambda: optax.chain(optax.clip_by_block_rms(0.5), optax.scale(-0.1)),
    ),
    "param norm": (
        lambda: gradtx.chain(gradtx.scale_by_param_block_norm(), gradtx.scale(-0.1)),
        lambda: optax.chain(optax.scale_by_param_block_norm(), optax.scale(-0.1)),
    ),
    "param rms": (
        lambda: gradtx.chain(gradtx.scale_by_param_block_rms(), gradtx.scale(-0.1)),
        lambda: optax.chain(optax.scale_by_param_block_rms(), optax.scale(-0.1)),
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_agrees_with_optax(name, x64):
    """100 steps in float64."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        runs = run(dict(zip(("ours", "theirs"), PEERS[name], strict=True)), jnp.dtype("float64"))
    assert error(runs["ours"], runs["theirs"]) < 1e-12


# Identities ------------------------------------------------------------------------------------


@functools.cache
def _steps_of(tx):
    return jax.jit(lambda g, p: tx.update(g, tx.init(p), p)[0])


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), factor=st.floats(1e-3, 1e3))
def test_norms_of_steps(seed, factor):
    """||u|| = lr ||p|| for LAMB, whatever the size of the gradients; LARS with its coefficient."""
    random = np.random.default_rng(seed)
    p, g = (jnp.asarray(random.normal(size=(3, 4)), jnp.float32) for _ in range(2))
    g = g * np.float32(factor)
    for tx, rate in (
        (gradtx.lamb(0.1), 0.1),
        (gradtx.lars(0.1, weight_decay=0.0), 1e-4),
    ):
        u = _steps_of(tx)(g, p)
        np.testing.assert_allclose(jnp.linalg.norm(u), rate * jnp.linalg.norm(p), rtol=1e-4)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), rate=st.floats(1e-4, 10.0))
def test_growth_of_norms_under_fromage(seed, rate):
    """One step makes ||p|| at most (1 + lr) / sqrt(1 + lr^2) as large, and keeps it across g."""
    random = np.random.default_rng(seed)
    p, g = (jnp.asarray(random.normal(size=6), jnp.float32) for _ in range(2))
    tx = gradtx.fromage(rate)
    new, _ = tx.step(g, tx.init(p), p)
    bound = (1 + rate) / np.sqrt(1 + rate**2)
    assert jnp.linalg.norm(new) <= bound * jnp.linalg.norm(p) * (1 + 1e-5)
    across = g - p * (g @ p) / (p @ p)
    new, _ = tx.step(across, tx.init(p), p)
    np.testing.assert_allclose(jnp.linalg.norm(new), jnp.linalg.norm(p), rtol=1e-5)
