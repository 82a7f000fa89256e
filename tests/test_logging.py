"""What a logger gets: Python numbers, each under a short name that `replace` takes."""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import assert_three_parts, build, over_optimizers, over_rows, step

import gradtx as gx

P = {"w": jnp.ones(3), "b": jnp.ones(())}
G = jax.tree.map(jnp.ones_like, P)
BAD = {"w": jnp.full(3, jnp.nan), "b": jnp.ones(())}


def rising(count: Any) -> Any:
    return 0.125 * (jnp.asarray(count, float) + 1)


LINE = gx.linear_schedule(1.0, 0.0, 16)

# Names -------------------------------------------------------------------------------------------


@over_rows
def test_every_name_is_one_that_replace_takes(row: Any) -> None:
    """As a keyword, with the same value: nothing changes; a wrapper around changes no name."""
    tx = build(row)
    found = tx.hyperparameters()
    assert sorted(found.values()) == sorted(jax.tree.leaves(tx))
    for name, value in found.items():
        assert tx.replace(**{name: value}) == tx
    around = gx.ema(gx.accumulate(tx, 2)).hyperparameters()
    assert found.items() <= around.items()


def test_names() -> None:
    """The field, else the end of the path; what is around gives way to what is inside."""
    adam = gx.adamw(1e-3)
    assert list(adam.hyperparameters()) == [
        "b1",
        "b2",
        "eps",
        "eps_root",
        "weight_decay",
        "learning_rate",
    ]
    twice = gx.ema(gx.ema(gx.sgd(0.1, momentum=0.9), 0.5), 0.25)
    found = twice.hyperparameters()
    assert (found["decay"], found["ema.decay"], found["ema_2.decay"]) == (0.9, 0.5, 0.25)
    for name in ("decay", "ema.decay", "ema_2.decay"):
        assert twice.replace({name: 0.75}).hyperparameters() == {**found, name: 0.75}
    groups = gx.partition({"*/bias": gx.sgd(0.1), "*": gx.ema(gx.sgd(0.2))})
    assert list(groups.hyperparameters()) == [
        "*/bias.scale_by_learning_rate.learning_rate",
        "*.scale_by_learning_rate.learning_rate",
        "decay",
        "start",
        "every",
    ]
    inside = gx.chain(gx.ema(gx.scale_by_momentum(0.5)), gx.scale(2.0)).hyperparameters()
    assert (inside["decay"], inside["ema.ema.decay"]) == (0.5, 0.999)


def test_names_that_read_alike() -> None:
    """Keys with dots in them: every number has a name of its own all the same."""
    tx = gx.partition({"a.b": gx.sgd(0.1), "a": gx.chain(b=gx.sgd(0.2)), "*": gx.sgd(0.3)})
    found = tx.hyperparameters()
    assert sorted(found.values()) == [0.1, 0.2, 0.3]
    for name in found:
        assert tx.replace({name: 0.5}).hyperparameters() == {**found, name: 0.5}


def test_names_of_tables_and_trees() -> None:
    """The field with the pattern or path for which it is; schedules count as one number."""
    tx = gx.chain(
        gx.scale_by_adam(b1=lambda count: 0.1 * count),
        gx.add_decayed_weights(gx.by_path({"*/bias": 0.0, "*": 0.5})),
        gx.scale_by_learning_rate({"dense": {"k": gx.linear_schedule(1.0, 0.0, 10)}, "x": 3.0}),
    )
    found = tx.hyperparameters(count=5)
    expected = {
        "b1": 0.5,
        "b2": 0.999,
        "eps": 1e-8,
        "eps_root": 0.0,
        "weight_decay.*/bias": 0.0,
        "weight_decay.*": 0.5,
        "learning_rate.dense/k": 0.5,
        "learning_rate.x": 3.0,
    }
    assert found == pytest.approx(expected)
    for name in found:
        assert tx.replace({name: 0.25}).hyperparameters(count=5)[name] == 0.25
    along = gx.sgd(gx.by_path({"w": gx.along([0.1, 0.2, 0.3], 0), "*": 0.5}))
    assert along.hyperparameters() == {
        "learning_rate.w": [0.1, 0.2, 0.3],
        "learning_rate.*": 0.5,
    }


def test_a_number_of_a_schedule_takes_no_name_away() -> None:
    """`decay` is that of the momentum, whatever a schedule beside it calls its own."""
    tx = gx.sgd(gx.wsd_schedule(0.1, 10, 100, 20), momentum=0.9)
    assert tx.hyperparameters()["decay"] == 0.9
    assert tx.replace(decay=0.5) == gx.sgd(gx.wsd_schedule(0.1, 10, 100, 20), momentum=0.5)
    cosine = gx.wsd_schedule(0.1, 10, 100, 20, decay="cosine")
    assert tx.replace({"learning_rate.decay": "cosine"}) == gx.sgd(cosine, momentum=0.9)


# Values ------------------------------------------------------------------------------------------


def line(tx: Any, state: Any) -> dict[str, Any]:
    """What a line of a log says, read back."""
    return json.loads(json.dumps({**tx.hyperparameters(state), **gx.metrics(state)}))


@over_rows
def test_a_line_of_json(row: Any) -> None:
    """After a step, with what `monitor` measures."""
    tx = gx.monitor(build(row))
    params = {"w": jnp.full((4, 3), 0.5), "b": jnp.ones(3)}
    grads = jax.tree.map(jnp.ones_like, params)
    state = tx.init(params)
    shapes = jax.eval_shape(lambda g, s, p: step(tx, g, s, p)[1], grads, state, params)
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    told = line(tx, state)
    assert told == {**tx.hyperparameters(state), **gx.metrics(state)}
    assert all(type(x) in (int, float) for x in told.values())
    assert told.keys() >= {"grad_norm/*", *tx.hyperparameters()}


def test_numbers_that_are_none() -> None:
    """What is not finite stays a float; a deleted array, and what follows from one, is None."""
    tx = gx.monitor(gx.sgd(LINE, momentum=jnp.float32(0.5)))
    _, state = tx.update(BAD, tx.init(P), P)
    assert np.isnan(gx.metrics(state)["grad_norm/*"])
    for x in jax.tree.leaves(state):
        x.delete()
    told = tx.hyperparameters(state)
    assert told == {"decay": 0.5, "learning_rate": None}
    assert set(gx.metrics(state).values()) == {None}
    kept = gx.inject_hyperparams(gx.sgd(LINE, momentum=0.5))
    state = kept.init(P)
    for x in jax.tree.leaves(state):
        x.delete()
    assert kept.hyperparameters(state) == {"decay": None, "learning_rate": None}


def test_narrow_numbers_and_keys_are_plain() -> None:
    tx = gx.adamw(np.float32(0.5), b2=jnp.bfloat16(0.5), weight_decay=jnp.float32(0.25))
    assert all(type(x) is float for x in tx.hyperparameters().values())
    key = jax.random.key(3)
    noisy = gx.differentially_private_aggregate(1.0, 1.0, key).hyperparameters()
    assert json.loads(json.dumps(noisy))["key"] == jax.random.key_data(key).tolist()


def test_stacks_are_lists() -> None:
    """Of optimizers, of states, of both: along the axes that they have in front."""
    rates = jnp.asarray([0.5, 1.0, 2.0])
    txs = jax.vmap(lambda peak: gx.monitor(gx.sgd(gx.linear_schedule(peak, 0.0, 4))))(rates)
    start = jax.vmap(lambda tx: tx.init(P))(txs)
    states = jax.vmap(lambda tx, state: tx.update(G, state, P)[1])(txs, start)
    told = line(txs, states)
    assert told["learning_rate"] == [0.375, 0.75, 1.5]
    assert len(told["grad_norm/*"]) == 3
    one = gx.accumulate(gx.sgd(LINE), 2)
    states = jax.vmap(lambda n: one.init(P)._replace(gradient_step=n))(jnp.arange(3))
    assert one.hyperparameters(states)["learning_rate"] == [1.0, 0.9375, 0.875]
    function = gx.sgd(lambda count: jax.lax.cond(count > 0, lambda: 0.5, lambda: 0.25))
    states = jax.vmap(lambda n: {**function.init(P), "count": n})(jnp.arange(2))
    assert function.hyperparameters(states) == {"learning_rate": [0.25, 0.5]}


def test_under_a_trace_there_are_arrays() -> None:
    """A logger inside of jit passes a traced state or count."""
    tx = gx.monitor(gx.sgd(LINE))
    state = tx.update(G, tx.init(P), P)[1]
    inside = jax.jit(lambda s: {**tx.hyperparameters(s), **gx.metrics(s)})(state)
    assert all(isinstance(x, jax.Array) for name, x in inside.items())
    assert jax.tree.map(float, inside) == pytest.approx(line(tx, state))
    found = jax.jit(lambda count: tx.hyperparameters(count=count))(jnp.int32(4))
    assert float(found["learning_rate"]) == 0.75


def test_all_is_fetched_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """One transfer, however many numbers there are."""
    fetched, fetch = [], jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda x: (fetched.append(x), fetch(x))[1])
    tx = gx.partition({"w": gx.adamw(LINE), "*": gx.adamw(jnp.float32(0.1), b1=rising)})
    state = tx.init(P)
    told = tx.hyperparameters(state)
    assert len(fetched) == 1
    assert len(told) == 12


def test_numbers_on_many_devices() -> None:
    """A state that is replicated, or a stack that is sharded."""
    mesh = jax.make_mesh((8,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec
    tx = gx.monitor(gx.sgd(LINE))
    state = jax.device_put(tx.init(P), jax.sharding.NamedSharding(mesh, spec()))
    assert line(tx, state)["learning_rate"] == 1.0
    stack = jax.tree.map(lambda x: jnp.stack([x] * 8), tx.init(P))
    stack = jax.device_put(stack, jax.sharding.NamedSharding(mesh, spec("i")))
    assert line(tx, stack)["learning_rate"] == [1.0] * 8


# Mistakes ----------------------------------------------------------------------------------------


@over_optimizers
def test_a_state_of_another_optimizer_is_refused(row: Any) -> None:
    """Also one that differs inside only, and a count in the place of a state."""
    tx = build(row)
    params = {"w": jnp.ones((4, 3)), "b": jnp.ones(3)}
    other = jax.eval_shape(gx.ema(gx.sgd(0.1)).init, params)
    for state in (other, 5, (), jax.eval_shape(gx.chain(mine=gx.clip(1.0)).init, params)):
        with pytest.raises(TypeError) as raised:
            tx.hyperparameters(state)
        assert_three_parts(raised.value, "hyperparameters", "hyperparameters(count=...)")


def test_a_state_that_differs_inside_is_refused() -> None:
    state = gx.ema(gx.accumulate(gx.sgd(0.1), 2)).init(P)
    others = (
        gx.ema(gx.sgd(0.1)),
        gx.ema(gx.apply_if_finite(gx.sgd(0.1), 2)),
        gx.ema(gx.accumulate(gx.adam(0.1), 2)),
        gx.ema(gx.inject_hyperparams(gx.sgd(0.1))),
        gx.ema(gx.flatten(gx.sgd(0.1))),
        gx.ema(gx.separately(gx.sgd(0.1))),
    )
    for other in others:
        with pytest.raises(TypeError) as raised:
            other.hyperparameters(state)
        assert_three_parts(raised.value, "hyperparameters", "init or last update")


def test_a_state_and_a_count_are_refused() -> None:
    tx = gx.sgd(0.1)
    with pytest.raises(TypeError) as raised:
        tx.hyperparameters(tx.init(P), count=3)
    assert_three_parts(raised.value, "hyperparameters", "Pass one of them")
