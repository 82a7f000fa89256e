"""One function of many arrays or of stacked ones: in one batch, or one after the other."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

LARGEST = 2**24
"""Entries of a batch at most: an array of this size keeps an accelerator busy alone, and a batch is
a copy of what it holds."""


def batching_pays() -> bool:
    """Whether batches are faster, for what this process compiles.

    On a CPU products of a batch of matrices are slower than one by one, by a fourth for 512 x 512,
    and the results of a batch take longer to compile than the matrices do without it.
    """
    return jax.default_backend() != "cpu"


def in_batches(function: Callable[[int, Any], Any], xs: Sequence[Any]) -> list[Any]:
    """`function(place, x)` of every array, or tree, once for all of one shape with the first place.

    They have a new axis in front of theirs then, so that sharded axes stay as they are. What would
    be more than `LARGEST` entries is shared out evenly to several batches.
    """
    groups: dict[object, list[int]] = {}
    for i, x in enumerate(xs):
        leaves, treedef = jax.tree.flatten(x)
        key = (treedef, *((leaf.shape, leaf.dtype) for leaf in leaves))
        groups.setdefault(key, []).append(i)
    found: dict[int, Any] = {}
    for places in groups.values():
        size = sum(leaf.size for leaf in jax.tree.leaves(xs[places[0]]))
        calls = max(1, math.ceil(len(places) * size / LARGEST))
        most = math.ceil(len(places) / calls)
        for start in range(0, len(places), most):
            some = places[start : start + most]
            batch, of_one = [xs[i] for i in some], functools.partial(function, some[0])
            alone = len(batch) == 1
            if alone:
                results = [of_one(*batch)]
            else:
                whole = jax.vmap(of_one)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *batch))
                results = [jax.tree.map(lambda y, k=k: y[k], whole) for k in range(len(batch))]
            found.update(zip(some, results, strict=True))
    return [found[i] for i in range(len(xs))]


# Stacks that are one array already -------------------------------------------------------------


def one_by_one(function: Callable[[Array], Array], x: Array) -> Array:
    """A function of matrices to matrices of their shape, on a stack: on a CPU one after the other.

    See `batching_pays`, and `in_turn` for what has no derivative.
    """
    if x.ndim == 2:
        return function(x)

    def mapped(x: Array) -> Array:
        flat = x.reshape(-1, *x.shape[-2:])
        return lax.map(function, flat).reshape(x.shape)

    return lax.platform_dependent(x, cpu=mapped, default=function)


def in_turn(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of stacked matrices by LAPACK; on a CPU one after the other, under `vmap` too.

    There a batch of them in a compiled loop may wait for itself for ever (seen with JAX 0.10.2).
    """
    one = jax.custom_batching.sequential_vmap(function)

    def stacked(*arrays: Array) -> Any:
        mapped = one
        for _ in arrays[0].shape[:-2]:
            mapped = jax.vmap(mapped)
        return mapped(*arrays)

    return lambda *arrays: lax.platform_dependent(*arrays, cpu=stacked, default=function)
