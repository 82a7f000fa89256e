"""Trees that JAX can hash or that keep their order: `Table` and `FrozenTree`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax
import numpy as np
from jax.tree_util import DictKey

from gradtx.struct.equality import NUMBERS, fingerprint, same
from gradtx.struct.messages import type_error
from gradtx.struct.node import Node
from gradtx.struct.printing import bracketed, shown


class FrozenTree:
    """A tree of labels or flags made hashable, so that it can choose code.

    Such a tree may be callable (an Equinox module is): it is never called.
    """

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        leaves, structure = jax.tree.flatten(tree, is_leaf=_is_number)
        for leaf in leaves:
            if not (isinstance(leaf, (str, np.bool_, *NUMBERS)) or _is_number(leaf)):
                raise type_error(
                    "a static tree",
                    f"it holds {shown(leaf)}",
                    "Give it Python strings, bools or numbers as leaves",
                )
        self._key = (structure, tuple((type(leaf), leaf) for leaf in leaves))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenTree) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return shown(self.tree)

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        return subtree_renderer(self.tree, path=path)

    def __reduce__(self) -> tuple[type[FrozenTree], tuple[Any]]:
        return FrozenTree, (self.tree,)


def _is_number(x: Any) -> bool:
    return isinstance(x, Node) and x._is_number


def frozen(value: Any, called: str = "a static field", name: str = "it") -> Any:
    """`value` itself when it can be hashed, else a `FrozenTree` around it."""
    if isinstance(value, Node | Table):
        return value
    is_leaf = jax.tree_util.all_leaves([value])
    if callable(value) and not is_leaf:
        return FrozenTree(value)
    try:
        hash(value)
    except TypeError:
        if not is_leaf:
            return FrozenTree(value)
        raise type_error(
            called,
            f"{name} is {shown(value)}, which chooses code and cannot be hashed",
            "Pass a value that can be, such as a function, a string or a frozen dataclass",
        ) from None
    return value


class Table(Mapping[Any, Any]):
    """An immutable mapping that keeps its order, is a pytree with keys and can be hashed."""

    def __init__(self, entries: Mapping[Any, Any]) -> None:
        self._keys = tuple(entries)
        self._values = tuple(entries.values())

    def __getitem__(self, key: Any) -> Any:
        if key in self._keys:
            return self._values[self._keys.index(key)]
        raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return bracketed("{", [f"{k!r}: {shown(v)}" for k, v in self.items()], "}")

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        from treescope import repr_lib  # the caller  # pyright: ignore[reportMissingImports]

        return repr_lib.render_dictionary_wrapper(
            type(self), self, path, subtree_renderer, roundtrippable=True
        )

    def __eq__(self, other: object) -> bool:
        return same(self, other) if isinstance(other, Table) else NotImplemented

    def __hash__(self) -> int:
        return fingerprint(self)

    @classmethod
    def rebuilt(cls, keys: tuple[Any, ...], values: Any) -> Self:
        table = object.__new__(cls)
        table._keys, table._values = keys, tuple(values)
        return table


jax.tree_util.register_pytree_with_keys(
    Table,
    lambda t: (tuple(zip(map(DictKey, t._keys), t._values, strict=True)), t._keys),
    Table.rebuilt,
    flatten_func=lambda t: (t._values, t._keys),
)
