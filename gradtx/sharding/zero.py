"""The step of data-parallel training in which every device updates its own share: `zero_step`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gradtx.interop import AnyTransformation, as_transformation
from gradtx.sharding.layout import axes_of
from gradtx.sharding.state import StateShardings
from gradtx.struct import value_error
from gradtx.transform import State
from gradtx.tree import Tree, is_none

CALLED = "zero_step"


def zero_step(
    tx: AnyTransformation, value_and_grad: Callable[..., Any], shardings: StateShardings
) -> Callable[..., Any]:
    """`step(params, state, *batch, **extra) -> (params, state, value)`: ZeRO-1, to be jitted.

    Each device takes the gradient of its own part of the batch, whose arrays are split along their
    first axis; reduce-scatter gives it its share of the mean gradient, of which it updates its
    share of state and parameters; all-gather puts these together. No gradient is ever whole.
    `value_and_grad(params, *batch)` is that of a mean over the batch: of the values numbers are
    averaged, integers added up. `tx` sees whole arrays, each device its share: joint norms, rows
    and matrices cost what the compiler finds that they need (for matrices see `distribute`), and
    numbers are those of one device. Rajbhandari et al. 2020 (arXiv:1910.02054).
    """
    tx = as_transformation(tx, CALLED)
    mesh, zero = shardings.mesh, shardings.zero
    if not zero:
        seen = "the shardings are laid over no axis of data"
        raise value_error(CALLED, seen, 'Make them with state_shardings(..., zero="data")')
    number = math.prod(mesh.shape[name] for name in zero)
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    explicit = AxisType.Explicit in mesh.axis_types

    def put(tree: Tree, places: Tree) -> Tree:
        move = jax.sharding.reshard if explicit else lax.with_sharding_constraint
        return jax.tree.map(move, tree, places)

    def local(params: Tree, batch: Any) -> Any:
        value, grads = value_and_grad(params, *batch)
        return jax.tree.map(mean, value), jax.tree.map(shared, grads, shardings.updates)

    def mean(x: Any) -> Array:
        inexact = jnp.issubdtype(jnp.result_type(x), jnp.inexact)
        return (lax.pmean if inexact else lax.psum)(x, zero)

    def shared(g: Array, place: NamedSharding) -> Array:
        # JAX 0.10 cannot scatter what lies along explicit axes, so the others are left to it.
        named = [n for n, kind in kinds.items() if kind == AxisType.Explicit]
        others = tuple(n for n in named if n not in zero)
        if not others:
            return scattered(g, place)
        own = jax.typeof(g).sharding.spec
        run = functools.partial(scattered, place=place)
        return jax.sharding.auto_axes(run, axes=others, out_sharding=own)(g)  # pyright: ignore

    def scattered(g: Array, place: NamedSharding) -> Array:
        rest = zero
        for k, names in _split(place, zero):
            g = lax.psum_scatter(g, names, scatter_dimension=k, tiled=True)
            rest = tuple(name for name in rest if name not in names)
        return (lax.psum(g, rest) if rest else g) / number

    def step(params: Tree, state: State, *batch: Any, **extra: Any) -> tuple[Tree, State, Any]:
        first = PartitionSpec(zero)
        specs = jax.tree.map(lambda x: first if jnp.ndim(x) else PartitionSpec(), batch)
        whole = jax.tree.map(lambda place: _without(place, zero), shardings.params)
        shares = jax.tree.map(lambda place: _only(place, zero), shardings.updates)
        if explicit:
            batch = put(batch, jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs))
        value, grads = jax.shard_map(
            local,
            mesh=None if jax.sharding.get_abstract_mesh().shape == mesh.shape else mesh,
            in_specs=(PartitionSpec(), specs),
            out_specs=(PartitionSpec(), shares),
            axis_names=set(zero),
            check_vma=False,  # where it is, a gradient of what is whole is made whole: all-reduced
        )(put(params, whole), batch)
        own = put(params, shardings.updates)
        grads, state = put(grads, shardings.updates), put(state, shardings.tree)
        new, state = tx.step(grads, state, own, **{"value": jax.tree.leaves(value)[0], **extra})
        new = put(put(new, shardings.updates), shardings.params)
        return new, put(state, shardings.tree), value

    return step


def _split(place: NamedSharding, zero: tuple[str, ...]) -> list[tuple[int, tuple[str, ...]]]:
    """The axes of an array that are laid over axes of `zero`, and over which."""
    found = [tuple(n for n in axes_of(entry) if n in zero) for entry in place.spec]
    return [(k, names) for k, names in enumerate(found) if names]


def _only(place: NamedSharding, zero: tuple[str, ...]) -> PartitionSpec:
    """How an array lies as far as axes of `zero` go."""
    split = dict(_split(place, zero))
    return PartitionSpec(*(split.get(k) for k in range(len(place.spec))))


def _without(place: NamedSharding, zero: tuple[str, ...]) -> NamedSharding:
    """The same place without the axes of `zero`."""
    left = [tuple(n for n in axes_of(entry) if n not in zero) or None for entry in place.spec]
    return NamedSharding(place.mesh, PartitionSpec(*left))
