"""Searches and `minimize` on published problems, beside SciPy's L-BFGS-B; what they return."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from problems_mgh import BADLY_SCALED, NAMES, PROBLEMS, any_loss, is_minimum, long_start

import gradtx as gx
from gradtx.testing.compare import three_parts
from gradtx.testing.count import compilations

GTOL = 1e-6
SOLVED_TO_ROUNDING = {"Meyer", "Brown-Dennis"}  # whose gradients do not become so small


@functools.cache
def slopes() -> Any:
    return jax.jit(jax.value_and_grad(any_loss))


@functools.cache
def ours(name: str) -> Any:
    """All problems in one compiled program."""
    start, number = long_start(name), NAMES.index(name)
    more = {"value_and_grad": slopes(), "gtol": GTOL, "max_evaluations": 2000}
    return jax.device_get(gx.minimize(None, start, args=(number,), **more))


@functools.cache
def scipys(name: str) -> Any:
    n = PROBLEMS[name].start.size

    def both(x: Any) -> tuple[float, Any]:
        value, slope = slopes()(np.pad(x, (0, 100 - n)), NAMES.index(name))
        return float(value), np.asarray(slope)[:n]

    options = {"gtol": GTOL, "ftol": 0.0, "maxcor": 10, "maxfun": 20000, "maxiter": 20000}
    start = PROBLEMS[name].start
    return scipy.optimize.minimize(both, start, jac=True, method="L-BFGS-B", options=options)


@pytest.mark.parametrize("name", NAMES)
def test_published_minima(name: str, x64: None) -> None:
    """The gradient becomes small, or no lower point is found, at a minimum that is published."""
    found = ours(name)
    assert found.status in ((1, 5) if name in SOLVED_TO_ROUNDING else (1,)), found
    assert is_minimum(name, found.value, 1e-4), found.value
    n = PROBLEMS[name].start.size
    assert not found.params[n:].any()  # which are no part of the problem


WELL_SCALED = [name for name in NAMES if name not in BADLY_SCALED]


def test_as_few_evaluations_as_scipy_1_17(x64: None) -> None:
    """On the problems that are scaled well, together at most a twentieth more."""
    assert len(WELL_SCALED) == 28
    assert sum(int(ours(name).evaluations) for name in WELL_SCALED) <= 1.05 * 1551


@pytest.mark.slow
def test_as_few_evaluations_as_scipy(x64: None) -> None:
    """The same beside the SciPy that is there; on most problems they are equally many."""
    counts = [(int(ours(name).evaluations), scipys(name).nfev) for name in WELL_SCALED]
    total, theirs = np.sum(counts, axis=0)
    assert total <= 1.05 * theirs, dict(zip(WELL_SCALED, counts, strict=True))
    assert sum(a == b for a, b in counts) > len(counts) / 2, counts


def test_rosenbrock(x64: None) -> None:
    """E28, E30: 37 iterations and 45 evaluations, where others fail or take 703."""
    found = ours("Rosenbrock")
    assert found.iterations <= 40
    assert found.evaluations <= 50
    assert str(found) == "converged in 37 iterations, 45 evaluations: gradient 3e-08 <= 1e-06"


def test_where_others_stop(x64: None) -> None:
    """E29, E31: above the minimum; and E30: far away from it, after thousands of steps."""
    found = ours("Jennrich-Sampson")
    assert found.iterations > 5  # after one unscaled step another is in a flat place, at 2020
    np.testing.assert_allclose(found.value, 124.362, rtol=1e-5)  # SciPy stops at 214
    np.testing.assert_allclose(ours("Meyer").value, 87.9458, rtol=1e-5)  # and at 144
    assert ours("Powell singular").iterations < 60  # others take 12588


# What comes back -------------------------------------------------------------------------------


def rosenbrock(x: Any, a: Any = 1.0) -> Any:
    return 100 * (x[1] - x[0] ** 2) ** 2 + (a - x[0]) ** 2


START = np.array([-1.2, 1.0])
solve = functools.partial(gx.minimize, rosenbrock)


def test_the_objective_is_traced_once(x64: None) -> None:
    """And another tolerance, start or argument compiles nothing."""
    calls = []

    def counted(x: Any, a: Any) -> Any:
        calls.append(None)
        return rosenbrock(x, a)

    gx.minimize(counted, START, args=(1.0,))
    traces = len(calls)
    assert traces == 1
    with compilations() as compiled:
        found = gx.minimize(
            counted, START + 0.5, gx.lbfgs(0.5), args=(2.0,), gtol=1e-9, ftol=1e-20, xtol=1e-20
        )
    assert found.converged
    assert not compiled
    assert len(calls) == traces


def test_many_starts_at_once(x64: None) -> None:
    """64 starts: the batch takes as many turns as its longest member, each ends as it does alone.

    A search inside of an iteration would wait for the longest search in every iteration.
    """
    starts = START + np.random.default_rng(0).normal(size=(64, 2))
    batch = jax.vmap(solve)(starts)
    alone = [solve(start) for start in starts]
    most = max(int(one.evaluations) for one in alone)
    assert abs(int(batch.evaluations.max()) - most) <= 0.15 * most
    assert batch.converged.all()
    np.testing.assert_allclose(batch.params, 1.0, rtol=0, atol=1e-4)
    for k, one in enumerate(alone):
        np.testing.assert_allclose(batch.params[k], one.params, atol=1e-4)
        assert abs(int(batch.iterations[k] - one.iterations)) <= 3
    assert str(batch).count("\n") == 8
    assert batch.reason.shape == (64,)


def test_a_stack_of_everything(x64: None) -> None:
    """Arguments, tolerances and optimizers under `vmap`."""
    gtols, targets, rates = np.array([1e-2, 1e-5, 1e-9]), np.array([0.5, 1, 2]), [0.3, 1.0, 1.0]
    txs = [gx.lbfgs(rate) for rate in rates]
    stack = jax.tree.map(lambda *xs: np.stack(xs), *txs)
    found = jax.vmap(lambda tx, a, gtol: solve(START, tx, args=(a,), gtol=gtol))(
        stack, targets, gtols
    )
    for k, tx in enumerate(txs):
        alone = solve(START, tx, args=(targets[k],), gtol=gtols[k])
        assert abs(int(found.evaluations[k] - alone.evaluations)) <= 2
        assert found.grad_norm[k] <= gtols[k]
        np.testing.assert_allclose(found.params[k], alone.params, atol=10 * gtols[k])
    assert len(set(found.evaluations.tolist())) == 3


def test_other_transformations(x64: None) -> None:
    """Adam and a chain: every step is an iteration."""

    def bowl(x: Any) -> Any:
        return jnp.sum(jnp.asarray([1.0, 10.0]) * x["a"] ** 2) + x["b"] ** 2

    start = {"a": jnp.ones(2), "b": jnp.ones(())}
    for tx in (gx.adam(0.1), gx.chain(gx.clip_by_global_norm(1.0), gx.sgd(0.09))):
        found = gx.minimize(bowl, start, tx, gtol=1e-4)
        assert found.converged, found
        assert found.iterations == found.evaluations - 1
        assert found.value < 1e-7
    assert gx.minimize(bowl, start, gx.opaque_sam(gx.sgd(0.05), rho=1e-6), gtol=1e-4).converged
    with jax.numpy_dtype_promotion("standard"):
        assert gx.minimize(bowl, start, optax.adam(0.1), gtol=1e-4).converged
        found = gx.minimize(bowl, start, optax.lbfgs())
    assert found.converged
    assert found.iterations < 10  # each with the evaluations that its search asks for
    found = gx.minimize(bowl, start, gx.chain(gx.clip_by_global_norm(1e9), gx.lbfgs()))
    assert found.converged
    assert found.evaluations < 15
    found = gx.minimize(bowl, start, gx.wolfe(gx.sgd(1.0)), gtol=1e-3)
    assert found.converged
    assert found.iterations < found.evaluations < 60


def test_aux_history_and_callback(x64: None) -> None:
    """What the loss returns beside its value belongs to the best point; values are kept."""

    def with_aux(x: Any) -> Any:
        return rosenbrock(x), {"twice": 2 * x}

    found = gx.minimize(with_aux, START, has_aux=True, history=60)
    np.testing.assert_array_equal(found.aux["twice"], 2 * found.params)
    values = found.history[: int(found.evaluations)]
    assert values[0] == rosenbrock(START)
    assert np.isfinite(values).all()
    assert np.isnan(found.history[int(found.evaluations) :]).all()
    assert found.value == values.min()
    assert solve(START).history is None

    stopped = gx.minimize(rosenbrock, START, callback=lambda now: now.iterations >= 5)
    assert (stopped.status, stopped.iterations) == (8, 5)
    both = jax.value_and_grad(rosenbrock)
    same = gx.minimize(None, START, value_and_grad=both)
    np.testing.assert_array_equal(same.params, solve(START).params)


LOSSES = {
    "rosenbrock": rosenbrock,
    "bowl": lambda x: jnp.sum(x**2),
    "logarithm": lambda x: jnp.sum(jnp.log(x)),
    "line": jnp.sum,
    "fall": lambda x: jnp.sum(-jnp.exp(x)),
    "kink": lambda x: jnp.sum(jnp.abs(x - 0.1)),
    "barrier": lambda x: jnp.sum(x) - 1e-3 * jnp.sum(jnp.log(1 - x) + jnp.log(x)),
}


def one_of(x: Any, number: Any) -> Any:
    return jax.lax.switch(number, list(LOSSES.values()), x)


def ended(name: str, start: Any = (1.0, 1.0), **tolerances: Any) -> Any:
    number = list(LOSSES).index(name)
    return gx.minimize(one_of, np.asarray(start), args=(number,), history=200, **tolerances)


def test_endings(x64: None) -> None:
    """Each has its status; the best point is returned, also where it did not converge."""
    used_up = ended("rosenbrock", START, max_evaluations=20)
    assert (used_up.status, used_up.evaluations) == (4, 20)
    assert used_up.value == np.nanmin(used_up.history)
    assert not used_up.converged
    assert str(used_up).startswith("ended after 15 iterations, 20 evaluations: all evaluations")
    assert ended("rosenbrock", START, gtol=0.0, ftol=1e-6).status == 2
    assert ended("rosenbrock", START, gtol=0.0, xtol=1e-6).status == 3

    flat = ended("bowl", np.zeros(2))
    assert (flat.status, flat.evaluations, flat.iterations) == (1, 1, 0)
    assert ended("logarithm", (-1.0, -1.0)).status == 6
    for name, status in (("line", 4), ("fall", 7)):
        found = ended(name, max_evaluations=200)
        assert found.status == status, found
        assert np.isfinite(found.value)
        assert np.isfinite(found.params).all()
    kink = ended("kink", (0.3, 0.7))
    assert kink.status in (1, 5)
    assert kink.value == np.nanmin(kink.history)


def test_a_barrier_at_the_first_trial(x64: None) -> None:
    """A value that is no number makes the step shorter, and that is all."""
    found = ended("barrier", (0.5, 0.9))
    assert np.isnan(found.history[: int(found.evaluations)]).any()
    assert found.converged, found
    root = (1 + 2e-3 - np.sqrt((1 + 2e-3) ** 2 - 4e-3)) / 2
    np.testing.assert_allclose(found.params, root, rtol=1e-4)


def test_complex_parameters(x64: None) -> None:
    """The path is that of the real problem of twice the size."""
    random = np.random.default_rng(0)
    a = random.normal(size=(4, 3)) + 1j * random.normal(size=(4, 3))
    b, start = a @ np.array([1, 2j, 3 + 1j]), np.array([1j, 1, -2.0 + 0j])

    def off(x: Any) -> Any:
        return jnp.sum(jnp.abs(a @ x - b) ** 4) + jnp.sum(jnp.abs(x) ** 2)

    def real(x: Any) -> Any:
        return off(x[:3] + 1j * x[3:])

    with jax.numpy_dtype_promotion("standard"):
        found = gx.minimize(off, start, history=40)
        other = gx.minimize(real, np.concatenate([start.real, start.imag]), history=40)
    assert found.converged
    assert found.evaluations == other.evaluations
    n = int(found.evaluations)
    np.testing.assert_allclose(found.history[:n], other.history[:n], rtol=1e-9)


def test_narrow_parameters() -> None:
    """float32 and bfloat16: values and slopes of the search are in float32."""
    found = gx.minimize(rosenbrock, START.astype(np.float32), gtol=1e-4)
    assert found.converged, found
    assert found.params.dtype == found.value.dtype == np.float32
    narrow = gx.minimize(lambda x: jnp.sum((x - 3) ** 2), jnp.ones(4, jnp.bfloat16), gtol=1e-2)
    assert narrow.params.dtype == jnp.bfloat16
    assert narrow.value.dtype == np.float32
    np.testing.assert_allclose(narrow.params.astype(jnp.float32), 3, rtol=1e-2)


@pytest.mark.slow
def test_float32_on_the_published_problems() -> None:
    """Most reach a gradient of 1e-4, and none returns a value above the lowest that it has seen."""
    solved, names = 0, [n for n in NAMES if n in WELL_SCALED or n == "Jennrich-Sampson"]
    for name in names:
        found = gx.minimize(
            any_loss,
            long_start(name).astype(np.float32),
            args=(NAMES.index(name),),
            gtol=1e-4,
            history=1000,
        )
        solved += int(found.status) == 1
        lowest = np.nanmin(found.history)
        assert found.value <= lowest + 1e-6 * abs(lowest), name
    assert (solved, len(names)) >= (27, 29)


def test_refusals() -> None:
    """What cannot be minimized is said in three parts."""
    for call, mention in (
        (lambda: gx.minimize(lambda x: x, jnp.ones(3)), "shape"),
        (lambda: gx.minimize(lambda x: (x, x), jnp.ones(())), "has_aux"),
        (lambda: gx.minimize(jnp.sum, {"a": 1}), "floating"),
        (lambda: gx.minimize(None, jnp.ones(3)), "value_and_grad"),
        (lambda: gx.minimize(jnp.sum, jnp.ones(3), gtol=jnp.ones(2)), "gtol"),
        (lambda: gx.minimize(jnp.sum, jnp.ones(3), gx.lbfgs), "lbfgs"),
    ):
        with pytest.raises((TypeError, ValueError)) as raised:
            call()
        three_parts(raised.value, mention)
