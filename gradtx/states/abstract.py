"""The shapes of a state: `abstract_state`."""

from __future__ import annotations

from typing import Any

import jax
from jax.core import Tracer

from gradtx.engine.placement import sharding_of
from gradtx.foreign import AnyTransformation, as_transformation
from gradtx.transform import State
from gradtx.tree import Tree


def abstract_state(tx: AnyTransformation, params: Tree) -> State:
    """The state of `tx` as `jax.ShapeDtypeStruct`s: where each array would lie, if that is chosen.

    What loads a checkpoint takes it as its target: nothing is allocated for `params` that are
    shapes. With parameters on chosen devices the program of `tx.init` is compiled to find out.
    """
    tx = as_transformation(tx, "abstract_state")
    shapes = jax.eval_shape(tx.init, params)
    leaves = jax.tree.leaves(params)
    if any(isinstance(x, Tracer) for x in [*leaves, *jax.tree.leaves(tx)]):
        return shapes
    places = [place for place in map(sharding_of, leaves) if place is not None]
    if not places:
        return shapes
    if len({frozenset(place.device_set) for place in places}) > 1 or not _all_placed(leaves):
        return jax.tree.map(_as_it_lies, tx.init(params))
    found = jax.jit(tx.init).lower(params).compile().output_shardings
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, found
    )


def _all_placed(leaves: list[Any]) -> bool:
    return all(sharding_of(x) is not None for x in leaves if hasattr(x, "dtype"))


def _as_it_lies(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding_of(x))


def like_shapes(tree: Any) -> Any:
    """Arrays as shapes, for what looks at nothing else."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
