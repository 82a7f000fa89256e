"""Parts of a state, read, set and begun anew: `select`, `assign`, `reset`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.engine.slots import is_stored, together
from gradtx.foreign import AnyTransformation
from gradtx.paths import matches
from gradtx.states.kinds import placed, unlike
from gradtx.states.survey import At, Field, fields, leafwise, written
from gradtx.struct import nearest, value_error
from gradtx.transform import State
from gradtx.tree import Tree, is_inexact, is_none, listed, named_leaves, path_string


def select(state: State, pattern: str) -> dict[str, Any]:
    """The arrays of a state whose path fits, by path: `select(state, "*/mu/dense/kernel")`.

    Paths are those of the state in memory, as `jax.tree_util.keystr` has them with slashes.
    Raises `ValueError` where none fits.
    """
    found = {path: x for path, x in named_leaves(state) if x is not None and matches(pattern, path)}
    if not found:
        raise value_error("select", f"no path fits {pattern!r}", _known(pattern, state))
    return found


def assign(state: State, values: Mapping[str, Any]) -> State:
    """The state with other values: `assign(state, {"*/nu": tree, "count": 100})`.

    A key is the path, or a pattern of paths, of arrays or of what holds them. A value is a number
    for all entries, an array, or a tree like what is there. Structure, dtypes and places stay.
    Raises `ValueError` for a key that fits nothing and a value that does not fit.
    """
    flat, treedef = jax.tree_util.tree_flatten_with_path(state)
    paths, leaves = [path for path, _ in flat], [x for _, x in flat]
    for key, value in values.items():
        given, used, hit = dict(named_leaves(value)), set(), False
        for i, path in enumerate(paths):
            ends = [k for k in range(len(path), -1, -1) if matches(key, path_string(path[:k]))]
            if not ends:
                continue
            below, hit = path_string(path[ends[0] :]), True
            # A number stands for every array below.
            x = given.get(below, given[""] if list(given) == [""] else None)
            used.add(below if below in given else "")
            leaves[i] = _set(key, path_string(path), leaves[i], x)
        if not hit:
            raise value_error("assign", f"no path fits {key!r}", _known(key, state))
        if spare := given.keys() - used:
            seen = f"nothing of {key!r} is called {listed(sorted(spare))}"
            raise value_error("assign", seen, "Pass a tree like what select(state, ...) shows")
    return treedef.unflatten(leaves)


def _set(key: str, path: str, old: Any, new: Any) -> Any:
    if new is None:
        seen = f"the value of {key!r} has nothing for {path!r}"
        raise value_error("assign", seen, "Pass a number, or a tree like what is there")
    if isinstance(new, bool | int | float):
        fits = is_inexact(old) or np.asarray(new).astype(old.dtype) == new
        misfit = "" if fits else f"{new} is no {old.dtype}"
        new = np.full(old.shape, new)
    else:
        new = jnp.asarray(new)
        misfit = unlike(new, old, ("given", "in the state"))
    if misfit:
        raise value_error("assign", f"at {path!r} the value {misfit}", "Pass one like it")
    return placed(new, old)


def reset(
    tx: AnyTransformation,
    state: State,
    params: Tree,
    patterns: str | Sequence[str] = "*",
    slots: str | Sequence[str] = "*",
) -> State:
    """The state with what it keeps of some arrays as `tx.init(params)` has it; counts stay.

    `patterns` are of paths of parameters, `slots` names such as "mu nu" or patterns of them:
    `reset(tx, state, params, "embed/*")`. Numbers that arrays have in common stay. It runs under
    `jit`. Raises `ValueError` for a pattern that fits nothing.
    """
    chosen = [patterns] if isinstance(patterns, str) else [*patterns]
    wanted = slots.split() if isinstance(slots, str) else [*slots]
    tx, before = fields("reset", tx, state, params)
    new = {field.at: field for field in fields("reset", tx, tx.init(params), params)[1]}
    used: set[str] = set()
    changes: dict[At, Any] = {}
    found = [field for field in before if field.kind == "slot"]
    for field in found:
        fitting = [name for name in wanted if matches(name, field.name)]
        if fitting:
            used.update(fitting)
            changes[field.at] = _reset(field, new[field.at], chosen, used)
    for name in wanted:
        if name not in used:
            known = dict.fromkeys(field.name for field in found)
            raise value_error("reset", f"no slot is called {name!r}", nearest(name, known))
    for pattern in chosen:
        if pattern not in used:
            known = [path for path, _ in named_leaves(params)]
            seen = f"no parameter with such slots fits {pattern!r}"
            raise value_error("reset", seen, nearest(pattern, known))
    return written(state, changes)


def _reset(old: Field, new: Field, patterns: list[str], used: set[str]) -> Any:
    treedef, before = leafwise({"": old.value})
    _, after = leafwise({"": new.value})
    kept = []
    for (path, x), (_, y) in zip(before, after, strict=True):
        fitting = [pattern for pattern in patterns if x[""] is not None and matches(pattern, path)]
        used.update(fitting)
        kept.append(y[""] if fitting else x[""])
    return together(type(old.value) if is_stored(old.value) else jax.Array, treedef, kept)


def _known(pattern: str, state: State) -> str:
    flat = jax.tree_util.tree_leaves_with_path(state, is_leaf=is_none)
    return nearest(pattern, [path_string(path) for path, _ in flat])
