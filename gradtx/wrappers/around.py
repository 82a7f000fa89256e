"""What wrappers around whole optimizers share: wide steps, a rule of their own, slots shown."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx.engine.run import run
from gradtx.paths import aligned
from gradtx.transform import GradientTransformation, State
from gradtx.tree import Tree, as_came, is_inexact, is_none, widened


def wide_update(
    inner: GradientTransformation,
    updates: Tree,
    state: State,
    params: Tree | None,
    extra: dict[str, Any],
) -> tuple[Tree, State]:
    """`inner.update` of updates in at least float32, so that steps are not rounded before use.

    The state keeps its dtypes also where those of another library would follow the updates.
    """
    steps, new = inner.update(widened(updates), state, params, **extra)
    return steps, as_came(new, state)


def run_after(
    rule: Any, steps: Tree, own: Any, params: Tree | None, shared: Any = None
) -> tuple[Tree, Any]:
    """A wrapper's own rule on the steps of what it wraps: the new steps and its new state.

    A parameter without a gradient stands still: the rule gets a zero step, so that its slots know
    the parameter, and the step stays `None`.
    """
    leaves, treedef = jax.tree.flatten(steps, is_leaf=is_none)
    ps = leaves if params is None else aligned(rule, treedef, params, "parameters")
    filled = [
        jnp.zeros_like(p) if u is None and is_inexact(p) else u
        for u, p in zip(leaves, ps, strict=True)
    ]
    after, (own,) = run((rule,), treedef.unflatten(filled), (own,), params, shared=shared)
    news = treedef.flatten_up_to(after)
    kept = [None if u is None else new for u, new in zip(leaves, news, strict=True)]
    return treedef.unflatten(kept), own


def after(first: Array, then: Array) -> Array:
    """`then`, bound to be found after `first`, which has its shape."""
    # No number differs from itself and is equal to itself, and no simplification sees that.
    never = lax.bitwise_and(lax.ne(first, first), lax.eq(first, first))
    return lax.select(never, jnp.zeros_like(then), then)


def shown(ready: Array, slots: Tree, params: Tree) -> Tree:
    """The slots in the dtypes of the parameters, or the parameters where not `ready`."""

    def pick(p: Any, s: Any) -> Any:
        if s is None or not is_inexact(p):
            return p
        p = jnp.asarray(p)
        return jnp.where(ready, s, p.astype(s.dtype)).astype(p.dtype)

    return jax.tree.map(pick, params, slots, is_leaf=is_none)
