"""Sign methods: other arguments, peers, identities."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given, settings, strategies as st
from reference import REFERENCES, error, run, trajectory

import gradtx

VARIANTS = {
    "signum 0.5": (gradtx.signum, "signum", {"learning_rate": 0.01, "b1": 0.5}),
    "lion": (
        gradtx.lion,
        "lion",
        {"learning_rate": 0.01, "b1": 0.5, "b2": 0.9, "weight_decay": 0.3},
    ),
    "lion, b2 < b1": (gradtx.lion, "lion", {"learning_rate": 0.01, "b1": 0.9, "b2": 0.3}),
    "lion, b1 = 0": (gradtx.lion, "lion", {"learning_rate": 0.01, "b1": 0.0, "b2": 0.99}),
    "tiger": (gradtx.tiger, "tiger", {"learning_rate": 0.01, "b1": 0.8, "weight_decay": 0.3}),
    "rprop": (
        gradtx.rprop,
        "rprop",
        {
            "learning_rate": 0.1,
            "eta_minus": 0.4,
            "eta_plus": 1.5,
            "min_step_size": 0.01,
            "max_step_size": 0.2,
        },
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_arguments(name, x64):
    """Other arguments than the published ones agree with the reference too."""
    make, reference, hyper = VARIANTS[name]
    found = run({name: lambda: make(**hyper)}, jnp.dtype("float64"))[name]
    assert error(found, trajectory(REFERENCES[reference], **hyper)) < 1e-12


def _gradients(steps=40):
    random = np.random.default_rng(0)
    return random.normal(size=(steps, 5)) * 10.0 ** random.integers(-8, 8, size=(steps, 5))


def test_rprop_is_torchs(x64):
    """E2: no step lags; the same path as PyTorch's, gradients of zero among them."""
    grads = _gradients()
    grads[5:8, 1] = 0
    p = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    theirs = torch.optim.Rprop([p], lr=0.01)
    tx = gradtx.rprop(0.01)
    ours = jnp.zeros(5)
    state = tx.init(ours)
    for g in grads:
        p.grad = torch.tensor(g)
        theirs.step()
        ours, state = tx.step(jnp.asarray(g), state, ours)
        np.testing.assert_allclose(ours, p.detach().numpy(), rtol=1e-12, atol=1e-15)


def test_rprop_moves_at_once():
    """E2: the first update is the first step size, where Optax 0.2.8 returns zero."""
    tx = gradtx.rprop(0.01)
    g = jnp.array([3.0, -1e-20, 0.0])
    u, _ = tx.update(g, tx.init(g), g)
    np.testing.assert_allclose(u, [-0.01, 0.01, 0.0], rtol=1e-6)


def test_lion_is_optaxs(x64):
    """Although the sign is taken from the new momentum."""
    ours = gradtx.lion(0.1, 0.9, 0.99, weight_decay=0.01)
    theirs = optax.lion(0.1, 0.9, 0.99, weight_decay=0.01)
    p = q = jnp.ones(5)
    s, r = ours.init(p), theirs.init(q)
    for g in _gradients():
        u, s = ours.update(jnp.asarray(g), s, p)
        v, r = theirs.update(jnp.asarray(g), r, q)
        p, q = p + u, q + v
        np.testing.assert_allclose(p, q, rtol=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.floats(1e-6, 1e6), st.integers(0, 100))
def test_only_signs_count(factor, seed):
    """Gradients multiplied by a number make the same path."""
    grads = np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
    for tx in (gradtx.sign_sgd(0.1), gradtx.signum(0.1), gradtx.lion(0.1), gradtx.rprop(0.1)):
        p = q = jnp.ones(4)
        s, r = tx.init(p), tx.init(q)
        for g in grads:
            p, s = tx.step(jnp.asarray(g), s, p)
            q, r = tx.step(jnp.asarray(g * np.float32(factor)), r, q)
        np.testing.assert_array_equal(p, q)


def test_tiger_is_lion_with_one_decay(x64):
    """Su 2023: b1 = b2."""
    ours = gradtx.tiger(0.1, b1=0.9, weight_decay=0.01)
    other = gradtx.lion(0.1, 0.9, 0.9, weight_decay=0.01)
    p = q = jnp.ones(5)
    s, r = ours.init(p), other.init(q)
    for g in _gradients():
        p, s = ours.step(jnp.asarray(g), s, p)
        q, r = other.step(jnp.asarray(g), r, q)
    np.testing.assert_allclose(p, q, rtol=1e-12)
