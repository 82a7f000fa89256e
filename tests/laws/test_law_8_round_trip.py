"""Law 8: optimizer and state come back from flatten, pickle, deepcopy and orbax bit for bit."""

from __future__ import annotations

import copy
import pickle

import jax
import jax.numpy as jnp
import pytest

import gradtx

from .cases import arrays, assert_same, build, over_rows, update


def _trained(tx, params=None):
    """A state after one update."""
    params = arrays(0) if params is None else params
    return update(tx, jax.tree.map(jnp.sin, params), tx.init(params), params)[1]


def _flattened(value):
    leaves, treedef = jax.tree.flatten(value)
    return jax.tree.unflatten(treedef, leaves)


def _with_keys(value):
    leaves, treedef = jax.tree_util.tree_flatten_with_path(value)
    assert len({jax.tree_util.keystr(path) for path, _ in leaves}) == len(leaves)
    return jax.tree.unflatten(treedef, [leaf for _, leaf in leaves])


def _pickled(value):
    return pickle.loads(pickle.dumps(value))


TRIPS = pytest.mark.parametrize(
    "trip", [_flattened, _with_keys, _pickled, copy.deepcopy, copy.copy]
)


@over_rows
@TRIPS
def test_optimizer_comes_back(row, trip):
    """The same type, numbers, print, hash and behaviour; equal to what it was."""
    tx = build(row)
    back = trip(tx)
    assert back == tx
    assert hash(back) == hash(tx)
    assert repr(back) == repr(tx)
    assert jax.tree.structure(back) == jax.tree.structure(tx)
    assert_same(back, tx)


@over_rows
@TRIPS
def test_state_comes_back(row, trip):
    """The same types down to the NamedTuples, the same bits; the next update takes it."""
    tx = build(row)
    state = _trained(tx)
    back = trip(state)
    assert_same(back, state)
    params, grads = arrays(0), arrays(1)
    assert_same(update(tx, grads, back, params), update(tx, grads, state, params))


@pytest.fixture(scope="module")
def checkpointer():
    orbax = pytest.importorskip("orbax.checkpoint")
    with orbax.StandardCheckpointer() as one:
        yield one


def _through_orbax(checkpointer, path, saved, target):
    checkpointer.save(path, saved)
    checkpointer.wait_until_finished()
    return checkpointer.restore(path, target)


@over_rows
def test_orbax(row, checkpointer, tmp_path):
    """A checkpoint of optimizer and state restores both into fresh ones."""
    tx = build(row)
    state, fresh = _trained(tx), tx.init(arrays(0))
    back = _through_orbax(
        checkpointer,
        tmp_path / "checkpoint",
        {"tx": tx, "state": state},
        {"tx": jax.tree.map(lambda x: type(x)(0), tx), "state": fresh},
    )
    assert back["tx"] == tx
    assert_same(back["state"], state)


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
over_composed = pytest.mark.parametrize("name", COMPOSED)


@over_composed
@TRIPS
def test_compositions_come_back(name, trip):
    """Partitions, masks, tables of patterns, trees and schedules of hyperparameters as well."""
    tx = COMPOSED[name]()
    state = _trained(tx)
    back, back_state = trip(tx), trip(state)
    assert back == tx
    assert hash(back) == hash(tx)
    assert repr(back) == repr(tx)
    assert_same(back_state, state)


@over_composed
def test_orbax_of_compositions(name, checkpointer, tmp_path):
    """Keys that are patterns, with slashes and stars in them, come back too."""
    tx = COMPOSED[name]()
    state, fresh = _trained(tx), tx.init(arrays(0))
    back = _through_orbax(
        checkpointer,
        tmp_path / "checkpoint",
        {"tx": tx, "state": state},
        {"tx": jax.tree.map(lambda x: type(x)(0), tx), "state": fresh},
    )
    assert back["tx"] == tx
    assert_same(back["state"], state)


def test_array_hyperparameters_come_back(checkpointer, tmp_path):
    """A stack of optimizers is a tree of arrays: pickle, deepcopy and orbax keep every bit."""
    tx = jax.tree.map(lambda *xs: jnp.stack(xs), *map(gradtx.adamw, (1e-3, 1e-2, 1e-1)))
    assert_same(_pickled(tx), tx)
    assert_same(copy.deepcopy(tx), tx)
    fresh = jax.tree.map(jnp.zeros_like, tx)
    assert_same(_through_orbax(checkpointer, tmp_path / "checkpoint", tx, fresh), tx)


@over_rows
def test_export(row):
    """A compiled update with the state as argument and result goes through `jax.export`."""
    export = pytest.importorskip("jax.export")
    pytest.importorskip("flatbuffers")
    tx, params = build(row), arrays(0)
    state = tx.init(params)
    exported = export.export(jax.jit(lambda *args: update(tx, *args)))(params, state, params)
    back = export.deserialize(exported.serialize())
    assert back.in_tree == exported.in_tree
    assert back.out_tree == exported.out_tree
    assert jax.tree.structure(((params, state, params), {})) == back.in_tree
