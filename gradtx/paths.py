"""Which array gets what: by path pattern, predicate or label tree; and who moves what."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_map_with_path

from gradtx.struct import (
    FrozenTree,
    Struct,
    Table,
    complaint,
    converted,
    static,
    with_functions_wrapped,
)
from gradtx.tree import Tree, is_inexact, is_none, listed, named_leaves, path_string

Labels = Callable[[str, Any], Any] | Any
"""A predicate `(path, array) -> label`, one label, a prefix tree of labels, or them `by_path`."""


def matches(pattern: str, path: str) -> bool:
    """Whether a path such as `layers/0/bias` fits a pattern.

    `*` stands for any run of characters, slashes included, and a leading `*/` fits the top too.
    """
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(f"/{path}", pattern)


def label_tree(called: Any, labels: Labels, tree: Tree) -> list[Any]:
    """One label for each leaf of `tree` (`None` counts as a leaf), in its order."""
    treedef = jax.tree.structure(tree, is_leaf=is_none)
    if isinstance(labels, FrozenTree):
        labels = labels.tree
    elif isinstance(labels, by_path):
        keys = route(called, labels.table, labels.labels, tree)
        return [None if key is None else labels.table[key] for key in keys]
    elif callable(labels):
        routed = tree_map_with_path(
            lambda path, x: None if x is None else labels(path_string(path), x),
            tree,
            is_leaf=is_none,
        )
        return treedef.flatten_up_to(routed)
    return spread(called, labels, tree)


def spread(called: Any, prefix: Tree, tree: Tree) -> list[Any]:
    """The leaf of `prefix` above each leaf of `tree` (`None` counts as a leaf), in its order.

    Raises `ValueError` where `prefix` is no prefix of the tree.
    """
    try:
        full = jax.tree.map(
            lambda value, below: jax.tree.map(lambda _: value, below, is_leaf=is_none),
            prefix,
            tree,
            is_leaf=lambda x: x is None or isinstance(x, Struct),
        )
        return jax.tree.structure(tree, is_leaf=is_none).flatten_up_to(full)
    except ValueError:
        upper, lower = (listed(path for path, _ in named_leaves(t)) for t in (prefix, tree))
        raise ValueError(
            complaint(
                called,
                f"a tree with the leaves {upper} does not fit the parameters {lower}",
                "Give one value for all, or a tree with a leaf for each upper part of them",
            )
        ) from None


def route(called: Any, table: Mapping[Any, Any], labels: Labels | None, tree: Tree) -> list[Any]:
    """The key of `table` for each leaf of `tree`: the first pattern that fits, or its label.

    Leaves that no optimizer moves (`None`, integers) get `None`. Raises `ValueError` listing the
    arrays for which there is no entry.
    """
    flat = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)[0]
    paths = [path_string(path) for path, _ in flat]
    if labels is None:
        keys = [next((k for k in table if matches(k, path)), None) for path in paths]
    else:
        keys = label_tree(called, labels, tree)
    keys = [k if is_inexact(x) else None for k, (_, x) in zip(keys, flat, strict=True)]
    lost = [
        path
        for path, key, (_, x) in zip(paths, keys, flat, strict=True)
        if is_inexact(x) and key not in table
    ]
    if lost:
        raise ValueError(
            complaint(
                called,
                f"no entry for {listed(lost)} (entries: {', '.join(map(repr, table))})",
                'Add an entry for them; the pattern "*" at the end takes the rest',
            )
        )
    return keys


def reasons(called: Any, labels: Any, tree: Tree) -> list[str]:
    """Why each leaf of `tree` has its label of these, in words."""
    if isinstance(labels, by_path):
        if labels.labels is not None:
            return reasons(called, labels.labels, tree)
        keys = route(called, labels.table, None, tree)
        return ["" if key is None else f"fits {key!r}" for key in keys]
    if labels is None or isinstance(labels, Struct):
        return [""] * len(named_leaves(tree))
    name = getattr(labels, "__name__", "its label")
    return ["" if key is None else f"{name} {key!r}" for key in label_tree(called, labels, tree)]


def refuse_unused(called: Any, table: Mapping[Any, Any], keys: list[Any], tree: Tree) -> None:
    """Raises `ValueError` for an entry that no array uses: most often a misspelt pattern."""
    used = {key for key in keys if key is not None}
    unused = [repr(key) for key in table if key not in used]
    arrays = [path_string(p) for p, x in jax.tree_util.tree_leaves_with_path(tree) if is_inexact(x)]
    if unused and arrays:
        raise ValueError(
            complaint(
                called,
                f"no array goes to {', '.join(unused)} (arrays: {listed(arrays)})",
                "Mend the entry or leave it out",
            )
        )


def aligned(
    called: Any, treedef: Any, tree: Tree, what: str, reference: str = "updates"
) -> list[Any]:
    """What `tree` has at each leaf of `treedef`, which may be a leaf where `tree` has `None`.

    Raises `ValueError` with the paths that only one of the two has.
    """
    try:
        return treedef.flatten_up_to(tree)
    except ValueError:
        pass
    blank = jax.tree.unflatten(treedef, range(treedef.num_leaves))
    ours = {path for path, _ in named_leaves(blank)}
    theirs = {path for path, _ in named_leaves(tree)}
    seen = f"the {reference} and the {what} are different trees"
    for side, paths in ((reference, ours - theirs), (what, theirs - ours)):
        if paths:
            seen += f"; only in the {side}: {listed(paths)}"
    raise ValueError(
        complaint(called, seen, "Pass gradients, state and parameters of one and the same model")
    )


def _as_table(called: str, table: Mapping[Any, Any]) -> Table:
    return Table({key: with_functions_wrapped(value) for key, value in table.items()})


class by_path(Struct):
    """A hyperparameter that differs between arrays: `by_path({"*/bias": 0.0, "*": 0.1})`.

    The first pattern that fits the path of an array gives its value, which may be a schedule. With
    `labels` the keys of the table are labels instead: see `partition` for their forms. Raises
    `ValueError` in `init` for arrays without an entry and for patterns that no array uses.
    """

    table: Mapping[Any, Any] = converted(_as_table)  # pattern or label -> number, array or schedule
    labels: Labels | None = static(default=None)


# Who moves what ----------------------------------------------------------------------------------


class Route(NamedTuple):
    """What becomes of one array."""

    by: str  # the transformation that it goes to
    seen: str = ""  # what it is taken for, such as a stack of matrices
    why: str = ""

    def because(self, reason: str) -> Route:
        """This route with one more reason, before its own."""
        if reason in self.why:
            return self
        return self._replace(why=f"{reason}; {self.why}" if self.why else reason)


UNMOVED = Route("nothing", "", "no floating or complex array")


def table(params: Tree, routes: Sequence[Route]) -> str:
    """One line for each array, in columns."""
    rows: list[tuple[str, ...]] = [("array", "type", "moved by", "as", "why")]
    for (path, x), route in zip(named_leaves(params), routes, strict=True):
        if x is not None:
            rows.append((path, _type(x), *(route if is_inexact(x) else UNMOVED)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _type(x: Any) -> str:
    return f"{jnp.result_type(x)}{list(np.shape(x))}"
