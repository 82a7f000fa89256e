"""A small model on a mesh, and batches for it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

KINDS = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
SHAPES = {
    "embed": {"table": (24, 16)},
    "up": {"kernel": (16, 32), "bias": (32,)},
    "down": {"kernel": (32, 16), "odd": (3,)},
}


def tree_of(make: Any) -> Any:
    return jax.tree.map(make, SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def shapes(dtype: Any = jnp.float32) -> Any:
    return tree_of(lambda shape: jax.ShapeDtypeStruct(shape, dtype))


def mesh_of(kind: str = "auto", *names: str) -> Any:
    size = {1: (8,), 2: (4, 2)}[len(names) or 1]
    return jax.make_mesh(size, names or ("data",), axis_types=(KINDS[kind],) * len(size))


def numbers(seed: int) -> Any:
    random = np.random.default_rng(seed)
    return tree_of(lambda shape: random.normal(size=shape).astype(np.float32) * 0.3)


def batch(seed: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    ids = random.integers(0, 24, size=(32, 5)).astype(np.int32)
    return ids, random.normal(size=(32, 16)).astype(np.float32)


def loss(params: Any, ids: Any, y: Any) -> Any:
    x = jax.nn.one_hot(ids, 24, dtype=jnp.float32).mean(axis=1) @ params["embed"]["table"]
    hidden = jnp.tanh(x @ params["up"]["kernel"] + params["up"]["bias"][None, :])
    out = hidden @ params["down"]["kernel"] * jnp.sum(params["down"]["odd"])
    return jnp.mean((out - y) ** 2)
