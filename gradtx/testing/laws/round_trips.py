"""Law 8: optimizer and state come back from flatten, pickle and deepcopy bit for bit."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import jax

from gradtx.states.loading import load_state
from gradtx.states.saving import state_dict
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


@law(8)
def state_is_loaded_by_name(e: Evidence) -> None:
    """A state saved as named arrays and loaded is the same, bit for bit, and nothing is left over.

    Where one array is missing it is named.
    """
    state = e.alone.path.states[2]
    flat = state_dict(e.tx, state, e.params)
    back, report = load_state(e.tx, flat, e.params)
    same(back, state, "the state that was loaded")
    other = [k for k, v in vars(report).items() if k != "loaded" and v]
    require(not other, "what the report says beside what was loaded", report)
    arrays = [name for name in flat if "#" not in name]
    for name in arrays[:: max(1, len(arrays) // 2)] if len(arrays) > 1 else []:
        less = {key: x for key, x in flat.items() if key != name}
        try:
            found = load_state(e.tx, less, e.params)[1].renamed
            require(name in found, "missing, and nobody said so", name)
        except ValueError as error:
            require(repr(name) in str(error), f"the error does not name {name!r}", error)
            others = [other for other in arrays if other != name and repr(other) in str(error)]
            require(not others, f"only {name!r} is missing, the error names others", others)


@law(8)
def state_moves_between_meshes(e: Evidence) -> None:
    """Saved on a mesh it is loaded on one device and back, the same numbers where they belong."""
    if e.mesh is None:
        return
    placed, state = e.meshed.params, e.meshed.stepped[1]
    there = load_state(e.tx, state_dict(e.tx, state, placed), e.params)[0]
    same(there, jax.device_get(state), "the state on one device")
    back = load_state(e.tx, state_dict(e.tx, there, e.params), placed)[0]
    same(jax.device_get(back), jax.device_get(state), "the state on the mesh again")
    for (path, x), y in zip(leaves(back), jax.tree.leaves(e.meshed.init["init"]), strict=True):
        fits = x.sharding.is_equivalent_to(y.sharding, x.ndim)
        require(fits, f"{path} lies elsewhere than in a fresh state", x.sharding, y.sharding)
