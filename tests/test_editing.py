"""An optimizer is edited by names and paths, and its hyperparameters are read by the same."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws.cases import assert_three_parts, build, over_optimizers, over_rows, refused

import gradtx

# Editing ----------------------------------------------------------------------------------------


@over_optimizers
def test_replace_learning_rate(row):
    """`tx.replace(learning_rate=...)` is what the maker makes, and changes nothing else."""
    tx = build(row)
    assert tx.replace(learning_rate=0.123) == row.make(0.123)
    assert tx.replace(learning_rate=0.123) != tx
    assert tx == build(row) == row.make(row.learning_rate)


def test_replace_by_path():
    """A path finds one of several; a plain name that is not unique lists them."""
    tx = gradtx.chain(gradtx.scale(1.0), gradtx.scale(2.0), gradtx.adam(1e-3))
    assert tx.replace({"scale_2.step_size": 5.0}) == gradtx.chain(
        gradtx.scale(1.0), gradtx.scale(5.0), gradtx.adam(1e-3)
    )
    assert tx.replace(b1=0.5, b2=0.6).parts["scale_by_adam"] == gradtx.scale_by_adam(0.5, 0.6)
    with pytest.raises(ValueError, match="occurs more than once") as raised:
        tx.replace(step_size=1.0)
    assert_three_parts(raised.value, "scale.step_size", "scale_2.step_size")


def test_replace_goes_through_wrappers_and_schedules():
    """Masks, partitions with pattern keys, tables and schedules are entered."""
    tx = gradtx.partition(
        {"*/bias": gradtx.sgd(0.1), "*": gradtx.masked(gradtx.adam(1e-3), "*/kernel")}
    )
    edited = tx.replace(b1=0.5).replace({"*/bias.scale_by_learning_rate.learning_rate": 0.2})
    assert edited == gradtx.partition(
        {"*/bias": gradtx.sgd(0.2), "*": gradtx.masked(gradtx.adam(1e-3, 0.5), "*/kernel")}
    )
    assert list(edited.transforms) == ["*/bias", "*"]
    schedule = gradtx.sgd(gradtx.linear_schedule(1.0, 0.0, 10))
    assert schedule.replace(init_value=2.0) == gradtx.sgd(gradtx.linear_schedule(2.0, 0.0, 10))
    table = gradtx.adamw(1e-3, weight_decay=gradtx.by_path({"*/bias": 0.0, "*": 0.1}))
    path = "add_decayed_weights.weight_decay.*"
    assert table.replace({path: 0.5}) == gradtx.adamw(
        1e-3, weight_decay=gradtx.by_path({"*/bias": 0.0, "*": 0.5})
    )


def test_replace_takes_anything_that_the_constructor_takes():
    """Schedules, arrays, tracers, static fields and whole parts."""
    tx = gradtx.sgd(0.1, momentum=0.9)
    schedule = gradtx.linear_schedule(1.0, 0.0, 10)
    assert tx.replace(learning_rate=schedule) == gradtx.sgd(schedule, momentum=0.9)
    assert tx.replace(nesterov=True) == gradtx.sgd(0.1, 0.9, nesterov=True)
    masked = gradtx.masked(gradtx.scale(1.0), True)
    assert masked.replace(inner=gradtx.clip(1.0)) == gradtx.masked(gradtx.clip(1.0), True)
    updates = jax.jit(lambda x: tx.replace(learning_rate=x).update(x, tx.init(x))[0])(2.0)
    assert updates == -4.0


def test_replace_that_fits_no_more_is_refused():
    """An unknown name is answered with the nearest; a bad value as the constructor does."""
    tx = gradtx.adam(1e-3)
    with pytest.raises(ValueError, match="Did you mean") as raised:
        tx.replace({"scale_by_adm.b1": 0.5})
    assert "scale_by_adam.b1" in str(raised.value)
    with pytest.raises(ValueError, match="b1 is 2"):
        tx.replace(b1=2)
    with pytest.raises(TypeError, match="b1"):
        tx.replace(b1="0.5")


def test_a_part_of_a_chain_can_be_replaced() -> None:
    """By path and by keyword; a part named after its class gets the new one's name."""
    lion = gradtx.chain(gradtx.scale_by_lion(), gradtx.scale_by_learning_rate(1e-3))
    adam = gradtx.adam(1e-3)
    assert adam.replace({"scale_by_adam": gradtx.scale_by_lion()}) == lion
    assert adam.replace(scale_by_adam=gradtx.scale_by_lion()) == lion
    named = gradtx.chain(mine=gradtx.scale(1.0)).replace(mine=optax.scale(2.0))
    assert list(named.parts) == ["mine"]
    assert isinstance(named.parts["mine"], gradtx.GradientTransformation)
    inside = gradtx.ema(gradtx.partition({"*/bias": adam, "*": adam}))
    edited = inside.replace({"*/bias.scale_by_adam": gradtx.scale_by_lion()})
    assert edited.inner.transforms["*/bias"] == lion
    refused(lambda: adam.replace(scale_by_adam=3), "chain", "3")


def test_assignment_points_to_replace() -> None:
    """`tx.learning_rate = 1` says how to have another one."""
    with pytest.raises(AttributeError, match=r"tx.replace\(learning_rate=...\)"):
        gradtx.adam(1e-3).learning_rate = 1  # pyright: ignore


# Hyperparameters --------------------------------------------------------------------------------


@over_rows
def test_hyperparameters_are_a_flat_dict(row):
    """Every number by its path, each of them a path that `replace` takes."""
    tx = build(row)
    found = tx.hyperparameters()
    assert sorted(found.values()) == sorted(jax.tree.leaves(tx))
    for path, value in found.items():
        assert tx.replace({path: value}) == tx


def test_hyperparameters_evaluates_schedules():
    """Schedules and bare functions at the count that is asked for, by path and by tree."""
    tx = gradtx.chain(
        gradtx.scale_by_adam(b1=lambda count: 0.1 * count),
        gradtx.add_decayed_weights(gradtx.by_path({"*/bias": 0.0, "*": 0.5})),
        gradtx.scale_by_learning_rate({"dense": gradtx.linear_schedule(1.0, 0.0, 10), "x": 3.0}),
    )
    found = {name: float(value) for name, value in tx.hyperparameters(5).items()}
    assert found == pytest.approx(
        {
            "scale_by_adam.b1": 0.5,
            "scale_by_adam.b2": 0.999,
            "scale_by_adam.eps": 1e-8,
            "scale_by_adam.eps_root": 0.0,
            "add_decayed_weights.weight_decay.*/bias": 0.0,
            "add_decayed_weights.weight_decay.*": 0.5,
            "scale_by_learning_rate.learning_rate.dense": 0.5,
            "scale_by_learning_rate.learning_rate.x": 3.0,
        }
    )
    assert float(tx.hyperparameters()["scale_by_learning_rate.learning_rate.dense"]) == 1.0


def test_hyperparameters_in_jit():
    """A logger inside jit passes a traced count."""
    tx = gradtx.sgd(gradtx.linear_schedule(1.0, 0.0, 10))
    found = jax.jit(tx.hyperparameters)(jnp.int32(4))
    assert float(found["scale_by_learning_rate.learning_rate"]) == pytest.approx(0.6)


def test_hyperparameters_for_loggers() -> None:
    """Python numbers under keys that stay when a wrapper is added."""
    schedule = gradtx.linear_schedule(1.0, 0.0, 10)
    tx = gradtx.adamw(schedule, b2=np.float32(0.5), weight_decay=jnp.float32(0.25))
    plain = tx.hyperparameters(5)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["scale_by_learning_rate.learning_rate"] == 0.5
    assert plain["scale_by_adam.b2"] == 0.5
    assert plain["add_decayed_weights.weight_decay"] == 0.25
    wrapped = gradtx.ema(gradtx.lookahead(tx))
    found = wrapped.hyperparameters(5)
    assert plain.items() <= found.items()
    twice = gradtx.ema(gradtx.ema(tx, 0.5), 0.25).hyperparameters()
    assert (twice["decay"], twice["inner.decay"]) == (0.25, 0.5)
    for path, value in found.items():
        if path != "scale_by_learning_rate.learning_rate":
            assert wrapped.replace({path: value}).hyperparameters(5) == found
