"""Trees from elsewhere in one form: nested dicts of names, down to arrays of NumPy.

Named tuples, tuples, lists, dicts whose keys are "0", "1", wrappers of one array and flat dicts of
paths all become the same. What is empty (`EmptyState`, `MaskedNode`, `None`) becomes an empty dict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np

from gradtx.tree import path_string

Branch = dict[str, Any]
"""A dict of dicts; what is no dict is a leaf."""

_KEYSTR = re.compile(r"\.(\w+)|\[['\"]?([^\]'\"]+)['\"]?\]")
_WHOLE_KEYSTR = re.compile(r"(\.\w+|\[[^\]]+\])+")


def branch(value: Any, top: bool = True) -> Any:
    """A tree in that form; a leaf stays as it is."""
    entries = _entries(value)
    if entries is None:
        return value
    found: Branch = {}
    dotted = top and _is_dotted(value)
    for key, below in entries:
        _put(found, _parts(key, top, dotted), branch(below, False))
    if all(key.isdecimal() for key in found):
        return {key: found[key] for key in sorted(found, key=int)}
    return found


def _entries(value: Any) -> list[tuple[Any, Any]] | None:
    """What lies directly below, by its key; None for a leaf."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [*value.items()]
    if isinstance(value, tuple) and type(value) is not tuple:
        return [*zip(type(value)._fields, value, strict=True)]  # pyright: ignore
    if isinstance(value, tuple | list):
        return [(str(i), below) for i, below in enumerate(value)]
    if isinstance(value, str | bytes) or is_tensor(value):
        return None
    below, _ = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda x: x is not value)
    if len(below) == 1 and not below[0][0]:
        return None
    return [(path_string(path), x) for path, x in below]


def _is_dotted(value: Any) -> bool:
    """Whether a flat dict of arrays has points between the parts of its names."""
    if not isinstance(value, Mapping) or not value:
        return False
    names = [key for key in value if isinstance(key, str)]
    flat = len(names) == len(value) and all(_entries(x) is None for x in value.values())
    return flat and any("." in name for name in names) and not any(map(_is_path, names))


def _is_path(name: str) -> bool:
    return "/" in name or "[" in name


def _parts(key: Any, top: bool, dotted: bool) -> list[str]:
    """The parts of a name; those of JAX, `[0].mu['kernel']`, are known at the top alone."""
    if isinstance(key, tuple):
        return [part for one in key for part in _parts(one, False, False)]
    name = str(key)
    if top and _WHOLE_KEYSTR.fullmatch(name):
        return [a or b for a, b in _KEYSTR.findall(name)]
    return name.split("." if dotted else "/")


def _put(found: Branch, parts: list[str], below: Any) -> None:
    for part in parts[:-1]:
        found = found.setdefault(part, {})
    old = found.get(parts[-1])
    if isinstance(old, dict) and isinstance(below, dict):
        old.update(below)
    else:
        found[parts[-1]] = below


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The leaves of such a tree with their paths."""
    if not isinstance(value, dict):
        yield path, value
        return
    for key, below in value.items():
        yield from leaves(below, (*path, key))


def unwrapped(value: Any) -> Any:
    """The leaf in a dict that has only "value", as variables of nnx have; else the same."""
    return unwrapped(value["value"]) if isinstance(value, dict) and [*value] == ["value"] else value


# Arrays ------------------------------------------------------------------------------------------


def is_tensor(x: Any) -> bool:
    """Whether it is a tensor of PyTorch, which is not imported to find out."""
    return type(x).__module__.split(".")[0] == "torch" and callable(getattr(x, "detach", None))


def as_array(x: Any) -> Any:
    """A leaf as an array: of NumPy, if it was a number or a tensor, whose memory it may share."""
    if is_tensor(x):
        return _from_tensor(x)
    if isinstance(x, bool | int | float | complex | np.generic):
        return np.asarray(x)
    return x


def _from_tensor(x: Any) -> Any:
    if type(x).__name__ == "DTensor":
        x = x.full_tensor()
    x = x.detach().cpu()
    narrow = str(x.dtype).removeprefix("torch.")
    if narrow == "bfloat16" or narrow.startswith("float8"):  # unknown to NumPy alone
        return x.float().numpy().astype(getattr(ml_dtypes, narrow))
    return x.numpy()


def is_array(x: Any) -> bool:
    return isinstance(x, bool | int | float | complex | np.ndarray | np.generic | jax.Array) or (
        is_tensor(x)
    )
