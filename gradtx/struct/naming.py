"""What the numbers of an object are called: the field where that is enough, else the path."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.tree_util import tree_leaves_with_path

from gradtx.struct.node import Node
from gradtx.struct.table import Table

Path = tuple[str, ...]
AROUND = "inner"  # the field for what a wrapper stands around


class Entry(NamedTuple):
    """A number in an object, or what gives one, such as a schedule."""

    path: Path
    value: Any
    said: Path  # the path without `inner`, the class of a wrapper before what is its own
    least: int  # how many names at its end only make sense together: field and pattern
    of_class: int = -1  # where `said` has the class of a wrapper


def named_numbers(struct: Node) -> dict[str, Entry]:
    """Every number and schedule in an object, by name, outermost first.

    The name is the end of what is said of it, as short as no other number ends so, from its field
    on. Wrappers around a number do not count for that: it is they who get a longer name.
    """
    found = list(_below(struct))
    endings: dict[str, list[int]] = defaultdict(list)
    for i, entry in enumerate(found):
        for ending in _endings(entry):
            endings[ending].append(i)
    names: dict[int, str] = {}
    for i in sorted(range(len(found)), key=lambda i: _inside_first(found[i].path)):
        taken = set(names.values())
        names[i] = next(
            name
            for name, is_whole in _candidates(found[i])
            if name not in taken
            and (is_whole or all(j == i or _around(found[j], found[i]) for j in endings[name]))
        )
    return {names[i]: entry for i, entry in enumerate(found)}


def _candidates(entry: Entry) -> Iterator[tuple[str, bool]]:
    """Names for it, the shortest first, and whether one says all that there is to say."""
    for ending in _endings(entry):
        yield ending, False
    yield ".".join(entry.said), True
    # Of several wrappers of a class the innermost has its name; keys may have dots in them.
    head, *rest = entry.said[max(entry.of_class, 0) :]
    for number in itertools.count(2):
        yield ".".join([f"{head}_{number}", *rest]), False


def _endings(entry: Entry) -> list[str]:
    parts = entry.said
    return [".".join(parts[-size:]) for size in range(entry.least, len(parts) + 1)]


def _inside_first(path: Path) -> list[bool]:
    return [name != AROUND for name in path]


def _around(entry: Entry, other: Entry) -> bool:
    """Whether an entry belongs to a wrapper around the other."""
    pairs = zip(entry.path, other.path, strict=False)
    apart = next(((a, b) for a, b in pairs if a != b), ("", ""))
    return apart[1] == AROUND


def _below(value: Any, path: Path = (), said: Path = (), of_class: int = -1) -> Iterator[Entry]:
    """The numbers in an object, or in a table of objects."""
    if isinstance(value, Table):
        for key, child in value.items():
            below = (*path, str(key))
            if _is_entered(child):
                yield from _below(child, below, (*said, str(key)), of_class)
            else:
                yield from _numbers(child, below, (*said, str(key)), 1, of_class)
        return
    is_wrapper = AROUND in value._leaves and isinstance(getattr(value, AROUND), Node)
    for name in value._leaves:
        child = getattr(value, name)
        inside, here = said, of_class
        if is_wrapper and name != AROUND:
            inside, here = (*said, type(value).__name__), len(said)
        if isinstance(child, Table):
            yield from _below(child, path, inside, here)
            continue
        below = (*path, name)
        inside = inside if is_wrapper and name == AROUND else (*inside, name)
        if isinstance(child, Node) and child._is_values:
            for key, number in child.table.items():  # pyright: ignore[reportAttributeAccessIssue]
                yield from _numbers(number, (*below, str(key)), (*inside, str(key)), 2, here)
        elif _is_entered(child):
            yield from _below(child, below, inside, here)
        else:
            yield from _numbers(child, below, inside, 1, here)


def _is_entered(value: Any) -> bool:
    return isinstance(value, Node) and not (value._is_scalar or value._is_closed)


def _numbers(value: Any, path: Path, said: Path, least: int, of_class: int) -> Iterator[Entry]:
    """The numbers in a field: one, or a tree of them."""
    for below, number in tree_leaves_with_path(value, is_leaf=_is_scalar):
        more = (jax.tree_util.keystr(below, simple=True, separator="/"),) if below else ()
        yield Entry((*path, *more), number, (*said, *more), least + len(more), of_class)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Node) and value._is_scalar
