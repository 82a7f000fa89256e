"""Where each part of a state lives, from where the parameters live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding

from gradtx.tree import Tree, is_none

T = TypeVar("T")

try:
    from jax.experimental.shard_alike import shard_alike
except ImportError:  # JAX 0.11 has nothing of the kind

    def shard_alike(x: Array, y: Array) -> tuple[Array, Array]:
        return x, ordered_after(x, y)


def beside(p: Any) -> Sharding | None:
    """The sharding of a scalar that belongs to `p`: on all its devices; `None` leaves it to JAX."""
    given = sharding_of(p)
    if isinstance(given, NamedSharding):
        return NamedSharding(given.mesh, PartitionSpec(), memory_kind=given.memory_kind)
    return given if given is not None and len(given.device_set) == 1 else None


def stacked_as(own: Sharding) -> Sharding:
    """The sharding of a stack of arrays that lie like this, with an axis in front."""
    if not isinstance(own, NamedSharding):
        return own
    return NamedSharding(own.mesh, PartitionSpec(None, *own.spec), memory_kind=own.memory_kind)


def sharding_of(p: Any) -> Sharding | None:
    """The sharding of `p` where the user chose one and it is known, else `None`."""
    if isinstance(p, Tracer):
        return None
    if isinstance(p, jax.ShapeDtypeStruct) or getattr(p, "committed", False):
        return p.sharding
    return None


def ordered_after(first: Array, then: Array) -> Array:
    """`then`, made to depend on `first`, which has its shape, in a way that changes no number.

    So the compiler finds `first` before it, and lays a new slot out like its parameter.
    """
    # No number differs from itself and is equal to itself, and no simplification sees that.
    never = lax.bitwise_and(lax.ne(first, first), lax.eq(first, first))
    return lax.select(never, jnp.full_like(then, 3), then)


def placed(old: Array, new: Array) -> Array:
    """A new slot on the devices of the old one.

    With a sharded gradient the compiler would move it, and the next step would compile again
    (with JAX 0.11 it still may, where a side of a matrix meets a sharded axis).
    """
    return shard_alike(old, new)[1]


def on_any_mesh(function: Callable[..., T], *args: Any, like: Callable[[], Any]) -> T:
    """`function(*args)`, on an explicit mesh with its axes left to the compiler.

    There every operation would have to say where its result lies, products, sorts and joins of
    sharded arrays above all. The results lie as the arrays of the tree `like()`, where that has a
    `None` on all devices. Manual axes, those inside of `jax.shard_map`, are left alone.
    """
    mesh = explicit_mesh(args)
    if mesh is None:
        return function(*args)

    def sharding(x: Any) -> NamedSharding:
        own = None if x is None else jax.typeof(x).sharding
        return own if own is not None and own.mesh == mesh else NamedSharding(mesh, PartitionSpec())

    out = jax.tree.map(sharding, like(), is_leaf=is_none)
    with jax.sharding.use_abstract_mesh(mesh):
        return jax.sharding.auto_axes(function, out_sharding=out)(*args)  # pyright: ignore


def explicit_mesh(tree: Tree) -> Any:
    """The mesh with explicit axes on which arrays of a tree lie, if there is one."""
    for x in jax.tree.leaves(tree):
        mesh = getattr(getattr(jax.typeof(x), "sharding", None), "mesh", None)
        if mesh is not None and AxisType.Explicit in mesh.axis_types:
            return mesh
    return None


def varying_as(p: Any, x: Array) -> Array:
    """`x` as an array that differs between the shards of `jax.shard_map` as `p` does."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return x
    never = jnp.any(lax.bitwise_and(lax.ne(p, p), lax.eq(p, p)))
    return jnp.where(never, jnp.zeros_like(x), x)


def zero_count(params: Tree) -> Array:
    """A step count of zero, on the devices of the parameters."""
    leaves = jax.tree.leaves(params)
    count = jnp.zeros((), jnp.int32)
    traced = next((p for p in leaves if isinstance(p, Tracer)), None)
    if traced is not None:
        # Bound to a parameter, or jit drops what the count does not use, and with it all devices.
        return lax.optimization_barrier((count, lax.stop_gradient(traced)))[0]
    place = next((place for place in map(beside, leaves) if place is not None), None)
    if place is None:
        return count
    if isinstance(count, Tracer):  # from shapes, in one program
        return lax.with_sharding_constraint(count, place)
    return jax.device_put(count, place)
