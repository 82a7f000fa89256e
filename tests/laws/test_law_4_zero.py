"""Law 4: zero gradients give finite updates for ever, and finite derivatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import gradtx

from .cases import (
    arrays,
    assert_finite,
    build,
    mixed,
    over_rows,
    tree,
    update,
    update_as_data,
    zeros,
)


def _assert_finite_steps(tx, grads, state, params, steps=3):
    for _ in range(steps):
        updates, state = update_as_data(tx, grads, state, params)
        assert_finite((updates, state))
    return state


@over_rows
def test_zero_gradients_from_the_first_step_on(row):
    """Three zero gradients in every narrow dtype, at a point and at zero parameters."""
    tx, (params, grads) = build(row), mixed()
    for at in (params, zeros(params)):
        _assert_finite_steps(tx, zeros(grads), tx.init(at), at)


@over_rows
def test_zero_gradients_after_others(row):
    """Zero gradients after a step that was not zero."""
    tx, (params, grads) = build(row), mixed()
    state = _assert_finite_steps(tx, grads, tx.init(params), params, steps=1)
    _assert_finite_steps(tx, zeros(grads), state, params)


@over_rows
@pytest.mark.parametrize("left", [0.0, 1e-30, 1e-40])
def test_zero_gradients_for_ever(row, left):
    """After ever so many zero gradients: slots that have decayed, a count that is full.

    A count of all steps stays full; other whole numbers, such as a place in a cycle, move on.
    """
    tx, (params, grads) = build(row), mixed()
    state = _assert_finite_steps(tx, grads, tx.init(params), params, steps=1)
    full = jnp.iinfo(jnp.int32).max

    def is_count(path):
        return path[-1] == jax.tree_util.GetAttrKey("count")

    def late(path, x):
        if gradtx.tree.is_inexact(x):
            return (x * left).astype(x.dtype)
        return jnp.full_like(x, full) if is_count(path) else x  # or codes of slots

    state = jax.tree_util.tree_map_with_path(late, state)
    state = _assert_finite_steps(tx, zeros(grads), state, params)
    for path, x in jax.tree_util.tree_leaves_with_path(state):
        assert not is_count(path) or (x == full).all()


@pytest.mark.usefixtures("x64")
@over_rows
def test_zero_gradients_of_float64(row):
    """The same in float64."""
    tx, params = build(row), jax.tree.map(jnp.asarray, tree(0, "float64", {"kernel": (4, 3)}))
    _assert_finite_steps(tx, zeros(params), tx.init(params), params)


def _sum_of_two_updates(numbers, params):
    tx, grads = numbers
    state, total = tx.init(params), 0.0
    for _ in range(2):
        updates, state = update(tx, grads, state, params)
        total += sum(u.sum() for u in jax.tree.leaves(updates))
    return total


_slopes = jax.jit(jax.grad(_sum_of_two_updates, allow_int=True))


@over_rows
def test_derivatives_at_zero_are_finite(row):
    """With respect to gradients and hyperparameters, all entries zero or only some of them."""
    tx, params = build(row), arrays(0, shapes={"bias": (3,), "scale": ()})
    grads = arrays(1, shapes={"bias": (3,), "scale": ()})
    sparse = {"bias": grads["bias"].at[0].set(0), "scale": jnp.zeros(())}
    for g in (zeros(grads), sparse):
        for at in (params, zeros(params)):
            assert_finite(_slopes((tx, g), at))
