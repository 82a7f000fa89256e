"""Dense quasi-Newton directions: the secant condition, the scalings, sizes; `flatten`."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems_mgh import loss
from reference.dense import scale_by_bfgs as dense

import gradtx as gx
from gradtx.testing.compare import three_parts

SCALINGS = ("initial", "al-baali", "broyden", None)


def rosenbrock(x: Any) -> Any:
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


@pytest.mark.parametrize("scaling", SCALINGS)
def test_secant_and_curvature_conditions(scaling: Any, x64: None) -> None:
    """After a step H y = s; H stays symmetric and positive definite; as in the reference."""
    tx, link = gx.bfgs(scaling=scaling), gx.scale_by_bfgs(scaling=scaling)
    x, slopes = jnp.asarray([-1.2, 1.0]), jax.value_and_grad(rosenbrock)
    state, alone, points, s = tx.init(x), link.init(x), [], {}
    for t in range(45):
        value, g = slopes(x)
        before = int(state.search.iterations)
        new, state = tx.step(g, state, x, value=value)
        if t == 0 or int(state.search.iterations) > before:
            points.append((x, g))
            u, alone = link.update(g, alone, x)
            expected, s = dense({"x": np.asarray(g)}, {"x": np.asarray(x)}, t, s, scaling)
            np.testing.assert_allclose(u, expected["x"], rtol=1e-4)
        x = new
    assert len(points) > 20
    inverse = alone.inverse
    step, change = (a - b for a, b in zip(points[-1], points[-2], strict=True))
    np.testing.assert_allclose(inverse @ change, step, rtol=1e-6)
    np.testing.assert_array_equal(inverse, inverse.T)
    assert (np.linalg.eigvalsh(inverse) > 0).all()


@pytest.mark.parametrize("scaling", SCALINGS)
def test_minima(scaling: Any, x64: None) -> None:
    """All scalings end at the minimum of a problem of ten numbers, in less than 70 evaluations."""
    start = np.array([-1.0, 2.0, 0.5, 0, 0, 0, 0, 0, 0, 0])
    found = gx.minimize(
        lambda x: loss(x, "discrete boundary value"), start, gx.bfgs(scaling=scaling), gtol=1e-8
    )
    assert found.converged, found
    assert found.value < 1e-14
    assert found.evaluations < 70


def test_negative_curvature_is_left_out(x64: None) -> None:
    """E26: x^4 / 4 - x^2 / 2 from 0.1, where the second derivative is negative, is descended."""
    found = gx.minimize(lambda x: x**4 / 4 - x**2 / 2, np.array(0.1), gx.bfgs(), gtol=1e-9)
    np.testing.assert_allclose(abs(found.params), 1.0, rtol=1e-9)
    link, x = gx.scale_by_bfgs(), jnp.asarray(0.1)
    state = link.init(x)
    for _ in range(3):
        u, state = link.update(x**3 - x, state, x)
        x = x - 0.5 * u
        assert state.inverse > 0


def test_what_is_too_large_is_refused() -> None:
    """With the memory that it would take, before it is taken."""
    with pytest.raises(ValueError, match=r"20001 numbers would take 1\.6 GB.*lbfgs") as raised:
        gx.scale_by_bfgs().init(jnp.zeros(20_001))
    three_parts(raised.value, "20001")


def test_flatten_is_one_vector(x64: None) -> None:
    """As `inner` on the vector of all numbers; complex arrays are real and imaginary parts."""
    random = np.random.default_rng(0)
    tree = {
        "a": random.normal(size=(2, 3)),
        "b": [random.normal(size=()), random.normal(size=2) + 1j * random.normal(size=2)],
        "n": None,
        "i": np.arange(3),
    }
    params = jax.tree.map(jnp.asarray, tree)
    grads = jax.tree.map(
        lambda x: jnp.cos(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x, params
    )

    def vector(t: Any) -> Any:
        c = t["b"][1]
        return jnp.concatenate([jnp.ravel(t["a"]), t["b"][0][None], c.real, c.imag])

    inner = gx.chain(gx.clip_by_norm(0.3), gx.adam(0.1))
    tx, x = gx.flatten(inner), vector(params)
    state, alone = tx.init(params), inner.init(x)
    for _ in range(3):
        updates, state = tx.update(grads, state, params)
        u, alone = inner.update(vector(grads), alone, x)
        np.testing.assert_allclose(vector(updates), u, rtol=1e-12)
    assert updates["n"] is None
    np.testing.assert_array_equal(updates["i"], 0)
    updates, _ = tx.update({**grads, "a": None}, state, params)
    assert updates["a"] is None
    np.testing.assert_array_equal(tx.eval_params(state, params)["a"], params["a"])


# Whole iterations -------------------------------------------------------------------------------

SEARCHES = {
    "lbfgs": gx.lbfgs(),
    "bfgs": gx.bfgs(),
    "lbfgsb": gx.lbfgsb(lower=jnp.asarray([-2.0, -0.5])),
    "backtracking": gx.backtracking(gx.chain(gx.scale_by_lbfgs(), gx.scale(-1.0))),
    "momentum": gx.wolfe(gx.sgd(1.0, momentum=0.5)),
    "chain": gx.chain(gx.clip_by_global_norm(1e9), gx.lbfgs()),
    "hager_zhang": gx.hager_zhang(gx.chain(gx.scale_by_lbfgs(), gx.scale(-1.0))),
    "nonlinear_cg": gx.nonlinear_cg(),
}


OFTEN = {"lbfgs", "lbfgsb", "backtracking"}


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=[] if x in OFTEN else [pytest.mark.slow]) for x in SEARCHES]
)
def test_both_forms_visit_the_same_points(name: str, x64: None) -> None:
    """With `value_fn` an update is all evaluations until a point is accepted, bit for bit."""
    tx, slopes = SEARCHES[name], jax.jit(jax.value_and_grad(rosenbrock))

    @jax.jit
    def one(x: Any, state: Any) -> Any:
        value, g = jax.value_and_grad(rosenbrock)(x)
        return tx.step(g, state, x, value=value)

    @functools.partial(jax.jit, static_argnums=2)
    def whole(x: Any, state: Any, updated: bool) -> Any:
        value, g = slopes(x)
        more = {"value": value, "value_fn": rosenbrock}
        if not updated:
            return tx.step(g, state, x, **more)
        updates, state = tx.update(g, state, x, **more)
        return gx.apply_updates(x, updates), state

    x = start = jnp.asarray([-1.2, 0.9])
    state, visited = tx.init(x), []
    for _ in range(60):
        visited.append(np.asarray(x))
        x, state = one(x, state)
    x, state, places = start, tx.init(start), []
    for _ in range(12):
        x, state = whole(x, state, False)
        places.append(next(k for k, y in enumerate(visited) if (y == np.asarray(x)).all()))
    assert places == sorted(set(places))
    assert places[-1] >= 12
    x, _ = whole(start, tx.init(start), True)
    np.testing.assert_allclose(x, visited[places[0]], rtol=0, atol=1e-12)


def test_whole_iterations_of_complex_parameters(x64: None) -> None:
    """The gradient of `value_fn` is turned into the direction of ascent."""
    tx, x = gx.lbfgs(), jnp.asarray([1.0 + 2j, -1j])

    def value(x: Any) -> Any:
        return jnp.sum(jnp.abs(x - (2 - 1j)) ** 2)

    state = tx.init(x)
    for _ in range(4):
        g = jnp.conj(jax.grad(value)(x))
        x, state = tx.step(g, state, x, value=value(x), value_fn=value)
    np.testing.assert_allclose(x, 2 - 1j, atol=1e-9)
