"""A state as a flat dict of named arrays: `state_dict`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.engine.codes import Blocks, Companded, Dynamic, Floats, RandomlyRounded, Stored
from gradtx.engine.hyperparameters import per_array
from gradtx.foreign import AnyTransformation
from gradtx.rule import Rule
from gradtx.states.survey import (
    At,
    Field,
    Names,
    Owner,
    Unique,
    clock_names,
    fields,
    leafwise,
    names,
)
from gradtx.struct import value_error
from gradtx.transform import GradientTransformation, State
from gradtx.tree import Tree, listed, named_leaves, path_string

SCHEMA = "#schema"
VERSION = 1
SCALES = "#scales"
CODES: dict[str, type[Blocks]] = {"#dynamic": Dynamic, "#companded": Companded, "#float": Floats}
"""What stands behind the name of an array for its codes, and how they are decoded."""


def state_dict(tx: AnyTransformation, state: State, params: Tree) -> dict[str, Any]:
    """The state as arrays by name, `link/slot/parameter`: {"scale_by_adam/mu/dense/kernel": ...}.

    Names and contents follow what arrays mean and not how `tx` is put together: wrappers, other
    links, groups, formats of `store` and layouts in memory do not show. Compressed arrays are
    `name#dynamic` (`#companded`, `#float`), their codes, and `name#scales`. "#schema" is JSON on
    who wrote it. The arrays are those of the state: save or copy them before it is donated.
    """
    tx, whole = Saved.of("state_dict", tx, state, params)
    flat: dict[str, Any] = {}
    for name, field in whole.clocks.items():
        flat[name] = field.value
    for number in whole.numbers:
        is_key = jnp.issubdtype(jnp.result_type(number.value), jax.dtypes.prng_key)
        flat[number.name] = jax.random.key_data(number.value) if is_key else number.value
    for row in whole.rows:
        for key, x in row.saved().items():
            for suffix, part in _parts(x):
                flat[row.unique[key] + suffix] = part
    if not any(isinstance(x, Tracer) for x in jax.tree.leaves((state, params, tx))):
        flat[SCHEMA] = json.dumps(
            {
                "version": VERSION,
                "optimizer": repr(tx),
                "hyperparameters": tx.hyperparameters(state),
                "clocks": whole.ticked,
            }
        )
    return flat


class Number(NamedTuple):
    """A leaf of what is no slot."""

    name: str
    field: Field
    value: Any


class Row(NamedTuple):
    """What an owner keeps of one array."""

    owner: Owner
    part: GradientTransformation  # with the hyperparameters of this array
    path: str
    leaf: Mapping[str, Any]  # by slot; each an array or a `Stored`
    p: Any
    unique: dict[str, str]  # of what it saves, the names that are given

    @property
    def reshapes(self) -> bool:
        """Whether it is saved otherwise than it lies in memory."""
        return reshapes(self.part)

    def saved(self) -> Mapping[str, Any]:
        if not self.reshapes:
            return self.leaf
        return self.part.saved_leaf({name: decoded(x) for name, x in self.leaf.items()}, self.p)

    def named(self, slot: str) -> str:
        """The name that the array of a slot would have, if it were saved as it is."""
        key, name = next(iter(self.unique.items()))
        end = "/".join(filter(None, ("", key, self.path)))
        return "/".join(filter(None, (name.removesuffix(f"/{end}"), slot, self.path)))

    def shapes(self) -> Mapping[str, Any]:
        """The same for arrays of which only shapes are known."""
        if not self.reshapes:
            return self.leaf
        return jax.eval_shape(
            lambda leaf, p: self._replace(leaf=leaf, p=p).saved(), self.leaf, self.p
        )


def reshapes(part: GradientTransformation) -> bool:
    return type(part).saved_leaf is not GradientTransformation.saved_leaf


class Saved(NamedTuple):
    """All that a state has to be saved, by name, in the order of the walk."""

    fields: list[Field]
    clocks: dict[str, Field]
    ticked: dict[str, list[str]]  # the counts, and the links that run by each
    numbers: list[Number]
    rows: list[Row]

    @staticmethod
    def of(
        asks: str, tx: AnyTransformation, state: State, params: Tree
    ) -> tuple[GradientTransformation, Saved]:
        """The transformation, and what is saved of its state for `asks`."""
        tx, found = fields(asks, tx, state, params)
        called = names(found)
        clocks = clock_names(found, called)
        unique = Unique()
        unique.given.update(clocks.values())
        numbers = [
            Number(unique(name), field, x)
            for field in found
            if field.kind == "number"
            for name, x in _numbers(field, called[field.owner.at])
        ]
        rows = [
            row._replace(unique=_names(row, called[owner.at], unique))
            for owner, own in _by_owner(found)
            for row in _rows(asks, owner, own)
        ]
        by_place = {field.at: field for field in found if field.kind == "clock"}
        ticked = {name: [] for name in clocks.values()}
        for owner, own in _by_owner(found):
            holds = any(field.kind != "clock" for field in own)  # a chain does not
            if holds and owner.clock in clocks:
                ticked[clocks[owner.clock]].append(called[owner.at].slots)
        named = {name: by_place[at] for at, name in clocks.items()}
        return tx, Saved(found, named, ticked, numbers, rows)


def _by_owner(found: list[Field]) -> list[tuple[Owner, list[Field]]]:
    grouped: dict[At, list[Field]] = {}
    for field in found:
        grouped.setdefault(field.owner.at, []).append(field)
    return [(own[0].owner, own) for own in grouped.values()]


def _numbers(field: Field, called: Names) -> Iterator[tuple[str, Any]]:
    for path, x in jax.tree_util.tree_leaves_with_path(field.value):
        below = path_string(path)
        yield "/".join(filter(None, (called.numbers, field.name, below))), x


def _rows(asks: str, owner: Owner, own: list[Field]) -> list[Row]:
    """A row for each array of which the owner keeps something."""
    slots = {field.name: field.value for field in own if field.kind == "slot"}
    if not slots:
        return []
    params = dict(named_leaves(owner.params))
    treedef, found = leafwise(slots)
    ps = [params.get(path) for path, _ in found]
    unknown = [path for path, leaf in found if path not in params and not _is_hole(leaf)]
    if unknown:
        raise value_error(
            asks,
            f"the state has {listed(unknown)}, the parameters have {listed(params)}",
            f"Pass the parameters that the state was made for: {asks}(tx, state, params)",
        )
    parts = [owner.part] * len(found)
    if isinstance(owner.part, Rule) and reshapes(owner.part):
        kept = [None if _is_hole(leaf) else p for p, (_, leaf) in zip(ps, found, strict=True)]
        parts = per_array(owner.part, 0, treedef.unflatten(kept))
    rows = zip(parts, found, ps, strict=True)
    return [
        Row(owner, part, path, leaf, p, {}) for part, (path, leaf), p in rows if not _is_hole(leaf)
    ]


def _is_hole(leaf: Mapping[str, Any]) -> bool:
    return all(x is None for x in leaf.values())


def _names(row: Row, called: Names, unique: Unique) -> dict[str, str]:
    """Two arrays of one path, as of `{"a/b": ...}` beside `{"a": {"b": ...}}`, are numbered."""
    kept = [key for key, x in row.shapes().items() if x is not None]
    return {key: unique("/".join(filter(None, (called.slots, key, row.path)))) for key in kept}


def decoded(x: Any) -> Any:
    """What is compressed as a plain array of float32."""
    return x.decode(np.dtype(np.float32)) if isinstance(x, Stored) else x


def _parts(x: Any) -> Iterator[tuple[str, Any]]:
    """The arrays of which one that is compressed consists, and what stands behind their names."""
    if x is None:
        return
    if isinstance(x, Blocks):
        yield suffix_of(x), x.codes
        yield SCALES, x.scales
    else:
        yield "", x.values if isinstance(x, RandomlyRounded) else x


def suffix_of(x: Blocks) -> str:
    return next(suffix for suffix, kind in CODES.items() if isinstance(x, kind))
