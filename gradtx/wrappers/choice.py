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

from gradtx.engine.refusals import refuse_unfit
from gradtx.transform import GradientTransformation, State, apply_updates
from gradtx.tree import Tree, as_came, is_inexact, is_none
from gradtx.wrappers.around import wide_update


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


def _is_empty(x: Any) -> bool:
    return getattr(x, "dtype", None) == jax.dtypes.float0


def update_if(
    pred: Any,
    inner: GradientTransformation,
    updates: Tree,
    state: State,
    params: Tree | None,
    extra: dict[str, Any],
    passes: bool = False,
) -> tuple[Tree, State]:
    """`inner.update` where `pred` holds; else zeros or, with `passes`, the updates as they are."""

    def updated() -> tuple[Tree, State]:
        steps, new = inner.update(updates, state, params, **extra)
        refuse_unfit(inner, steps, updates if passes else params)
        return steps, new

    return either(
        pred, updated, lambda: (updates if passes else zero_updates(updates, params), state)
    )


def step_if(
    pred: Any,
    inner: GradientTransformation,
    grads: Tree,
    state: State,
    params: Tree,
    extra: dict[str, Any],
    passes: bool = False,
) -> tuple[Tree, State]:
    """`inner.step` where `pred` holds: what `update_if` does, without a tree of updates."""
    return either(
        pred,
        lambda: inner.step(grads, state, params, **extra),
        lambda: (apply_updates(params, grads) if passes else params, state),
    )


def zero_updates(updates: Tree, params: Tree | None) -> Tree:
    """Zeros in the dtypes of the updates and, where parameters are given, in their shapes."""
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    ps = leaves if params is None else treedef.flatten_up_to(params)
    return treedef.unflatten(
        jnp.zeros(jnp.shape(g if p is None else p), jnp.result_type(g)) if is_inexact(g) else g
        for g, p in zip(leaves, ps, strict=True)
    )


def wide_step(
    inner: GradientTransformation,
    grads: Tree,
    state: State,
    params: Tree,
    extra: dict[str, Any],
    before: Tree,
) -> tuple[Tree, State]:
    """`inner.step` of gradients that were widened from `before`, in whose dtypes updates leave."""
    if _dtypes(grads) == _dtypes(before):
        return inner.step(grads, state, params, **extra)
    updates, state = wide_update(inner, grads, state, params, extra)
    return apply_updates(params, as_came(updates, before)), state


def _dtypes(tree: Tree) -> list[Any]:
    return [jnp.result_type(x) for x in jax.tree.leaves(tree) if is_inexact(x)]


def all_finite(tree: Tree) -> Array:
    """Whether no array of a tree holds an infinity or a NaN."""
    # Summed as numbers, which needs no array of flags: inf - inf and NaN - NaN are NaN.
    sums = [jnp.sum(x - x) for x in map(jnp.asarray, jax.tree.leaves(tree)) if is_inexact(x)]
    return jnp.stack([jnp.isfinite(x) for x in sums]).all() if sums else jnp.ones((), bool)
