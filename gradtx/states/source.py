"""What is loaded from: named arrays, each of which is taken once, and told of if it is not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from gradtx.engine.codes import Blocks, Stored
from gradtx.states.saving import CODES, SCALES, SCHEMA, VERSION, suffix_of
from gradtx.struct import type_error, value_error

_ESSENCE = re.compile(r"^(?P<link>.+?)(_\d+)?(\[.*?\])*(?P<rest>/.*)?$", re.DOTALL)


class Source:
    """The arrays of a file. Raises for what is no flat dict of arrays, or from a later release."""

    def __init__(self, called: str, flat: Mapping[str, Any], rename: Mapping[str, str]) -> None:
        if not isinstance(flat, Mapping):
            raise type_error(
                called,
                f"the state is {type(flat).__name__}, not a dict of named arrays",
                "Pass what state_dict returned; for a state of Optax or PyTorch see gx.interop",
            )
        self.called, self.rename = called, rename
        self.schema = _schema(called, flat.get(SCHEMA))
        self.arrays = {name: x for name, x in flat.items() if name != SCHEMA}
        for name, x in self.arrays.items():
            if not isinstance(name, str) or not (hasattr(x, "shape") and hasattr(x, "dtype")):
                raise type_error(
                    called,
                    f"{name!r} is {type(x).__name__}, not an array",
                    "Pass what state_dict returned: arrays by name",
                )
        self.taken: set[str] = set()

    @property
    def clocks(self) -> dict[str, list[str]]:
        """The counts that are there, and the links that ran by each."""
        return {
            name: links
            for name, links in self.schema.get("clocks", {}).items()
            if name in self.arrays
        }

    def bases(self) -> list[str]:
        """The names of arrays, without what stands behind those of codes and scales."""
        return list(dict.fromkeys(map(base, self.arrays)))

    def found(self, wanted: Iterable[str]) -> dict[str, str]:
        """For each name that is there, the name in the file: the same, or that of `rename`.

        Else that of the only array that differs by its group or number, if no other wants it.
        """
        wanted, there = list(wanted), dict.fromkeys(self.bases())
        where = {name: name for name in wanted if name in there}
        spoken_for = set(where)
        for name in wanted:
            for old, new in self.rename.items():
                moved = f"{old}{name[len(new) :]}" if _begins(name, new) else name
                if name not in where and moved in there and moved not in spoken_for:
                    where[name] = moved
                    spoken_for.add(moved)
        left = [name for name in there if name not in spoken_for]
        open_, spare = _by_essence(n for n in wanted if n not in where), _by_essence(left)
        for essence, names in open_.items():
            others = spare.get(essence, [])
            if len(names) == len(others) == 1:
                where[names[0]] = others[0]
        return where

    def take(self, name: str) -> Any:
        """An array, a `Stored`, or the name of what is missing of it."""
        if name in self.arrays:
            self.taken.add(name)
            return self.arrays[name]
        self.taken.update(name + s for s in (*CODES, SCALES))
        suffix = next((s for s in CODES if name + s in self.arrays), next(iter(CODES)))
        for part in (suffix, SCALES):
            if name + part not in self.arrays:
                return name + part
        return CODES[suffix](self.arrays[name + suffix], self.arrays[name + SCALES])

    def unused(self) -> list[str]:
        return [name for name in self.arrays if name not in self.taken]


def base(name: str) -> str:
    """The name of an array without what stands behind that of codes and scales."""
    for suffix in (*CODES, SCALES):
        name = name.removesuffix(suffix)
    return name


def _begins(name: str, start: str) -> bool:
    return name == start or name.startswith(f"{start}/")


def _by_essence(names: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """Names by link, slot and parameter, without groups and numbers."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in names:
        match = _ESSENCE.match(name)
        if match:
            found.setdefault((match["link"], match["rest"] or ""), []).append(name)
    return found


def _schema(called: str, text: Any) -> dict[str, Any]:
    if text is None:
        return {}
    if not isinstance(text, str):  # some formats keep arrays only
        text = np.asarray(text).tobytes().decode() if np.asarray(text).ndim else str(text)
    try:
        schema = json.loads(text)
    except ValueError as error:
        seen = f"{SCHEMA!r} is not the JSON that state_dict writes: {error}"
        raise value_error(called, seen, f"Leave {SCHEMA!r} out: names are enough") from None
    if schema.get("version", 0) > VERSION:
        raise value_error(
            called,
            f"the state was saved in version {schema['version']} of its schema, known is {VERSION}",
            "Load it with the release of gradtx that saved it, or a later one",
        )
    return schema


def described(x: Any) -> str:
    """The dtype of an array, or the code of one that is compressed."""
    if isinstance(x, Blocks):
        return f"{suffix_of(x)[1:]} {x.codes.dtype} with scales {tuple(x.scales.shape)}"
    if isinstance(x, Stored):
        return str(jax.tree.leaves(x)[0].dtype)
    return str(x.dtype)
