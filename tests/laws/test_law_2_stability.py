"""Law 2: a state keeps its tree, shapes and dtypes; scan and vmap work."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .cases import (
    NARROW,
    WIDE,
    arrays,
    assert_close,
    avals,
    build,
    over_rows,
    step,
    tree,
    update,
)


def _assert_stable(tx, params, grads):
    state = jax.eval_shape(tx.init, params)
    first = avals(state)
    assert not any(weak for _, _, weak in first[1])
    for _ in range(2):
        updates, state = jax.eval_shape(lambda *args: update(tx, *args), grads, state, params)
        assert avals(state) == first
        assert avals(updates) == avals(grads)
    new_params, new_state = jax.eval_shape(lambda *args: step(tx, *args), grads, state, params)
    assert avals(new_state) == first
    assert avals(new_params) == avals(params)


@over_rows
def test_state_is_stable_for_all_dtypes(row):
    """Tree, shapes, dtypes and their strength last, for every pairing of p and g."""
    for p in NARROW:
        for g in NARROW:
            _assert_stable(build(row), tree(0, p), tree(1, g))


@pytest.mark.usefixtures("x64")
@over_rows
def test_state_is_stable_for_all_dtypes_with_x64(row):
    """The same with 64-bit types switched on, float64 included."""
    for p in WIDE:
        for g in WIDE:
            _assert_stable(build(row), tree(0, p), tree(1, g))


def _scanned(tx, grads, params):
    """The updates and the last state over a sequence of gradients."""

    def body(state, g):
        updates, state = update(tx, g, state, params)
        return state, updates

    return jax.lax.scan(body, tx.init(params), grads)


_over_a_stack = jax.jit(jax.vmap(_scanned, in_axes=(0, None, None), axis_size=3))


def _gradients():
    sequence = [arrays(seed) for seed in (1, 2, 3)]
    return sequence, jax.tree.map(lambda *xs: jnp.stack(xs), *sequence)


@over_rows
def test_scan_takes_every_state(row):
    """`jax.lax.scan`, which refuses a state that changes its type, runs with every dtype."""
    for dtype in NARROW:
        tx, params = build(row), arrays(0, dtype)
        _, grads = _gradients()
        state, _ = jax.eval_shape(lambda *args, tx=tx: _scanned(tx, *args), grads, params)
        assert avals(state) == avals(jax.eval_shape(tx.init, params))


@over_rows
def test_vmap_over_a_stacked_optimizer_is_the_loop(row):
    """A stack of optimizers that differ in every number, in a scan: each does as it does alone."""
    tx, params = build(row), arrays(0)
    sequence, grads = _gradients()
    members = [
        jax.tree.map(lambda x, k=k: x + k if type(x) is int else x * 0.9**k, tx) for k in range(3)
    ]
    stack = jax.tree.map(lambda *xs: jnp.asarray(np.stack(xs), jnp.result_type(xs[0])), *members)
    together = _over_a_stack(stack, grads, params)
    for index, member in enumerate(members):
        state, alone = member.init(params), []
        for g in sequence:
            updates, state = update(member, g, state, params)
            alone.append(updates)
        alone = state, jax.tree.map(lambda *xs: jnp.stack(xs), *alone)
        assert_close(jax.tree.map(lambda x, i=index: x[i], together), alone, rtol=2e-5, atol=1e-6)
