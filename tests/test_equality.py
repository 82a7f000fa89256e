"""Equal optimizers are equal, with one hash and one trace; what differs in anything is not."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws.cases import over_optimizers

import gradtx
from gradtx.struct import same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: gradtx.scale(np.float32(1)), lambda: gradtx.scale(1.0)),
        (lambda: gradtx.scale(0.0), lambda: gradtx.scale(1e-300)),
        (lambda: gradtx.scale(0.0), lambda: gradtx.scale(-0.0)),
        (lambda: gradtx.scale(1.0), lambda: gradtx.clip(1.0)),
        (
            lambda: gradtx.scale_by_learning_rate(1.0),
            lambda: gradtx.scale_by_learning_rate(1.0, flip_sign=False),
        ),
        (
            lambda: gradtx.cosine_decay_schedule(1.0, 1),
            lambda: gradtx.cosine_decay_schedule(1.0, np.int32(1)),
        ),
        (lambda: gradtx.adam(1e-3), lambda: gradtx.adamw(1e-3, weight_decay=0.0)),
        (lambda: gradtx.chain(a=gradtx.scale(1.0)), lambda: gradtx.chain(b=gradtx.scale(1.0))),
        (
            lambda: gradtx.chain(gradtx.scale(1.0), gradtx.clip(2.0)),
            lambda: gradtx.chain(gradtx.clip(2.0), gradtx.scale(1.0)),
        ),
        (
            lambda: gradtx.partition({"a": gradtx.freeze(), "*": gradtx.scale(1.0)}),
            lambda: gradtx.partition({"*": gradtx.scale(1.0), "a": gradtx.freeze()}),
        ),
        (lambda: gradtx.freeze(), lambda: gradtx.freeze("*")),
    ],
)
def test_what_differs_is_not_equal(one, other):
    """Type and value of a number, static fields, names and the order of parts all count."""
    assert one() == one()
    assert hash(one()) == hash(one())
    assert one() != other()
    assert other() != one()


@over_optimizers
def test_equal_optimizers_hit_one_cache_entry(row):
    """As static arguments, equal optimizers are one trace and others are another."""
    traces = []

    def run(tx, x):
        traces.append(None)
        return x

    jitted = jax.jit(run, static_argnums=0)
    for factor in (1, 1, 2, 1, 2):
        jitted(row.make(row.learning_rate * factor), 1.0)
    assert len(traces) == 2


def test_equality_never_fails():
    """Arrays are compared by their bits, tracers and donated arrays by identity."""
    for make in (jnp.asarray, np.asarray):
        one, other = make([1.0, 2.0]), make([1.0, 3.0])
        assert gradtx.scale(one) == gradtx.scale(make([1.0, 2.0]))
        assert gradtx.scale(one) != gradtx.scale(other)
        assert gradtx.scale(one) != gradtx.scale(make([1, 2]))
        assert gradtx.scale(one) != gradtx.scale(make([[1.0, 2.0]]))
        assert hash(gradtx.scale(one)) == hash(gradtx.scale(other))
    assert gradtx.scale(jnp.ones(2)) != gradtx.scale(np.ones(2, np.float32))
    assert gradtx.scale(np.float64(1)) == gradtx.scale(np.float64(1))
    donated = gradtx.scale(jnp.ones(3))
    hash(donated)
    jax.tree.leaves(donated)[0].delete()
    assert donated == donated
    assert donated != gradtx.scale(jnp.ones(3))
    assert hash(donated) == hash(donated)
    assert "float32[3]" in repr(donated)
    keys = [gradtx.add_noise(1.0, key=jax.random.key(seed)) for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    assert hash(keys[0]) == hash(keys[1])
    assert gradtx.scale(np.float64(1)) != gradtx.scale(1.0)  # another type, another dtype
    assert gradtx.scale(1.0) != 1.0
    assert gradtx.scale(1.0) != optax.scale(1.0)
    assert gradtx.scale(1.0) is not None
    seen = []

    @jax.jit
    def traced(x):
        one, other = gradtx.adam(x), gradtx.adam(x + 0)
        seen.extend([one == one, one == gradtx.adam(x), one == other, one == gradtx.adam(1.0)])
        seen.append(keys[0] == keys[1])
        hash(one)
        return x

    traced(1.0)
    assert seen == [True, True, False, False, True]
    jax.vmap(lambda x: hash(gradtx.adam(x)) and x)(jnp.ones(2))


def test_objects_are_keys():
    """Equal objects are one key of a dict and one member of a set."""
    assert len({gradtx.adam(1e-3), gradtx.adam(1e-3), gradtx.adam(1e-2)}) == 2


def test_restored_optimizers_are_the_same_static_argument() -> None:
    """Copied and unpickled optimizers with arrays, NumPy numbers and keys hit one cache entry."""
    tx = gradtx.chain(
        gradtx.add_noise(1.0, key=jax.random.key(0)),
        gradtx.adam(jnp.float32(1e-3), np.float64(0.9), eps=np.array(1e-8)),
    )
    traces = []

    def run(tx: Any, x: Any) -> Any:
        traces.append(None)
        return x

    jitted = jax.jit(run, static_argnums=0)
    others = [tx, copy.deepcopy(tx), jax.tree.map(lambda x: x, tx)]
    others += [tx.replace({"add_noise.key": jax.random.key(0)})]
    for other in others:
        assert other == tx
        assert hash(other) == hash(tx)
        jitted(other, 1.0)
    jitted(tx.replace(eps=np.array(1e-7)), 1.0)
    assert len(traces) == 2
    plain = gradtx.adam(jnp.float32(1e-3), np.float64(0.9))
    assert pickle.loads(pickle.dumps(plain)) == plain


def test_same_compares_trees():
    """`same` is equality of trees with arrays by identity."""
    x = jnp.ones(2)
    assert same({"a": x, "b": 1}, {"a": x, "b": 1})
    assert not same({"a": x, "b": 1}, {"a": x, "b": 1.0})
    assert not same({"a": x}, {"b": x})
