"""Comparisons in NumPy; what differs is raised as an AssertionError with path and numbers."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.tree import is_inexact


def require(condition: Any, *seen: Any) -> None:
    if not condition:
        raise AssertionError(": ".join(map(str, seen)))


def avals(values: Any) -> tuple[Any, Any]:
    """Structure, shapes, dtypes and weakness of the types of a tree."""
    leaves, treedef = jax.tree.flatten(values)
    return treedef, [
        (np.shape(x), jnp.result_type(x), bool(getattr(x, "weak_type", False))) for x in leaves
    ]


def same_types(found: Any, expected: Any, what: str, weakness: bool = True) -> None:
    """Two trees agree in structure, shapes and dtypes."""
    (structure, ours), (wanted, theirs) = avals(found), avals(expected)
    require(structure == wanted, what, f"the tree is {structure}, not {wanted}")
    for (path, _), a, b in zip(leaves(found), ours, theirs, strict=True):
        if a[: 2 + weakness] != b[: 2 + weakness]:
            raise AssertionError(f"{what}: at {path!r} it is {_typed(a)}, not {_typed(b)}")


def _typed(aval: Any) -> str:
    return f"{'weak ' * aval[2]}{aval[1]}{list(aval[0])}"


def leaves(values: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(p), x) for p, x in jax.tree_util.tree_leaves_with_path(values)]


def number(x: Any) -> np.ndarray:
    """A leaf as a NumPy array; of a random key what it is made of."""
    if jnp.issubdtype(getattr(x, "dtype", np.dtype(float)), jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x)


def plain(x: Any) -> np.ndarray:
    x = number(x)
    return x.astype(complex if jnp.issubdtype(x.dtype, np.complexfloating) else float)


def same(found: Any, expected: Any, what: str) -> None:
    """Two trees agree in structure, dtypes and every bit."""
    same_types(found, expected, what, weakness=False)
    for (path, x), y in zip(leaves(found), jax.tree.leaves(expected), strict=True):
        x, y = number(x), number(y)
        if x.tobytes() != y.tobytes():
            raise AssertionError(f"{what}: at {path!r} the bits differ, {_worst(x, y)}")


def _worst(x: np.ndarray, y: np.ndarray) -> str:
    if x.dtype == bool:
        return f"{x} is not {y}"
    difference = np.abs(plain(x) - plain(y))
    where = np.unravel_index(np.argmax(np.nan_to_num(difference, nan=np.inf)), difference.shape)
    return f"{x[where]!r} is not {y[where]!r}"


def size(x: Any) -> float:
    return float(np.max(np.abs(plain(x)), initial=0.0))


def apart(x: Any, y: Any) -> float:
    """The largest difference between two arrays, equal infinities and NaN apart by nothing."""
    x, y = plain(x), plain(y)
    with np.errstate(invalid="ignore"):
        equal = (x == y) | (np.isnan(x) & np.isnan(y))
        difference = np.where(equal, 0, np.abs(x - y))
    return float(np.max(np.nan_to_num(difference, nan=np.inf), initial=0.0))


def room(expected: Any, jolts: Any, factor: float = 16) -> list[float]:
    """How far each array of a result may be from where it is expected, for rounding alone.

    A share of its own size, and what becomes of it when every input is off by its last digit.
    """
    others = [jax.tree.leaves(x) for x in jolts]
    return [
        factor * (2.0**-23 * size(x) + max((apart(o[i], x) for o in others), default=0.0))
        for i, x in enumerate(jax.tree.leaves(expected))
    ]


def close(found: Any, expected: Any, allowed: Any, what: str) -> None:
    """Two trees agree in structure and up to `allowed` for each array (one number: a share)."""
    structure, wanted = jax.tree.structure(found), jax.tree.structure(expected)
    require(structure == wanted, what, f"the tree is {structure}, not {wanted}")
    for i, ((path, x), y) in enumerate(zip(leaves(found), jax.tree.leaves(expected), strict=True)):
        limit = allowed[i] if isinstance(allowed, list) else allowed * size(y)
        if not apart(x, y) <= limit:
            seen = f"{apart(x, y):.3g} apart where {limit:.3g} is allowed, {_worst(x, y)}"
            raise AssertionError(f"{what}: at {path!r} {seen}")


def finite(values: Any, what: str) -> None:
    for path, x in leaves(values):
        if is_inexact(x) and not np.isfinite(plain(x)).all():
            raise AssertionError(f"{what}: at {path!r} it is {number(x)}")


def three_parts(error: BaseException, *mentions: str) -> None:
    """A message says what was called, by a public name, what was seen, what to do."""
    message = str(error)
    shape = re.fullmatch(r"[^\s_].*: \S.*\. [A-Z].*[.?]", message, re.DOTALL)
    require(shape, "this message has not its three parts (called, seen, what to do)", message)
    for mention in mentions:
        require(mention in message, f"{mention!r} is not in this message", message)
