"""Training: the stacked run is the same as single runs, and every problem can be learnt."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import some

import gradtx as gx
from gradtx.compare.entrant import SCHEDULES, Entrant
from gradtx.compare.problems import PROBLEMS
from gradtx.compare.race import Race, _chunks

from .conftest import problem

ADAM = Entrant("adam", gx.adam, "Adam", "", 1e-2)
RATES = {"quadratic": 0.3, "rosenbrock": 0.03}


def race(name: str, steps: int, seeds: list[int], batch_size: int | None = None, **more: str):
    schedule = SCHEDULES[more.get("schedule", "constant")]
    return Race(replace(problem(name), steps=steps, batch_size=batch_size), seeds, schedule)


QUICK = ("logistic", "digits-mlp", "text-transformer")


@pytest.mark.parametrize("name", some(PROBLEMS, QUICK))
def test_every_problem_gives_a_finite_loss_that_adam_lowers(name: str):
    chosen = problem(name)
    steps = 12
    size = None if chosen.batch_size is None else min(chosen.batch_size, 8)
    trial = race(name, steps, [0], size).run(
        ADAM, np.array([RATES.get(name, 1e-2)]), lambda n: None
    )
    assert trial.steps.tolist() == list(range(steps + 1))
    assert np.isfinite(trial.train_loss).all()
    assert np.isfinite(trial.held_loss).all()
    assert trial.train_loss[0, 0, -3:].mean() < trial.train_loss[0, 0, 0]
    assert (trial.path is None) == (chosen.watch is None)
    assert (trial.trace is None) == (chosen.show is None)


def test_the_stacked_run_equals_single_runs_by_hand():
    chosen, steps = problem("logistic"), 7
    rates, seeds = np.array([1e-3, 1e-1], np.float32), [3, 5]
    stacked = race("logistic", steps, seeds, 4).run(ADAM, rates, lambda n: None)
    for i, rate in enumerate(rates):
        for j, seed in enumerate(seeds):
            key = jax.random.key(seed)
            params = chosen.draw(jax.random.fold_in(key, 0))
            tx = gx.adam(float(rate))
            state = tx.init(params)
            for count in range(steps):
                step_key = jax.random.fold_in(jax.random.fold_in(key, 1), count)
                choose, chance = jax.random.split(step_key)
                rows = jax.random.randint(choose, (4,), 0, len(chosen.train[0]))
                batch = jax.tree.map(lambda a, rows=rows: jnp.asarray(a)[rows], chosen.train)
                grads = jax.grad(chosen.loss)(params, batch, chance)
                params, state = tx.step(grads, state, params)
            probe = jax.tree.map(lambda a: a[: chosen.probe], chosen.train)
            by_hand = chosen.loss(params, probe, key)
            assert stacked.train_loss[i, j, -1] == pytest.approx(float(by_hand), rel=1e-4)


def test_a_race_is_decided_by_its_seeds():
    def losses(seeds: list[int]):
        return race("logistic", 5, seeds, 4).run(ADAM, np.array([0.1]), lambda n: None).train_loss

    first, again, other = losses([0, 1]), losses([0, 1]), losses([1, 2])
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first[:, 1], other[:, 0], rtol=1e-5)
    assert (first[:, 0] != first[:, 1]).all()


def test_progress_hears_of_every_step():
    heard: list[float] = []
    race("quadratic", 120, [0]).run(ADAM, np.array([0.1]), heard.append)
    assert sum(heard) == pytest.approx(1)
    assert len(heard) > 10


def test_a_second_round_has_all_seeds():
    heard: list[float] = []
    both = replace(race("quadratic", 20, [0, 1, 2, 3]), finer=True)
    found = both.run(ADAM, np.array([0.01, 0.1, 1.0]), heard.append)
    assert sum(heard) == pytest.approx(1)
    assert sorted(found.ran.sum(1).tolist()) == [3, 3, 4, 4, 4]
    assert np.isfinite(found.train_loss[found.ran]).all()


@pytest.mark.parametrize("steps", [1, 7, 50, 51, 600, 1001])
def test_looks_cover_all_steps_with_at_most_two_lengths(steps: int):
    lengths = _chunks(steps)
    assert sum(lengths) == steps
    assert len(set(lengths)) <= 2
    assert len(lengths) <= 50


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_start_or_end_as_they_should(schedule: str):
    made = SCHEDULES[schedule](0.5, 100)
    values = [float(made(jnp.int32(t))) if callable(made) else made for t in (0, 20, 100)]
    assert max(values) <= 0.5
    assert values[0] == (0 if schedule in ("warmup-cosine", "wsd") else 0.5)
    assert values[1] > 0.3
    assert values[2] == pytest.approx(0.5 if schedule == "constant" else 0, abs=1e-6)


def test_a_schedule_is_swept_like_a_number():
    trial = race("quadratic", 10, [0], schedule="linear").run(
        ADAM, np.array([0.1, 0.3]), lambda n: None
    )
    alone = race("quadratic", 10, [0], schedule="linear").run(ADAM, np.array([0.3]), lambda n: None)
    np.testing.assert_allclose(trial.train_loss[1], alone.train_loss[0], rtol=1e-5)
    assert (trial.train_loss[0, 0, 1:] != trial.train_loss[1, 0, 1:]).all()


def test_state_is_counted_by_the_parameter():
    def bytes_of(make):
        entrant = Entrant("x", make, "", "", 0.1)
        run = race("logistic", 1, [0], 1).run(entrant, np.array([0.1]), lambda n: None)
        return run.state_bytes_per_parameter

    assert bytes_of(gx.adam) - bytes_of(gx.sgd) == pytest.approx(8, abs=0.2)


def test_runs_are_spread_over_devices():
    """Each device trains some of the learning rates: the same losses, without communication."""
    one = replace(problem("logistic"), steps=6, batch_size=8)
    rates = np.geomspace(1e-3, 1.0, 4)
    trials = [
        Race(one, [0, 1], SCHEDULES["constant"], devices=jax.devices()[:number]).run(
            ADAM, rates, lambda part: None
        )
        for number in (1, 4)
    ]
    np.testing.assert_allclose(trials[0].train_loss, trials[1].train_loss, rtol=1e-5)
    np.testing.assert_allclose(trials[0].held_loss, trials[1].held_loss, rtol=1e-5)
