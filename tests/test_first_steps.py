"""Arrays whose gradient is `None` at first begin as fresh ones do.

Values are from NumPy float64 recursions written from the rule cards (`update-rules.md`): an array
that begins after `LATE` steps without a gradient has the anchors of its own first step; bias
corrections (t) are those of the optimizer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import ROWS, build, step

import gradtx as gx
from gradtx import catalogue

LATE = 4


def late_updates(tx: Any, p0: Any, gs: Any, **extra: Any) -> list[Any]:
    """The updates of array b, which has no gradient in the first `LATE` steps, while a has one.

    The parameters of b are moved by its updates.
    """
    rng = np.random.default_rng(3)
    params = {"a": jnp.asarray(rng.normal(size=np.shape(p0)), jnp.float32), "b": jnp.asarray(p0)}
    state = tx.init(params)
    for _ in range(LATE):
        g = jnp.asarray(rng.normal(size=np.shape(p0)), jnp.float32)
        u, state = tx.update({"a": g, "b": None}, state, params, **extra)
        assert u["b"] is None
    found = []
    for g in gs:
        u, state = tx.update({"a": jnp.asarray(g), "b": jnp.asarray(g)}, state, params, **extra)
        found.append(np.asarray(u["b"], np.float64))
        params = gx.apply_updates(params, u)
    return found


def inputs(seed: int, *shape: int, steps: int = 3) -> tuple[Any, list[Any]]:
    rng = np.random.default_rng(seed)
    p = rng.normal(size=shape).astype(np.float32)
    return p, [rng.normal(size=shape).astype(np.float32) for _ in range(steps)]


# Recursions: (p0, gs) -> updates. `t0` is the number of steps of the optimizer before the first.


def acprop(p: Any, gs: Any, t0: int, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Any:
    """u = g at the first step of the array; then g / (sqrt(nu^) + eps) with the nu before."""
    mu, nu = np.zeros_like(p), np.zeros_like(p)
    for k, g in enumerate(gs):
        n = k if t0 == 0 else t0 + k  # the corrections of the optimizer: t - 1
        yield g if k == 0 else g / (np.sqrt(nu / (1 - b2 ** max(n, 1))) + eps)
        nu = b2 * nu + (1 - b2) * (g - mu) ** 2 + eps
        mu = b1 * mu + (1 - b1) * g


def adopt(p: Any, gs: Any, t0: int, b1: float = 0.9, b2: float = 0.9999) -> Any:
    """The first step moves nothing and sets nu; the clip is that of the step of the optimizer."""
    mu, nu = np.zeros_like(p), np.zeros_like(p)
    for k, g in enumerate(gs):
        t = t0 + k + 1
        if k == 0:
            nu = g**2
            yield np.zeros_like(g)
            continue
        limit = (t - 1) ** 0.25
        mu = b1 * mu + (1 - b1) * np.clip(g / np.maximum(np.sqrt(nu), 1e-6), -limit, limit)
        nu = b2 * nu + (1 - b2) * g**2
        yield mu


def novograd(p: Any, gs: Any, t0: int, b1: float = 0.95, b2: float = 0.98) -> Any:
    mu, nu = np.zeros_like(p), 0.0
    for k, g in enumerate(gs):
        square = np.sum(g**2)
        nu = square if k == 0 else b2 * nu + (1 - b2) * square
        mu = b1 * mu + g / (np.sqrt(nu) + 1e-8)
        yield mu


def ldog(p: Any, gs: Any, t0: int, reps: float = 1e-2, eps: float = 1e-8) -> Any:
    x0, x, r, total = p, p, 0.0, 0.0
    for k, g in enumerate(gs):
        r = reps * (1 + np.linalg.norm(p)) if k == 0 else max(r, np.linalg.norm(x - x0))
        total += np.sum(g**2)
        u = r / np.sqrt(total + eps) * g
        yield u
        x = x + u


def optimistic(p: Any, gs: Any, t0: int) -> Any:
    previous = gs[0]
    for g in gs:
        yield g + (g - previous)
        previous = g


def variance(p: Any, gs: Any, t0: int, b1: float = 0.95, gamma: float = 0.025) -> Any:
    """MARS: c = g + gamma b1 / (1 - b1) (g - g_before), the change 0 at first, then clipped."""
    previous = gs[0]
    for g in gs:
        c = g + gamma * b1 / (1 - b1) * (g - previous)
        yield c / max(np.linalg.norm(c), 1)
        previous = g


def adan(p: Any, gs: Any, t0: int, b1: float = 0.98, b2: float = 0.92, b3: float = 0.99) -> Any:
    mu, delta, nu, previous = (np.zeros_like(p) for _ in range(4))
    for k, g in enumerate(gs):
        t = t0 + k + 1
        d = g - previous if k else np.zeros_like(g)
        mu = b1 * mu + (1 - b1) * g
        delta = b2 * delta + (1 - b2) * d
        nu = b3 * nu + (1 - b3) * (g + b2 * d) ** 2
        up = mu / (1 - b1**t) + b2 * delta / (1 - b2**t)
        yield up / (np.sqrt(nu / (1 - b3**t)) + 1e-8)
        previous = g


def hyperball(p: Any, gs: Any, t0: int, lr: float = 0.1) -> Any:
    x, radius = p, np.linalg.norm(p)
    for g in gs:
        q = x - lr * np.linalg.norm(x) * g / np.linalg.norm(g)
        yield q * radius / np.linalg.norm(q) - x
        x = q * radius / np.linalg.norm(q)


def decay_to_start(p: Any, gs: Any, t0: int, decay: float = 0.01) -> Any:
    x = p
    for g in gs:
        u = g + decay * (x - p)
        yield u
        x = x + u


RULES = {
    "scale_by_acprop": (gx.scale_by_acprop(), acprop),
    "scale_by_adopt": (gx.scale_by_adopt(), adopt),
    "scale_by_novograd": (gx.scale_by_novograd(), novograd),
    "scale_by_ldog": (gx.scale_by_ldog(1e-2), ldog),
    "scale_by_optimistic_gradient": (gx.scale_by_optimistic_gradient(), optimistic),
    "correct_variance": (gx.correct_variance(), variance),
    "scale_by_adan": (gx.scale_by_adan(), adan),
    "hyperball": (gx.hyperball(0.1), hyperball),
    "add_decay_to_start": (gx.add_decay_to_start(), decay_to_start),
}


def check(name: str, t0: int, found: Any, p: Any, gs: Any, reference: Callable[..., Any]) -> None:
    wide = np.asarray(p, np.float64), [np.asarray(g, np.float64) for g in gs]
    for got, expected in zip(found, reference(*wide, t0), strict=True):
        room = 2e-5 * np.abs(expected).max() + 1e-12
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=room)


@pytest.mark.parametrize("name", RULES)
def test_references_are_those_of_a_fresh_array(name: str) -> None:
    """The recursions are right where all arrays begin together."""
    tx, reference = RULES[name]
    p, gs = inputs(1, 6, 4)
    gs = [0.05 * g for g in gs]  # below the clip of `correct_variance`
    x, state, found = jnp.asarray(p), tx.init(jnp.asarray(p)), []
    for g in gs:
        u, state = tx.update(jnp.asarray(g), state, x)
        found.append(np.asarray(u, np.float64))
        x = x + u
    check(name, 0, found, p, gs, reference)


@pytest.mark.parametrize("name", RULES)
def test_the_first_step_of_an_array_is_its_own(name: str) -> None:
    """`None` in four steps, then gradients: anchors are found in the first of these."""
    tx, reference = RULES[name]
    p, gs = inputs(1, 6, 4)
    gs = [0.05 * g for g in gs]  # below the clip of `correct_variance`
    check(name, LATE, late_updates(tx, p, gs), p, gs, reference)


@pytest.mark.parametrize("nones", [1, 5])
def test_a_group_without_gradients_does_not_tick(nones: int) -> None:
    """Adam's first update of a group of a partition is -learning_rate sign(g)."""
    tx = gx.partition({"a": gx.adam(0.01), "b": gx.adam(0.01)})
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    state = tx.init(params)
    for _ in range(nones):
        _, state = tx.update({"a": jnp.ones(2), "b": None}, state, params)
    u, _ = tx.update({"a": jnp.ones(2), "b": jnp.asarray([3.0, -0.1])}, state, params)
    np.testing.assert_allclose(u["b"], [-0.01, 0.01], rtol=1e-5)


def test_a_schedule_of_a_group_without_gradients_does_not_tick() -> None:
    """The group that waits is at the beginning of its schedule when it begins."""
    ramp = gx.linear_schedule(1.0, 11.0, 10)
    tx = gx.partition({"a": gx.sgd(ramp), "b": gx.sgd(ramp)})
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    state = tx.init(params)
    for _ in range(3):
        _, state = tx.update({"a": jnp.ones(2), "b": None}, state, params)
    u, _ = tx.update({"a": jnp.ones(2), "b": jnp.ones(2)}, state, params)
    np.testing.assert_allclose((u["a"][0], u["b"][0]), (-4.0, -1.0), rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    ["dog", "momo", "dowg", "prodigy", "sgd"],
)
def test_calls_without_any_gradient_are_no_first_step(name: str) -> None:
    """Two calls in which all gradients are `None`, then the steps of a fresh optimizer."""
    tx, params = getattr(gx, name)(1.0), {"w": jnp.asarray([1.0, -2.0, 3.0])}
    value = {"value": jnp.float32(1.0)} if name == "momo" else {}

    def way(nones: int) -> Any:
        state, at, found = tx.init(params), params, []
        for _ in range(nones):
            _, state = tx.update({"w": None}, state, at, **value)
        for k in range(3):
            g = {"w": jnp.asarray([1.0, 0.5, -2.0]) * (k + 1)}
            u, state = tx.update(g, state, at, **value)
            found.append(np.asarray(u["w"]))
            at = gx.apply_updates(at, u)
        return np.array(found)

    np.testing.assert_allclose(way(2), way(0), rtol=1e-5)


def test_bias_corrections_are_shared() -> None:
    """In one group Adam's corrections are those of the optimizer: 0.1 / c1 / sqrt(0.001 / c2)."""
    u = late_updates(gx.scale_by_adam(), np.ones(2, np.float32), [np.ones(2, np.float32)])[0]
    c1, c2 = 1 - 0.9 ** (LATE + 1), 1 - 0.999 ** (LATE + 1)
    np.testing.assert_allclose(u, 0.1 / c1 / np.sqrt(0.001 / c2), rtol=1e-5)


def test_a_zero_gradient_is_a_gradient() -> None:
    """An array with zeros in the first step has begun: NovoGrad's nu is zero then."""
    tx = gx.scale_by_novograd()
    p = jnp.ones(4)
    _, state = tx.update(jnp.zeros(4), tx.init(p), p)
    u, _ = tx.update(jnp.ones(4), state, p)
    np.testing.assert_allclose(u, 1 / np.sqrt(0.02 * 4), rtol=1e-5)


# Matrices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 4), (3, 8)])
def test_soap_finds_its_basis_in_the_first_step_of_a_matrix(shape: tuple[int, int]) -> None:
    """The first step finds L, R and Q alone, u = 0; the second is that of a matrix so begun."""
    tx = gx.scale_by_soap(axes=gx.Axes("io"))
    p, gs = inputs(2, *shape, steps=2)
    first, second = late_updates(tx, p, gs)
    assert np.abs(first).max() == 0.0
    assert np.abs(second).max() > 0.1


@pytest.mark.parametrize("make", [gx.scale_by_galore, gx.scale_by_splus])
def test_a_basis_is_found_in_the_first_step_of_a_matrix(make: Any) -> None:
    """Of rank one: a matrix that begins late is in the span of its gradient, as a fresh one."""
    rng = np.random.default_rng(5)
    left, right = rng.normal(size=(6, 1)), rng.normal(size=(1, 9))
    g = (left @ right).astype(np.float32)
    late = late_updates(make(axes=gx.Axes("io")), g, [g])[0]
    tx = make(axes=gx.Axes("io"))
    fresh = np.asarray(tx.update(jnp.asarray(g), tx.init(jnp.asarray(g)), jnp.asarray(g))[0])
    cosine = np.sum(late * fresh) / np.linalg.norm(late) / np.linalg.norm(fresh)
    assert cosine > 0.999


# Nothing explodes, vanishes or stands still ------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", [*catalogue.optimizers, *catalogue.links])
def test_late_steps_have_the_size_of_others(name: str) -> None:
    """An array that begins late moves about as far in its first steps as a fresh one."""
    if name.removeprefix("scale_by_") == "radam":
        pytest.skip("its rectification is that of the step of the optimizer")
    if name in ("lbfgs", "nonlinear_cg", "newton_cg"):
        pytest.skip("an array joins where a search ends, which these gradients do not let it")
    tx = build(ROWS[name])
    p, gs = inputs(0, 6, 4, steps=8)

    def way(late: int) -> float:
        params = {"a": jnp.asarray(p), "b": jnp.asarray(p)}
        state = tx.init(params)
        for g in gs[:late]:
            params, state = step(tx, {"a": jnp.asarray(g), "b": None}, state, params)
        start = params["b"]
        for g in gs[late : late + 3]:
            grads = {"a": jnp.asarray(g), "b": jnp.asarray(g)}
            params, state = step(tx, grads, state, params)
        assert jax.tree.all(jax.tree.map(lambda x: bool(jnp.isfinite(x).all()), params))
        return float(jnp.linalg.norm(params["b"] - start))

    assert way(0) / 30 <= way(LATE) <= 30 * way(0)
