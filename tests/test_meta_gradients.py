"""The derivative of a loss after some steps with respect to every hyperparameter."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws.cases import some

from gradtx import catalogue

STEPS = 6

# Gradient entries that are zero from the first step on, in one array all of them.
MASKS = {"none": np.zeros(2), "some": np.array([1.0, 0.0, 1.0, 0.0])}
NOISE = np.random.default_rng(0).normal(size=(STEPS, 4))


# At 1 the learning rate of DoG is at a kink, the larger of two equal distances; MoMo's has no part
# in a step that the model of the loss bounds.
RATES = {"dog": 0.8, "ldog": 0.8, "momo": 0.02}


def hyperparameters(name: str) -> dict[str, float]:
    """Every argument of a row that has a float as its default, and the learning rate."""
    row = catalogue.optimizers[name]
    defaults = {k: p.default for k, p in inspect.signature(row.make).parameters.items()}
    found = {k: v for k, v in defaults.items() if isinstance(v, float)}
    return {**found, "learning_rate": RATES.get(name, row.learning_rate)}


def loss_after(name: str, hyper: Any, dtype: Any) -> Any:
    """A smooth loss of all parameters after `STEPS` steps with these hyperparameters."""
    tx = catalogue.optimizers[name].make(**hyper)
    masks = {k: jnp.asarray(m, dtype) for k, m in MASKS.items()}
    start = {k: jnp.linspace(0.5, 1.5, m.size, dtype=dtype) for k, m in MASKS.items()}

    def step(carry: Any, noise: Any) -> Any:
        ps, state = carry

        def slopes(ps: Any) -> Any:
            return {k: m * (jnp.sin(2 * ps[k]) + noise[: m.size]) for k, m in masks.items()}

        value = sum(jnp.sum(m * jnp.sin(ps[k]) ** 2) for k, m in masks.items())
        curvature = {k: 2 * m * jnp.cos(2 * ps[k]) for k, m in masks.items()}
        more = {"value": value, "grad_fn": slopes, "hessian_diag": curvature}
        return tx.step(slopes(ps), state, ps, **more), None

    noise = jnp.asarray(NOISE, dtype)
    ps, _ = jax.lax.scan(step, (start, tx.init(start)), noise)[0]
    return sum(jnp.sum(jnp.cos(3 * p) + p**2) for p in ps.values())


CENTRAL = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}
FORWARD = {0: -25 / 12, 1: 4.0, 2: -3.0, 3: 4 / 3, 4: -1 / 4}


def differences(loss: Any, hyper: dict[str, float]) -> dict[str, float]:
    """Derivatives by differences of fourth order: central, but forward close to zero.

    The step is the one of a ladder at which the result changes least from one rung to the next.
    """
    points, plan = [], []
    for key, x in hyper.items():
        near_zero = x < 1e-3  # such a number has no room below, and may act on a larger scale
        weights = FORWARD if near_zero else CENTRAL
        most, least, rungs = (1e-2, 1e-9, 18) if near_zero else (0.1 * x, 1e-6 * x, 16)
        for h in np.geomspace(most, least, rungs):
            plan.append((key, h, weights))
            points += [{**hyper, key: x + i * h} for i in weights]
    stacked = {k: jnp.asarray([p[k] for p in points]) for k in hyper}
    values = iter(np.asarray(jax.jit(jax.vmap(loss))(stacked)).tolist())
    ladders: dict[str, list[float]] = {k: [] for k in hyper}
    for key, h, weights in plan:
        ladders[key].append(sum(w * next(values) for w in weights.values()) / h)
    return {k: x[int(np.nanargmin(np.abs(np.diff(x)))) + 1] for k, x in ladders.items()}


FAST = {
    *("adamw", "nadam_warmed", "stable_adamw", "schedule_free_adamw", "prodigy", "momo_adam"),
    *("mechanic", "adafactor", "muon"),
}


# Its derivatives are those of a solution, and its steps are none to the last digit.
APPROXIMATE = {"newton_cg"}


@pytest.mark.parametrize(
    "name", some([n for n in catalogue.optimizers if n not in APPROXIMATE], FAST)
)
def test_meta_gradients(name: str, x64: None) -> None:
    """At the published values they are those of finite differences, for every hyperparameter."""
    hyper = hyperparameters(name)
    loss = functools.partial(loss_after, name, dtype=jnp.float64)
    exact = jax.jit(jax.grad(loss))({k: jnp.asarray(v) for k, v in hyper.items()})
    expected = differences(loss, hyper)
    for key in hyper:
        assert np.isfinite(exact[key]), key
        assert float(exact[key]) == pytest.approx(expected[key], rel=1e-6, abs=1e-10), key
    assert float(exact["learning_rate"]) != 0


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.optimizers)
def test_meta_gradients_in_float32(name: str) -> None:
    """In float32 they are finite too, for longer than law 4 looks."""
    hyper = {k: jnp.asarray(v, jnp.float32) for k, v in hyperparameters(name).items()}
    loss = functools.partial(loss_after, name, dtype=jnp.float32)
    assert all(np.isfinite(x) for x in jax.jit(jax.grad(loss))(hyper).values())


@pytest.mark.skipif(optax.__version__ != "0.2.8", reason="known of Optax 0.2.8")
def test_the_zero_entries_are_a_trial(x64: None) -> None:
    """Optax 0.2.8's Adam has no derivative in b2 on the same problem: the root of a zero."""

    def loss(b2: Any) -> Any:
        tx = optax.adam(0.01, b2=b2)
        ps = jnp.ones(2)
        state = tx.init(ps)
        for g in (jnp.asarray([1.0, 0.0]), jnp.asarray([0.5, 0.0])):
            us, state = tx.update(g, state, ps)
            ps = ps + us
        return jnp.sum(jnp.cos(ps))

    with jax.numpy_dtype_promotion("standard"):
        assert np.isnan(jax.grad(loss)(0.999))
