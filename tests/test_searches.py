"""The search on a line and the direction of L-BFGS: beside SciPy's, and what they promise."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from reference.solve import (
    hager_zhang as coroutine_of_hager_zhang,
    lbfgs as coroutine,
    two_loop,
)
from scipy.optimize._dcsrch import DCSRCH

import gradtx as gx
from gradtx.solve import hager_zhang as secants, more_thuente
from gradtx.solve.hager_zhang import Numbers
from gradtx.solve.more_thuente import Point
from gradtx.testing.compare import same

START = np.array([-1.2, 1.0])


def rosenbrock(x: Any) -> Any:
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


slopes = jax.jit(jax.value_and_grad(rosenbrock))

# On a line -------------------------------------------------------------------------------------

LINES = {  # of Moré & Thuente 1994, section 5, with slopes; the last ones have many minima
    "rational": lambda a: (-a / (a**2 + 2), (a**2 - 2) / (a**2 + 2) ** 2),
    "quintic": lambda a: ((a + 0.004) ** 5 - 2 * (a + 0.004) ** 4, _quintic_slope(a)),
    "parabola": lambda a: ((a - 3) ** 2, 2 * (a - 3)),
    "cosine": lambda a: (np.cos(3 * a) - 0.5 * a, -3 * np.sin(3 * a) - 0.5),
    "hyperbola": lambda a: (np.hypot(1, a - 5), (a - 5) / np.hypot(1, a - 5)),
}


def _quintic_slope(a: float) -> float:
    return 5 * (a + 0.004) ** 4 - 8 * (a + 0.004) ** 3


@functools.cache
def secant_turn() -> Any:
    return jax.jit(secants.turn), jax.jit(secants.exhausted), jax.jit(secants.begin)


@functools.cache
def turn() -> Any:
    return jax.jit(more_thuente.turn), jax.jit(more_thuente.exhausted), jax.jit(more_thuente.begin)


@pytest.mark.parametrize("name", LINES)
def test_trials_are_those_of_minpack(name: str, x64: None) -> None:
    """From first steps of all sizes the same trials as SciPy's, to rounding, with several c2."""
    function, (next_one, exhausted, begin) = LINES[name], turn()
    for first in (1e-3, 0.1, 1.0, 10.0, 1e3):
        for c2 in (0.9, 0.1):
            theirs, steps = DCSRCH(None, None, 1e-3, c2, 0.1, 0.0, 1e10), []
            value, slope = function(0.0)
            step, value, slope, task = theirs._iterate(first, value, slope, b"START")
            while task[:2] == b"FG" and len(steps) < 40:
                steps.append(step)
                step, value, slope, task = theirs._iterate(step, *function(step), task)
            start = Point(np.float64(0), *map(np.float64, function(0.0)))
            interval, a = begin(start, np.float64(first), np.float64(1e10)), np.float64(first)
            for count, expected in enumerate(steps):
                np.testing.assert_allclose(a, expected, rtol=1e-9)
                trial = Point(a, *map(np.float64, function(float(a))))
                if count == len(steps) - 1:
                    wolfe = trial.value <= start.value + 1e-3 * a * start.slope
                    wolfe = wolfe and abs(trial.slope) <= -c2 * start.slope
                    assert wolfe or exhausted(interval, trial, start, 1e-3, 0.1) or a == 0
                interval, a = next_one(interval, trial, start, np.float64(1e-3), np.float64(0.1))


@pytest.mark.parametrize("name", LINES)
def test_trials_are_those_of_hager_and_zhang(name: str, x64: None) -> None:
    """The same trials as the algorithm as it is printed, in a loop, to where it accepts one.

    There its conditions hold. From first steps of all sizes, with several of its numbers.
    """
    function, (next_one, exhausted, begin) = LINES[name], secant_turn()
    longest = 0
    for first in (1e-3, 0.1, 1.0, 10.0, 1e3):
        for delta, sigma in ((0.1, 0.9), (0.01, 0.02), (1e-4, 1e-3)):
            f0, d0 = function(0.0)
            search = coroutine_of_hager_zhang(f0, d0, first, delta, sigma, 1e-6, 30, 1e10)
            steps, accepted = [next(search)], False
            try:
                while True:
                    steps.append(search.send(function(steps[-1])))
            except StopIteration as done:
                accepted = done.value
            assert accepted
            longest = max(longest, len(steps))
            start = Point(np.float64(0), np.float64(f0), np.float64(d0))
            level = f0 + 1e-6 * abs(f0)
            numbers = Numbers(*map(np.float64, (level, 5.0, 0.5, 0.66)))
            now, a = begin(start, np.float64(1e10)), np.float64(first)
            for count, expected in enumerate(steps):
                np.testing.assert_allclose(a, expected, rtol=1e-7)
                trial = Point(a, *map(np.float64, function(float(a))))
                assert not exhausted(now, trial, level)
                wolfe = trial.value - f0 <= delta * a * d0
                wolfe |= (2 * delta - 1) * d0 >= trial.slope and trial.value <= level
                assert (wolfe and trial.slope >= sigma * d0) == (count == len(steps) - 1)
                now, a = next_one(now, trial, start, numbers)
    assert longest > 5


# The direction ---------------------------------------------------------------------------------


def test_the_compact_form_is_the_recursion(x64: None) -> None:
    """H g by one sum over all arrays and two small systems, and by 2m inner products in turn."""
    random = np.random.default_rng(0)
    spread = np.exp(random.normal(size=(4, 3)))
    p = {"a": jnp.asarray(random.normal(size=(4, 3))), "b": jnp.asarray(2.0)}
    for memory_size in (1, 3, 10):
        tx = gx.scale_by_lbfgs(memory_size)
        at, state, update, before, pairs = p, tx.init(p), jax.jit(tx.update), None, []
        for _ in range(25):
            g = {"a": spread * jnp.sinh(at["a"]) + at["b"], "b": jnp.sum(at["a"]) + 20 * at["b"]}
            u, state = update(g, state, at)
            now = jax.device_get((at, g))
            if before is not None:
                s, y = jax.tree.map(lambda x, y: x - y, now, before)
                assert sum(np.vdot(s[k], y[k]) for k in s) > 0  # so that every pair is kept
                pairs = [*pairs, (s, y)][-memory_size:]
                # The secant condition: what the newest change comes from.
                back = two_loop(y, pairs)
                for k in s:
                    np.testing.assert_allclose(back[k], s[k], rtol=1e-8, atol=1e-12)
            expected, before = two_loop(now[1], pairs), now
            size = max(np.abs(x).max() for x in expected.values())
            for k, x in expected.items():
                np.testing.assert_allclose(u[k], x, rtol=0, atol=1e-12 * size)
            assert sum(np.vdot(u[k], g[k]) for k in u) > 0  # minus u leads down
            at = gx.apply_updates(at, jax.tree.map(lambda x: -0.3 * x, u))


def test_negative_curvature_is_never_kept(x64: None) -> None:
    """E26: f = -x^2 / 2 + x^4 / 4 from .1 ends in a minimum, where Optax's climbs to 0."""

    def f(x: Any) -> Any:
        return -(x**2) / 2 + x**4 / 4

    tx, x = gx.chain(gx.scale_by_lbfgs(), gx.scale(-0.1)), jnp.asarray(0.1)
    state, slope, update = tx.init(x), jax.jit(jax.grad(f)), jax.jit(tx.update)
    for _ in range(100):
        g = slope(x)
        u, state = update(g, state, x)
        assert u * g < 0
        x = x + u
    np.testing.assert_allclose(abs(x), 1.0, rtol=1e-3)
    found = gx.minimize(f, 0.1)
    np.testing.assert_allclose(found.params, 1.0, rtol=1e-5)


def test_the_memory_lies_as_the_parameters() -> None:
    """One array [m, ...] for every parameter array, sharded like it, from the start."""
    mesh = Mesh(np.array(jax.devices()), ("x",))
    where = NamedSharding(mesh, PartitionSpec("x"))
    p = jax.device_put(jnp.ones((8, 3)), where)
    tx = gx.lbfgs(memory_size=4)
    shapes = jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=where)
    stacked = NamedSharding(mesh, PartitionSpec(None, "x"))
    state = tx.init(p)
    stepped = jax.jit(tx.step)(p, state, p, value=1.0)[1]
    for found in (state, jax.jit(tx.init)(p), tx.init(shapes), stepped):
        memory = found.inner["scale_by_lbfgs"].steps
        assert memory.shape == (4, 8, 3)
        assert memory.sharding.is_equivalent_to(stacked, 3)


# The search ------------------------------------------------------------------------------------


@functools.cache
def walked(evaluations: int = 45) -> list[Any]:
    """Points, states, values and gradients on the way to the minimum of Rosenbrock's function."""
    tx, x, found = gx.lbfgs(), jnp.asarray(START), []
    state = tx.init(x)
    for _ in range(evaluations):
        value, g = slopes(x)
        new, after = tx.step(g, state, x, value=value)
        found.append(jax.device_get((x, state, value, g, after)))
        x, state = new, after
    return found


def test_points_are_those_of_a_search_in_a_loop(x64: None) -> None:
    """A coroutine in NumPy that holds its place in its code visits the same points."""
    way, s = walked(), {}
    p = {"x": START}
    for t, (x, _, value, g, _) in enumerate(way[:40]):
        np.testing.assert_allclose(p["x"], x, rtol=1e-6)
        u, s = coroutine({"x": g}, {"x": x}, t + 1, s, value=float(value))
        p = {"x": x + u["x"]}


def test_accepted_points_are_lower_and_flatter(x64: None) -> None:
    """The strong Wolfe conditions hold where a point is accepted, and only there it moves."""
    accepted = 0
    for x, state, value, g, after in walked()[1:]:
        search, line = state.search, state.own
        slope = float(np.vdot(g, line.direction))
        lower = value <= search.base.value + 1e-3 * search.step * search.base.slope
        flat = abs(slope) <= 0.9 * abs(search.base.slope)
        assert search.base.slope < 0
        moved = after.search.iterations > search.iterations
        assert moved == (lower and flat)
        assert (after.own.base == (x if moved else line.base)).all()
        accepted += moved
        kept = gx.lbfgs().eval_params(after, x + 1)
        np.testing.assert_array_equal(kept, after.own.base)
    assert accepted == 37


def test_a_search_goes_on_where_it_was_interrupted(x64: None) -> None:
    """From a state that was saved between two trials, bit for bit; `update` as well as `step`."""
    way, tx = walked(), gx.lbfgs()
    middle = next(k for k, x in enumerate(way) if k > 10 and x[4].search.trials == 1)
    x, state = pickle.loads(pickle.dumps(way[middle][:2]))
    for expected in way[middle:]:
        same((x, state), expected[:2], "after an interruption")
        value, g = slopes(x)
        updates, other = tx.update(g, state, x, value=value)
        x, state = tx.step(g, state, x, value=value)
        same(other, state, "the state of update and of step")
        np.testing.assert_allclose(gx.apply_updates(expected[0], updates), x, rtol=0, atol=1e-12)


def test_a_direction_that_leads_up_is_left(x64: None) -> None:
    """Then it goes along the steepest descent, whatever is inside."""
    up = gx.wolfe(gx.scale(1.0))
    x = jnp.asarray([1.0, -2.0])
    state = up.init(x)
    new, state = up.step(x, state, x, value=jnp.sum(x**2) / 2)
    np.testing.assert_allclose(state.own.direction, -x)
    np.testing.assert_allclose(new, x - x / jnp.linalg.norm(x), rtol=1e-12)  # of length one


def test_it_starts_again_where_nothing_was_lower(x64: None) -> None:
    """Once with an empty memory; then it says so and stays, until it is given another value."""
    tx, x = gx.lbfgs(max_linesearch_steps=3), jnp.asarray(START)
    state, lines = tx.init(x), []
    for k in range(12):
        value, g = slopes(x)
        lied = value if k < 6 else value + 1000 * (k + 1)  # no trial is ever lower
        x, state = tx.step(g, state, x, value=lied)
        search = state.search
        lines.append((int(search.trials), bool(search.emptied), int(search.status)))
    line = [(1, False, 0), (2, False, 0), (0, True, 0), (1, True, 0), (2, True, 0), (3, True, 1)]
    assert lines[-6:] == line
    np.testing.assert_array_equal(x, state.own.base)
    value, g = slopes(x)
    before = float(value)
    for _ in range(10):
        value, g = slopes(x)
        x, state = tx.step(g, state, x, value=value)
    assert state.search.status == 0
    assert state.search.base.value < before


def test_backtracking_takes_what_is_low_enough(x64: None) -> None:
    """Armijo's condition holds where a point is accepted; L-BFGS reaches the minimum with it."""
    tx = gx.backtracking(gx.chain(gx.scale_by_lbfgs(), gx.scale(-1.0)))
    found = gx.minimize(rosenbrock, START, tx, gtol=1e-6, history=100)
    assert found.converged, found  # optimistix 0.1.0 takes 703 steps with such a search
    assert found.evaluations < 70
    np.testing.assert_allclose(found.params, 1.0, rtol=1e-6)
    steepest = gx.backtracking(gx.sgd(1.0), increase_factor=2.0, max_learning_rate=10.0)

    x, state = jnp.asarray(START), steepest.init(jnp.asarray(START))
    seen, last = [], np.inf
    for _ in range(40):
        value, g = slopes(x)
        before, (x, state) = state.search, steepest.step(g, state, x, value=value)
        if state.search.iterations > before.iterations:
            limit = before.base.value + 1e-4 * before.step * before.base.slope
            assert last > value <= limit
            last = value
            np.testing.assert_allclose(state.search.step, 2 * before.step)
        elif before.step > 0:
            seen.append(float(state.search.step / before.step))
    assert seen
    assert all(0.1 <= x <= 0.5 + 1e-12 for x in seen)


def test_hager_zhang_accepts_by_its_conditions(x64: None) -> None:
    """Lower, or level and not rising much, and less steep; L-BFGS comes to the minimum with it."""
    lbfgs = gx.chain(gx.scale_by_lbfgs(), gx.scale(-1.0))
    tx, x, accepted = gx.hager_zhang(lbfgs), jnp.asarray(START), 0
    state = tx.init(x)
    for _ in range(65):
        value, g = slopes(x)
        before, own, (x, state) = state.search, state.own, tx.step(g, state, x, value=value)
        if before.step > 0:
            start, slope = before.base, float(np.vdot(g, own.direction))
            lower = value <= start.value + 0.1 * before.step * start.slope
            level = value <= start.value + 1e-6 * abs(start.value)
            level &= slope <= -0.8 * start.slope
            taken = bool(state.search.iterations > before.iterations)
            assert taken == ((lower or level) and slope >= 0.9 * start.slope)
            accepted += taken
    assert accepted > 30
    np.testing.assert_allclose(tx.eval_params(state, x), 1.0, rtol=1e-4)


def test_hager_zhang_where_there_is_no_number(x64: None) -> None:
    """A trial that is not finite makes the step shorter, on the way out and in the interval."""

    def barrier(x: Any) -> Any:
        return jnp.sum(100 * x - jnp.log(x) - jnp.log(1 - x) + jnp.where(x > 0.6, jnp.nan, 0))

    tx = gx.hager_zhang(gx.sgd(1.0), initial_guess_strategy="keep", learning_rate=5.0)
    found = gx.minimize(barrier, np.array([0.5, 0.3]), tx, gtol=1e-3, history=300)
    assert np.isnan(found.history[: int(found.evaluations)]).any()
    assert found.converged, found
    now = secants.begin(*(Point(*map(np.float64, (0, 0, -1))), np.float64(1e10)))
    now, step = secants.retreat(now, np.float64(4.0))
    np.testing.assert_allclose((step, now.cap), (0.4, 2.0))
    numbers = Numbers(*map(np.float64, (0.0, 5.0, 0.5, 0.66)))
    start = Point(*map(np.float64, (0, 0, -1)))
    low = Point(*map(np.float64, (0.4, -0.4, -1)))
    now, step = secants.turn(now, low, start, numbers)
    assert step == 2.0  # five times as far, were there no bound
    high = Point(*map(np.float64, (2.0, 3.0, -1)))
    now, step = secants.turn(now, high, start, numbers)
    assert step == 1.0
    now, step = secants.retreat(now, np.float64(1.0))
    assert 0 < step < 1
    assert now.high.step == 1.0
    assert now.bisects
