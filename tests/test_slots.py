"""What a slot is said to be decides how it is stored, not what it is called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import avals
from stored import decoded, eight_bits

import gradtx
from gradtx import rounded, store


class TwoSlots(NamedTuple):
    v: jax.Array  # signed, although its name is one that squares often have
    anything: gradtx.Square


class remembers(gradtx.Rule):
    """A user's rule: the update is what it remembers of the gradient, and of its square."""

    Slots = TwoSlots

    def init_leaf(self, p):
        return TwoSlots(jnp.zeros_like(p), jnp.zeros_like(p))

    def update_leaf(self, g, slots, p, step):
        return slots.v, TwoSlots(g, g * g)


def test_a_slot_has_the_sign_that_it_is_declared_to_have():
    """Not one that its name suggests: `v` keeps its sign, and squares have no bit for it."""
    g = jnp.where(jnp.arange(512) % 3 == 0, -1.9, 1.9).reshape(2, 256)
    tx = store(remembers(), {"v": eight_bits(), "anything": eight_bits()})
    _, state = tx.update(g, tx.init(g), g)
    assert (state.v.codes.dtype, state.anything.codes.dtype) == (jnp.int8, jnp.uint8)
    updates, _ = tx.update(g, state, g)
    np.testing.assert_array_equal(updates, g)
    np.testing.assert_array_equal(decoded(state.anything), np.asarray(g * g, float))


def rules(kind: Any) -> Iterator[Any]:
    for rule in kind.__subclasses__():
        yield rule
        yield from rules(rule)


def test_every_second_moment_of_the_library_is_declared():
    """What is called like a square is one, in every rule of the library."""
    names = {"nu", "nu_max", "sum_of_squares", "e_g", "e_x", "v", "means", "instability", "bounds"}
    for rule in rules(gradtx.Rule):
        if rule.__module__.startswith("gradtx."):
            fields = rule.Part.declared_fields
            kinds = {fields[name].kind for name in names & set(rule.Slots._fields)}
            assert kinds <= {"square"}, rule


class Q(NamedTuple):
    mu: Any
    nu: Any


def test_parameters_may_be_named_tuples():
    """They are no states, even where their fields are named like slots."""
    params = Q(jnp.ones((2, 64)), jnp.ones((2, 64), jnp.bfloat16))
    tx = store(gradtx.accumulate(gradtx.adam(1e-3), 2), {"total": "bfloat16"})
    state = tx.init(params)
    assert isinstance(state.total, Q)
    assert state.total.mu.dtype == state.total.nu.dtype == jnp.bfloat16
    assert avals(tx.update(params, state, params)[1]) == avals(state)
    with pytest.raises(ValueError, match=r"no state has a slot 'nu'[^']*'lost'\.(\n|$)"):
        store(gradtx.kahan(gradtx.sgd(1e-3)), {"nu": rounded()}).init(params)


def test_memory_shows_a_slot_named_total_beside_the_sum():
    """`accumulate` has such a slot; the sum has a name that no slot can have."""
    found = gradtx.accumulate(gradtx.sgd(1e-3), 4).memory(jnp.ones(1000))
    assert found["total"] == 4000
    assert 4000 < found["in all"] == sum(v for k, v in found.items() if k != "in all") < 4040
