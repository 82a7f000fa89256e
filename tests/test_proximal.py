"""Proximal maps and links: what they minimize, and where proximal gradient descent ends."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import refused
from sklearn.linear_model import ElasticNet, Lasso

import gradtx as gx
from gradtx import proximal
from gradtx.nearest import soft_singular

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 12))
Y = X @ np.array([3.0, -2, 1.5, 0, 0, 0, 0, 0, 0, 0, 0, 0]) + 0.3 * RNG.normal(size=40)


def squares(w: Any) -> Any:
    return jnp.mean((X @ w - Y) ** 2) / 2


def descended(tx: Any, loss: Any, start: Any, steps: int = 3000) -> Any:
    def step(carry: Any, _: Any) -> Any:
        p, state = carry
        return tx.step(jax.grad(loss)(p), state, p), None

    def run(p: Any) -> Any:
        return jax.lax.scan(step, (p, tx.init(p)), length=steps)[0][0]

    return jax.jit(run)(start)


# Where descent ends ------------------------------------------------------------------------------


def test_ista_reaches_the_lasso(x64: None) -> None:
    """That of scikit-learn, its zeros exactly."""
    tx = gx.chain(gx.sgd(0.2), gx.proximal_l1(0.3, learning_rate=0.2))
    found = np.asarray(descended(tx, squares, jnp.zeros(12)))
    expected = Lasso(0.3, fit_intercept=False, tol=1e-14, max_iter=100000).fit(X, Y).coef_
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert set(np.flatnonzero(found == 0)) == set(np.flatnonzero(expected == 0)) != set()


def test_a_falling_learning_rate_is_that_of_both(x64: None) -> None:
    """The same optimum with a schedule that both links read."""
    rate = gx.cosine_decay_schedule(0.3, 3000, alpha=0.1)
    tx = gx.chain(gx.sgd(rate), gx.proximal_l1(0.3, learning_rate=rate))
    expected = Lasso(0.3, fit_intercept=False, tol=1e-14, max_iter=100000).fit(X, Y).coef_
    np.testing.assert_allclose(descended(tx, squares, jnp.zeros(12)), expected, atol=1e-9)


def test_the_elastic_net(x64: None) -> None:
    link = gx.proximal_elastic_net(0.2, l2_weight=0.6, learning_rate=0.2)
    found = np.asarray(descended(gx.chain(gx.sgd(0.2), link), squares, jnp.zeros(12)))
    model = ElasticNet(0.8, l1_ratio=0.25, fit_intercept=False, tol=1e-14, max_iter=100000)
    expected = model.fit(X, Y).coef_
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert (found == 0).sum() == (expected == 0).sum() > 0


def test_whole_groups_become_zero(x64: None) -> None:
    """Columns of w: of those that stay the slope is -weight w / |w|, of others no longer."""
    target = X[:, :6] @ RNG.normal(size=(6, 4)) * np.array([1.0, 0.03, 0, 2]) + 0.1 * RNG.normal(
        size=(40, 4)
    )

    def loss(p: Any) -> Any:
        return jnp.mean((X[:, :6] @ p["w"] - target) ** 2)

    link = gx.proximal_group(0.3, learning_rate=0.2, axes=gx.Axes("ib"))
    start = {"w": jnp.ones((6, 4))}
    found = descended(gx.chain(gx.sgd(0.2), link), loss, start)
    slope, w = np.asarray(jax.grad(loss)(found)["w"]), np.asarray(found["w"])
    lengths = np.linalg.norm(w, axis=0)
    assert (lengths == 0).tolist() == [False, True, True, False]
    np.testing.assert_allclose(
        slope[:, lengths > 0], -0.3 * (w / np.where(lengths > 0, lengths, 1))[:, lengths > 0],
        atol=1e-9,
    )  # fmt: skip
    assert (np.linalg.norm(slope[:, lengths == 0], axis=0) <= 0.3).all()


def test_a_low_rank_is_reached(x64: None) -> None:
    """The minimum of |x - y|^2 / 2 + w |x|_* has the singular values of y less w."""
    y = RNG.normal(size=(6, 4)) @ np.diag([3.0, 1, 0.4, 0.1])
    link = gx.proximal_nuclear(0.8, learning_rate=0.5)

    def loss(x: Any) -> Any:
        return jnp.sum((x - y) ** 2) / 2

    found = np.asarray(descended(gx.chain(gx.sgd(0.5), link), loss, jnp.zeros((6, 4)), 200))
    u, s, v = np.linalg.svd(y, full_matrices=False)
    np.testing.assert_allclose(found, u * np.maximum(s - 0.8, 0) @ v, atol=1e-10)
    rank = np.linalg.matrix_rank(found, tol=1e-9)
    assert rank == (s > 0.8).sum() < 4


# What the maps are -------------------------------------------------------------------------------

W = np.random.default_rng(3).normal(size=(5, 4))
MAPS = {
    "l1": (lambda x: proximal.l1(x, 0.4), lambda y: 0.4 * np.abs(y).sum()),
    "squared_l2": (lambda x: proximal.squared_l2(x, 0.4), lambda y: 0.2 * (np.abs(y) ** 2).sum()),
    "elastic_net": (
        lambda x: proximal.elastic_net(x, 0.4, 0.7),
        lambda y: 0.4 * np.abs(y).sum() + 0.35 * (np.abs(y) ** 2).sum(),
    ),
    "group": (lambda x: proximal.group(x, 0.9), lambda y: 0.9 * np.linalg.norm(y)),
    "group of rows": (
        lambda x: proximal.group(x, 0.9, axes=gx.Axes("bi")),
        lambda y: 0.9 * np.linalg.norm(y, axis=1).sum(),
    ),
    "nuclear": (
        lambda x: proximal.nuclear(x, 0.9),
        lambda y: 0.9 * np.linalg.svd(y, compute_uv=False).sum(),
    ),
}


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("name", MAPS)
def test_a_map_minimizes_its_penalty(name: str, kind: Any, x64: None) -> None:
    """No point is better, near or far: it is worse by half the square of its distance at least."""
    rng = np.random.default_rng(1)
    make, penalty = MAPS[name]
    x = W + 1j * rng.normal(size=W.shape) if kind is complex else W
    y = np.asarray(make({"w": jnp.asarray(x)})["w"])
    assert y.dtype == x.dtype

    def objective(y: Any) -> Any:
        return penalty(y) + (np.abs(y - x) ** 2).sum() / 2

    least = objective(y)
    for size in (1e-4, 1e-2, 1.0):
        for _ in range(60):
            away = rng.normal(size=W.shape) + (
                1j * rng.normal(size=W.shape) if kind is complex else 0
            )
            other = y + size * away
            rise = (np.abs(other - y) ** 2).sum() / 2
            assert objective(other) - least >= rise * (1 - 1e-6) - 1e-12


def test_weights_by_tree_and_dtypes() -> None:
    x = {"a": jnp.asarray([1.0, -3.0], jnp.bfloat16), "b": jnp.asarray([[2.0]]), "n": 2, "no": None}
    found = proximal.l1(x, {"a": 0.5, "b": jnp.asarray([[1.5]]), "n": None, "no": None})
    assert found["a"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(found["a"].astype(float), [0.5, -2.5])
    np.testing.assert_array_equal(found["b"], [[0.5]])
    assert [found["n"], found["no"]] == [2, None]
    assert proximal.nuclear({"w": jnp.zeros((0, 3))}, 1.0)["w"].shape == (0, 3)
    by_path = proximal.group(
        {"w": jnp.ones((2, 2)), "b": jnp.ones(4)},
        gx.by_path({"w": 0.5, "*": 1.0}),
        axes=gx.by_path({"w": gx.Axes("bi"), "*": None}),
    )
    np.testing.assert_allclose(by_path["w"], np.full((2, 2), 1 - 0.5 / 2**0.5), rtol=1e-6)
    np.testing.assert_allclose(by_path["b"], np.full(4, 0.5), rtol=1e-6)
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(2, 2, 3, 4)), jnp.float32)
    stacked = proximal.nuclear(
        {"k": kernel, "b": None}, 0.5, axes={"k": gx.Axes("bbio"), "b": None}
    )
    one = proximal.nuclear(kernel[1, 0], 0.5)
    np.testing.assert_allclose(stacked["k"][1, 0], one, atol=1e-6)


def test_what_is_refused() -> None:
    x = {"a": jnp.ones(2)}
    refused(lambda: proximal.l1(x, -0.1), "proximal.l1", "-0.1")
    refused(lambda: proximal.nuclear(x, 0.1), "proximal.nuclear", "'a'")
    refused(lambda: proximal.l1(x, {"b": 0.1}), "proximal.l1", "'a'")
    tx = gx.proximal_nuclear(0.1, learning_rate=0.1)
    refused(lambda: tx.update(x, tx.init(x), x), "'a'", "axes")


def test_zeros_are_exact_in_every_dtype() -> None:
    """Behind Adam too, and where parameters are narrow."""
    tx = gx.chain(gx.adam(0.01), gx.proximal_l1(20.0, learning_rate=0.01))
    for dtype in (jnp.bfloat16, jnp.float32):
        p = {"w": jnp.asarray(W, dtype)}
        state = tx.init(p)
        for seed in range(5):
            g = {"w": jnp.asarray(np.random.default_rng(seed).normal(size=W.shape), dtype)}
            p, state = tx.step(g, state, p)
        zeros = int((p["w"] == 0).sum())
        assert 0 < zeros < 20
        moved, _ = tx.update(g, state, p)
        assert (moved["w"] != 0).any()


# The derivative of soft_singular -----------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
@pytest.mark.parametrize("kind", [float, complex])
def test_derivatives_of_singular_values(shape: Any, kind: Any, x64: None) -> None:
    """Those of finite differences, in the matrix and in what is taken away."""
    rng = np.random.default_rng(0)
    x, dx = (
        rng.normal(size=shape) + (1j * rng.normal(size=shape) if kind is complex else 0)
        for _ in range(2)
    )
    f = jax.jit(soft_singular)
    _, found = jax.jvp(soft_singular, (jnp.asarray(x), jnp.asarray(0.9)), (jnp.asarray(dx), 0.3))
    h = 1e-6
    expected = (f(x + h * dx, 0.9 + h * 0.3) - f(x - h * dx, 0.9 - h * 0.3)) / (2 * h)
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_derivatives_of_low_rank_are_finite(x64: None) -> None:
    """Where singular values are equal or zero, and for the matrix zero: as differences say."""
    low = np.diag([2.0, 2.0, 0.0, 0.0])[:, :4]
    dx = np.random.default_rng(0).normal(size=(4, 4))
    for x in (low, np.zeros((4, 4)), np.eye(4)):
        _, found = jax.jvp(lambda x: soft_singular(x, jnp.asarray(0.5)), (x,), (dx,))
        h = 1e-6
        at = [np.asarray(soft_singular(x + s * h * dx, jnp.asarray(0.5))) for s in (1, -1)]
        np.testing.assert_allclose(found, (at[0] - at[1]) / (2 * h), atol=1e-6)
        slopes = jax.grad(lambda x: jnp.sum(soft_singular(x, jnp.asarray(0.5)) * dx))(
            jnp.asarray(x)
        )
        assert np.isfinite(slopes).all()
