"""Infinite gradients and limits, losses below zero, dead units: what is decided for all."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx

PARAMS = {"w": jnp.ones(3), "v": jnp.ones(2)}
BY_NORM = {
    "clip_by_norm": lambda most: gx.clip_by_norm(most),
    "clip_by_global_norm": lambda most: gx.clip_by_global_norm(most),
    "clip_by_block_rms": lambda most: gx.clip_by_block_rms(most),
    "adaptive_grad_clip": lambda most: gx.adaptive_grad_clip(most),
}
ADAPTIVE = {
    "clip_by_norm_ema": lambda: gx.clip_by_norm_ema(warmup_steps=1),
    "zclip": lambda: gx.zclip(warmup_steps=2),
    "clip_by_percentile": gx.clip_by_percentile,
    "clip_spikes": lambda: gx.clip_spikes(threshold=2.0),
}
ALL = {**{name: (lambda make=make: make(0.5)) for name, make in BY_NORM.items()}, **ADAPTIVE}


def clipped(tx, *steps):
    state, found = tx.init(PARAMS), []
    for w in steps:
        grads = {"w": jnp.asarray(w, jnp.float32), "v": jnp.full(2, 0.25)}
        u, state = tx.update(grads, state, PARAMS)
        found.append(u["w"])
    return np.array(found), state


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("name", ALL)
def test_a_clip_hides_nothing_that_is_not_finite(name, bad):
    """The entry leaves as what guards see; those that share its norm become zero, not larger."""
    (found,), _ = clipped(ALL[name](), [1.0, bad, 2.0])
    assert not np.isfinite(found[1])
    if name != "clip_spikes":  # which decides entry by entry
        np.testing.assert_array_equal(found[[0, 2]], 0)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_what_is_not_finite_enters_no_average(name, bad):
    """The step after it is what it would have been without."""
    usual = [[1.0, 2.0, 2.0], [2.0, 1.0, 2.0], [1.0, 1.5, 2.0]]
    without, _ = clipped(ADAPTIVE[name](), *usual, [40.0, 1.0, 1.0])
    beside, state = clipped(ADAPTIVE[name](), *usual, [1.0, bad, 2.0], [40.0, 1.0, 1.0])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
    np.testing.assert_allclose(beside[-1], without[-1], rtol=0.05)


def test_clip_brings_infinity_to_its_bound():
    """Every entry is decided alone; NaN stays."""
    (found,), _ = clipped(gx.clip(0.5), [np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(found, [0.5, -0.5, np.nan])


@pytest.mark.parametrize("limit", [float("inf"), np.float32("inf"), jnp.float32(jnp.inf)], ids=str)
@pytest.mark.parametrize("name", [*BY_NORM, "clip"])
def test_an_infinite_limit_limits_nothing(name, limit):
    """As one logs a norm; as a number, as an array, and as the value of a schedule."""
    make = {**BY_NORM, "clip": gx.clip}[name]
    for given in (limit, lambda count: jnp.float32(jnp.inf)):
        (found,), _ = clipped(make(given), [1e3, -2e20, 0.0])
        np.testing.assert_array_equal(found, np.float32([1e3, -2e20, 0.0]))


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_plateaus_of_losses_below_zero(value):
    """A value that stands still is no improvement, whatever its sign."""
    tx, scales = gx.reduce_on_plateau(0.1, 2), []
    state = tx.init(PARAMS)
    for _ in range(5):
        u, state = tx.update(PARAMS, state, PARAMS, value=jnp.float32(value))
        scales.append(float(u["w"][0]))
    np.testing.assert_allclose(scales, [1, 1, 0.1, 0.1, 0.01], rtol=1e-6)


def test_falling_below_zero_is_an_improvement():
    """-1, -2, -3 ... goes on at the full scale."""
    tx = gx.reduce_on_plateau(0.1, 1)
    state = tx.init(PARAMS)
    for value in (-1.0, -2.0, -3.0, -4.0):
        u, state = tx.update(PARAMS, state, PARAMS, value=jnp.float32(value))
        assert float(u["w"][0]) == 1.0


MATRICES = {
    "soap": lambda: gx.scale_by_soap(every=2),
    "splus": lambda: gx.scale_by_splus(every=2),
    "shampoo": lambda: gx.scale_by_shampoo(every=2, graft=None),
    "grafted shampoo": lambda: gx.scale_by_shampoo(every=2),
    "newton shampoo": lambda: gx.scale_by_shampoo(every=2, graft=None, roots="newton"),
    "blocked shampoo": lambda: gx.scale_by_shampoo(every=2, block_size=4),
    "kl_shampoo": lambda: gx.scale_by_kl_shampoo(every=2),
    "one side": lambda: gx.scale_by_soap(every=2, sides="outputs"),
    "muon": gx.scale_by_muon,
    "adam": gx.scale_by_adam,
}


@pytest.mark.parametrize("scale", [1.0, 1024.0, 1e-6])
@pytest.mark.parametrize("name", MATRICES)
def test_dead_units_do_not_move(name, scale):
    """Rows and columns that never had a gradient, at any scale of the loss; others move usually."""
    tx, p = MATRICES[name](), {"w": jnp.zeros((16, 8))}
    state, step = tx.init(p), jax.jit(tx.update)
    alive = np.ones((16, 8), bool)
    alive[:, 3] = alive[5] = False
    for i in range(12):
        g = np.random.default_rng(i).normal(size=(16, 8)) * alive * scale
        u, state = step({"w": jnp.asarray(g, jnp.float32)}, state, p)
        u = np.asarray(u["w"])
        np.testing.assert_array_equal(u[:, 3], 0)
        np.testing.assert_array_equal(u[5], 0)
        assert np.isfinite(u).all()
        if name not in ("shampoo", "newton shampoo"):
            assert np.abs(u).max() < 30
    assert np.abs(u[alive]).min() > 0
