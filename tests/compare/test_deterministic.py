"""Problems all of whose steps have the same function: searches, evaluations, and two problems."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from threadpoolctl import threadpool_info

import gradtx as gx
from gradtx.compare import parse, wording
from gradtx.compare.cli import _options
from gradtx.compare.machine import one_thread_a_matrix
from gradtx.compare.plan import CLASSICS, public, read
from gradtx.compare.problems import gaussian_process, pinn
from gradtx.compare.summary import summarize_all
from gradtx.compare.table import _columns

from .conftest import course, falling, problem, trial
from .test_race import race


def lbfgs() -> Any:
    return parse.entrants(["lbfgs"], gx.catalogue.optimizers, public())[0]


def test_lbfgs_runs_beside_the_classics_on_them(tmp_path):
    """Where nobody chose optimizers, and every batch is the whole training set."""

    def labels(*typed: str) -> list[list[str]]:
        plan = read(_options(["compare", *typed, "--output", str(tmp_path)]))
        return [[one.label for one in plan.entrants_for(x)] for x in plan.problems]

    classics, beside = list(CLASSICS), [*CLASSICS, "lbfgs"]
    assert labels("rosenbrock", "logistic") == [beside, classics]
    assert labels("logistic", "--batch-size", "full") == [beside]
    assert labels("rosenbrock", "--optimizers", "adam") == [["adam"]]
    assert all(problem(name).deterministic for name in ("gaussian-process", "pinn", "quadratic"))


def test_a_search_has_no_learning_rate_to_be_swept(tmp_path):
    """It finds its steps by itself: it runs once, its first step has length 1, without schedule."""
    typed = ["compare", "quadratic", "--learning-rates", "0.1", "1", "3", "--optimizers"]
    plan = read(_options([*typed, "lbfgs(memory_size=3)", "sgd", "--output", str(tmp_path)]))
    search, sgd = plan.entrants
    chosen = plan.problems[0]
    assert plan.rates_for(chosen, search).tolist() == [1.0]
    assert len(plan.rates_for(chosen, sgd)) == 3
    assert search.make(gx.cosine_decay_schedule(1.0, 10)) == gx.lbfgs(memory_size=3)
    assert sgd.make(3.0) == gx.sgd(3.0)


def test_a_step_of_a_search_is_one_evaluation():
    """The loss that is shown is that of the best point, not of a trial; it never rises."""
    steps, chosen = 40, problem("rosenbrock")
    found = race("rosenbrock", steps, [3]).run(lbfgs(), np.ones(1), lambda n: None)
    assert not found.swept
    tx, evaluate = gx.lbfgs(), jax.jit(jax.value_and_grad(lambda p: chosen.loss(p, None, None)))
    params = chosen.draw(jax.random.fold_in(jax.random.key(3), 0))
    state, losses = tx.init(params), [float(evaluate(params)[0])]
    for _ in range(steps):
        value, grads = evaluate(params)
        params, state = tx.step(grads, state, params, value=value)
        losses.append(float(evaluate(tx.eval_params(state, params))[0]))
    np.testing.assert_allclose(found.train_loss[0, 0], losses, rtol=1e-3, atol=1e-6)
    assert (np.diff(found.train_loss[0, 0]) <= 0).all()
    assert found.train_loss[0, 0, -1] < 1e-3 * losses[0]


def test_their_steps_are_called_evaluations():
    """In the table; elsewhere a step is not the evaluation of the problem."""
    for deterministic, unit, a_step in (
        (True, "evaluation", "an evaluation"),
        (False, "step", "a step"),
    ):
        found = course(trial(falling(0.1)), deterministic=deterministic)
        assert found.unit == unit
        heads = wording.heads(found)
        assert f"{unit}s to\n0.5" in heads
        assert f"time\n{a_step}" in heads
        assert f"{unit}s to\n0.5" in _columns(found, summarize_all(found))


def test_the_marginal_likelihood_is_that_of_a_normal_distribution(x64: None):
    x, y = (np.asarray(part[:20], float) for part in problem("gaussian-process").train)
    params = gaussian_process.draw(jax.random.key(0))
    covariance = np.asarray(gaussian_process.covariance(params, jnp.asarray(x)))
    scaled = x * np.exp(-np.asarray(params["lengths"]))
    apart = ((scaled[:, None] - scaled[None]) ** 2).sum(-1)
    variance, noise = np.exp(params["variance"]), np.exp(params["noise"])
    expected = variance * np.exp(-apart / 2) + (noise + 1e-4 * variance) * np.eye(20)
    np.testing.assert_allclose(covariance, expected, rtol=1e-9)
    found = gaussian_process.surprise(params, (jnp.asarray(x), jnp.asarray(y)))
    likelihood = multivariate_normal(np.zeros(20), expected).logpdf(y)
    np.testing.assert_allclose(found, -likelihood / 20, rtol=1e-9)


def test_the_known_solution_solves_the_equation(x64: None):
    """Its Laplacian is minus the source, and it is zero on the edges."""
    points, equation, value = (jnp.asarray(part, float) for part in pinn.conditions())
    laplacian = jax.vmap(lambda point: pinn.laplacian(pinn.solution, point))(points)
    np.testing.assert_allclose(laplacian, -pinn.source(points), atol=1e-9)
    edge = ((points == 0) | (points == 1)).any(1)
    assert edge.sum() == 4 * pinn.SIDE
    np.testing.assert_array_equal(edge, value > 0)
    np.testing.assert_array_equal(edge, equation == 0)
    np.testing.assert_allclose(pinn.solution(points[edge]), 0, atol=1e-12)
    inner = pinn.truth()[0]
    assert not set(map(tuple, inner)) & set(map(tuple, pinn.conditions()[0]))


def test_small_matrices_have_one_thread():
    """With several a Cholesky factor of 60 rows takes up to a hundred times as long."""

    def threads() -> list[int]:
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    with one_thread_a_matrix():
        assert threads()
        assert set(threads()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian-process", "pinn", "logistic"])
def test_lbfgs_reaches_the_target(name: str):
    steps = {"gaussian-process": 60, "pinn": 600, "logistic": 60}[name]
    found = race(name, steps, [0, 1]).run(lbfgs(), np.ones(1), lambda n: None)
    target = problem(name).target
    assert target is not None
    assert (found.train_loss[0, :, -1] < target).all()
