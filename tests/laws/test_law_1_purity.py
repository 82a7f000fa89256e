"""Law 1: init and update are pure, the same under jit, and traced once."""

from __future__ import annotations

import copy

import jax
import pytest

from gradtx import apply_updates

from .cases import (
    ROWS,
    arrays,
    asks_functions,
    assert_close,
    assert_same,
    avals,
    build,
    compilations,
    counting_traces,
    extras,
    over_optimizers,
    over_rows,
    tree,
    update,
    with_floats,
)


@over_rows
def test_calls_change_neither_their_arguments_nor_the_object(row):
    """Arguments that could be written to, NumPy arrays and dicts, are as before the calls."""
    tx, params, grads = build(row), tree(0), tree(1)
    before, shown, hashed = copy.deepcopy((params, grads)), repr(tx), hash(tx)
    state = tx.init(params)
    old = jax.device_get(state)
    update(tx, grads, state, params)
    assert_same((params, grads), before)
    assert_same(state, old)
    assert (repr(tx), hash(tx)) == (shown, hashed)


@over_rows
def test_same_arguments_give_the_same_result(row):
    """Nothing is remembered between calls: not the calls before, not another model's."""
    tx, params, grads = build(row), arrays(0), arrays(1)
    first = tx.init(params)
    second = update(tx, grads, first, params)
    update(tx, arrays(2), second[1], arrays(3))
    assert_same(tx.init(params), first)
    assert_same(update(tx, grads, first, params), second)


@over_rows
def test_jit_changes_no_bit(row):
    """`jax.jit(tx.init)` and `jax.jit(tx.update)` compute what the bare methods do.

    What asks a function is not compiled outside, and rounds as single operations do.
    """
    tx, params, grads = build(row), arrays(0), arrays(1)
    check = assert_close if asks_functions(tx) else assert_same
    state = tx.init(params)
    assert_same(jax.jit(tx.init)(params), state)
    more = extras(tx, params, grads)
    jitted = jax.jit(lambda *args: tx.update(*args, **more))
    for _ in range(2):
        updates, new = tx.update(grads, state, params, **more)
        check(jitted(grads, state, params), (updates, new))
        state = new


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop_momentum"])
def test_jit_changes_no_bit_of_a_step(name):
    """`step` and `apply_updates` too are the same inside jit and outside of it."""
    tx, params, grads = build(ROWS[name]), arrays(0), arrays(1)
    state = tx.init(params)
    assert_same(jax.jit(tx.step)(grads, state, params), tx.step(grads, state, params))
    assert_same(jax.jit(apply_updates)(params, grads), apply_updates(params, grads))


@over_rows
def test_neither_a_second_call_nor_other_numbers_trace_again(row):
    """The state that comes out and hyperparameters given as data fit the trace that is there."""
    tx, params, grads = build(row), arrays(0), arrays(1)
    jitted, traces = counting_traces(update)
    _, state = jitted(tx, grads, tx.init(params), params)
    _, state = jitted(tx, grads, state, params)
    other = with_floats(lambda x: 0.9 * x, tx)
    assert avals(other)[0] == avals(tx)[0]
    _, state = jitted(other, grads, state, params)
    assert len(traces) == 1


@over_optimizers
def test_another_learning_rate_compiles_nothing(row):
    """Optimizers made with different learning rates are one program outside jit as well."""
    params, grads = arrays(0), arrays(1)
    one, other = (row.make(row.learning_rate * factor) for factor in (1.0, 0.5))
    _, state = update(one, grads, one.init(params), params)  # a first step may only look
    updates, _ = update(one, grads, state, params)
    with compilations() as compiled:
        smaller, _ = update(other, grads, state, params)
    assert not compiled
    assert (updates["dense"]["kernel"] != smaller["dense"]["kernel"]).any()


@over_rows
def test_outside_jit_a_call_is_one_compiled_function(row):
    """On shapes never seen before, update and step compile one function each, then none.

    A function as an argument would have to be compiled anew for every call: it stays outside.
    """
    tx, width = build(row), 5 + list(ROWS).index(row.name)
    if asks_functions(tx):
        return
    shapes = {"bias": (width,), "layers": [(width, 2), (width, 2)]}
    params, grads = arrays(0, shapes=shapes), arrays(1, shapes=shapes)
    state = tx.init(params)
    more = extras(tx, params, grads)
    for call in (tx.update, tx.step):
        with compilations() as compiled:
            call(grads, state, params, **more)
        # `identity` hands its updates on and has nothing to compile.
        assert len(compiled) == (0 if row.name == "identity" and call == tx.update else 1)
        with compilations() as compiled:
            _, state = call(grads, state, params, **more)
        assert not compiled


def test_apply_updates_outside_jit_is_one_compiled_function():
    """`apply_updates` on shapes never seen before compiles once, then never."""
    shapes = {"a": (2, 101), "b": (101,), "c": (101, 3)}
    params, grads = arrays(0, shapes=shapes), arrays(1, shapes=shapes)
    for expected in (1, 0):
        with compilations() as compiled:
            apply_updates(params, grads)
        assert len(compiled) == expected


@over_rows
def test_init_outside_jit_compiles_one_function_per_shape_at_most(row):
    """The second array of a shape costs init no compilation."""
    tx, width = build(row), 205 + list(ROWS).index(row.name)
    one, two = {"a": (width,)}, {"a": (width,), "b": (width,)}
    tx.init(arrays(0, shapes=one))
    params = arrays(0, shapes=two)
    with compilations() as compiled:
        tx.init(params)
    assert not compiled
