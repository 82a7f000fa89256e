"""Law 9 in frameworks: Flax, Equinox, NumPyro and Optimistix take ours as they take Optax's."""

from __future__ import annotations

import equinox as eqx
import flax
import jax
import jax.numpy as jnp
import optax
import optimistix
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from numpyro.optim import optax_to_numpyro

import gradtx
from gradtx.interop import to_optax

from .cases import (
    arrays,
    assert_close,
    assert_same,
    avals,
    build,
    extras,
    needs,
    over_few,
    over_kinds_of_optimizers,
    update,
)


@over_few
def test_flax_train_state(row):
    """`TrainState` trains, in jit as a static field, and its state dict restores every bit."""
    tx, params, grads = build(row), arrays(0), arrays(1)
    if extras(tx, params, grads):
        return  # such a framework passes no extra arguments: `update` says what is missing
    state = TrainState.create(apply_fn=None, params=params, tx=tx)
    traced = jax.eval_shape(lambda s, g: s.apply_gradients(grads=g), state, grads)
    assert jax.tree.structure(traced) == jax.tree.structure(state)
    assert avals(traced.opt_state) == avals(state.opt_state)
    stepped = state.apply_gradients(grads=grads)
    updates, new = tx.update(grads, tx.init(params), params)
    assert_same(stepped.opt_state, new)
    assert_close(stepped.params, gradtx.apply_updates(params, updates))
    saved = flax.serialization.to_state_dict(stepped)
    assert_same(flax.serialization.from_state_dict(state, saved).opt_state, new)
    as_bytes = flax.serialization.to_bytes(stepped.opt_state)
    assert_same(flax.serialization.from_bytes(state.opt_state, as_bytes), new)


def test_flax_train_state_is_compiled_once():
    """Two states with equal optimizers are one compilation."""
    traces = []

    @jax.jit
    def train(state, grads):
        traces.append(None)
        return state.apply_gradients(grads=grads)

    for _ in range(2):
        state = TrainState.create(apply_fn=None, params=arrays(0), tx=gradtx.adamw(1e-3))
        for _ in range(2):
            state = train(state.replace(step=jnp.asarray(state.step)), arrays(1))
    assert len(traces) == 1
    assert int(state.step) == 2


@over_few
def test_nnx_optimizer(row):
    """`nnx.Optimizer` takes it as a static attribute and its state as variables."""
    tx = build(row)

    def train():
        model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        before = nnx.state(optimizer)
        grads = nnx.grad(lambda model: (model(jnp.ones((4, 2))) ** 2).sum())(model)
        more = extras(tx, nnx.state(model, nnx.Param), grads)
        optimizer.update(model, grads, **more)
        optimizer.update(model, grads, **more)
        return before, nnx.state(optimizer), optimizer.step[...]

    before, after, _ = nnx.eval_shape(train)
    assert avals(before) == avals(after)


def test_nnx_optimizer_trains():
    """One step in `nnx.jit` moves the parameters as a step of our own does."""
    tx, model = gradtx.adamw(0.1), nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))

    def loss(model):
        return (model(jnp.ones((4, 2))) ** 2).sum()

    grads = nnx.to_pure_dict(nnx.grad(loss)(model))
    expected, _ = tx.step(grads, tx.init(params), params)

    @nnx.jit
    def train(model, optimizer):
        optimizer.update(model, nnx.grad(loss)(model))

    train(model, optimizer)
    assert_close(nnx.to_pure_dict(nnx.state(model, nnx.Param)), expected, rtol=1e-5)
    assert int(optimizer.step[...]) == 1


def _equinox_model():
    return eqx.nn.MLP(2, "scalar", 3, 1, key=jax.random.key(0))


@eqx.filter_grad
def _equinox_loss(model, x):
    return jax.vmap(model)(x).sum() ** 2


@over_kinds_of_optimizers
def test_equinox(row):
    """A model that holds functions and numbers besides arrays trains as Equinox's docs show."""
    tx, model = build(row), _equinox_model()

    def train(model, state, x):
        grads = _equinox_loss(model, x)
        params = eqx.filter(model, eqx.is_inexact_array)
        updates, state = update(tx, grads, state, params)
        return eqx.apply_updates(model, updates), state

    state = eqx.filter_eval_shape(tx.init, eqx.filter(model, eqx.is_inexact_array))
    new_model, new = eqx.filter_eval_shape(train, model, state, jnp.ones((4, 2)))
    assert avals(new) == avals(state)
    assert jax.tree.structure(new_model) == jax.tree.structure(model)


@pytest.mark.usefixtures("standard_promotion")
def test_equinox_trains():
    """The numbers are those of Optax's AdamW, the gradients with their `None`s as they come."""
    model = _equinox_model()
    x = jnp.ones((4, 2))

    @eqx.filter_jit
    def train(tx, model, state):
        params = eqx.filter(model, eqx.is_inexact_array)
        updates, state = tx.update(_equinox_loss(model, x), state, params)
        return eqx.apply_updates(model, updates), state

    results = []
    for tx in (gradtx.adamw(0.1), optax.adamw(0.1)):
        trained, state = model, tx.init(eqx.filter(model, eqx.is_inexact_array))
        for _ in range(3):
            trained, state = train(tx, trained, state)
        results.append(eqx.filter(trained, eqx.is_inexact_array))
    assert_close(results[0], results[1], rtol=1e-4)


@over_few
def test_numpyro(row):
    """`optax_to_numpyro` wraps it; a step gives its update."""
    tx, params, grads = build(row), arrays(0), arrays(1)
    more = extras(tx, params, grads)
    if set(more) - {"value"}:
        return  # the value is all that numpyro hands to an optimizer
    updates, _ = tx.update(grads, tx.init(params), params, **more)
    for own in (to_optax(tx), *([] if more else [tx])):
        wrapped = optax_to_numpyro(own)
        state = wrapped.update(grads, wrapped.init(params), value=more.get("value", 1.0))
        assert_close(wrapped.get_params(state), gradtx.apply_updates(params, updates))


@over_kinds_of_optimizers
def test_optimistix(row):
    """`OptaxMinimiser` descends a parabola with it."""
    if "grad_fn" in needs(build(row)):
        pytest.skip("it hands over `value_fn`, and no `grad_fn`")
    solver = optimistix.OptaxMinimiser(build(row), rtol=1e-9, atol=1e-9)
    start = jnp.array([1.0, -2.0])

    def fn(y, _):
        return (y**2).sum()

    def run(start):
        return optimistix.minimise(fn, solver, start, max_steps=20, throw=False).value

    assert jax.eval_shape(run, start).shape == (2,)


def test_optimistix_descends():
    """The loss falls, with an optimizer and with a chain of ours around Optax's links."""
    for tx in (gradtx.sgd(0.1), gradtx.chain(optax.clip(1.0), gradtx.adam(0.1))):
        solver = optimistix.OptaxMinimiser(tx, rtol=1e-9, atol=1e-9)
        solution = optimistix.minimise(
            lambda y, _: (y**2).sum(), solver, jnp.array([1.0, -2.0]), max_steps=40, throw=False
        )
        assert (solution.value**2).sum() < 0.5
