"""Trees beside each other: updates, parameters and slots, leaf by leaf; where they differ, how."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten_with_path

from gradtx.paths import spread
from gradtx.struct import value_error
from gradtx.tree import Extra, Tree, is_data, is_none, listed, named_leaves, path_string

WHAT_TO_DO = {
    "parameters": "Take the gradients with respect to these parameters: jax.grad(loss)(params)",
    "state": "Make the state for these parameters, tx.init(params), or load that of this model",
    "updates": "Pass the updates of these parameters",
}


def aligned(
    called: object, treedef: Any, tree: Tree, what: str, reference: str = "updates"
) -> list[Any]:
    """What `tree` has at each leaf of `treedef`: a subtree where that has a `None` above it.

    A `None` of `tree` counts for everything below it. Raises `ValueError` with the paths that only
    one of the two has.
    """
    try:
        return treedef.flatten_up_to(tree)
    except ValueError:
        pass
    blank = jax.tree.unflatten(treedef, range(treedef.num_leaves))
    try:
        return _matched(blank, tree)
    except _OtherNodeError as other:
        ours = {path for path, _ in named_leaves(blank)}
        theirs = {path for path, _ in named_leaves(tree)}
        seen = f"the {reference} and the {what} are different trees"
        do = WHAT_TO_DO.get(what, "Pass trees of one and the same model")
        for side, paths in ((reference, ours - theirs), (what, theirs - ours)):
            if paths and paths != {""}:
                seen += f"; only in the {side}: {listed(paths)}"
        if ours == theirs or "" in ours | theirs:
            seen += f"; {other.told(reference, what)}"
            do = "Make them of one kind" if ours == theirs else do
    raise value_error(called, seen, do)


class _OtherNodeError(Exception):
    """Two trees that differ in one node."""

    def __init__(self, path: tuple[Any, ...], one: Any, other: Any) -> None:
        self.where = f"at {path_string(path)!r} " if path else ""
        self.one, self.other = one, other

    def told(self, reference: str, what: str) -> str:
        one, other = _kind(self.one), _kind(self.other)
        if one == other:
            return f"{self.where}both have a {one}, with other fields or keys"
        return f"{self.where}the {reference} have a {one}, the {what} have a {other}"


def _kind(x: Any) -> str:
    return f"{jnp.result_type(x)}{list(np.shape(x))}" if is_data(x) else type(x).__name__


def _matched(blank: Any, tree: Tree, path: tuple[Any, ...] = ()) -> list[Any]:
    """What `tree` has at each number of `blank`, in order."""
    if isinstance(blank, int):
        return [tree]
    if tree is None:
        return [None] * len(jax.tree.leaves(blank))
    flat, shallow = tree_flatten_with_path(blank, is_leaf=lambda x: x is not blank)
    try:
        parts = shallow.flatten_up_to(tree)
    except ValueError:
        raise _OtherNodeError(path, blank, tree) from None
    found = []
    for (key, child), part in zip(flat, parts, strict=True):
        found += _matched(child, part, (*path, *key))
    return found


def alike(called: object, name: str, value: Tree, tree: Tree) -> list[Any]:
    """What an extra argument that is a (prefix) tree like `tree` has for each leaf of that.

    Raises `ValueError` with the paths that do not fit.
    """
    try:
        return jax.tree.structure(tree, is_leaf=is_none).flatten_up_to(value)
    except ValueError:
        return spread(f"{called}.update: {name}", value, tree)


def split(
    called: object, names: Iterable[str], extra: Extra, tree: Tree, keys: Any, key: Any
) -> Extra:
    """The extra arguments, of those in `names` what belongs to the leaves of one key."""
    treedef = jax.tree.structure(tree, is_leaf=is_none)
    wanted = [name for name in names if extra.get(name) is not None]
    own = {name: treedef.unflatten(alike(called, name, extra[name], tree)) for name in wanted}
    return {**extra, **{name: only(value, keys, key) for name, value in own.items()}}


def grown(updates: Tree, params: Tree) -> Tree:
    """The updates with `None` for every array below a `None` that stands for them all."""
    if jax.tree.structure(updates, is_leaf=is_none) == jax.tree.structure(params, is_leaf=is_none):
        return updates
    return jax.tree.map(
        lambda u, p: jax.tree.map(lambda _: None, p, is_leaf=is_none) if u is None else u,
        updates,
        params,
        is_leaf=is_none,
    )


def as_they_came(updates: Tree, before: Tree) -> Tree:
    """`updates` with `None` where `before` has it, above several arrays too."""
    return jax.tree.map(lambda b, u: None if b is None else u, before, updates, is_leaf=is_none)


def only(tree: Tree | None, keys: list[Any], key: Any) -> Tree | None:
    """The tree with `None` for the leaves of other keys."""
    if tree is None:
        return None
    treedef = jax.tree.structure(tree, is_leaf=is_none)
    leaves = jax.tree.leaves(tree, is_leaf=is_none)
    return treedef.unflatten(x if k == key else None for x, k in zip(leaves, keys, strict=True))


def with_leaves(tree: Tree, keys: list[Any], key: Any, part: Tree) -> Tree:
    """The tree with the leaves of one key taken from `part`."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=is_none)
    news = treedef.flatten_up_to(part)
    return treedef.unflatten(
        new if k == key else old for old, new, k in zip(leaves, news, keys, strict=True)
    )
