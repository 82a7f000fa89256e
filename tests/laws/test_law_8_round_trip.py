"""Law 8 for what is no row, and for what needs other libraries: orbax, export."""

from __future__ import annotations

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx.testing.laws.round_trips import TRIPS, comes_back

from .cases import ROWS, arrays, assert_same, build, over_few, tree, update, zeros


def _trained(tx, params=None):
    """A state after one update."""
    params = arrays(0) if params is None else params
    return update(tx, jax.tree.map(jnp.sin, params), tx.init(params), params)[1]


@pytest.fixture(scope="module")
def checkpointer():
    orbax = pytest.importorskip("orbax.checkpoint")
    with orbax.StandardCheckpointer() as one:
        yield one


def _through_orbax(checkpointer, path, saved, target):
    checkpointer.save(path, saved)
    checkpointer.wait_until_finished()
    return checkpointer.restore(path, target)


def _filled(tx):
    """A state full of numbers, and a fresh one, without a compilation."""
    shapes, random = jax.eval_shape(tx.init, tree(0)), np.random.default_rng(0)
    full = jax.tree.map(
        lambda x: np.asarray(random.integers(0, 100, x.shape)).astype(x.dtype), shapes
    )
    return jax.device_put((full, zeros(full)))


def test_orbax(checkpointer, tmp_path):
    """One checkpoint of optimizers and states restores all of them into fresh ones."""
    txs = {name: build(row) for name, row in ROWS.items()}
    states = {name: _filled(tx) for name, tx in txs.items()}
    back = _through_orbax(
        checkpointer,
        tmp_path / "checkpoint",
        {"tx": txs, "state": {name: full for name, (full, _) in states.items()}},
        {
            "tx": jax.tree.map(lambda x: type(x)(0), txs),
            "state": {name: fresh for name, (_, fresh) in states.items()},
        },
    )
    for name, tx in txs.items():
        assert back["tx"][name] == tx
        assert_same(back["state"][name], states[name][0])


COMPOSED = {
    "partition": lambda: gradtx.partition(
        {"*/bias": gradtx.sgd(0.1, 0.9), "*": gradtx.adamw(1e-3)}
    ),
    "labels": lambda: gradtx.partition(
        {"a": gradtx.adam(1e-3), "b": gradtx.freeze()}, {"dense": "a", "scale": "b"}
    ),
    "masked": lambda: gradtx.chain(gradtx.masked(gradtx.adam(0.1), "*/kernel"), gradtx.clip(1.0)),
    "by_path": lambda: gradtx.adamw(1e-3, weight_decay=gradtx.by_path({"*/bias": 0.0, "*": 0.1})),
    "tree": lambda: gradtx.adamw({"dense": 1e-3, "scale": 1e-2}),
    "schedule": lambda: gradtx.adamw(gradtx.warmup_cosine_decay_schedule(0.0, 1e-3, 10, 100)),
    "repeated": lambda: gradtx.chain(gradtx.scale(0.5), gradtx.scale(2.0), last=gradtx.scale(3.0)),
    "nested": lambda: gradtx.partition(
        {
            "dense/*": gradtx.partition({"*/bias": gradtx.freeze(), "*": gradtx.adam(0.1)}),
            "*": gradtx.sgd(0.1),
        }
    ),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_compositions_come_back(name):
    """Partitions, masks, tables of patterns, trees and schedules of hyperparameters as well."""
    tx = COMPOSED[name]()
    state = _trained(tx)
    for how, trip in TRIPS.items():
        comes_back(tx, trip(tx), how)
        assert_same(trip(state), state)


def test_orbax_of_compositions(checkpointer, tmp_path):
    """Keys that are patterns, with slashes and stars in them, come back too."""
    txs = {name: make() for name, make in COMPOSED.items()}
    states = {name: _filled(tx) for name, tx in txs.items()}
    back = _through_orbax(
        checkpointer,
        tmp_path / "checkpoint",
        {"tx": txs, "state": {name: full for name, (full, _) in states.items()}},
        {
            "tx": jax.tree.map(lambda x: type(x)(0), txs),
            "state": {name: fresh for name, (_, fresh) in states.items()},
        },
    )
    for name, tx in txs.items():
        assert back["tx"][name] == tx
        assert_same(back["state"][name], states[name][0])


def test_array_hyperparameters_come_back(checkpointer, tmp_path):
    """A stack of optimizers is a tree of arrays: pickle, deepcopy and orbax keep every bit."""
    tx = jax.tree.map(lambda *xs: jnp.stack(xs), *map(gradtx.adamw, (1e-3, 1e-2, 1e-1)))
    assert_same(pickle.loads(pickle.dumps(tx)), tx)
    assert_same(copy.deepcopy(tx), tx)
    fresh = jax.tree.map(jnp.zeros_like, tx)
    assert_same(_through_orbax(checkpointer, tmp_path / "checkpoint", tx, fresh), tx)


@over_few
def test_export(row):
    """A compiled update with the state as argument and result goes through `jax.export`."""
    export = pytest.importorskip("jax.export")
    pytest.importorskip("flatbuffers")
    tx, params = build(row), arrays(0)
    state = jax.eval_shape(tx.init, params)
    exported = export.export(jax.jit(lambda *args: update(tx, *args)))(params, state, params)
    back = export.deserialize(exported.serialize())
    assert back.in_tree == exported.in_tree
    assert back.out_tree == exported.out_tree
    assert jax.tree.structure(((params, state, params), {})) == back.in_tree
