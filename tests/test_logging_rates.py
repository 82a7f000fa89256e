"""The hyperparameters that a logger is told are those that the next step uses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx

P = {"w": jnp.ones(3), "b": jnp.ones(())}
G = jax.tree.map(jnp.ones_like, P)
BAD = {"w": jnp.full(3, jnp.nan), "b": jnp.ones(())}
NO_W = {"w": None, "b": jnp.ones(())}
NO_B = {"w": jnp.ones(3), "b": None}
LINE = gx.linear_schedule(1.0, 0.0, 16)


def rising(count: Any) -> Any:
    return 0.125 * (jnp.asarray(count, float) + 1)


SETTINGS = {
    "alone": (lambda tx: tx, [G] * 3),
    "chain": (lambda tx: gx.chain(gx.clip_by_global_norm(1e9), tx), [G] * 3),
    "accumulate": (lambda tx: gx.accumulate(tx, 3), [G] * 8),
    "accumulate, by a schedule": (
        lambda tx: gx.accumulate(tx, lambda count: jnp.where(count < 2, 1, 2)),
        [G] * 8,
    ),
    "every": (lambda tx: gx.every(3, tx), [G] * 8),
    "conditionally_mask": (
        lambda tx: gx.conditionally_mask(tx, lambda count: count % 2 == 1),
        [G] * 6,
    ),
    "apply_if_finite": (lambda tx: gx.apply_if_finite(tx, 9), [G, BAD, BAD, G, G]),
    "skip_outliers": (lambda tx: gx.skip_outliers(tx), [G, BAD, G, G]),
    "dynamic_loss_scale": (
        lambda tx: gx.dynamic_loss_scale(tx, initial_scale=1.0, growth_interval=99, min_scale=1.0),
        [G, BAD, G, G],
    ),
    "partition": (lambda tx: gx.partition({"w": tx, "*": gx.freeze()}), [G, NO_W, NO_W, G, G]),
    "masked": (lambda tx: gx.masked(tx, "w"), [G, NO_W, NO_W, G, G]),
    "separately": (lambda tx: gx.separately(tx), [G] * 3),
    "flatten": (lambda tx: gx.flatten(tx), [G] * 3),
    "average": (lambda tx: gx.ema(gx.polyak_average(tx)), [G] * 3),
    "monitor": (lambda tx: gx.monitor(tx), [G] * 3),
    "lookahead that begins anew": (
        lambda tx: gx.lookahead(tx, 3, 1.0, reset_state=True),
        [G] * 8,
    ),
    "offload": (lambda tx: gx.offload(tx), [G] * 3),
    "inject_hyperparams": (lambda tx: gx.inject_hyperparams(tx), [G] * 3),
    "nested": (
        lambda tx: gx.ema(gx.accumulate(gx.apply_if_finite(gx.masked(tx, "w"), 9), 2)),
        [G, G, BAD, G, G, G, G],
    ),
    "below a chain in a partition": (
        lambda tx: gx.partition(
            {"w": gx.chain(gx.clip(9.0), gx.accumulate(tx, 2)), "*": gx.freeze()}
        ),
        [G, NO_W, G, G, NO_W, G],
    ),
}


@pytest.mark.parametrize(
    "schedule", [pytest.param(rising, marks=pytest.mark.slow), LINE], ids=["function", "schedule"]
)
@pytest.mark.parametrize("name", SETTINGS)
def test_the_rate_is_that_of_the_next_step(name: str, schedule: Any) -> None:
    """Measured by the step of gradient descent that follows, wherever there is one."""
    around, gradients = SETTINGS[name]
    tx = around(gx.sgd(schedule))
    state, seen = tx.init(P), []
    for g in gradients:
        told = tx.hyperparameters(state)["learning_rate"]
        u, state = tx.update(g, state, P)
        if u["w"] is not None and np.any(u["w"]):
            np.testing.assert_allclose(-np.asarray(u["w"]), told, rtol=1e-5)
            seen.append(told)
    assert len(set(seen)) > 1, "the rate did not move"


def test_the_rates_of_two_groups() -> None:
    """Each at the count of its own, which stands still while the group has no gradients."""
    tx = gx.partition({"w": gx.sgd(rising), "*": gx.accumulate(gx.sgd(rising), 2)})
    state = tx.init(P)
    for g in (G, NO_B, NO_B, G, G, NO_W, G):
        told = tx.hyperparameters(state)
        u, state = tx.update(g, state, P)
        for key, name in (("w", "w"), ("b", "*")):
            if u[key] is not None and np.any(u[key]):
                told_of = told[f"{name}.scale_by_learning_rate.learning_rate"]
                np.testing.assert_allclose(-np.asarray(u[key]), told_of, rtol=1e-6)


def test_arrays_that_count_for_themselves() -> None:
    """One number while `separately` has one, then a list in the order of the state."""
    tx = gx.separately(gx.inject_hyperparams(gx.sgd(rising)))
    state = tx.init(P)
    _, state = tx.update(G, state, P)
    assert tx.hyperparameters(state) == {"learning_rate": 0.25}
    _, state = tx.update(NO_B, state, P)
    assert list(state["arrays"]) == ["b", "w"]
    assert tx.hyperparameters(state) == {"learning_rate": [0.25, 0.375]}
    assert gx.inject_hyperparams(gx.separately(gx.sgd(rising))).init(P)


def test_the_rate_of_schedule_free_is_that_of_z() -> None:
    tx = gx.schedule_free(gx.sgd(rising))
    params, state = P, tx.init(P)
    for _ in range(4):
        told = tx.hyperparameters(state)["learning_rate"]
        before = P if state.count == 0 else state.own.z
        params, state = tx.step(G, state, params)
        moved = np.asarray(before["w"]) - np.asarray(state.own.z["w"])
        np.testing.assert_allclose(moved, told, rtol=1e-6)


def test_the_length_of_a_cycle_is_that_of_the_present_one() -> None:
    """`accumulate` reads its own schedule at the steps taken, not at its calls."""
    tx = gx.accumulate(gx.sgd(0.1), lambda count: 1.0 + jnp.asarray(count, float))
    state = tx.init(P)
    for length in (1, 2, 3):
        for call in range(length):
            assert tx.hyperparameters(state)["every"] == length
            u, state = tx.update(G, state, P)
            assert np.any(u["w"]) == (call == length - 1)


def test_both_rates_of_outer() -> None:
    """That of the outer optimizer is in use at the end of a period."""
    tx = gx.outer(gx.sgd(rising), gx.sgd(rising), every=2)
    start, params, state = 1.0, P, tx.init(P)
    for k in range(6):
        told = tx.hyperparameters(state)
        old, (params, state) = float(params["b"]), tx.step(G, state, params)
        fast = old - told["learning_rate"]
        if k % 2 == 0:
            assert float(params["b"]) == pytest.approx(fast)
        else:
            rate = told["optimizer.scale_by_learning_rate.learning_rate"]
            assert float(params["b"]) == pytest.approx(start - rate * (start - fast))
            start = float(params["b"])
    assert tx.hyperparameters(count=6) == tx.hyperparameters(state)


def test_the_rates_of_matrices_and_the_rest() -> None:
    """One learning rate, read by each at its own count; by one alone where there is no other."""
    muon = gx.muon(rising, matrices="w")
    tx = gx.schedule_free(muon)
    params = {"w": jnp.ones((3, 3)), "b": jnp.ones(3)}
    state, alone = muon.init(params), muon.init({"w": params["w"]})
    for g in (params, {**params, "b": None}):
        _, state = muon.update(g, state, params)
        _, alone = muon.update({"w": g["w"]}, alone, {"w": params["w"]})
    assert muon.hyperparameters(state)["learning_rate"] == [0.375, 0.25]
    assert muon.hyperparameters(alone)["learning_rate"] == 0.375
    _, state = tx.update(params, tx.init(params), params)
    assert tx.hyperparameters(state)["learning_rate"] == 0.25


HOLDERS = {
    "flatten": gx.flatten,
    "separately": gx.separately,
    "outer": lambda tx: gx.outer(tx, gx.sgd(1.0)),
    "optimizer of outer": lambda tx: gx.outer(gx.adam(1.0), tx),
    "role": lambda tx: gx.muon(1.0, matrices="b", auxiliary=tx),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_what_a_state_holds_is_in_use_wherever_it_is(name: str) -> None:
    """Numbers set in the state of an `inject_hyperparams` inside."""
    params = {"w": jnp.ones(3), "b": jnp.ones((3, 3))}
    tx = HOLDERS[name](gx.inject_hyperparams(gx.scale_by_momentum(0.5)))
    state = jax.tree.map(lambda x: x, tx.init(params))

    def is_kept(x: Any) -> bool:
        return isinstance(getattr(x, "hyperparams", None), dict)

    kept = [x for x in jax.tree.leaves(state, is_leaf=is_kept) if is_kept(x)]
    for x in kept:
        x.hyperparams["decay"] = jnp.float32(0.75)
    assert tx.hyperparameters(state)["decay"] == 0.75


def test_what_a_state_holds_is_in_use() -> None:
    """Numbers set in the state of `inject_hyperparams`, those of its schedules too."""
    tx = gx.ema(gx.accumulate(gx.inject_hyperparams(gx.sgd(LINE, momentum=0.5)), 2))
    state = tx.init(P)
    inside = state.inner.inner
    inside.schedules["learning_rate.init_value"] = jnp.float32(0.25)
    inside.hyperparams["decay"] = jnp.float32(0.75)
    told = tx.hyperparameters(state)
    assert (told["learning_rate"], told["decay"], told["ema.decay"]) == (0.25, 0.75, 0.999)
