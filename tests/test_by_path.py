"""Another number for every array: by path, by label, by a tree of numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import arrays, assert_close, assert_three_parts
from moved import factors, moved

import gradtx
from gradtx import by_path, partition

PER_ARRAY = {
    "by_path": by_path({"*/bias": 2.0, "dense/*": 3.0, "*": 4.0}),
    "labels": by_path({"b": 2.0, "k": 3.0, "s": 4.0}, lambda path, x: path.split("/")[-1][0]),
    "tree": {"dense": {"bias": 2.0, "kernel": 3.0}, "scale": 4.0},
    "schedules": {
        "dense": {"bias": gradtx.constant_schedule(2.0), "kernel": lambda count: 3.0},
        "scale": 4.0,
    },
    "schedules by path": by_path(
        {"*/bias": lambda count: 2.0, "dense/*": gradtx.linear_schedule(3.0, 0.0, 9), "*": 4.0}
    ),
    "arrays": {"dense": {"bias": jnp.float32(2), "kernel": np.float64(3)}, "scale": 4},
}


SIZES = {"dense/bias": 2.0, "dense/kernel": 3.0, "scale": 4.0}


@pytest.mark.parametrize("kind", PER_ARRAY)
def test_a_number_for_every_array(kind):
    """By pattern, label or tree, of numbers, arrays or schedules: the same result."""
    assert factors(gradtx.scale(PER_ARRAY[kind])) == SIZES


@pytest.mark.parametrize("kind", PER_ARRAY)
def test_a_number_for_every_array_under_jit(kind):
    """The same when the optimizer is an argument of a compiled function."""
    tx, params = gradtx.scale(PER_ARRAY[kind]), jax.tree.map(jnp.ones_like, arrays(0))
    updates = jax.jit(lambda tx, p: tx.update(p, tx.init(p), p)[0])(tx, params)
    assert {k: float(u.mean()) for k, u in gradtx.tree.named_leaves(updates)} == SIZES


def test_prefix_trees_of_numbers():
    """One number for a subtree; lists and tuples are trees as well."""
    assert factors(gradtx.scale({"dense": 2.0, "scale": 3.0})) == {
        "dense/bias": 2.0,
        "dense/kernel": 2.0,
        "scale": 3.0,
    }
    params = [jnp.ones(2), (jnp.ones(2), jnp.ones(2))]
    found = factors(gradtx.scale([2.0, (3.0, 4.0)]), params=params)
    assert found == {"0": 2.0, "1/0": 3.0, "1/1": 4.0}


def test_every_hyperparameter_may_differ_between_arrays():
    """Two numbers with different tables act as one optimizer for each array."""
    tx = gradtx.adamw(
        {"dense": 0.1, "scale": 0.2},
        b1=by_path({"*/bias": 0.5, "*": 0.9}),
        weight_decay=by_path({"*/kernel": 0.3, "*": 0.0}),
    )
    each = partition(
        {
            "*/bias": gradtx.adamw(0.1, b1=0.5, weight_decay=0.0),
            "*/kernel": gradtx.adamw(0.1, weight_decay=0.3),
            "*": gradtx.adamw(0.2, weight_decay=0.0),
        }
    )
    params, grads = arrays(0), arrays(1)
    state, states = tx.init(params), each.init(params)
    for _ in range(3):
        one, state = tx.update(grads, state, params)
        other, states = each.update(grads, states, params)
    assert_close(one, other)


def test_mask_of_adamw():
    """`mask` spares arrays the decay: a tree, a predicate, or a pattern table by hand."""
    params, zero = arrays(0), jax.tree.map(jnp.zeros_like, arrays(0))
    for tx in (
        gradtx.adamw(1.0, weight_decay=0.5, mask={"dense": True, "scale": False}),
        gradtx.adamw(1.0, weight_decay=0.5, mask=lambda path, x: x.ndim > 0),
        gradtx.adamw(1.0, weight_decay=by_path({"dense/*": 0.5, "*": 0.0})),
    ):
        updates = moved(tx, grads=zero, params=params)
        np.testing.assert_allclose(updates["dense/kernel"], -0.5 * params["dense"]["kernel"])
        assert updates["scale"] == 0


def test_initial_values_for_every_array():
    """A table reaches what init computes as well."""
    table = by_path({"*/bias": 1.0, "*": 2.0})
    state = gradtx.scale_by_adagrad(initial_accumulator_value=table).init(arrays(0))
    assert (state.sum_of_squares["dense"]["bias"] == 1).all()
    assert (state.sum_of_squares["dense"]["kernel"] == 2).all()


def test_schedules_of_the_parts_of_a_partition_count_alone():
    """Schedules see the number of updates done: 0 at the first."""
    tx = gradtx.scale(lambda count: count)
    params = jnp.ones(())
    state, seen = tx.init(params), []
    for _ in range(3):
        updates, state = tx.update(params, state, params)
        seen.append(float(updates))
    assert seen == [0.0, 1.0, 2.0]


def test_unused_and_missing_patterns():
    """The tables of a number are checked by init like those of a partition."""
    for table, match in (
        ({"*/bais": 0.0, "*": 1.0}, "no array goes to '\\*/bais'"),
        ({"*/bias": 0.0}, "no entry for"),
    ):
        with pytest.raises(ValueError, match=match) as raised:
            jax.eval_shape(gradtx.adamw(1e-3, weight_decay=by_path(table)).init, arrays(0))
        assert_three_parts(raised.value, "add_decayed_weights(weight_decay=by_path(")


def test_tables_are_data():
    """The numbers of a table can be swept and differentiated; their patterns are keys."""
    params = arrays(0)

    def first_update(tx):
        return tx.update(params, tx.init(params), params)[0]["scale"]

    tx = gradtx.scale(by_path({"dense/*": 2.0, "*": 3.0}))
    slope = jax.grad(first_update)(tx)
    assert slope.step_size.table["dense/*"] == 0.0
    np.testing.assert_allclose(slope.step_size.table["*"], params["scale"])
    stack = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), tx)
    found = jax.vmap(first_update)(stack)
    np.testing.assert_allclose(found, jnp.stack([3 * params["scale"], 6 * params["scale"]]))
