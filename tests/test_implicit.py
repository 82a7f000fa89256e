"""Derivatives of an optimum, beside closed forms; and those of the way there."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.testing.compare import three_parts

RANDOM = np.random.default_rng(0)
A, Y = RANDOM.normal(size=(20, 5)), RANDOM.normal(size=20)
PENALTY = 0.3
PRECISE: dict[str, Any] = {"implicit": True, "gtol": 1e-10}


def ridge(w: Any, penalty: Any) -> Any:
    return (jnp.sum((A @ w - Y) ** 2) + penalty * jnp.sum(w**2)) / 2


def solved(penalty: Any, start: Any = None, tx: Any = None) -> Any:
    start, tx = jnp.zeros(5) if start is None else start, gx.lbfgs() if tx is None else tx
    return gx.minimize(ridge, start, tx, args=(penalty,), **PRECISE)


def coefficients(penalty: Any) -> Any:
    return solved(penalty).params


def closed_form(penalty: float) -> tuple[Any, Any]:
    """The coefficients, and how they change with the penalty."""
    hessian = A.T @ A + penalty * np.eye(5)
    w = np.linalg.solve(hessian, A.T @ Y)
    return w, -np.linalg.solve(hessian, w)


def test_ridge_regression(x64: None) -> None:
    """Forward and reverse, under `vmap` and `jit`, once and twice; and of the value."""
    w, slope = closed_form(PENALTY)
    found = solved(PENALTY)
    np.testing.assert_allclose(found.params, w, rtol=0, atol=1e-9)
    assert found.implicit_residual < 1e-9
    for derivative in (jax.jacfwd(coefficients), jax.jit(jax.jacrev(coefficients))):
        np.testing.assert_allclose(derivative(PENALTY), slope, rtol=1e-6)
    penalties = jnp.array([0.1, PENALTY, 10.0])
    many = jax.vmap(jax.jacrev(coefficients))(penalties)
    expected = [closed_form(float(x))[1] for x in penalties]
    np.testing.assert_allclose(many, expected, rtol=1e-6)

    value = jax.grad(lambda penalty: solved(penalty).value)
    np.testing.assert_allclose(value(PENALTY), w @ w / 2, rtol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(value)(PENALTY), w @ slope, rtol=1e-6)


def test_what_else_has_no_derivative(x64: None) -> None:
    """The start and the optimizer do not move the optimum; counts have no derivative."""

    def total(start: Any, rate: Any) -> Any:
        return jnp.sum(solved(PENALTY, start, gx.lbfgs(rate)).params)

    for found in jax.grad(total, (0, 1))(jnp.ones(5), 1.0):
        assert not found.any()
    dots = jax.jvp(solved, (PENALTY,), (1.0,))[1]
    np.testing.assert_allclose(dots.params, closed_form(PENALTY)[1], rtol=1e-6)
    assert dots.evaluations.dtype == jax.dtypes.float0
    assert dots.grad_norm == 0


@pytest.mark.slow
def test_a_logistic_regression_with_what_is_closed_over(x64: None) -> None:
    """The slope of a held-out loss with respect to the penalty, beside finite differences.

    The penalty reaches the loss as an argument, or because the function closes over it.
    """
    labels = np.sign(Y)

    def loss(p: Any, penalty: Any) -> Any:
        z = A[:12] @ p["w"] + p["b"]
        off = jnp.mean(jax.nn.softplus(-labels[:12] * z)) + jnp.exp(penalty) * jnp.sum(p["w"] ** 2)
        return off, {"size": jnp.sum(p["w"] ** 2), "count": p["count"]}

    start = {"w": jnp.zeros(5), "b": jnp.zeros(()), "none": None, "count": jnp.arange(3)}

    def held_out(penalty: Any, closed: bool = False) -> Any:
        if closed:
            best = gx.minimize(lambda p: loss(p, penalty), start, has_aux=True, **PRECISE)
        else:
            best = gx.minimize(loss, start, args=(penalty,), has_aux=True, **PRECISE)
        z = A[12:] @ best.params["w"] + best.params["b"]
        return jnp.mean(jax.nn.softplus(-labels[12:] * z)) + best.aux["size"]

    at, h = -2.0, 1e-4
    expected = (held_out(at + h) - held_out(at - h)) / (2 * h)
    for closed in (False, True):
        slope = jax.grad(held_out)(at, closed)
        np.testing.assert_allclose(slope, expected, rtol=1e-6)


@pytest.mark.slow
def test_complex_coefficients(x64: None) -> None:
    """The system is that of the real problem of twice the size."""
    a = A[:, :3] + 1j * A[:, 2:]

    def off(z: Any, penalty: Any) -> Any:
        return jnp.sum(jnp.abs(a @ z - Y) ** 2) + penalty * jnp.sum(jnp.abs(z) ** 2)

    def best(penalty: Any) -> Any:
        return gx.minimize(off, jnp.zeros(3, complex), args=(penalty,), **PRECISE).params

    hessian = a.conj().T @ a + PENALTY * np.eye(3)
    z = np.linalg.solve(hessian, a.conj().T @ Y)
    slope = -np.linalg.solve(hessian, z)
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(jax.jacfwd(best)(PENALTY), slope, rtol=1e-6)
        size = jax.grad(lambda penalty: jnp.sum(jnp.abs(best(penalty)) ** 2))(PENALTY)
    np.testing.assert_allclose(size, 2 * np.vdot(z, slope).real, rtol=1e-6)


def test_what_a_bound_holds_does_not_move(x64: None) -> None:
    """The system is that of the free variables alone."""
    w, _ = closed_form(PENALTY)
    upper = np.sort(w)[-2]  # so that the largest coefficient is held, and that one just not
    held = w >= np.sort(w)[-1]
    upper = (upper + w[held].item()) / 2

    tx = gx.lbfgsb(lower=-10.0, upper=float(upper))

    def best(penalty: Any) -> Any:
        return gx.minimize(ridge, jnp.zeros(5), tx, args=(penalty,), implicit=True, gtol=1e-11)

    hessian = A.T @ A + PENALTY * np.eye(5)
    free = np.flatnonzero(~held)
    inside = hessian[np.ix_(free, free)]
    x = np.linalg.solve(inside, (A.T @ Y - hessian[:, held] @ [upper])[free])
    slope = np.zeros(5)
    slope[free] = -np.linalg.solve(inside, x)
    found, dots = jax.jvp(best, (PENALTY,), (1.0,))
    np.testing.assert_allclose(found.params[free], x, rtol=1e-9)
    np.testing.assert_allclose(found.params[held], upper)
    np.testing.assert_allclose(dots.params, slope, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(dots.value, np.sum(found.params**2) / 2, rtol=1e-6)


def test_it_says_how_well_the_system_is_solved(x64: None) -> None:
    """A minimum that is no point has no derivatives, and no number that is not finite."""

    def line(x: Any, a: Any) -> Any:
        return (x[0] + x[1] - a) ** 2

    def best(a: Any) -> Any:
        return gx.minimize(line, jnp.zeros(2), args=(a,), implicit=True)

    assert best(1.0).implicit_residual > 0.1
    assert np.isfinite(jax.jacrev(lambda a: best(a).params)(1.0)).all()
    assert gx.minimize(ridge, jnp.zeros(5), args=(0.1,)).implicit_residual is None
    steep, start = np.array([1, 10, 100], np.float32), jnp.zeros(3, jnp.float32)
    narrow = gx.minimize(lambda x: jnp.sum(steep * (x - 1) ** 2), start, implicit=True)
    residual: Any = narrow.implicit_residual
    assert residual.dtype == np.float32
    assert residual < 1e-5
    with pytest.raises(ValueError, match="jit=False") as raised:
        gx.minimize(ridge, jnp.zeros(5), args=(0.1,), implicit=True, jit=False)
    three_parts(raised.value, "jit=False")


@pytest.mark.slow
def test_through_the_steps_of_a_search(x64: None) -> None:
    """First and second derivatives of the value after some steps, beside finite differences.

    The branch that each step takes does not change with the number.
    """

    def loss(x: Any, a: Any) -> Any:
        return 100 * (x[1] - x[0] ** 2) ** 2 + (a - x[0]) ** 2

    def last(a: Any) -> Any:
        tx, x = gx.lbfgs(), jnp.array([-1.2, 1.0])

        def step(carry: Any, _: Any) -> Any:
            x, state = carry
            value, grads = jax.value_and_grad(loss)(x, a)
            return tx.step(grads, state, x, value=value), None

        (x, state), _ = jax.lax.scan(step, (x, tx.init(x)), None, 8)
        return loss(tx.eval_params(state, x), a)

    at, h = 0.7, 1e-5
    value, slope = jax.jit(last), jax.jit(jax.grad(last))
    first = (value(at + h) - value(at - h)) / (2 * h)
    np.testing.assert_allclose(slope(at), first, rtol=1e-6)
    second = (slope(at + h) - slope(at - h)) / (2 * h)
    for twice in (jax.hessian(last), jax.grad(jax.grad(last)), jax.jacfwd(jax.jacfwd(last))):
        np.testing.assert_allclose(jax.jit(twice)(at), second, rtol=1e-5)
