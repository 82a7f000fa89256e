"""Parameters plus updates."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx.engine.beside import aligned
from gradtx.engine.front import compiled
from gradtx.engine.keys import salt
from gradtx.engine.rounding import is_narrow, round_to, seed_from_key
from gradtx.struct import type_error, value_error
from gradtx.tree import P, Tree, is_inexact, is_none, named_leaves, widest


@compiled
def apply_updates(params: P, updates: Tree, key: int | Array | None = None) -> P:
    """`params + updates`, added at least in float32, in the dtype of the parameters.

    With a random key (or a number for one), which should be another at every step, parameters
    below float32 are rounded at random: small updates count on average. A parameter whose update
    is `None` stays as it is, and so does one that is no floating or complex array. Raises
    `ValueError` where trees or shapes differ.
    """
    if key is not None and not jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key):
        key = jax.random.key(key)
    leaves, treedef = jax.tree.flatten(params, is_leaf=is_none)
    changes = aligned("apply_updates", treedef, updates, "updates", "parameters")

    def add(index: int, p: Any, u: Any) -> Any:
        if p is None or u is None or not is_inexact(p):
            return p
        if not is_inexact(u) or np.shape(p) != np.shape(u):
            raise _unfit(named_leaves(params)[index][0], p, u)
        p, u, dtype = jnp.asarray(p), jnp.asarray(u), widest([p, u])
        if p.dtype == u.dtype == dtype:
            return jax.lax.add(p, u)
        total = p.astype(dtype) + u.astype(dtype)
        if key is not None and is_narrow(p.dtype):
            path = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_none)[0][index][0]
            own = jax.random.fold_in(key, salt((), path))
            total = round_to(total, p.dtype, seed_from_key(own))
        return total.astype(p.dtype)

    return treedef.unflatten(
        add(index, p, u) for index, (p, u) in enumerate(zip(leaves, changes, strict=True))
    )


def _unfit(path: str, p: Any, u: Any) -> Exception:
    seen = f"at {path!r} the parameter has shape {np.shape(p)}"
    if not is_inexact(u):
        kind = f"dtype {u.dtype}" if hasattr(u, "dtype") else f"the type {type(u).__name__}"
        seen, do = f"{seen} and dtype {jnp.result_type(p)}, the update {kind}", "Pass float updates"
        return type_error("apply_updates", seen, f"{do}, or None for no update")
    seen += f", the update {np.shape(u)}"
    return value_error("apply_updates", seen, "Pass updates of the same parameters")
