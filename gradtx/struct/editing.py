"""Finding the fields of an object and of all that is inside it, and replacing one of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jax.tree_util import keystr, tree_flatten_with_path

from gradtx.struct.messages import nearest, value_error
from gradtx.struct.naming import AROUND, named_numbers
from gradtx.struct.node import Node
from gradtx.struct.table import Table

Path = tuple[str, ...]


def fields_below(
    value: Any, path: Path = (), whole: tuple[type, ...] = ()
) -> Iterator[tuple[Path, Any, bool]]:
    """`(path, value, is static)` of every field of a struct and of the structs inside it.

    Outermost first; structs of the types `whole` are not entered. A table adds its keys to the
    path, not the name of the field that holds it.
    """
    if isinstance(value, Table):
        for key, child in value.items():
            if not _is_entered(child, whole):
                yield (*path, str(key)), child, False
            yield from fields_below(child, (*path, str(key)), whole)
    elif _is_entered(value, whole):
        for name in value._leaves + value._statics:
            child, chooses_code = getattr(value, name), name in value._statics
            below = path if isinstance(child, Table) else (*path, name)
            if not isinstance(child, Table):
                yield below, child, chooses_code
            for found, inside, static_inside in fields_below(child, below, whole):
                yield found, inside, chooses_code or static_inside


def _is_entered(value: Any, whole: tuple[type, ...]) -> bool:
    return isinstance(value, Node) and not value._is_closed and not isinstance(value, whole)


def _without_wrappers(path: Path) -> Path:
    """A path without the names of what stands around: it stays when a wrapper is added."""
    return (*(name for name in path[:-1] if name != AROUND), *path[-1:])


def _parts_below(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of the structs that stand in tables, such as the parts of a chain."""
    below: list[tuple[Path, Any]] = []
    if isinstance(value, Table):
        below = [((*path, str(key)), child) for key, child in value.items()]
        yield from (found for found, child in below if _is_entered(child, ()))
    elif _is_entered(value, ()):
        for name in value._leaves:
            child = getattr(value, name)
            below.append((path if isinstance(child, Table) else (*path, name), child))
    for found, child in below:
        yield from _parts_below(child, found)


def find(struct: Node, name: str) -> Path:
    """The path of the one number, field or part that a name or a path means."""
    number = named_numbers(struct).get(name)
    if number is not None:
        return number.path
    fields = [path for path, _, _ in fields_below(struct)]
    parts = list(_parts_below(struct))
    for paths in (fields, parts):
        for spelt in (tuple, _without_wrappers):
            exact = [path for path in paths if ".".join(spelt(path)) == name]
            if len(exact) == 1:
                return exact[0]
    for paths in (fields, parts):
        found = [path for path in paths if ("." + ".".join(path)).endswith(f".{name}")]
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(".".join(path) for path in found)
            raise value_error(
                f"{type(struct).__name__}.replace",
                f"{name!r} occurs more than once ({listed})",
                f"Name one by its path: replace({{{'.'.join(found[0])!r}: ...}})",
            )
    hint = nearest(name, (".".join(path) for path in fields + parts))
    raise ValueError(f"{type(struct).__name__}.replace: there is no {name!r} in {struct}. {hint}")


def replaced(value: Any, path: Path, new: Any) -> Any:
    """A copy of a struct with `new` at the path; every struct on the way is checked again."""
    if not path:
        return new
    if not isinstance(value, Node | Table):
        flat, treedef = tree_flatten_with_path(value, is_leaf=lambda x: isinstance(x, Node))
        names = [keystr(below, simple=True, separator="/") for below, _ in flat]
        leaves, place = [leaf for _, leaf in flat], names.index(path[0])
        leaves[place] = replaced(leaves[place], path[1:], new)
        return treedef.unflatten(leaves)
    if isinstance(value, Table):
        key = next(k for k in value if str(k) == path[0])
        return Table({**value, key: replaced(value[key], path[1:], new)})
    for name in (*value._leaves, *value._statics):
        child = getattr(value, name)
        if isinstance(child, Table) and any(str(key) == path[0] for key in child):
            table = replaced(child, path, new)
            if len(path) == 1 and value._names_by_class:
                table = _renamed(child, path[0], table)
            copy = value.with_fields(**{name: table})
            break
    else:
        copy = value.with_fields(**{path[0]: replaced(getattr(value, path[0]), path[1:], new)})
    copy.__post_init__()
    return copy


def _renamed(before: Table, key: str, after: Table) -> Table:
    """The table with the new part named after its class, if that is how the old one was named."""
    usual = type(after[key]).__name__
    if key != type(before[key]).__name__ or (usual in after and usual != key):
        return after
    return Table({usual if name == key else name: part for name, part in after.items()})
