"""One of two branches: how a wrapper leaves out what it wraps.

Only one branch is computed, and what a branch hands on unchanged is not copied where the step is
donated. The gradient of an integer, which is no array to compute with, stays outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx.engine.slots import stored_as
from gradtx.struct import NUMBERS, type_error
from gradtx.tree import Tree, as_came, is_inexact, is_none


def either(pred: Any, yes: Callable[[], Tree], no: Callable[[], Tree]) -> Tree:
    """`yes()` where `pred` holds, else `no()`, which gives a tree like it."""
    trees = []

    def arrays_of(branch: Callable[[], Tree]) -> Callable[[], list[Any]]:
        def call() -> list[Any]:
            leaves, treedef = jax.tree.flatten(branch())
            trees.append((treedef, [x if _is_empty(x) else None for x in leaves]))
            return [x for x in leaves if not _is_empty(x)]

        return call

    arrays = iter(lax.cond(pred, arrays_of(yes), arrays_of(no)))
    treedef, rest = trees[0]
    return treedef.unflatten(next(arrays) if x is None else x for x in rest)


def anew(pred: Array, state: Tree, fresh: Callable[[], Tree]) -> Tree:
    """`state`, or where `pred` holds what `fresh` makes, in the formats of `state`."""
    return either(pred, lambda: as_came(stored_as(state, fresh()), state), lambda: state)


def _is_empty(x: Any) -> bool:
    """Whether a leaf cannot come out of a branch: a gradient of an integer, a function, a name."""
    dtype = getattr(x, "dtype", None)
    return dtype == jax.dtypes.float0 or (dtype is None and not isinstance(x, NUMBERS))


def zero_updates(updates: Tree, params: Tree | None) -> Tree:
    """Zeros in the dtypes of the updates and, where parameters are given, in their shapes."""
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    ps = leaves if params is None else treedef.flatten_up_to(params)
    return treedef.unflatten(
        jnp.zeros_like(g if p is None else p, jnp.result_type(g)) if is_inexact(g) else g
        for g, p in zip(leaves, ps, strict=True)
    )


def one_bool(called: object, name: str, found: Any) -> Array:
    """What a function of a user's decided; raises `TypeError` if that is not one bool."""
    shape, dtype = jnp.shape(found), jnp.result_type(found)
    if shape != () or dtype != jnp.dtype(bool):
        seen = f"{name} returned {dtype}{list(shape)}"
        raise type_error(f"{called}.update", seen, "Let it return one bool")
    return jnp.asarray(found)


def all_finite(tree: Tree) -> Array:
    """Whether no array of a tree holds an infinity or a NaN."""
    # Summed as numbers, which needs no array of flags: inf - inf and NaN - NaN are NaN.
    sums = [jnp.sum(x - x) for x in map(jnp.asarray, filter(is_inexact, jax.tree.leaves(tree)))]
    return jnp.stack([jnp.isfinite(x) for x in sums]).all() if sums else jnp.ones((), bool)


def shown(ready: Array, slots: Tree, params: Tree) -> Tree:
    """The slots in the dtypes of the parameters, or the parameters where not `ready`."""

    def pick(p: Any, s: Any) -> Any:
        if s is None or not is_inexact(p):
            return p
        p = jnp.asarray(p)
        return jnp.where(ready, s, p.astype(s.dtype)).astype(p.dtype)

    return jax.tree.map(pick, params, slots, is_leaf=is_none)
