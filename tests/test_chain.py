"""Composition: a chain's parts, their names and states, and what reaches them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from laws.cases import arrays, assert_same, avals
from moved import factors, moved

import gradtx
from gradtx import by_path, chain, masked, partition


def test_parts_have_names():
    """A part is named after its class, numbered when it repeats, or by its keyword."""
    tx = chain(gradtx.clip(1.0), gradtx.scale(1.0), gradtx.scale(2.0), gradtx.scale(3.0))
    assert list(tx.parts) == ["clip", "scale", "scale_2", "scale_3"]
    tx = chain(gradtx.scale(1.0), scale=gradtx.scale(2.0), last=gradtx.clip(1.0))
    assert list(tx.parts) == ["scale_2", "scale", "last"]
    assert list(chain(first=gradtx.adam(1e-3)).parts) == ["first"]
    assert list(chain(optax.identity()).parts) == ["foreign"]


def test_state_is_keyed_by_names():
    """`state["scale_by_adam"].mu` is there whatever stands before it."""
    params = arrays(0)
    short, long = gradtx.adam(1e-3), chain(gradtx.clip(1.0), gradtx.adam(1e-3))
    assert set(long.init(params)) == {"count", "clip", "scale_by_adam", "scale_by_learning_rate"}
    for name, state in short.init(params).items():
        assert_same(long.init(params)[name], state)


def test_a_schedule_for_a_number_moves_no_path_of_the_state():
    """A checkpoint still fits when a number becomes a schedule, a table or a tree."""
    params = arrays(0)
    expected = avals(gradtx.adamw(1e-3).init(params))
    for rate in (
        gradtx.linear_schedule(1.0, 0.0, 10),
        by_path({"*/bias": 0.1, "*": 1.0}),
        {"dense": 0.1, "scale": gradtx.constant_schedule(1.0)},
        lambda count: 0.1,
    ):
        assert avals(gradtx.adamw(rate).init(params)) == expected


def test_nested_chains_are_flat():
    """A chain in a chain stands for its parts, names given by hand included."""
    inner = chain(gradtx.clip(1.0), mine=gradtx.scale(2.0))
    assert list(chain(inner, gradtx.scale(3.0)).parts) == ["clip", "mine", "scale"]
    assert list(chain(group=inner).parts) == ["group"]
    assert factors(chain(group=inner)) == factors(inner)


def test_order_counts():
    """Parts run first to last."""
    one = chain(gradtx.clip(1.0), gradtx.scale(3.0))
    other = chain(gradtx.scale(3.0), gradtx.clip(1.0))
    assert set(factors(one).values()) == {3.0}
    assert set(factors(other).values()) == {1.0}


def test_chain_passes_extra_arguments_to_every_part():
    """Each part sees them all, wrapped ones too."""
    seen = []

    class spy(gradtx.identity):
        def update(self, updates, state, params=None, **extra):
            seen.append(extra["value"])
            return updates, state

    tx = chain(spy(), partition({"*": chain(spy(), masked(spy(), "*/bias"))}))
    jax.eval_shape(lambda: moved(tx, value=2.0))
    assert seen == [2.0, 2.0, 2.0]


def test_optax_links_stand_anywhere():
    """In a chain, a partition and a mask: as positional part, by keyword, as the inner one."""
    double = optax.scale(2.0)
    for tx in (
        chain(double),
        chain(gradtx.scale(1.0), twice=double),
        partition({"*": double}),
        masked(double, True),
    ):
        assert set(factors(tx).values()) == {2.0}
        assert jax.tree.leaves(tx) in ([], [1.0])
        assert tx == jax.tree.map(lambda x: x, tx)
        jitted = jax.jit(lambda tx, g: tx.update(g, tx.init(g), g)[0])
        assert jitted(tx, jnp.ones(())) == 2.0
