"""Sophia and AdaHessian: when curvature is asked for, what becomes of it, and training with it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import refused
from reference.curvature import adahessian_of_one, sophia_of_one

import gradtx as gx

LINKS = {"sophia": gx.scale_by_sophia, "adahessian": gx.scale_by_adahessian}
WITH = {"sophia": "hessian", "adahessian": "nu"}
G, D = jnp.asarray([0.3, -2.0, 0.0, 1e-3]), jnp.asarray([4.0, 0.5, 1.0, -2.0])


# When ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("interval", [1, 3])
def test_a_function_is_as_its_results(name: str, interval: int) -> None:
    """A function that is called at steps 1, 1 + k ... or its results there and None between."""
    by_function = LINKS[name](update_interval=interval)
    calls = []

    @jax.jit
    def step(state: Any, scale: Any) -> Any:
        calls.append(None)
        return by_function.update(G, state, hessian_diag_fn=lambda key: scale * D)

    states = [by_function.init(G), by_function.init(G)]
    update = jax.jit(by_function.update)
    for t in range(7):
        scale = jnp.float32(1 + t)
        found, states[0] = step(states[0], scale)
        diagonal = scale * D if t % interval == 0 else None
        expected, states[1] = update(G, states[1], hessian_diag=diagonal)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(calls) == 1
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), *states)
    assert states[0].evaluations == len(range(0, 7, interval))
    assert by_function.count(states[0]) == 7


def test_steps_without_curvature_do_not_ask() -> None:
    """The function runs at its steps only, in one compiled loop."""
    tx, ran = gx.scale_by_sophia(update_interval=4), []

    def diagonal(key: Any) -> Any:
        jax.debug.callback(lambda: ran.append(None))
        return D

    def body(state: Any, _: Any) -> Any:
        u, state = tx.update(G, state, hessian_diag_fn=diagonal)
        return state, u

    state, _ = jax.jit(lambda s: jax.lax.scan(body, s, length=9))(tx.init(G))
    jax.effects_barrier()
    assert len(ran) == state.evaluations == 3


def test_keys_differ_between_evaluations_and_places() -> None:
    """Each evaluation has a key of its own; so has every part, and every seed."""

    def drawn(tx: Any) -> Any:
        """What two evaluations draw, where each takes the place of the average."""

        @jax.jit
        def step(state: Any) -> Any:
            draw = lambda key: jax.random.uniform(key, G.shape)  # noqa: E731
            return tx.update(G, state, G, hessian_diag_fn=draw)[1]

        first = step(tx.init(G))
        states = [first, step(first)]
        return [np.asarray(s.get("scale_by_sophia").hessian) for s in states]

    def link(**seed: Any) -> Any:
        return gx.scale_by_sophia(b2=0.0, update_interval=1, **seed)

    one, again, seed = (drawn(gx.chain(link(**key))) for key in ({}, {}, {"key": 1}))
    other = gx.chain(gx.chain(other=gx.scale_by_sophia()), scale_by_sophia=link())
    inside = drawn(other)
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one, inside)
    assert (one[0] != one[1]).all()
    assert (one[0] != seed[0]).all()


def test_what_is_forgotten_is_named() -> None:
    tx = gx.sophia(0.1)
    state, p = tx.init({"w": G}), {"w": G}
    refused(lambda: tx.update(p, state, p), "'hessian_diag' is missing", "hessian_diag_fn")
    refused(
        lambda: tx.update(p, state, p, hessian_diag=p, hessian_diag_fn=lambda key: p), "Pass one"
    )
    refused(lambda: tx.update(p, state, p, hessian_diag={"w": G[:2]}), "'w'", "[2]")
    refused(lambda: tx.update(p, state, p, hessian_diag={"w": jnp.ones(4, complex)}), "complex")
    refused(lambda: tx.update(p, state, p, hessian_diag={"v": G}), "hessian_diag")


# What ------------------------------------------------------------------------------------------


def test_the_average_is_renewed_before_its_use() -> None:
    """The first step divides by the first curvature (2305.14342; Optax has the sign of g there)."""
    tx = gx.scale_by_sophia(b1=0.0, b2=0.0, gamma=1.0)
    u, _ = tx.update(G, tx.init(G), hessian_diag=D)
    np.testing.assert_allclose(u, [0.3 / 4, -1.0, 0.0, 1.0], rtol=1e-6)


def test_no_bias_of_sophia_is_corrected() -> None:
    tx = gx.scale_by_sophia(gamma=1.0, clip_threshold=None)
    u, state = tx.update(G, tx.init(G), hessian_diag=jnp.ones(4))
    np.testing.assert_allclose(u, 0.035 * G / 0.01, rtol=1e-5)
    np.testing.assert_allclose(state.hessian, 0.01 * jnp.ones(4), rtol=1e-5)


HYPER = {
    "sophia": ({"b1": 0.5, "b2": 0.7, "eps": 0.1, "gamma": 0.3, "clip_threshold": 2.0}),
    "adahessian": ({"b1": 0.5, "b2": 0.7, "eps": 0.1, "hessian_power": 0.4}),
}


@pytest.mark.parametrize("name", LINKS)
def test_other_arguments(name: str, x64: None) -> None:
    """Beside the formulas, at steps that all have a curvature."""
    rng = np.random.default_rng(0)
    tx, s = LINKS[name](**HYPER[name]), {}
    state = tx.init(jnp.zeros(5))
    for t in range(1, 6):
        g, d = rng.normal(size=(2, 5))
        u, state = tx.update(jnp.asarray(g), state, hessian_diag=jnp.asarray(d))
        if name == "sophia":
            expected, s = sophia_of_one(g, d, s, **HYPER[name])
        else:
            expected, s = adahessian_of_one(g, d, s, t, **HYPER[name])
        np.testing.assert_allclose(u, expected, rtol=1e-12)


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_left_out(name: str, bad: float) -> None:
    """Of one array: the others are renewed, and it goes on with the average it has."""
    tx = LINKS[name]()
    g, good = {"a": G, "b": G}, {"a": D, "b": D}
    broken = {"a": D.at[1].set(bad), "b": D}
    _, before = tx.update(g, tx.init(g), hessian_diag=good)
    u, after = tx.update(g, before, hessian_diag=broken)
    expected, both = tx.update(g, before, hessian_diag=good)
    for slot in set(after._fields) - {"count", "evaluations", "mu"}:
        old, new, full = (getattr(state, slot) for state in (before, after, both))
        np.testing.assert_array_equal(old["a"], new["a"])
        np.testing.assert_array_equal(full["b"], new["b"])
    np.testing.assert_array_equal(u["b"], expected["b"])
    assert np.isfinite(u["a"]).all()
    assert after.evaluations == 2
    # From the start on: no curvature has been seen, and no step is longer than a clip.
    u, _ = tx.update(g, tx.init(g), hessian_diag=broken)
    assert (np.abs(u["a"]) <= 1).all()


@pytest.mark.parametrize("name", LINKS)
def test_large_curvatures_and_gradients_stay_finite(name: str) -> None:
    """Squares would overflow, and so would the quotient by eps."""
    tx = LINKS[name]()
    for size in (1e30, 3e38):
        u, state = tx.update(G, tx.init(G), hessian_diag=size * jnp.ones(4))
        assert np.isfinite(u).all()
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
        u, _ = tx.update(size * jnp.sign(G), tx.init(G), hessian_diag=jnp.zeros(4))
        assert np.isfinite(u).all() or name == "adahessian"


def test_derivatives_are_finite_where_the_step_is_clipped() -> None:
    """Also of what would overflow, were it divided."""

    def last(tx: Any) -> Any:
        state = tx.init(G)
        u, _ = tx.update(1e30 * jnp.sign(G), state, hessian_diag=-D)
        return jnp.sum(u * G)

    found = jax.grad(last, allow_int=True)(
        gx.scale_by_sophia(gamma=1.0),
    )
    assert all(np.isfinite(x) for x in jax.tree.leaves(found) if np.issubdtype(x.dtype, float))


def test_complex_steps_are_clipped_by_their_modulus() -> None:
    g = jnp.asarray([3 + 4j, 1e-3 + 0j, 0j], jnp.complex64)
    tx = gx.scale_by_sophia(b1=0.0, b2=0.0, gamma=1.0)
    u, _ = tx.update(g, tx.init(g), hessian_diag=jnp.ones(3))
    np.testing.assert_allclose(u, [0.6 + 0.8j, 1e-3, 0], rtol=1e-6)


def test_adahessian_before_any_curvature_stands_still() -> None:
    tx = gx.scale_by_adahessian()
    u, state = tx.update(G, tx.init(G), hessian_diag=None)
    np.testing.assert_array_equal(u, np.zeros(4))
    assert state.evaluations == 0


def test_the_mean_over_the_window_of_a_convolution() -> None:
    """`Axes("iioo")` averages |d| over the first two axes, of which one number is remembered."""
    rng = np.random.default_rng(0)
    g, d = (jnp.asarray(rng.normal(size=(3, 3, 2, 4)), jnp.float32) for _ in range(2))
    tx = gx.scale_by_adahessian(axes=gx.by_path({"kernel": gx.Axes("iioo"), "*": None}))
    state = tx.init({"kernel": g, "bias": G})
    assert state.nu["kernel"].shape == (1, 1, 2, 4)
    u, state = tx.update({"kernel": g, "bias": G}, state, hessian_diag={"kernel": d, "bias": D})
    size = np.mean(np.abs(d), axis=(0, 1), keepdims=True)
    np.testing.assert_allclose(u["kernel"], g / (size + 1e-4), rtol=1e-5)
    np.testing.assert_allclose(u["bias"], G / (np.abs(D) + 1e-4), rtol=1e-5)


# Around it -------------------------------------------------------------------------------------


def squares(p: Any) -> Any:
    return sum(k * jnp.sum(x**2) for k, x in enumerate(jax.tree.leaves(p), 1))


WRAPPED = {
    "masked": lambda tx: gx.masked(tx, {"a": True, "b": False}, outside="pass"),
    "partition": lambda tx: gx.partition({"a": tx, "b": gx.identity()}),
    "separately": gx.separately,
    "accumulate": lambda tx: gx.accumulate(tx, 1),
    "apply_if_finite": lambda tx: gx.apply_if_finite(tx, 3),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_in_wrappers(name: str) -> None:
    """The function sees all parameters, and each part takes the curvature of its own."""
    p = {"a": jnp.ones(3), "b": jnp.ones(2)}
    g = jax.grad(squares)(p)
    tx, alone = WRAPPED[name](gx.scale_by_adahessian()), gx.scale_by_adahessian()
    expected, _ = alone.update(g, alone.init(p), p, hessian_diag=gx.hutchinson(squares, p, 0))
    for more in (
        {"hessian_diag": gx.hutchinson(squares, p, 0)},
        {"hessian_diag_fn": lambda key: gx.hutchinson(squares, p, key)},  # it is diagonal
    ):
        u, _ = tx.update(g, tx.init(p), p, **more)
        np.testing.assert_allclose(u["a"], expected["a"], rtol=1e-6)


def test_minimize_gives_the_curvature_of_its_loss(x64: None) -> None:
    """With what else the loss takes and returns; a diagonal one makes it Newton's method."""

    def loss(p: Any, scale: Any) -> Any:
        return scale * squares(p), "aux"

    start = {"a": jnp.ones(3), "b": -2 * jnp.ones(2)}
    tx = gx.adahessian(1.0, b1=0.0, eps=0.0)
    found = gx.minimize(lambda p, s: (loss(p, s)[0], s), start, tx, args=(3.0,), has_aux=True)
    assert found.evaluations == 2
    np.testing.assert_allclose(found.params["a"], np.zeros(3), atol=1e-12)


def test_one_compilation_on_a_mesh() -> None:
    """The averages lie as the parameters do, and are what they are on one device."""

    def place(p: Any) -> Any:
        mesh = jax.sharding.Mesh(np.array(jax.devices()), ("x",))
        return jax.device_put(p, jax.NamedSharding(mesh, jax.sharding.PartitionSpec("x")))

    tx, found = gx.sophia(0.1, update_interval=2), []
    for placed in (place, lambda p: p):
        p = placed({"a": jnp.arange(16.0)})
        state = tx.init(p)

        @jax.jit
        def step(p: Any, state: Any) -> Any:
            g = jax.grad(squares)(p)
            return tx.step(g, state, p, hessian_diag_fn=lambda k: gx.hutchinson(squares, p, k))

        for _ in range(4):
            p, state = step(p, state)
        assert step._cache_size() == 1
        hessian = state["scale_by_sophia"].hessian["a"]
        assert hessian.sharding == p["a"].sharding
        found.append(hessian)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    np.testing.assert_allclose(found[0], np.full(16, 2 * (1 - 0.99**2)), rtol=1e-5)


# Training --------------------------------------------------------------------------------------


def classes(seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(256, 8))
    labels = np.argmax(np.tanh(x @ rng.normal(size=(8, 16))) @ rng.normal(size=(16, 3)), axis=1)
    return jnp.asarray(x, jnp.float32), jnp.asarray(labels)


def logits(p: Any, x: Any) -> Any:
    return jnp.tanh(x @ p["in"] + p["bias"][None]) @ p["out"]


def loss(p: Any, x: Any, labels: Any) -> Any:
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits(p, x)), labels[:, None], axis=1)
    return -jnp.mean(chosen)


ESTIMATES = {
    "sophia-h": (
        gx.sophia(0.02, update_interval=10),
        lambda p, x, y: lambda key: gx.hutchinson(loss, p, key, x, y),
    ),
    "sophia-g": (
        gx.sophia(0.02, gamma=0.05, update_interval=10),
        lambda p, x, y: lambda key: gx.gauss_newton_bartlett(logits, p, key, x),
    ),
    "adahessian": (
        gx.adahessian(0.1, update_interval=10, eps=1e-2),
        lambda p, x, y: lambda key: gx.hutchinson(loss, p, key, x, y),
    ),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_training_a_network(name: str) -> None:
    """One compiled step learns, and has asked for every tenth curvature."""
    tx, estimate = ESTIMATES[name]
    x, labels = classes()
    rng = np.random.default_rng(1)
    p = {
        "in": jnp.asarray(rng.normal(size=(8, 16)) / 3, jnp.float32),
        "bias": jnp.zeros(16),
        "out": jnp.asarray(rng.normal(size=(16, 3)) / 4, jnp.float32),
    }
    traces = []

    @jax.jit
    def train_step(p: Any, state: Any, x: Any, labels: Any) -> Any:
        traces.append(None)
        value, grads = jax.value_and_grad(loss)(p, x, labels)
        p, state = tx.step(grads, state, p, hessian_diag_fn=estimate(p, x, labels))
        return p, state, value

    state, values = tx.init(p), []
    for _ in range(201):
        batch = rng.choice(256, 64, replace=False)
        p, state, value = train_step(p, state, x[batch], labels[batch])
        values.append(float(value))
    assert len(traces) == 1
    assert state["scale_by_" + name.partition("-")[0]].evaluations == 21
    assert loss(p, x, labels) < 0.4 < 1.0 < values[0]
