"""Law 1 for what is no row: `apply_updates`, and `step` inside of jit."""

from __future__ import annotations

import jax
import pytest

from gradtx import apply_updates

from .cases import ROWS, arrays, assert_same, build, compilations


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop_momentum"])
def test_jit_changes_no_bit_of_a_step(name):
    """`step` and `apply_updates` too are the same inside jit and outside of it."""
    tx, params, grads = build(ROWS[name]), arrays(0), arrays(1)
    state = tx.init(params)
    assert_same(jax.jit(tx.step)(grads, state, params), tx.step(grads, state, params))
    assert_same(jax.jit(apply_updates)(params, grads), apply_updates(params, grads))


def test_apply_updates_outside_jit_is_one_compiled_function():
    """`apply_updates` on shapes never seen before compiles once, then never."""
    shapes = {"a": (2, 101), "b": (101,), "c": (101, 3)}
    params, grads = arrays(0, shapes=shapes), arrays(1, shapes=shapes)
    for expected in (1, 0):
        with compilations() as compiled:
            apply_updates(params, grads)
        assert len(compiled) == expected
