"""What wrappers around whole optimizers share: wide steps, slots shown as parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx.transform import foreign
from gradtx.tree import Tree, is_inexact, is_none, wide


def widened(inner: Any, updates: Tree) -> Tree:
    """`updates` in at least float32, so that `inner` does not round its steps before they are used.

    A transformation from elsewhere gets them as they are: it might change the dtypes of its state.
    """
    leaves = jax.tree.leaves(inner, is_leaf=lambda part: isinstance(part, foreign))
    if any(isinstance(leaf, foreign) for leaf in leaves):
        return updates

    def cast(g: Any) -> Any:
        narrow = hasattr(g, "dtype") and is_inexact(g) and wide(g.dtype) != g.dtype
        return lax.convert_element_type(g, wide(g.dtype)) if narrow else g

    return jax.tree.map(cast, updates)


def as_came(values: Tree, before: Tree) -> Tree:
    """`values` in the dtypes of `before`, which takes the place of what is `None`."""

    def cast(b: Any, v: Any) -> Any:
        if v is None:
            return b
        return lax.convert_element_type(v, jnp.result_type(b)) if is_inexact(v) else v

    return jax.tree.map(cast, before, values, is_leaf=is_none)


def shown(ready: Array, slots: Tree, params: Tree) -> Tree:
    """The slots in the dtypes of the parameters, or the parameters where not `ready`."""

    def pick(p: Any, s: Any) -> Any:
        if s is None or not is_inexact(p):
            return p
        p = jnp.asarray(p)
        return jnp.where(ready, s, p.astype(s.dtype)).astype(p.dtype)

    return jax.tree.map(pick, params, slots, is_leaf=is_none)
