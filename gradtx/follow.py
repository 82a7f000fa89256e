"""Parameters that follow others, such as those of a target network.

incremental_update    a share of the way at every call
periodic_update       all the way at every so many calls
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.engine.beside import aligned
from gradtx.struct import value_error
from gradtx.tree import P, Tree, is_data, is_inexact, is_none, named_leaves, real_dtype, widest


def incremental_update(new_tensors: Tree, old_tensors: P, step_size: ArrayLike) -> P:
    """step_size new + (1 - step_size) old, in float32 at least, in the dtypes of the old ones.

    What is no floating or complex array is that of the new tree. Raises `ValueError` where trees or
    shapes differ. `ema` does this for an optimizer's own parameters.
    """

    def mixed(new: Any, old: Any) -> Any:
        if not is_inexact(old):
            return new
        dtype = widest([new, old])
        share = jnp.asarray(step_size, real_dtype(dtype)).astype(dtype)
        ours, theirs = jnp.asarray(old).astype(dtype), jnp.asarray(new).astype(dtype)
        return (share * theirs + (1 - share) * ours).astype(jnp.result_type(old))

    return _followed("incremental_update", new_tensors, old_tensors, mixed)


def periodic_update(
    new_tensors: Tree, old_tensors: P, steps: ArrayLike, update_period: ArrayLike
) -> P:
    """The new tree where `steps` is a multiple of `update_period`, else the old one, as it is.

    Arrays keep the dtypes of the old ones. Raises `ValueError` where trees or shapes differ.
    """
    now = jnp.asarray(steps) % jnp.asarray(update_period) == 0

    def chosen(new: Any, old: Any) -> Array:
        return jnp.where(now, jnp.asarray(new).astype(jnp.result_type(old)), old)

    return _followed("periodic_update", new_tensors, old_tensors, chosen)


def _followed(called: str, new: Tree, old: P, follow: Callable[[Any, Any], Any]) -> P:
    leaves, treedef = jax.tree.flatten(old, is_leaf=is_none)
    news = aligned(called, treedef, new, "new tensors", "old tensors")
    for (path, y), x in zip(named_leaves(old), news, strict=True):
        if is_data(y) and is_data(x) and jnp.shape(x) != jnp.shape(y):
            seen = f"at {path!r} the new array is {list(jnp.shape(x))}, the old {list(y.shape)}"
            raise value_error(called, seen, "Pass two trees of the same shapes")
    return treedef.unflatten(
        y if y is None or x is None or not is_data(y) else follow(x, y)
        for x, y in zip(news, leaves, strict=True)
    )
