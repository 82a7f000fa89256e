"""Law 8: optimizer and state come back from flatten, pickle and deepcopy bit for bit."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import jax

from gradtx.testing.compare import leaves, require, same
from gradtx.testing.evidence import Evidence
from gradtx.testing.laws.law import law
from gradtx.transform import GradientTransformation


def _flattened(value: Any) -> Any:
    found, treedef = jax.tree.flatten(value)
    return jax.tree.unflatten(treedef, found)


def _with_keys(value: Any) -> Any:
    found, treedef = jax.tree_util.tree_flatten_with_path(value)
    paths = [path for path, _ in leaves(value)]
    require(len(set(paths)) == len(paths), "two leaves have one path", paths)
    return jax.tree.unflatten(treedef, [leaf for _, leaf in found])


def _pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


TRIPS: dict[str, Callable[[Any], Any]] = {
    "flatten": _flattened,
    "flatten_with_path": _with_keys,
    "pickle": _pickled,
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


def comes_back(tx: GradientTransformation, back: Any, what: str) -> None:
    """The same type, numbers, print, hash and structure; equal to what it was."""
    require(back == tx, f"{what}: it is not equal to what it was", back, tx)
    require(hash(back) == hash(tx), f"{what}: another hash")
    require(repr(back) == repr(tx), f"{what}: another print", repr(back), repr(tx))
    structure = jax.tree.structure(back)
    require(structure == jax.tree.structure(tx), f"{what}: another structure", structure)
    same(back, tx, what)


@law(8)
def optimizer_comes_back(e: Evidence) -> None:
    """The same type, numbers, print and hash; equal to what it was."""
    for name, trip in TRIPS.items():
        comes_back(e.tx, trip(e.tx), name)


@law(8)
def state_comes_back(e: Evidence) -> None:
    """The same types down to the NamedTuples, the same bits; the next update takes it."""
    path = e.alone.path
    for name, trip in TRIPS.items():
        back = trip(path.states[1])
        same(back, path.states[1], f"the state after {name}")
        found = e.update(e.grads[1], back, e.params)
        same(found, (path.updates[1], path.states[2]), f"the update after {name}")
