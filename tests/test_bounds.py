"""Bounds: published minima, no evaluation outside, and what is refused."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from problems_bounded import BOUNDED, any_bounded, long
from reference.bounded import least_of_model

import gradtx as gx
from gradtx.solve.lbfgsb import _least, _model
from gradtx.testing.compare import three_parts

GTOL = 1e-6


@functools.cache
def found(name: str) -> Any:
    """All problems in one compiled program."""
    start, lower, upper = long(name)
    args = list(BOUNDED).index(name), lower, upper
    tx = gx.lbfgsb(lower=lower, upper=upper)
    more = {"args": args, "gtol": GTOL, "history": 100}
    return jax.device_get(gx.minimize(any_bounded, start, tx, **more))


@pytest.mark.parametrize("name", BOUNDED)
def test_published_minima(name: str, x64: None) -> None:
    """E27 is HS45, where jaxopt ends outside of the box. Each stays in it exactly."""
    one, problem = found(name), BOUNDED[name]
    assert one.status == 1, one
    np.testing.assert_allclose(one.value, problem.minimum, rtol=1e-6, atol=1e-9)
    evaluated = one.history[: int(one.evaluations)]
    assert np.isfinite(evaluated).all()  # outside of the box the function is no number
    assert not one.params[len(problem.start) :].any()
    assert abs(int(one.evaluations) - problem.evaluations) <= 1


def test_as_few_evaluations_as_scipy(x64: None) -> None:
    """SciPy 1.17.1 takes 240."""
    assert sum(int(found(name).evaluations) for name in BOUNDED) <= 1.02 * 240


def test_the_model_has_its_minimum_there(x64: None) -> None:
    """Beside a walk from corner to corner, and a dense solution of what is free."""
    random = np.random.default_rng(0)
    cases, expected, ways = [], [], []
    for _ in range(400):
        n, memory = 3, 4
        half = random.normal(size=(n, n)) * 10.0 ** random.uniform(-2, 1, (n, 1))
        hessian = half.T @ half + 1e-3 * np.eye(n)
        steps = random.normal(size=(memory, n)) * (random.random((memory, 1)) < 0.8)
        changes = steps @ hessian
        pairs = [(s, y) for s, y in zip(steps, changes, strict=True) if s.any()]
        theta = pairs[-1][1] @ pairs[-1][1] / (pairs[-1][0] @ pairs[-1][1]) if pairs else 1.0
        x, g = random.normal(size=n), random.normal(size=n) * (random.random(n) < 0.9)
        gaps = random.exponential(size=(2, n)) * random.choice([0, 0.01, np.inf], (2, n))
        case = x, g, x - gaps[0], x + gaps[1]
        best, way = least_of_model(*case, theta, pairs)
        cases.append((*case, steps, changes, theta))
        expected.append(best)
        ways.append(way)
    arrays = [jnp.asarray(column) for column in zip(*cases, strict=True)]
    here = jax.jit(jax.vmap(lambda *xs: _least(*xs[:4], _model(*xs[4:]))))(*arrays)
    np.testing.assert_allclose(here, np.stack(expected), rtol=1e-5, atol=1e-6)
    assert ((arrays[2] <= here) & (here <= arrays[3])).all()
    assert ways.count("shortened") > 3  # where the projection of the minimum would lead uphill


def bowl(x: Any) -> Any:
    return jnp.sum((x["a"] - 3.0) ** 2) + jnp.sum((x["b"] + 2.0) ** 4)


PARAMS = {"a": jnp.zeros(3), "b": jnp.zeros((2, 2))}


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        (None, 1.0),
        ({"a": -1.0, "b": 0.5}, {"a": jnp.asarray([1.0, 5.0, 0.0]), "b": np.inf}),
        (gx.by_path({"b": -1.0, "*": -np.inf}), gx.by_path({"a": 2.0, "*": 3.0})),
        ({"a": 1.0, "b": None}, {"a": 1.0, "b": 4.0}),
    ],
)
def test_forms(lower: Any, upper: Any, x64: None) -> None:
    """Numbers, prefix trees, arrays, by path; equal bounds freeze; None is no bound."""
    tx = gx.lbfgsb(lower=lower, upper=upper)
    one = gx.minimize(bowl, jax.tree.map(lambda x: x.astype(float), PARAMS), tx)
    assert one.converged, one

    def bound(side: Any, name: str, none: float) -> Any:
        side = side.table.get(name, side.table["*"]) if isinstance(side, gx.by_path) else side
        value = side[name] if isinstance(side, dict) else side
        return none if value is None else value

    for name, best in (("a", 3.0), ("b", -2.0)):
        expected = np.clip(best, bound(lower, name, -np.inf), bound(upper, name, np.inf))
        np.testing.assert_allclose(one.params[name] - expected, 0, atol=3e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_narrow_parameters_stay_inside(dtype: str) -> None:
    """Every point, as it is evaluated; the bounds are numbers that the dtype does not hold."""
    tx = gx.lbfgsb(lower=-0.1, upper=0.3)
    x = jnp.asarray([0.2, -0.05, 5.0], dtype)  # the last one outside: the first step moves it
    lower, upper = jnp.asarray(-0.1, dtype), jnp.asarray(0.3, dtype)
    state = tx.init(x)
    for k in range(12):
        value, g = jax.value_and_grad(lambda x: jnp.sum((x - 1) ** 2))(x)
        x, state = tx.step(g, state, x, value=value)
        assert ((lower <= x) & (x <= upper)).all(), k
    np.testing.assert_array_equal(tx.eval_params(state, x), upper)


def test_any_direction_and_any_search(x64: None) -> None:
    """Of another direction a search in a box goes along what is left of it there."""
    start = {"a": np.zeros(3), "b": np.ones((2, 2))}
    bounds = {"lower": 0.0, "upper": 1.5}
    for tx in (
        gx.wolfe(gx.sgd(1.0), **bounds),
        gx.backtracking(gx.sgd(1.0), increase_factor=2.0, **bounds),
        gx.wolfe(gx.chain(gx.scale_by_lbfgs(), gx.scale(-1.0)), **bounds),
        gx.chain(gx.clip_by_global_norm(1e9), gx.lbfgsb(**bounds)),
    ):
        one = gx.minimize(bowl, start, tx, gtol=1e-4)
        assert one.converged, (tx, one)
        np.testing.assert_allclose(one.params["a"], 1.5)
        np.testing.assert_allclose(one.params["b"], 0.0, atol=1e-12)


@pytest.mark.parametrize(
    "around",
    [
        lambda: gx.masked(gx.lbfgsb(lower={"a": 0.0, "b": None}, upper=1.5), "*"),
        lambda: gx.partition({"a": gx.lbfgsb(upper={"a": 1.5, "b": None}), "*": gx.freeze()}),
        lambda: gx.masked(gx.lbfgsb(upper={"a": jnp.full(3, 1.5), "b": None}), "a"),
        lambda: gx.flatten(gx.lbfgsb(upper=1.5)),
        lambda: gx.monitor(gx.lbfgsb(upper=1.5)),
    ],
    ids=["masked", "partition", "one array", "flatten", "monitor"],
)
def test_bounds_are_known_from_outside(around: Any, x64: None) -> None:
    """The start is moved into the box, and the gradient that has to vanish is the projected one."""
    start = {"a": np.full(3, 9.0), "b": np.full((2, 2), -2.0)}
    one = gx.minimize(bowl, start, around(), gtol=1e-5)
    assert one.converged, one
    np.testing.assert_allclose(one.params["a"], 1.5)


def test_a_stack_of_bounds(x64: None) -> None:
    """Bounds are leaves: a stack of them runs under `vmap`, another compiles nothing."""
    uppers = np.array([-0.5, 0.3, 2.0])

    def solve(upper: Any) -> Any:
        tx = gx.lbfgsb(upper=upper)
        return gx.minimize(lambda x: jnp.sum((x - 1) ** 2), np.full(2, -1.0), tx)

    np.testing.assert_allclose(jax.vmap(solve)(uppers).params[:, 0], np.minimum(uppers, 1))


def test_beside_scipy_on_a_fit(x64: None) -> None:
    """Non-negative least squares."""
    random = np.random.default_rng(1)
    a = random.normal(size=(30, 8))
    b = a @ np.where(np.arange(8) % 2, 1.0, -1.0)
    expected, _ = scipy.optimize.nnls(a, b)
    one = gx.minimize(
        lambda x: jnp.sum((a @ x - b) ** 2), np.ones(8), gx.lbfgsb(lower=0.0), gtol=1e-9
    )
    np.testing.assert_allclose(one.params, expected, atol=1e-8)
    assert (one.params >= 0).all()
    assert ((one.params == 0) == (expected == 0)).all()


def test_trees_without_arrays() -> None:
    """Bounds of nothing: the same tree comes out, as it does from every row of the catalogue."""
    tx = gx.lbfgsb(lower=0.0, upper=1.0)
    for tree in ({}, (), {"a": None, "b": {}}):
        state = tx.init(tree)
        updates, state = tx.update(tree, state, tree, value=jnp.float32(1.0))
        assert updates == tree
        assert tx.step(tree, state, tree, value=jnp.float32(1.0))[0] == tree


def test_arrays_of_two_precisions(x64: None) -> None:
    """How far the box goes is found over all of them."""
    start = {"a": np.zeros(3, np.float32), "b": np.ones((2, 2))}
    one = gx.minimize(bowl_of_two, start, gx.lbfgsb(lower=-0.5, upper=1.5), gtol=1e-4)
    assert one.converged, one
    np.testing.assert_allclose(one.params["a"], 1.5)
    np.testing.assert_allclose(one.params["b"], -0.5)


def bowl_of_two(x: Any) -> Any:
    return bowl({"a": x["a"].astype(float), "b": x["b"]})


def test_refusals() -> None:
    """Bounds that leave no room or fit no array."""
    x = jnp.zeros(3)
    for call, mention in (
        (lambda: gx.lbfgsb(lower=1.0, upper=0.0), "lower is above upper"),
        (lambda: gx.lbfgsb(lower={"a": 1.0}, upper={"a": np.zeros(2)}), "'a'"),
        (lambda: gx.minimize(jnp.sum, x, gx.lbfgsb(lower=jnp.zeros(2))), "[2]"),
        (lambda: gx.minimize(bowl, PARAMS, gx.lbfgsb(lower={"a": 0.0})), "b"),
        (lambda: gx.lbfgsb(lower=0.0).init(jnp.zeros(2, complex)), "complex"),
    ):
        with pytest.raises((TypeError, ValueError)) as raised:
            call()
        three_parts(raised.value, mention)
