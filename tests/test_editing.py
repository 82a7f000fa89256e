"""An optimizer is edited by names and paths."""

from __future__ import annotations

import jax
import optax
import pytest
from laws.cases import assert_three_parts, build, over_optimizers, refused

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
