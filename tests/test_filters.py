"""Filters of the gradient, private means and the plateau: arguments, identities, peers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import error, run, trajectory
from reference.levers import REFERENCES

import gradtx
from gradtx import Axes

VARIANTS = {
    "grokfast": {"decay": 0.9, "strength": 0.5},
    "clip_by_norm_ema": {"factor": 1.2, "decay": 0.7, "warmup_steps": 3},
    "zclip": {"z_threshold": 1.5, "decay": 0.8, "warmup_steps": 7},
    "clip_by_percentile": {"percentile": 60.0, "window": 7},
    "clip_spikes": {"threshold": 1.5, "decay": 0.5},
    "reduce_on_plateau": {
        "factor": 0.5,
        "patience": 2,
        "rtol": 0.3,
        "cooldown": 3,
        "accumulation_size": 4,
        "min_scale": 0.01,
    },
}


@pytest.mark.parametrize("name", VARIANTS)
def test_arguments(name: str, x64: None) -> None:
    """Other arguments than those of the rows, for a hundred steps."""
    hyper = VARIANTS[name]
    got = run({name: lambda: getattr(gradtx, name)(**hyper)}, jnp.dtype("float64"), {name: -0.05})[
        name
    ]
    assert error(got, trajectory(REFERENCES[name], False, -0.05, **hyper)) < 1e-12


def norms(tx: Any, sizes: list[float]) -> list[float]:
    """The norms that come out for gradients of these norms."""
    g = jnp.array([0.6, 0.8])
    state, seen = tx.init(g), []
    for size in sizes:
        u, state = tx.update(size * g, state)
        seen.append(float(jnp.linalg.norm(u)))
    return seen


def test_grokfast_without_strength_is_the_gradient() -> None:
    assert norms(gradtx.grokfast(strength=0.0), [1.0, 2.0]) == pytest.approx([1, 2])


def test_zclip_clips_a_spike_and_recovers() -> None:
    """A spike comes out near the usual norm and hardly moves the mean."""
    usual = [1.0, 1.1, 0.9, 1.05, 0.95] * 5
    seen = norms(gradtx.zclip(), [*usual, 50.0, 1.0])
    assert seen[:25] == pytest.approx(usual)
    assert 1.0 < seen[25] < 1.2
    assert seen[26] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.zclip(warmup_steps=3),
        gradtx.clip_by_norm_ema(warmup_steps=3),
        gradtx.clip_by_percentile(),
    ],
)
def test_zero_gradients_do_not_close_a_filter(tx: Any) -> None:
    """After zero gradients in the warm-up and beyond, gradients pass again."""
    assert norms(tx, [0.0] * 6 + [1.0])[-1] == pytest.approx(1.0)


def test_a_stack_has_averages_of_its_own() -> None:
    """Stacked layers give what a list of layers gives."""
    random = np.random.default_rng(0)
    gs = random.normal(size=(6, 3, 4, 5)) * random.uniform(0.1, 3, size=(6, 3, 1, 1))
    stacked = gradtx.clip_by_norm_ema(warmup_steps=2, axes=Axes("bio"))
    one = gradtx.clip_by_norm_ema(warmup_steps=2)
    gs = jnp.asarray(gs, jnp.float32)
    together, alone = stacked.init(gs[0]), [one.init(gs[0, i]) for i in range(3)]
    for g in gs:
        u, together = stacked.update(g, together)
        for i in range(3):
            v, alone[i] = one.update(g[i], alone[i])
            np.testing.assert_allclose(u[i], v, rtol=1e-5)


# Private means ---------------------------------------------------------------------------------


def test_examples_are_clipped_one_by_one() -> None:
    """The mean of gradients of which each, over all arrays, has at most the norm."""
    random = np.random.default_rng(0)
    params = {"a": jnp.zeros((4, 3)), "b": jnp.zeros(())}
    gs = {"a": random.normal(size=(7, 4, 3)), "b": random.normal(size=7)}
    sizes = np.sqrt((gs["a"] ** 2).sum((1, 2)) + gs["b"] ** 2)
    share = np.minimum(1, 3.5 / sizes)
    assert 0 < (share < 1).sum() < 7
    tx = gradtx.differentially_private_aggregate(3.5, 0.0, key=0)
    u, _ = tx.update(
        jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), gs), tx.init(params), params
    )
    np.testing.assert_allclose(u["a"], (gs["a"] * share[:, None, None]).mean(0), rtol=1e-5)
    np.testing.assert_allclose(u["b"], (gs["b"] * share).mean(), rtol=1e-5)


def test_the_noise_has_the_deviation_of_the_sum() -> None:
    """noise_multiplier l2_norm_clip / B, new at every step."""
    params, gs = jnp.zeros(20_000), jnp.zeros((5, 20_000))
    tx = gradtx.differentially_private_aggregate(2.0, 1.5, key=0)
    first, state = tx.update(gs, tx.init(params), params)
    second, _ = tx.update(gs, state, params)
    assert float(first.std()) == pytest.approx(1.5 * 2 / 5, rel=0.03)
    assert abs(float(jnp.corrcoef(first, second)[0, 1])) < 0.04


def test_examples_that_differ_in_number_are_refused() -> None:
    params = {"a": jnp.zeros(3), "b": jnp.zeros(())}
    gs = {"a": jnp.zeros((7, 3)), "b": jnp.zeros(6)}
    tx = gradtx.differentially_private_aggregate(1.0, 1.0, key=0)
    with pytest.raises(ValueError, match=r"'b' it is \[6\]"):
        tx.update(gs, tx.init(params), params)


# Plateau ---------------------------------------------------------------------------------------

VALUES = [
    5.0,
    4.0,
    4.0,
    4.1,
    3.9999,
    4.2,
    3.0,
    3.1,
    3.2,
    3.3,
    3.1,
    3.0,
    2.0,
    2.5,
    2.6,
    2.4,
    2.2,
    2.1,
]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"patience": 3}, marks=pytest.mark.slow),
        {"patience": 2, "factor": 0.5, "cooldown": 2},
        {"patience": 2, "rtol": 0.0, "atol": 0.3, "min_scale": 0.05},
        {"patience": 1, "accumulation_size": 3, "factor": 0.3},
    ],
    ids=str,
)
def test_reduce_on_plateau_of_optax(settings: dict[str, Any]) -> None:
    """The scale of every step is that of Optax."""
    g = jnp.ones(())
    ours, theirs = gradtx.reduce_on_plateau(**settings), optax.contrib.reduce_on_plateau(**settings)
    state, other = ours.init(g), theirs.init(g)
    for value in VALUES * 2:
        u, state = ours.update(g, state, value=value)
        with jax.numpy_dtype_promotion("standard"):
            v, other = theirs.update(g, other, value=value)
        assert float(u) == pytest.approx(float(v), rel=1e-6)


def test_the_scale_of_bfloat16_parameters_is_float32() -> None:
    """Optax keeps it in the lowest dtype of the parameters, where small factors are rounded."""
    tx = gradtx.reduce_on_plateau(factor=0.9, patience=1)
    g = jnp.ones(3, jnp.bfloat16)
    state = tx.init(g)
    for _ in range(11):
        u, state = tx.update(g, state, value=1.0)
    assert u.dtype == jnp.bfloat16
    assert state.scale.dtype == jnp.float32
    assert float(state.scale) == pytest.approx(0.9**10, rel=1e-5)


def test_reduce_on_plateau_asks_for_the_value() -> None:
    tx = gradtx.reduce_on_plateau()
    with pytest.raises(ValueError, match="'value' is missing"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


def test_a_percentile_is_not_differentiated_through_the_norms_it_remembers() -> None:
    """The limit stands between the norms 1 and s: its derivative in s is left out."""
    tx = gradtx.clip_by_percentile(50.0, window=2)
    _, state = tx.update(jnp.array([1.0, 0.0]), tx.init(jnp.zeros(2)))

    def length(s: jax.Array) -> jax.Array:
        return jnp.linalg.norm(tx.update(s * jnp.array([1.0, 0.0]), state)[0])

    value, slope = jax.value_and_grad(length)(jnp.float32(3.0))
    np.testing.assert_allclose(value, 2.0, rtol=1e-6)
    np.testing.assert_allclose(slope, 0.0, atol=1e-6)
