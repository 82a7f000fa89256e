"""Curvature as functions of trees: products, and estimates of diagonals."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from laws.cases import refused

import gradtx as gx


def network(params: Any, x: Any) -> Any:
    bias = jnp.expand_dims(params["one"]["b"], tuple(range(x.ndim - 1)))
    hidden = jnp.tanh(x @ params["one"]["w"] + bias)
    return hidden @ params["two"]


def squares(params: Any, x: Any) -> Any:
    return jnp.mean(network(params, x) ** 2) + jnp.sum(params["one"]["b"] ** 4)


def draw(seed: int, dtype: Any = float) -> Any:
    rng = np.random.default_rng(seed)
    shapes = {"one": {"w": (3, 4), "b": (4,)}, "two": (4, 2)}
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), dtype),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


X = np.random.default_rng(9).normal(size=(6, 3))


def dense(loss: Any, params: Any) -> Any:
    """The whole Hessian, of the parameters as one vector."""
    flat, unravel = ravel_pytree(params)
    return np.asarray(jax.jit(jax.hessian(lambda v: loss(unravel(v))))(flat))


def flat(tree: Any) -> Any:
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


# Products --------------------------------------------------------------------------------------


def test_a_product_is_that_of_the_matrix(x64: None) -> None:
    params, vector = draw(0), draw(1)
    found = jax.jit(lambda p, v: gx.hvp(squares, p, v, X))(params, vector)
    expected = dense(lambda p: squares(p, X), params) @ flat(vector)
    np.testing.assert_allclose(flat(found), expected, rtol=1e-10, atol=1e-12)


def test_a_complex_parameter_is_two_real_ones(x64: None) -> None:
    """Products follow the convention of gradients: they are derivatives of these."""
    rng = np.random.default_rng(0)
    p, v = (jnp.asarray(rng.normal(size=5) + 1j * rng.normal(size=5)) for _ in range(2))
    a = jnp.asarray(rng.normal(size=(5, 5)) + 1j * rng.normal(size=(5, 5)))

    def loss(p: Any) -> Any:
        y = a @ p
        return jnp.sum(jnp.abs(y) ** 4) + jnp.sum((p**3).real)

    def of_pair(pair: Any) -> Any:
        return loss(jax.lax.complex(*pair))

    def pair(z: Any) -> Any:
        return jnp.stack([z.real, z.imag])

    matrix = jax.jit(jax.hessian(of_pair))(pair(p)).reshape(10, 10)
    expected = matrix @ pair(v).reshape(10)
    product = jax.jit(lambda p, v: gx.hvp(loss, p, v))(p, v)
    np.testing.assert_allclose(pair(product).reshape(10), expected, rtol=1e-10)
    both = np.diagonal(matrix).reshape(2, 5).mean(axis=0)
    keys = jax.random.split(jax.random.key(0), 4000)
    found = jax.jit(jax.vmap(lambda key: gx.hutchinson(loss, p, key)))(keys)
    assert found.dtype == jnp.float64
    error = found.std(axis=0) / 4000**0.5
    assert (np.abs(found.mean(axis=0) - both) < 4.5 * error).all()


def test_what_is_not_differentiated_passes() -> None:
    """`None`, functions, keys; integers have zeros; a `None` in the vector is zero."""
    key = jax.random.key(0)
    params = {"w": jnp.arange(3.0), "n": jnp.int32(4), "no": None, "f": jnp.tanh, "key": key}

    def loss(p: Any, power: int) -> tuple[Any, str]:
        return jnp.sum(p["f"](p["w"]) ** power) * jnp.float32(p["n"]), "aux"

    found = gx.hvp(loss, params, {**params, "w": jnp.ones(3)}, 2, has_aux=True)
    assert [found["f"], found["no"], found["key"]] == [jnp.tanh, None, key]
    assert found["n"] == jnp.int32(0)
    plain = gx.hvp(lambda w: 4 * jnp.sum(jnp.tanh(w) ** 2), params["w"], jnp.ones(3))
    np.testing.assert_allclose(found["w"], plain, rtol=1e-6)
    nothing = gx.hvp(loss, params, {**params, "w": None}, 2, has_aux=True)
    np.testing.assert_array_equal(nothing["w"], np.zeros(3))
    diagonal = gx.hutchinson(loss, params, key, 2, has_aux=True)
    assert [diagonal["f"], diagonal["no"], int(diagonal["n"])] == [jnp.tanh, None, 0]
    assert gx.hutchinson(lambda p: 1.0, {}, key) == {}


def test_other_shapes_are_refused() -> None:
    p = {"a": {"w": jnp.ones((2, 3))}}

    def loss(p: Any) -> Any:
        return jnp.sum(p["a"]["w"] ** 2)

    refused(lambda: gx.hvp(loss, p, {"a": {"w": jnp.ones(3)}}), "a/w", "[2, 3]", "[3]")
    refused(lambda: gx.hvp(loss, p, {"b": {"w": jnp.ones(3)}}), "only in the vector")
    refused(lambda: gx.hvp(loss, p, {"a": {"w": jnp.ones((2, 3), complex)}}), "real part")
    refused(lambda: gx.hutchinson(loss, p, 0, samples=0), "samples is 0")
    logits = jnp.ones((4, 2))
    refused(lambda: gx.gauss_newton_bartlett(lambda p: p, logits, 0, weights=jnp.ones(3)), "[4, 2]")
    refused(lambda: gx.gauss_newton_bartlett(lambda p: p.sum(), logits, 0), "[..., classes]")


# Hutchinson ------------------------------------------------------------------------------------


def test_a_diagonal_hessian_is_found_exactly(x64: None) -> None:
    """Whatever the signs: u * (h * u) = h."""
    p = draw(0)
    found = gx.hutchinson(lambda p: sum(jnp.sum(jnp.cosh(x)) for x in jax.tree.leaves(p)), p, 7)
    jax.tree.map(lambda h, x: np.testing.assert_allclose(h, jnp.cosh(x), rtol=1e-14), found, p)


def test_the_estimate_is_unbiased(x64: None) -> None:
    """The mean over many keys is the diagonal, as near as its own deviation says."""
    params, many = draw(0), 4000
    expected = np.diagonal(dense(lambda p: squares(p, X), params))
    keys = jax.random.split(jax.random.key(3), many)
    found = jax.jit(jax.vmap(lambda key: gx.hutchinson(squares, params, key, X)))(keys)
    found = np.concatenate([np.reshape(x, (many, -1)) for x in jax.tree.leaves(found)], axis=1)
    error = found.std(axis=0) / many**0.5
    assert (error < 0.1 * np.abs(expected).max()).all()
    assert (np.abs(found.mean(axis=0) - expected) < 4.5 * error + 1e-12).all()
    assert (error > 0).any()


def test_samples_are_averaged(x64: None) -> None:
    """More of them are nearer, as the root of their number."""
    params = draw(0)
    expected = np.diagonal(dense(lambda p: squares(p, X), params))

    def off(samples: int) -> float:
        keys = jax.random.split(jax.random.key(3), 200)
        call = jax.vmap(lambda key: gx.hutchinson(squares, params, key, X, samples=samples))
        found = [np.reshape(x, (200, -1)) for x in jax.tree.leaves(jax.jit(call)(keys))]
        return float(np.sqrt(np.mean((np.concatenate(found, axis=1) - expected) ** 2)))

    assert 0.4 < off(16) / off(4) < 0.6


def test_signs_belong_to_paths() -> None:
    """Another array beside it, or another order, changes no number of an array."""

    def loss(p: Any) -> Any:
        return sum(jnp.sum(x) ** 2 for x in jax.tree.leaves(p))

    p = {"b": jnp.ones(8), "c": jnp.ones((4, 2))}
    one = gx.hutchinson(loss, p, 5)
    more = gx.hutchinson(loss, {"a": jnp.ones(3), **p}, 5)
    np.testing.assert_array_equal(one["b"], more["b"])
    np.testing.assert_array_equal(one["c"], more["c"])
    other = gx.hutchinson(loss, p, 6)
    assert (other["b"] != one["b"]).any()
    # Of two arrays that are alike the signs differ.
    twins = gx.hutchinson(loss, {"a": jnp.ones(64), "b": jnp.ones(64)}, 5)
    assert (twins["a"] != twins["b"]).any()


def test_narrow_parameters_give_wide_estimates() -> None:
    p = {"w": jnp.asarray([0.5, -1.0], jnp.bfloat16)}
    found = gx.hutchinson(lambda p: jnp.sum(p["w"] ** 2), p, 0, samples=3)
    assert found["w"].dtype == jnp.float32
    np.testing.assert_array_equal(found["w"], [2.0, 2.0])


def test_signs_are_the_same_in_every_precision() -> None:
    """So that narrow parameters, or 64 bits, have the same estimates up to rounding."""

    def signs(dtype: Any) -> Any:
        p = jnp.ones(32, dtype)
        return np.asarray(gx.hutchinson(lambda p: jnp.sum(p) ** 2 / 2, p, 5), float)

    narrow, usual = signs(jnp.bfloat16), signs(jnp.float32)
    with jax.enable_x64(True):
        wide = signs(jnp.float64)
    np.testing.assert_array_equal(usual, wide)
    np.testing.assert_array_equal(usual, narrow)
    assert len({*usual}) == 2


# Gauss-Newton-Bartlett -------------------------------------------------------------------------


def gauss_newton(logits_of: Any, params: Any, weights: Any) -> Any:
    """The diagonal of J' S J, S the Hessian of the weighted mean cross-entropy in the logits."""
    vector, unravel = ravel_pytree(params)
    jacobian = np.asarray(jax.jit(jax.jacobian(lambda v: logits_of(unravel(v))))(vector))
    jacobian = jacobian.reshape(-1, *jacobian.shape[-2:])
    probabilities = np.asarray(jax.nn.softmax(logits_of(params))).reshape(jacobian.shape[:2])
    shares = np.ravel(weights) / np.sum(weights)
    return sum(
        w * np.einsum("ip,ij,jp->p", j, np.diag(q) - np.outer(q, q), j)
        for w, j, q in zip(shares, jacobian, probabilities, strict=True)
    )


@pytest.mark.parametrize("weights", [None, [[1.0, 1, 0], [1, 0, 0]], [[0.5, 2, 1], [1, 0, 3]]])
def test_the_diagonal_of_gauss_newton_in_the_mean(weights: Any, x64: None) -> None:
    """Of a network with logits [2, 3, classes], with padding and with weights."""
    params, many = draw(0), 4000
    x = jnp.asarray(X.reshape(2, 3, 3))
    given = np.ones((2, 3)) if weights is None else np.asarray(weights)
    expected = gauss_newton(lambda p: network(p, x), params, given)
    keys = jax.random.split(jax.random.key(3), many)
    weights = None if weights is None else jnp.asarray(weights)

    @jax.jit
    @jax.vmap
    def estimates(key: Any) -> Any:
        return gx.gauss_newton_bartlett(network, params, key, x, weights=weights)

    found = [np.reshape(v, (many, -1)) for v in jax.tree.leaves(estimates(keys))]
    found = np.concatenate(found, axis=1)
    assert (found >= 0).all()
    error = found.std(axis=0) / many**0.5
    assert (error < 0.1 * expected.max()).all()
    assert (np.abs(found.mean(axis=0) - expected) < 4.5 * error + 1e-12).all()


def test_the_estimate_of_the_paper(x64: None) -> None:
    """B g^ * g^ of the mean gradient at labels that the model draws: one of all there are."""
    w = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)))
    found = np.asarray(gx.gauss_newton_bartlett(lambda w: X[:3] @ w, w, 0))

    def loss(w: Any, labels: Any) -> Any:
        return -jnp.mean(jax.nn.log_softmax(X[:3] @ w)[jnp.arange(3), labels])

    slope = jax.jit(jax.grad(loss))

    def estimate(labels: Any) -> Any:
        return 3 * slope(w, labels) ** 2

    possible = [estimate(jnp.asarray(labels)) for labels in np.ndindex(2, 2, 2)]
    assert sum(np.allclose(found, x, rtol=1e-10) for x in possible) == 1


def test_no_weight_is_no_curvature() -> None:
    """A batch of padding alone gives zeros; what `logits_fn` returns beside is dropped."""
    found = gx.gauss_newton_bartlett(
        lambda w: (w, "aux"), jnp.ones((4, 2)), 0, weights=jnp.zeros(4, bool), has_aux=True
    )
    np.testing.assert_array_equal(found, np.zeros((4, 2)))
