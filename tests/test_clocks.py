"""Who counts: one clock for parts that step together, and the clock of whoever takes the step."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import DictKey, GetAttrKey

import gradtx as gx
from gradtx.engine.step import At

P = {"w": jnp.ones(3), "b": jnp.zeros(())}
G = {"w": jnp.full(3, 0.5), "b": jnp.ones(())}
BAD = {"w": jnp.full(3, jnp.nan), "b": jnp.ones(())}


def rising(count: Any) -> Any:
    return 0.1 * jnp.asarray(count, float)


def after(tx: Any, gradients: list[Any], **more: Any) -> Any:
    """The state after these gradients, parameters standing still."""
    state = tx.init(P)
    for g in gradients:
        _, state = tx.update(g, state, P, **more)
    return state


SKIPPING = {
    "accumulate": (lambda tx: gx.accumulate(tx, 4), [G] * 8, 2),
    "every": (lambda tx: gx.every(4, tx), [G] * 8, 2),
    "conditionally_mask": (
        lambda tx: gx.conditionally_mask(tx, lambda count: count % 2 == 1),
        [G] * 6,
        3,
    ),
    "apply_if_finite": (lambda tx: gx.apply_if_finite(tx, 100), [G, BAD] * 3, 3),
    "skip_outliers": (lambda tx: gx.skip_outliers(tx), [G, BAD] * 3, 3),
    "dynamic_loss_scale": (lambda tx: gx.dynamic_loss_scale(tx), [G, BAD] * 3, 3),
    "sam": (lambda tx: gx.sam(tx), [G] * 6, 3),
}
over_skipping = pytest.mark.parametrize("name", SKIPPING)


@over_skipping
def test_a_schedule_inside_counts_the_steps_that_are_taken(name: str) -> None:
    """The update of the next step has the rate of that many steps; no other clock runs inside."""
    around, gradients, steps = SKIPPING[name]
    tx = around(gx.sgd(rising))
    state = after(tx, gradients)
    assert int(tx.count(state)) == len(gradients)
    assert int(state.gradient_step) == steps
    assert "count" not in state.inner
    rate = tx.hyperparameters(state)["learning_rate"]
    np.testing.assert_allclose(rate, 0.1 * steps, rtol=1e-6)


@over_skipping
def test_schedule_free_around_weighs_with_the_rate_that_was_used(name: str) -> None:
    """The peak is the largest rate with which a step was taken."""
    around, gradients, steps = SKIPPING[name]
    state = after(gx.schedule_free(around(gx.sgd(rising))), gradients)
    np.testing.assert_allclose(state.own.peak, 0.1 * (steps - 1), rtol=1e-6)
    given = gx.schedule_free(around(gx.sgd(rising)), weight_learning_rate=rising)
    np.testing.assert_allclose(after(given, gradients).own.peak, 0.1 * (steps - 1), rtol=1e-6)


@pytest.mark.parametrize("name", ["accumulate", "every", "sam"])
def test_hyperparameters_at_a_count_are_those_in_use(name: str) -> None:
    """Without a state too, where the number of steps follows from the number of updates."""
    around, gradients, steps = SKIPPING[name]
    tx = around(gx.sgd(lambda count: 1 - rising(count)))
    rate = tx.hyperparameters(count=len(gradients))["learning_rate"]
    np.testing.assert_allclose(rate, 1 - 0.1 * steps, rtol=1e-6)


def test_the_schedule_of_a_guard_counts_updates() -> None:
    """150 good steps, then 3 bad ones: the limit of that time holds, not that of the third."""
    tx = gx.apply_if_finite(gx.sgd(0.1), lambda count: jnp.where(count < 100, 2, 1e9))
    step = jax.jit(tx.update)
    state = tx.init(P)
    for g in [G] * 150 + [BAD] * 3:
        _, state = step(g, state, P)
    assert not state.frozen


MIXED = gx.partition({"b": gx.sgd(0.1), "*": gx.adamw(1e-3)})
GROUPS = {
    "muon": gx.muon(1e-2, matrices="w"),
    "partition": MIXED,
    "partition in a chain": gx.chain(gx.clip_by_global_norm(1.0), MIXED),
    "partition of partitions": gx.partition({"*": MIXED}),
    "masks": gx.chain(gx.masked(gx.adam(1e-3), "w", outside="pass"), gx.masked(gx.adam(1.0), "b")),
}
ALONE = {
    "adam": gx.adam(1e-3),
    "adamw": gx.adamw(1e-3),
    "masked": gx.masked(gx.adamw(1e-3), "w"),
    "ema": gx.ema(gx.adamw(1e-3)),
    "schedule_free": gx.schedule_free(gx.adamw(1e-3)),
    "mechanic": gx.mechanic(gx.adamw(1.0)),
    **{name: tx for name, tx in GROUPS.items() if name != "masks"},
}


@pytest.mark.parametrize("name", ALONE)
def test_parts_that_step_together_have_one_count(name: str) -> None:
    """`optax.tree.get` finds one, and `tx.count` is that."""
    tx = ALONE[name]
    params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(())}
    state = tx.init(params)
    for _ in range(3):
        _, state = tx.update(params, state, params)
    found = optax.tree.get(state, "count")
    assert int(found) == int(tx.count(state)) == 3


@pytest.mark.parametrize("name", GROUPS)
def test_groups_have_their_own(name: str) -> None:
    """Which wait while none of their arrays has a gradient; `tx.count` is that of all."""
    tx, params = GROUPS[name], {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
    state, moved = tx.init(params), params
    for missing in ("w", "w", "b"):
        moved, state = tx.step({**params, missing: None}, state, moved)
    assert int(tx.count(state)) == 3
    flat = jax.tree_util.tree_leaves_with_path(state)
    clocks = {DictKey("count"), GetAttrKey("count"), DictKey("gradient_step")}
    counts = {int(x) for path, x in flat if clocks & {*path}}
    assert counts == {1, 2, 3}
    _, same = tx.step({"w": None, "b": None}, state, moved)
    chex.assert_trees_all_equal(same, state)


def test_a_wrapper_is_one_group() -> None:
    """Calls without any gradient are no steps, of whatever it is around either."""
    tx = gx.ema(gx.accumulate(gx.adam(0.1), 2), 0.9)
    start = {"w": jnp.ones(3)}
    state, params = tx.init(start), start
    for g in ({"w": None}, start, {"w": None}, start):
        params, state = tx.step(g, state, params)
    assert int(state.count) == 2
    assert int(state.inner.gradient_step) == 1
    np.testing.assert_allclose(params["w"], 0.9, rtol=1e-6)


def test_foreign_parts_and_skipping_wrappers_keep_their_own() -> None:
    """In a chain: the count of the chain, that of Optax's Adam, the steps of what accumulates."""
    tx = gx.chain(optax.scale_by_adam(), gx.accumulate(gx.sgd(0.1), 2))
    with jax.numpy_dtype_promotion("standard"):
        state = after(tx, [G] * 3)
    assert int(tx.count(state)) == int(state["foreign"].count) == 3
    assert int(state["accumulate"].gradient_step) == 1


@pytest.mark.parametrize(
    "make", [lambda: gx.chain(count=gx.sgd(0.1)), lambda: gx.partition({"count": gx.sgd(0.1)})]
)
def test_a_part_named_count_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"named 'count'.*\. Name it otherwise"):
        make()


def test_schedules_of_a_wrapper_read_its_count() -> None:
    """The decay of an average around accumulation is read at the micro-batches that led to p."""
    seen = gx.ema(gx.accumulate(gx.sgd(0.1), 2), rising)
    moments = {type(part).__name__: int(at.count) for part, at in seen.moments(At(4))}
    assert moments["ema"] == 4
    assert moments["scale_by_learning_rate"] == 2
