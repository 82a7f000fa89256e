"""Conjugate gradients, Newton's method by them, and where searches along these begin."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems_mgh import BADLY_SCALED, NAMES, any_loss, long_start

import gradtx as gx
from gradtx.solve.nonlinear_cg import METHODS
from gradtx.testing.compare import three_parts

START = np.array([-1.2, 1.0])


def rosenbrock(x: Any) -> Any:
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


slopes = jax.jit(jax.value_and_grad(rosenbrock))


def spd(n: int, seed: int = 0) -> np.ndarray:
    """A symmetric matrix with eigenvalues from 1 to 100."""
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]
    return q @ np.diag(np.geomspace(1, 100, n)) @ q.T


def split(x: Any) -> dict[str, Any]:
    return {"a": x[:2], "b": x[2:].reshape(-1, 2)}


def joined(tree: dict[str, Any]) -> Any:
    return np.concatenate([np.ravel(tree["a"]), np.ravel(tree["b"])])


# Nonlinear conjugate gradients -------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_quadratic_takes_as_many_steps_as_it_has_unknowns(method: str, x64: None) -> None:
    """With exact steps every method is that of Hestenes & Stiefel: conjugate directions."""
    n, tx = 6, gx.scale_by_cg(method)
    a, b = spd(n), np.arange(1.0, n + 1)
    x, seen, update = np.zeros(n), [], jax.jit(tx.update)
    state = tx.init(split(x))
    for _ in range(n):
        g = a @ x - b
        u, state = update(split(g), state)
        u = joined(u)
        for other in seen:
            limit = 1e-8 * np.sqrt((u @ a @ u) * (other @ a @ other))
            assert abs(u @ a @ other) < limit
        seen.append(u)
        x = x - (u @ g) / (u @ a @ u) * u
    np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_directions_lead_down(method: str, x64: None) -> None:
    """Whatever the gradients are; and it begins anew where two of them are far from orthogonal."""
    random, tx = np.random.default_rng(0), gx.scale_by_cg(method)
    params = {"a": np.zeros(2), "b": np.zeros((2, 2)), "none": None}
    state, update, before, anew = tx.init(params), jax.jit(tx.update), None, 0
    for k in range(40):
        g = random.normal(size=6) * 10.0 ** random.integers(-3, 3)
        g = g if k % 4 else (np.zeros(6) if before is None else before + 0.1 * g)
        u, state = update({**split(g), "none": None}, state)
        assert u["none"] is None
        u = joined(u)
        assert np.isfinite(u).all()
        assert u @ g > 0 or not g.any()
        if before is not None and abs(g @ before) >= 0.2 * (g @ g):
            np.testing.assert_array_equal(u, g)
            anew += 1
        before = g
    assert 10 <= anew < 40


def test_first_trials(x64: None) -> None:
    """Each is what `initial_guess_strategy` says of the line before; both searches have it."""

    def first(strategy: str, step: Any, old: Any, before: Any, value: Any, slope: Any) -> Any:
        if strategy == "slope":
            return step * old / slope
        return {"one": 1.0, "keep": step}.get(strategy, 2 * (value - before) / slope)

    cg = gx.chain(gx.scale_by_cg(), gx.scale(-1.0))
    cases = [(gx.wolfe, s) for s in ("one", "keep", "slope", "value")]
    for search, strategy in [*cases, (gx.hager_zhang, "slope")]:
        tx, x = search(cg, initial_guess_strategy=strategy, curv_rtol=0.4), jnp.asarray(START)
        state, lines = tx.init(x), 0
        for _ in range(20):
            value, g = slopes(x)
            old, (x, state) = state.search, tx.step(g, state, x, value=value)
            new = state.search
            if new.iterations > old.iterations:
                args = old.step, old.base.slope, old.base.value, new.base.value, new.base.slope
                np.testing.assert_allclose(new.step, first(strategy, *args), rtol=1e-12)
                lines += 1
        assert lines > 3


@functools.cache
def both() -> Any:
    return jax.jit(jax.value_and_grad(any_loss))


def on_published(tx: Any, name: str) -> Any:
    more = {"value_and_grad": both(), "gtol": 1e-6, "max_evaluations": 3000}
    return gx.minimize(None, long_start(name), tx, args=(NAMES.index(name),), **more)


# Ill-conditioned at the minimum: what remembers one step takes thousands, SciPy's more than these.
SLOW = {"Osborne 1", "Watson 6", "Watson 9", "penalty II"}
WELL_SCALED = [name for name in NAMES if name not in BADLY_SCALED]


def test_cg_on_rosenbrock(x64: None) -> None:
    """SciPy's takes 80 evaluations."""
    found = gx.minimize(rosenbrock, START, gx.nonlinear_cg(), gtol=1e-6)
    assert found.converged
    assert found.evaluations < 100
    np.testing.assert_allclose(found.params, 1.0, rtol=1e-5)


@pytest.mark.slow
def test_cg_on_published_problems(x64: None) -> None:
    """SciPy's takes 2489 evaluations and gives one of the problems up."""
    found = {
        name: on_published(gx.nonlinear_cg(), name) for name in WELL_SCALED if name not in SLOW
    }
    assert len(found) == 24
    assert all(one.converged for one in found.values())
    assert sum(int(one.evaluations) for one in found.values()) < 2700


@pytest.mark.slow
def test_lbfgs_by_secants_on_published_problems(x64: None) -> None:
    """With the search of Hager & Zhang it takes not many more evaluations than SciPy's 1551."""
    tx = gx.hager_zhang(gx.chain(gx.scale_by_lbfgs(), gx.scale(-1.0)))
    found = [on_published(tx, name) for name in WELL_SCALED]
    assert all(one.converged for one in found)
    assert sum(int(one.evaluations) for one in found) < 1.15 * 1551


# Newton's method ---------------------------------------------------------------------------------


def test_newton_solves_a_quadratic_at_once(x64: None) -> None:
    """The first trial is the whole step, and there the gradient is zero."""
    n = 6
    a, b = spd(n), np.arange(1.0, n + 1)

    def bowl(p: Any) -> Any:
        x = jnp.concatenate([p["a"].ravel(), p["b"].ravel()])
        return x @ a @ x / 2 - b @ x

    found = gx.minimize(bowl, split(np.ones(n)), gx.newton_cg(rtol=1e-12), gtol=1e-9)
    assert (found.status, found.iterations, found.evaluations) == (1, 1, 2)
    np.testing.assert_allclose(joined(found.params), np.linalg.solve(a, b), rtol=1e-9)
    assert n <= found.state.inner["scale_by_newton_cg"].products <= 2 * (n + 2)  # and at the end

    grads = jax.grad(bowl)
    tx, p = gx.scale_by_newton_cg(0.3), split(np.ones(n))
    state = tx.init(p)
    for count in range(1, 4):  # truncated: as near as was asked for
        g = grads(p)
        u, state = tx.update(g, state, p, grad_fn=grads)
        left = np.linalg.norm(a @ joined(u) - joined(g))
        assert 1e-6 < left / np.linalg.norm(joined(g)) <= 0.3
        assert state.count == count
    assert state.products < 3 * n


def test_newton_where_it_bends_down(x64: None) -> None:
    """E26: there the step goes along the gradient, as far as the bend says, and never uphill."""

    def f(x: Any) -> Any:
        return jnp.sum(-(x**2) / 2 + x**4 / 4)

    tx = gx.scale_by_newton_cg()
    for x in (np.array([0.1]), np.array([0.1, 0.2, -0.3]), np.array([0.1, 2.0])):
        g = jax.grad(f)(x)
        u, _ = tx.update(g, tx.init(x), x, grad_fn=jax.grad(f))
        assert u @ g > 0
        bend = g @ ((3 * x**2 - 1) * g)
        if bend < 0:
            np.testing.assert_allclose(u, g * (g @ g) / -bend, rtol=1e-12)
    for tx in (gx.newton_cg(), gx.nonlinear_cg()):
        found = gx.minimize(f, np.array([0.1, 0.2]), tx, gtol=1e-8)
        assert found.converged
        np.testing.assert_allclose(found.params, 1.0, rtol=1e-7)


def test_newton_on_any_tree(x64: None) -> None:
    """Complex arrays as two real ones; what has no gradient stands still; narrow in float32."""
    random = np.random.default_rng(0)
    m = spd(8)

    def real(v: Any) -> Any:
        return v @ jnp.asarray(m, v.dtype) @ v / 2 + jnp.sum(v**4)

    def loss(p: Any) -> Any:
        parts = [p["c"].real, p["c"].imag, p["x"].ravel(), p["frozen"]]
        return real(jnp.concatenate(parts))

    v = random.normal(size=8)
    p = {"c": v[:2] + 1j * v[2:4], "x": v[4:6], "frozen": v[6:], "n": None, "i": np.arange(2)}

    def grads(p: Any) -> Any:
        found = jax.grad(loss, allow_int=True)(p)
        return {**found, "c": jnp.conj(found["c"]), "frozen": None}

    tx = gx.scale_by_newton_cg(1e-12)
    u, state = tx.update(grads(p), tx.init(p), p, grad_fn=grads)
    h, g = jax.hessian(real)(v)[:6, :6], jax.grad(real)(v)[:6]
    expected = np.linalg.solve(h, g)
    np.testing.assert_allclose(u["c"], expected[:2] + 1j * expected[2:4], rtol=1e-6)
    np.testing.assert_allclose(u["x"], expected[4:], rtol=1e-6)
    assert u["frozen"] is None
    assert 0 < state.products < 20

    narrow = {"w": jnp.asarray(v, jnp.bfloat16)}
    slope = jax.grad(lambda p: real(p["w"].astype(jnp.float32)))
    u, _ = tx.update(slope(narrow), tx.init(narrow), narrow, grad_fn=slope)
    assert u["w"].dtype == jnp.bfloat16
    assert jnp.vdot(u["w"].astype(float), slope(narrow)["w"].astype(float)) > 0


def test_derivatives_of_a_newton_step(x64: None) -> None:
    """Those of the solution of H u = g, in both modes, and in H too."""
    a = spd(4)

    def step(g: Any, size: Any) -> Any:
        tx, p = gx.scale_by_newton_cg(1e-14), jnp.ones(4)
        return tx.update(g, tx.init(p), p, grad_fn=lambda x: size * (a @ x))[0]

    g = jnp.arange(1.0, 5.0)
    inverse = np.linalg.inv(a)
    np.testing.assert_allclose(jax.jacrev(step)(g, 2.0), inverse / 2, rtol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(step)(g, 2.0), inverse / 2, rtol=1e-6)
    by_size = jax.jacrev(step, 1)(g, 2.0)
    np.testing.assert_allclose(by_size, -inverse @ g / 4, rtol=1e-6)


@pytest.mark.slow
def test_derivatives_where_some_are_known_to_be_zero(x64: None) -> None:
    """Only some gradients depend on a number, or only some steps are looked at; twice too."""
    p = {"a": jnp.ones(3), "b": jnp.ones(2)}
    tx = gx.scale_by_newton_cg(1e-13)

    def step(s: Any, r: Any) -> Any:
        def grads(q: Any) -> Any:
            total = jnp.sum(q["a"]) + jnp.sum(q["b"])
            return {"a": 3 * r**2 * q["a"] + total, "b": 5 * q["b"] + total}

        g = {"a": s**2 * p["a"], "b": p["b"]}
        return jnp.sum(tx.update(g, tx.init(p), p, grad_fn=grads)[0]["b"])

    def exact(s: Any, r: Any) -> Any:
        h = jnp.diag(jnp.concatenate([3 * r**2 * jnp.ones(3), 5 * jnp.ones(2)])) + 1
        return jnp.sum(jnp.linalg.solve(h, jnp.concatenate([s**2 * jnp.ones(3), jnp.ones(2)]))[3:])

    for derivative in (jax.grad, jax.jacfwd, jax.hessian, lambda f, k: jax.grad(jax.grad(f, k), k)):
        for k in (0, 1):
            found, expected = (derivative(f, k)(1.5, 0.5) for f in (step, exact))
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_newton_says_what_it_needs() -> None:
    """Without `grad_fn`, or with one of another tree, it says what to pass."""
    p = {"w": jnp.ones(3)}
    for tx in (gx.scale_by_newton_cg(), gx.chain(gx.scale_by_newton_cg(), gx.scale(-1.0))):
        with pytest.raises(ValueError, match="grad_fn") as raised:
            tx.update(p, tx.init(p), p)
        three_parts(raised.value, "gx.minimize")
    tx = gx.newton_cg()
    with pytest.raises(ValueError, match="grad_fn") as raised:
        tx.step(p, tx.init(p), p, value=1.0)
    three_parts(raised.value, "jax.grad")
    with pytest.raises(ValueError, match="grad_fn") as raised:
        gx.scale_by_newton_cg().update(
            p, gx.scale_by_newton_cg().init(p), p, grad_fn=lambda p: p["w"]
        )
    three_parts(raised.value, "result of grad_fn")


@pytest.mark.slow
def test_newton_on_published_problems(x64: None) -> None:
    """SciPy's takes 4003 evaluations and 6554 products, and gives Gulf up."""
    found = [on_published(gx.newton_cg(), name) for name in WELL_SCALED]
    assert all(one.converged for one in found)
    evaluations = sum(int(one.evaluations) for one in found)
    products = sum(int(one.state.inner["scale_by_newton_cg"].products) for one in found)
    assert evaluations < 1300
    assert products < 2800
