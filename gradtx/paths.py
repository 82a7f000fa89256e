"""Which array gets what: by path pattern, predicate or label tree; and who moves what."""

from __future__ import annotations

import difflib
import fnmatch
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Union

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten_with_path

from gradtx.struct import (
    FrozenTree,
    Struct,
    Table,
    complaint,
    converted,
    shown,
    static,
    type_error,
    value_error,
    with_functions_wrapped,
)
from gradtx.struct.along import along, are_flags
from gradtx.tree import Tree, is_data, is_inexact, is_none, listed, named_leaves, path_string

Labels = Union[
    str,
    int,
    Callable[[Any], object],
    Callable[[str, Any], object],
    "by_path",
    along,
    FrozenTree,
    Mapping[Any, "Labels"],
    Sequence["Labels"],
    None,
]
"""One label, a prefix tree of labels, a function of path and array or of the whole tree that
gives them, or them `by_path`. Other containers pass type checkers through `prefix_tree`."""


def matches(pattern: str, path: str) -> bool:
    """Whether a path such as `layers/0/bias` fits a pattern.

    `*` stands for any run of characters, slashes included, `?` for any one, `[0-9]` for one of
    these or, as in a path that holds brackets, for itself. A leading `*/` fits the top too.
    """
    forms = (pattern, pattern.replace("[", "[[]"))
    paths = (path, f"/{path}")
    return any(fnmatch.fnmatchcase(p, form) for p in paths for form in forms)


def label_tree(called: object, labels: Labels, tree: Tree) -> list[Any]:
    """One label for each leaf of `tree` (`None` counts as a leaf), in its order.

    A function that can be called with one argument gets the whole tree, as in Optax; one that
    needs two is asked for every leaf with its path. Trees are never called.
    """
    if isinstance(labels, FrozenTree):
        return spread(called, labels.tree, tree)
    if isinstance(labels, by_path):
        keys = route(called, labels.table, labels.labels, tree)
        return [None if key is None else labels.table.get(key, key) for key in keys]
    if not callable(labels):
        return spread(called, labels, tree)
    if _takes_tree(labels):
        return spread(called, _asked(called, "", labels, tree), tree)
    return [
        _asked(called, f"at {path!r} ", labels, path, x) if is_data(x) else None
        for path, x in named_leaves(tree)
    ]


def _takes_tree(function: Callable[..., Any]) -> bool:
    """Whether a function is one of the whole tree, not of a path and an array."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # it has none that can be read
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is p.empty]
    anything = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return len(needed) == 1 and not anything


def _asked(called: object, where: str, function: Callable[..., Any], *args: Any) -> Any:
    """What a function of the user says; its error with the path at which it came up."""
    try:
        return function(*args)
    except Exception as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raised = f"{type(error).__name__}: {str(error).rstrip('.') or 'without a message'}"
        raise kind(
            complaint(
                called,
                f"{where}{shown(function)} raised {raised}",
                "Mend the function: it gets the path and the array, or the whole tree if it takes "
                "one argument",
            )
        ) from error


def spread(called: object, prefix: Tree, tree: Tree) -> list[Any]:
    """The leaf of `prefix` above each leaf of `tree` (`None` counts as a leaf), in its order.

    Trees of other containers (a tuple for a list, a state of Flax for a dict) go by their paths.
    Raises `ValueError` where `prefix` is no prefix of the tree. For a tree without leaves, with
    which Optax asks what a state is like, there is nothing to say.
    """
    if not jax.tree.leaves(tree):
        return [None] * len(named_leaves(tree))
    try:
        full = jax.tree.map(
            lambda value, below: jax.tree.map(lambda _: value, below, is_leaf=is_none),
            prefix,
            tree,
            is_leaf=lambda x: x is None or isinstance(x, Struct),
        )
        return jax.tree.structure(tree, is_leaf=is_none).flatten_up_to(full)
    except ValueError:
        pass
    found, lost, idle = _spread_by_path(prefix, tree)
    if not (lost or idle):
        return found
    seen = [f"nothing for {listed(lost)}"] if lost else []
    seen += [f"no parameter for {listed(idle)}"] if idle else []
    raise value_error(
        called,
        f"the tree does not fit the parameters: {', and '.join(seen)}",
        "Give one value for all, or a tree with a leaf for each upper part of them",
    )


def _spread_by_path(prefix: Tree, tree: Tree) -> tuple[list[Any], list[str], list[str]]:
    """The same by paths alone: what is found, the paths without a value, values without a path."""
    above = dict(bare_paths(prefix, lambda x: x is None or isinstance(x, Struct)))
    found, lost, used = [], [], set()
    for path, _ in bare_paths(tree, is_none):
        owner = next((path[:k] for k in range(len(path), -1, -1) if path[:k] in above), None)
        used.add(owner)
        found.append(None if owner is None else above[owner])
        lost += ["/".join(path)] if owner is None else []
    return found, lost, ["/".join(path) for path in above if path not in used]


def bare_paths(tree: Tree, is_leaf: Callable[[Any], bool]) -> list[tuple[tuple[str, ...], Any]]:
    """The leaves with their paths, without the attribute in which a box such as a variable of Flax
    holds its array."""
    flat = tree_flatten_with_path(tree, is_leaf=is_leaf)[0]
    boxed = jax.tree_util.GetAttrKey("value")
    bare = (path[:-1] if path and path[-1] == boxed else path for path, _ in flat)
    return [
        (tuple(path_string((key,)) for key in path), leaf)
        for path, (_, leaf) in zip(bare, flat, strict=True)
    ]


def route(called: object, table: Mapping[Any, Any], labels: Labels | None, tree: Tree) -> list[Any]:
    """The key of `table` for each leaf of `tree`: the first pattern that fits, or its label.

    Leaves that no optimizer moves (`None`, integers) get `None`. Raises `ValueError` listing the
    arrays for which there is no entry.
    """
    flat = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)[0]
    paths = [path_string(path) for path, _ in flat]
    if labels is None:
        keys = _first_that_fit(table, paths)
    else:
        keys = (flags_of if is_mask(table) else label_tree)(called, labels, tree)
    keys = [k if is_inexact(x) else None for k, (_, x) in zip(keys, flat, strict=True)]
    both = set(table) == {True, False}  # of which flags along axes choose, entry by entry
    lost = [
        path
        for path, key, (_, x) in zip(paths, keys, flat, strict=True)
        if is_inexact(x) and key not in table and not (both and are_flags(key))
    ]
    if lost:
        raise value_error(
            called,
            f"no entry for {listed(lost)} (entries: {listed(table)})",
            'Add an entry for them; the pattern "*" at the end takes the rest',
        )
    return keys


def _first_that_fit(table: Mapping[Any, Any], paths: Sequence[str]) -> list[Any]:
    return [next((k for k in table if matches(k, path)), None) for path in paths]


def is_mask(table: Mapping[Any, Any]) -> bool:
    """Whether the labels of a table are a mask, where a string is a pattern, not one for all."""
    return all(isinstance(key, bool) for key in table)


def flags_of(called: object, mask: Labels, tree: Tree) -> list[Any]:
    """Whether a mask holds, for each leaf of `tree`: a bool, flags along axes of it, or None.

    Raises `TypeError` for what is none of these.
    """
    if isinstance(mask, str):
        return label_tree(called, lambda path, _: matches(mask, path), tree)
    found = label_tree(called, mask, tree)
    for (path, _), flag in zip(named_leaves(tree), found, strict=True):
        if not (flag is None or isinstance(flag, bool | np.bool_) or are_flags(flag)):
            raise type_error(
                called,
                f"the mask at {path!r} is {shown(flag)}",
                "Let it be a Python bool, which is known before any number is, or flags along axes",
            )
    return [flag if flag is None or are_flags(flag) else bool(flag) for flag in found]


def reasons(called: object, labels: Any, tree: Tree) -> list[str]:
    """Why each leaf of `tree` has its label of these, in words."""
    if isinstance(labels, by_path):
        if isinstance(labels.labels, str) and is_mask(labels.table):
            words = {True: f"fits {labels.labels!r}", False: f"does not fit {labels.labels!r}"}
            keys = route(called, labels.table, labels.labels, tree)
            return [words.get(key, "") for key in keys]
        if labels.labels is not None:
            return reasons(called, labels.labels, tree)
        keys = route(called, labels.table, None, tree)
        return ["" if key is None else f"fits {key!r}" for key in keys]
    if labels is None or isinstance(labels, Struct):
        return [""] * len(named_leaves(tree))
    name = getattr(labels, "__name__", "its label")
    return ["" if key is None else f"{name} {key!r}" for key in label_tree(called, labels, tree)]


def refuse_unused(called: object, table: Mapping[Any, Any], keys: list[Any], tree: Tree) -> None:
    """Raises `ValueError` for an entry that no array uses: most often a misspelt pattern."""
    used = {key for key in keys if key is not None}
    unused = [key for key in table if key not in used]
    moved = [
        (path, k) for (path, x), k in zip(named_leaves(tree), keys, strict=True) if is_inexact(x)
    ]
    arrays = [path for path, _ in moved]
    if not (unused and arrays):
        return
    by_pattern = all(k is None or _fits(k, path) for path, k in moved)
    taken = [(path, k) for path, k in moved if isinstance(k, str) and _fits(unused[0], path)]
    if taken and by_pattern:
        path, first = taken[0]
        seen = f"no array goes to {unused[0]!r}: {first!r}, which comes before it, takes {path!r}"
        before = f"List {unused[0]!r} before {first!r}, or leave it out"
        do = "Leave it out" if _fits(unused[0], first) else before
    else:
        seen = f"no array goes to {listed(unused)} (arrays: {listed(arrays)})"
        do = (_meant(unused[0], arrays) if by_pattern else "") or "Mend the entry or leave it out"
    raise value_error(called, seen, do)


def refuse_idle(called: object, labels: Any, tree: Tree) -> None:
    """Raises `ValueError` for a pattern that fits no array: a mask, or one of labels by path.

    Such a pattern may come too late to give a label: the entries tell whether one is missing.
    """
    is_table = isinstance(labels, by_path) and labels.labels is None
    paths = [path for path, _ in named_leaves(tree)]
    for pattern in labels.table if is_table else [labels] if isinstance(labels, str) else ():
        refuse_unused(called, {pattern: True}, _first_that_fit({pattern: True}, paths), tree)


def _meant(pattern: Any, paths: Iterable[str]) -> str:
    """A hint with the pattern that fits and is spelt almost like this one, if there is one."""
    names = {name for path in paths for name in path.split("/")}
    parts = [
        difflib.get_close_matches(part, names, n=1) or [part] for part in str(pattern).split("/")
    ]
    meant = "/".join(part for (part,) in parts)
    return f"Did you mean {meant!r}?" if any(matches(meant, path) for path in paths) else ""


def _fits(key: Any, path: str) -> bool:
    return isinstance(key, str) and matches(key, path)


# Values of one hyperparameter --------------------------------------------------------------------


def _as_table(table: Mapping[Any, Any], called: str = "by_path") -> Table:
    refuse_no_mapping(called, table, 'such as {"*/bias": 0.0, "*": 0.1}')
    return Table(
        {
            key: with_functions_wrapped(v, called, f"the value of {key!r}")
            for key, v in table.items()
        }
    )


def refuse_no_mapping(called: str, table: Any, such_as: str) -> None:
    """Raises `TypeError` for what is no mapping from patterns or labels."""
    if not isinstance(table, Mapping):
        raise type_error(
            called,
            f"a {type(table).__name__} stands where patterns or labels lead to something",
            f"Pass a dict, {such_as}",
        )


class by_path(Struct):
    """A hyperparameter that differs between arrays: `by_path({"*/bias": 0.0, "*": 0.1})`.

    The first pattern that fits the path of an array gives its value, which may be a schedule. With
    `labels` the keys of the table are labels instead: see `partition` for their forms. Raises
    `ValueError` in `init` for arrays without an entry and for patterns that no array uses.
    """

    # pattern or label -> number, array or schedule
    table: Mapping[Any, Any] = converted(converter=_as_table)
    labels: Labels | None = static(default=None)

    _is_values: ClassVar[bool] = True

    def check(self) -> None:
        for key, value in self.table.items():
            if isinstance(value, by_path):
                raise type_error(
                    "by_path",
                    f"the value of {key!r} is a table itself: {value}",
                    "Write one table with all patterns, the first that fits counts",
                )


def only_where(mask: Labels | None, value: Any, otherwise: Any = 0.0) -> Any:
    """A hyperparameter that has `value` where `mask` holds; without a mask everywhere.

    A mask is a path pattern, a (prefix) tree of bools or of flags `along` axes of an array, a
    function of path and array, or one of the whole tree.
    """
    if mask is None:
        return value
    if isinstance(value, by_path | Mapping | list | tuple):
        raise type_error(
            "mask",
            f"the value differs between arrays already, {value}, and a mask is given besides",
            "Put 0.0 into that table or tree where the mask would be False",
        )
    return by_path({True: value, False: otherwise}, mask)


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
