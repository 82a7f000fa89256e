"""Hyperparameters in the state: read, set and saved there, where the optimizer itself is static."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from laws.cases import refused

import gradtx as gx

PARAMS = {"w": jnp.ones(3), "b": jnp.ones(2)}
GRADS = {"w": jnp.arange(3.0), "b": jnp.full(2, 0.5)}
FALLING = gx.linear_schedule(1.0, 0.0, 10)


def run(tx, state, steps, params=PARAMS):
    for _ in range(steps):
        params, state = tx.step(GRADS, state, params)
    return params, state


@pytest.mark.parametrize("rate", [0.1, FALLING, gx.by_path({"w": 0.1, "b": FALLING})], ids=str)
def test_the_numbers_are_those_of_the_optimizer(rate):
    """Until one sets another, to the last bit."""
    plain = gx.adamw(rate, b2=gx.linear_schedule(0.9, 0.99, 5))
    kept = gx.inject_hyperparams(plain)
    expected, _ = run(plain, plain.init(PARAMS), 4)
    found, _ = run(kept, kept.init(PARAMS), 4)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_set_in_the_state_without_a_new_trace():
    """As an optimizer that had the number from the beginning of that step."""
    tx, traces = gx.inject_hyperparams(gx.sgd(0.1, momentum=0.9)), []

    @jax.jit
    def step(params, state):
        traces.append(None)
        return tx.step(GRADS, state, params)

    params, state = step(PARAMS, tx.init(PARAMS))
    state.hyperparams["learning_rate"] = jnp.float32(0.01)
    found, state = step(params, state)
    moved = params["w"] - 0.01 * (GRADS["w"] * 0.9 + GRADS["w"])
    np.testing.assert_allclose(found["w"], moved, rtol=1e-6)
    state.hyperparams["learning_rate"] = 0.02  # a Python number too
    step(found, state)
    assert len(traces) <= 2


def test_schedules_are_set_by_their_numbers():
    """The rate follows from them; it is what the last step used."""
    tx = gx.inject_hyperparams(gx.sgd(FALLING))
    params, state = run(tx, tx.init(PARAMS), 3)
    assert set(state.hyperparams) == {"learning_rate"}
    np.testing.assert_allclose(state.hyperparams["learning_rate"], 0.8, rtol=1e-6)
    state.schedules["learning_rate.transition_steps"] = jnp.int32(5)
    new, state = run(tx, state, 1, params)
    np.testing.assert_allclose(state.hyperparams["learning_rate"], 0.4, rtol=1e-6)
    np.testing.assert_allclose(new["w"], params["w"] - 0.4 * GRADS["w"], rtol=1e-6)


NESTS = {
    "alone": lambda tx: tx,
    "chain": lambda tx: gx.chain(gx.clip_by_global_norm(1e9), tx),
    "accumulate": lambda tx: gx.accumulate(tx, 1),
    "average": lambda tx: gx.ema(gx.apply_if_finite(tx, 3)),
    "partition": lambda tx: gx.partition({"*": tx}),
    "masked": lambda tx: gx.masked(tx, "*"),
}


@pytest.mark.parametrize("name", NESTS)
def test_read_through_any_wrappers(name):
    """The rate in use and the count in one call, from the state alone or by the optimizer."""
    tx = NESTS[name](gx.inject_hyperparams(gx.adam(FALLING, b1=0.5)))
    _, state = run(tx, tx.init(PARAMS), 4)
    numbers = gx.hyperparams(state)
    assert int(numbers["count"]) == 4
    np.testing.assert_allclose(numbers["learning_rate"], 0.7, rtol=1e-6)
    np.testing.assert_allclose(optax.tree.get(state, "learning_rate"), 0.7, rtol=1e-6)
    state = optax.tree.set(state, b1=jnp.float32(0.25))
    shown = tx.hyperparameters(state)
    assert shown["b1"] == 0.25
    assert shown["learning_rate"] == pytest.approx(0.6)  # that of the next update


def test_names_are_the_shortest_that_are_unique():
    """Two parts with a `decay` are told apart by their paths."""
    tx = gx.inject_hyperparams(gx.chain(gx.clip_spikes(), gx.scale_by_momentum(), gx.scale(-0.1)))
    names = tx.init(PARAMS).hyperparams
    assert {"clip_spikes.decay", "scale_by_momentum.decay", "step_size"} <= set(names)


def test_what_is_not_there_cannot_be_set():
    """A misspelt name would change the structure and do nothing."""
    tx = gx.inject_hyperparams(gx.adam(0.1))
    state = tx.init(PARAMS)
    state.hyperparams["learning_rat"] = jnp.float32(0.1)
    refused(lambda: tx.update(GRADS, state, PARAMS), "learning_rat", "Did you mean learning_rate")
    del state.hyperparams["learning_rat"], state.hyperparams["b1"]
    refused(lambda: tx.update(GRADS, state, PARAMS), "'b1' is missing")
    refused(lambda: gx.hyperparams(gx.adam(0.1).init(PARAMS)), "inject_hyperparams")
    refused(lambda: gx.inject_hyperparams(gx.adam), "adam(...)")


def test_precision():
    """0.999 is not 1.0 beside bfloat16 parameters, and 1e-3 has all its digits in float64."""
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    tx = gx.inject_hyperparams(gx.adam(1e-3))
    assert tx.init(params).hyperparams["b2"] == np.float32(0.999)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), PARAMS)
        plain = gx.adam(1e-3)
        u, _ = plain.update(wide, plain.init(wide), wide)
        v, _ = tx.update(wide, tx.init(wide), wide)
        np.testing.assert_array_equal(u["w"], v["w"])


def test_holders_that_keep_the_optimizer_static():
    """`TrainState` and `nnx.Optimizer` change the rate without a new trace; pickle carries it."""
    tx = gx.inject_hyperparams(gx.sgd(0.1))
    train, traces = TrainState.create(apply_fn=None, params=PARAMS, tx=tx), []

    @jax.jit
    def step(train):
        traces.append(None)
        return train.apply_gradients(grads=GRADS)

    train = step(train)
    train.opt_state.hyperparams["learning_rate"] = jnp.float32(1.0)
    new = step(train)
    np.testing.assert_allclose(new.params["w"], train.params["w"] - GRADS["w"], rtol=1e-6)
    assert len(traces) == 1
    again = pickle.loads(pickle.dumps(train.opt_state))
    assert again.hyperparams["learning_rate"] == 1.0

    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    before = np.asarray(model.bias[...])
    optimizer.opt_state.hyperparams["learning_rate"][...] = jnp.float32(2.0)
    optimizer.update(model, grads)
    np.testing.assert_allclose(model.bias[...], before - 2.0, rtol=1e-6)


def test_two_of_one_name_are_told_apart():
    """By where they stand in the state; none hides another."""
    groups = {"w": gx.inject_hyperparams(gx.sgd(0.1)), "b": gx.inject_hyperparams(gx.adam(0.2))}
    numbers = gx.hyperparams(gx.partition(groups).init(PARAMS))
    found = {name: float(x) for name, x in numbers.items() if "learning_rate" in name}
    assert found == {"w/learning_rate": pytest.approx(0.1), "b/learning_rate": pytest.approx(0.2)}
    assert float(numbers["b1"]) == pytest.approx(0.9)
