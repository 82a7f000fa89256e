"""Factored methods: other arguments, stacks of layers, PyTorch, identities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from laws.cases import some
from reference import REFERENCES, error, run, trajectory
from stacked import assert_stack_is_list

import gradtx
from gradtx import Axes

RATE = {"learning_rate": 0.01}
VARIANTS = {
    "adafactor": (
        gradtx.adafactor,
        "adafactor",
        {
            "learning_rate": 0.2,
            "decay_rate": 0.5,
            "clipping_threshold": 0.5,
            "weight_decay": 0.1,
            "eps": 1e-3,
            "min_scale": 0.5,
        },
    ),
    "adafactor of T5X": (
        gradtx.adafactor,
        "adafactor",
        {**RATE, "relative_step": False, "momentum": 0.9},
    ),
    "adafactor, plain": (
        gradtx.adafactor,
        "adafactor",
        {
            **RATE,
            "factored": False,
            "multiply_by_parameter_scale": False,
            "clipping_threshold": None,
        },
    ),
    "sm3": (gradtx.sm3, "sm3", {"learning_rate": 0.1, "momentum": 0.5}),
    "adam_mini": (
        gradtx.adam_mini,
        "adam_mini",
        {**RATE, "b1": 0.5, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.1},
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_arguments(name, x64):
    """Other arguments than the published ones agree with the reference too."""
    make, reference, hyper = VARIANTS[name]
    found = run({name: lambda: make(**hyper)}, jnp.dtype("float64"))[name]
    assert error(found, trajectory(REFERENCES[reference], **hyper)) < 1e-12


def test_came_with_other_arguments(x64):
    """CAME takes the weights of the new, the reference the decays of the old."""
    found = run({"came": lambda: gradtx.came(0.01, b1=0.5, b2=0.9, b3=0.95)}, jnp.dtype("float64"))
    expected = trajectory(REFERENCES["came"], learning_rate=0.01, b1=0.5, b2=0.9, b3=0.95)
    assert error(found["came"], expected) < 1e-12


# Stacks ----------------------------------------------------------------------------------------

STACKS = {
    "adafactor": lambda axes: gradtx.adafactor(0.1, momentum=0.9, axes=axes),
    "adafactor unfactored": lambda axes: gradtx.adafactor(0.1, factored=False, axes=axes),
    "came": lambda axes: gradtx.came(0.1, axes=axes),
    "sm3": lambda axes: gradtx.sm3(0.1, axes=axes),
    "adam_mini": lambda axes: gradtx.adam_mini(0.1, axes=axes),
}


@pytest.mark.parametrize("letters", some(["o", "io", "oi", "iio"], {"o", "oi", "iio"}))
@pytest.mark.parametrize("name", STACKS)
@settings(deadline=None, max_examples=2)
@given(seed=st.integers(0, 1000))
def test_a_stack_is_the_list_of_its_layers(name, letters, seed):
    """E15: layers in one leaf keep numbers of their own."""
    with jax.enable_x64(True):
        assert_stack_is_list(STACKS[name], letters, seed)


@pytest.mark.parametrize("name", STACKS)
def test_stacked_axes_may_lie_anywhere(name, x64):
    """Axes("ibo") and Axes("bio") of the same numbers give the same."""
    random = np.random.default_rng(0)
    first, middle = STACKS[name](Axes("bio")), STACKS[name](Axes("ibo"))
    p = jnp.asarray(random.normal(size=(2, 3, 4)))
    q = jnp.moveaxis(p, 0, 1)
    s, r = first.init(p), middle.init(q)
    for _ in range(3):
        g = jnp.asarray(random.normal(size=p.shape))
        p, s = first.step(g, s, p)
        q, r = middle.step(jnp.moveaxis(g, 0, 1), r, q)
        np.testing.assert_allclose(q, jnp.moveaxis(p, 0, 1), rtol=1e-12)


def test_memory():
    """A matrix costs its two sides, and Adam-mini a momentum and its outputs."""
    p = jnp.zeros((200, 300))
    sizes = {
        "adafactor": 500,
        "sm3": 500 + 60_000,
        "adam_mini": 300 + 60_000,
        "came": 1000 + 60_000,
    }
    for name, expected in sizes.items():
        state = getattr(gradtx, name)(0.1).init(p)
        assert sum(x.size for x in jax.tree.leaves(state)) - expected < 10
    spared = gradtx.adafactor(0.1, factor_small=False)
    small = sum(x.size for x in jax.tree.leaves(spared.init(jnp.zeros((127, 300)))))
    assert small >= 127 * 300


# PyTorch ---------------------------------------------------------------------------------------


def test_adafactor_is_torchs(x64):
    """With the paper's eps; PyTorch 2.13 takes it as a floor where the paper adds it."""
    random = np.random.default_rng(0)
    start = {"w": random.normal(size=(3, 4)), "b": random.normal(size=5)}
    theirs = {k: torch.tensor(x, requires_grad=True) for k, x in start.items()}
    optimizer = torch.optim.Adafactor(theirs.values(), lr=0.05, eps=(1e-30, 1e-3), weight_decay=0.0)
    tx, ours = gradtx.adafactor(0.05), jax.tree.map(jnp.asarray, start)
    state = tx.init(ours)
    for _ in range(100):
        gs = {k: random.normal(size=x.shape) for k, x in start.items()}
        for k, p in theirs.items():
            p.grad = torch.tensor(gs[k])
        optimizer.step()
        ours, state = tx.step(jax.tree.map(jnp.asarray, gs), state, ours)
        for k, p in theirs.items():
            np.testing.assert_allclose(ours[k], p.detach().numpy(), rtol=1e-10, atol=1e-12)


# Identities ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000))
def test_factoring_is_exact_for_rank_one(seed):
    """Squares that are an outer product are what rows and columns say."""
    random = np.random.default_rng(seed)
    sides = (np.exp(random.normal(size=(3, 1))), np.exp(random.normal(size=(1, 4))))
    signs = random.choice([-1.0, 1.0], size=(5, 3, 4))
    with jax.enable_x64(True):
        ours = gradtx.scale_by_factored_rms()
        other = gradtx.scale_by_factored_rms(factored=False)
        p = jnp.zeros((3, 4))
        s, r = ours.init(p), other.init(p)
        for k, sign in enumerate(signs):
            g = jnp.asarray(sign * sides[0] * sides[1] * (k + 1))
            u, s = ours.update(g, s, p)
            v, r = other.update(g, r, p)
            np.testing.assert_allclose(u, v, rtol=1e-12)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000))
def test_sm3_bounds_adagrad(seed):
    """Its bound is never below the sum of squares, so its steps are never longer."""
    random = np.random.default_rng(seed)
    ours, other = gradtx.scale_by_sm3(), gradtx.scale_by_adagrad()
    p = jnp.zeros((3, 4))
    s, r = ours.init(p), other.init(p)
    for _ in range(5):
        g = jnp.asarray(random.normal(size=p.shape) * random.integers(0, 2, p.shape), jnp.float32)
        u, s = ours.update(g, s, p)
        v, r = other.update(g, r, p)
        assert (jnp.abs(u) <= jnp.abs(v) * (1 + 1e-5)).all()


def test_adam_mini_with_blocks_of_one_is_adam(x64):
    """Every entry a block of its own."""
    random = np.random.default_rng(0)
    ours, other = gradtx.adam_mini(0.1, axes=Axes("bb")), gradtx.adam(0.1)
    p = q = jnp.ones((3, 4))
    s, r = ours.init(p), other.init(q)
    for _ in range(20):
        g = jnp.asarray(random.normal(size=p.shape))
        p, s = ours.step(g, s, p)
        q, r = other.step(g, r, q)
    np.testing.assert_allclose(p, q, rtol=1e-12)
