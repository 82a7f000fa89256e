"""Law 5: leaves that are no floating arrays, or hardly any, pass; complex arrays follow |g|^2."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx

from .cases import (
    arrays,
    assert_close,
    assert_finite,
    at_random,
    avals,
    build,
    over_rows,
    update,
    update_as_data,
)

EMPTY = {"absent": None, "empty": {}, "tuple": ()}


def _unmoved():
    """Leaves that no optimizer moves."""
    return {
        "flag": jnp.array([True, False]),
        "index": jnp.arange(3),
        "key": jax.random.key(0),
        "small": jnp.arange(2, dtype=jnp.uint8),
    }


def _no_gradients(leaves):
    """The gradients that `jax.grad(..., allow_int=True)` gives for such leaves."""
    return jax.tree.map(lambda x: np.zeros(x.shape, jax.dtypes.float0), leaves)


@functools.cache
def _among_others(row):
    """State and update of a usual tree among leaves of all other kinds."""
    params, grads, more = arrays(0), arrays(1), {"nothing": jnp.zeros((0, 3))}
    all_params = {**params, **EMPTY, **more, "unmoved": _unmoved()}
    all_grads = {**grads, **EMPTY, **more, "unmoved": _no_gradients(_unmoved())}
    tx = build(row)
    state = tx.init(all_params)
    return all_params, all_grads, state, *update(tx, all_grads, state, all_params)


@over_rows
def test_other_leaves_do_not_matter(row):
    """None, empty trees, zero-size, integer, bool and key leaves change no other update."""
    tx, params, grads = build(row), arrays(0), arrays(1)
    expected, _ = update(tx, grads, tx.init(params), params)
    _, all_grads, state, updates, new = _among_others(row)
    assert avals(updates) == avals(all_grads)
    assert avals(new) == avals(state)
    assert_close({name: updates[name] for name in expected}, expected)
    assert_finite((updates, new))


@over_rows
def test_leaves_that_are_not_moved_get_no_state(row):
    """The state has no array for None, integer, bool and key leaves."""
    params, _, state, _, _ = _among_others(row)
    floats = jax.tree.map(lambda x: x if gradtx.tree.is_inexact(x) else None, params)
    assert avals(state)[1] == avals(build(row).init(floats))[1]
    assert not any(s.shape == (2,) for s in jax.tree.leaves(state))


@over_rows
def test_leaves_that_are_not_moved_get_no_update(row):
    """Integer, bool and key leaves are the same, bit for bit, after `apply_updates`."""
    params, _, _, updates, _ = _among_others(row)
    moved = gradtx.apply_updates(params, updates)
    assert avals(moved) == avals(params)
    for name, before in _unmoved().items():
        assert (moved["unmoved"][name] == before).all()


@over_rows
@pytest.mark.parametrize("absent", [None, 0], ids=["None", "zeros"])
def test_leaves_that_are_not_moved_without_gradients(row, absent):
    """Their gradients may be None or zeros of their own dtype too."""
    plain = {name: x for name, x in _unmoved().items() if name != "key"}
    params = {"bias": jnp.ones(3), **plain}
    without = (lambda x: None) if absent is None else jnp.zeros_like
    grads = {"bias": jnp.ones(3), **jax.tree.map(without, plain)}
    tx = build(row)

    def run(params, grads):
        state = tx.init(params)
        updates, new = update(tx, grads, state, params)
        return state, updates, new, gradtx.apply_updates(params, updates)

    state, updates, new, moved = jax.eval_shape(run, params, grads)
    assert avals(new) == avals(state)
    assert avals(updates) == avals(grads)
    assert avals(moved) == avals(params)


@over_rows
@pytest.mark.parametrize("tree", [{}, None, (), {"a": None, "b": {}}], ids=str)
def test_trees_without_any_array(row, tree):
    """No array at all is fine: the same tree comes out."""
    tx = build(row)
    state = tx.init(tree)
    updates, new = update(tx, tree, state, tree)
    assert updates == tree
    assert avals(new) == avals(state)
    assert tx.step(tree, new, tree)[0] == tree


@over_rows
def test_bare_arrays_are_trees(row):
    """A single array, and a scalar one, is a tree as well."""
    tx = build(row)
    for shape in ((3,), ()):
        params = jnp.ones(shape)
        state = jax.eval_shape(tx.init, params)
        updates, new = jax.eval_shape(lambda *a: update(tx, *a), params, state, params)
        assert updates.shape == shape
        assert avals(new) == avals(state)


@over_rows
def test_zero_size_arrays(row):
    """Arrays without an entry keep their shape and disturb no number, alone too."""
    tx, params = build(row), {"a": jnp.zeros((0,)), "b": jnp.zeros((0, 3))}
    state = tx.init(params)
    updates, new = update(tx, params, state, params)
    assert avals(updates) == avals(params)
    assert avals(new) == avals(state)
    assert_finite(new)


@over_rows
def test_complex_arrays_keep_their_state(row):
    """A complex array's state is stable; real slots stay real."""
    tx, params = build(row), {"c": jnp.ones((4, 3), jnp.complex64), "r": jnp.ones(3)}
    state = jax.eval_shape(tx.init, params)
    updates, new = jax.eval_shape(lambda *a: update(tx, *a), params, state, params)
    assert avals(updates) == avals(params)
    assert avals(new) == avals(state)


@pytest.mark.usefixtures("x64")
@over_rows
def test_complex128_arrays_keep_their_state(row):
    """The same with 128 bits."""
    tx, params = build(row), {"c": jnp.ones((4, 3), jnp.complex128)}
    state = jax.eval_shape(tx.init, params)
    updates, new = jax.eval_shape(lambda *a: update(tx, *a), params, state, params)
    assert avals(updates) == avals(params)
    assert avals(new) == avals(state)


@over_rows
def test_complex_arrays_follow_the_square_of_the_modulus(row):
    """Turning gradients and parameters by a right angle turns the updates, and zero is finite.

    Only |g|^2 is the same before and after: g^2 changes its sign. Noise is added, so for what
    draws at random it is what is added that stays the same.
    """
    tx, params, grads = build(row), arrays(0), arrays(1)
    params = {"c": jax.lax.complex(params["dense"]["kernel"], grads["dense"]["kernel"])}
    grads = {"c": 2 * params["c"][::-1].conj() - 0.5}
    turned_params, turned_grads = jax.tree.map(lambda x: x * 1j, (params, grads))
    state, turned_state = tx.init(params), tx.init(turned_params)
    for _ in range(2):
        updates, state = update_as_data(tx, grads, state, params)
        turned, turned_state = update_as_data(tx, turned_grads, turned_state, turned_params)
        assert updates["c"].dtype == jnp.complex64
        if at_random(tx):
            added, turned_added = updates["c"] - grads["c"], turned["c"] - turned_grads["c"]
            assert_close(added, turned_added, atol=1e-6)
        else:
            assert_close(turned["c"], updates["c"] * 1j, rtol=1e-5, atol=1e-6)
    zero = jax.tree.map(jnp.zeros_like, grads)
    assert_finite(update_as_data(tx, zero, tx.init(params), params))


@over_rows
def test_a_real_gradient_of_a_complex_parameter_is_refused(row):
    """Mixed up real and complex arrays are an error with the path, not a silent cast."""
    tx, params, grads = build(row), {"c": jnp.ones((3, 2), jnp.complex64)}, {"c": jnp.ones((3, 2))}
    if row.name == "identity":  # it looks at nothing
        assert tx.update(grads, (), params)[0] is grads
        return
    with pytest.raises(TypeError, match="'c'"):
        jax.eval_shape(lambda g, p: update(tx, g, tx.init(p), p), grads, params)
    with pytest.raises(TypeError, match="'c'"):
        jax.eval_shape(lambda g, p: update(tx, g, tx.init(p), p), params, grads)
