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
from jax.typing import DTypeLike

from gradtx.foreign import AnyTransformation, as_transformation
from gradtx.sharding.layout import axes_of
from gradtx.sharding.state import StateShardings
from gradtx.struct import type_error, value_error
from gradtx.transform import State
from gradtx.tree import Tree, named_leaves

CALLED = "zero_step"


def zero_step(
    tx: AnyTransformation,
    value_and_grad: Callable[..., Any],
    shardings: StateShardings,
    *,
    reduce_dtype: DTypeLike | None = None,
) -> Callable[..., Any]:
    """`step(params, state, *batch, **extra) -> (params, state, value)`: ZeRO-1, to be jitted.

    Each device takes the gradient of its own part of the batch, whose arrays are split along their
    first axis; reduce-scatter gives it its share of the mean gradient, of which it updates its
    share of state and parameters; all-gather puts these together. No gradient is ever whole.
    `value_and_grad(params, *batch)` is that of a mean over the batch: of the values numbers are
    averaged, integers added up; gradients are added up in `reduce_dtype`, else their own. `tx` sees
    whole arrays, each device its share: joint norms, rows and matrices cost what the compiler finds
    that they need (for matrices see `distribute`), and numbers are those of one device. Rajbhandari
    et al. 2020 (arXiv:1910.02054).
    """
    tx = as_transformation(tx, CALLED)
    mesh, zero = shardings.mesh, shardings.zero
    if not zero:
        seen = "the shardings are laid over no axis of data"
        raise value_error(CALLED, seen, 'Make them with state_shardings(..., zero="data")')
    number = math.prod(mesh.shape[name] for name in zero)
    explicit = AxisType.Explicit in mesh.axis_types

    def put(tree: Tree, places: Tree) -> Tree:
        return jax.tree.map(move, tree, places)

    def move(x: Array, place: NamedSharding) -> Array:
        if place.memory_kind == "pinned_host":
            return jax.device_put(x, place)
        return (jax.sharding.reshard if explicit else lax.with_sharding_constraint)(x, place)

    def local(params: Tree, batch: Any) -> Any:
        value, grads = value_and_grad(params, *batch)
        return jax.tree.map(mean, value), jax.tree.map(one_of_many, grads)

    def one_of_many(g: Array) -> Array:
        return (g if reduce_dtype is None else g.astype(reduce_dtype))[None]

    def mean(x: Any) -> Array:
        inexact = jnp.issubdtype(jnp.result_type(x), jnp.inexact)
        return (lax.pmean if inexact else lax.psum)(x, zero)

    def shared(grads: Tree) -> Tree:
        return jax.tree.map(share, grads, shardings.updates)

    def share(g: Array, place: NamedSharding) -> Array:
        g, rest = g[0], zero
        for k, names in _split(place, zero):
            g = lax.psum_scatter(g, names, scatter_dimension=k, tiled=True)
            rest = tuple(name for name in rest if name not in names)
        return (lax.psum(g, rest) if rest else g) / number

    def gradients(params: Tree, batch: Any) -> tuple[Any, Tree]:
        """The value, and of the mean gradient of each device its share."""
        first = PartitionSpec(zero)
        specs = jax.tree.map(lambda x: first if jnp.ndim(x) else PartitionSpec(), batch)
        _refuse_uneven(batch, number)
        if explicit:
            batch = put(batch, jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs))
        whole = jax.tree.map(lambda place: _without(place, zero), shardings.params)
        run = functools.partial(jax.shard_map, mesh=found(), check_vma=False)
        value, grads = run(  # were it checked, a gradient of what is whole would be made whole
            local,
            in_specs=(PartitionSpec(), specs),
            out_specs=(PartitionSpec(), first),
            axis_names=set(zero),
        )(put(params, whole), batch)
        # By hand along all axes: with some of them left to it, JAX 0.10 would gather along these.
        stacks = jax.tree.map(lambda place: PartitionSpec(zero, *place.spec), whole)
        shares = jax.tree.map(lambda place: _zero_last(place, zero), shardings.updates)
        grads = put(grads, jax.tree.map(lambda spec: NamedSharding(mesh, spec), stacks))
        grads = run(shared, in_specs=(stacks,), out_specs=shares)(grads)
        return value, put(grads, shardings.updates)

    def found() -> Any:
        """The mesh, or None where it is that of `jax.set_mesh`."""
        return None if jax.sharding.get_abstract_mesh().shape == mesh.shape else mesh

    def step(params: Tree, state: State, *batch: Any, **extra: Any) -> tuple[Tree, State, Any]:
        if jax.tree.structure(state) != jax.tree.structure(shardings.tree):
            seen = "the state has another structure than the shardings"
            raise type_error(CALLED, seen, "Pass the state of the optimizer that it was made for")
        value, grads = gradients(params, batch)
        state, own = put(state, shardings.tree), put(params, shardings.updates)
        new, state = tx.step(grads, state, own, **{"value": jax.tree.leaves(value)[0], **extra})
        new = put(put(new, shardings.updates), shardings.params)
        return new, put(state, shardings.tree), value

    return step


def _refuse_uneven(batch: Any, number: int) -> None:
    """Raises `ValueError` for a batch of which devices cannot have equal parts."""
    for path, x in named_leaves(batch):
        if jnp.ndim(x) and jnp.shape(x)[0] % number:
            seen = f"the batch at {path!r} is {list(jnp.shape(x))}, for {number} devices"
            raise value_error(CALLED, seen, "Let its first axis be a multiple of that")


def _split(place: NamedSharding, zero: tuple[str, ...]) -> list[tuple[int, tuple[str, ...]]]:
    """The axes of an array that are laid over axes of `zero`, and over which."""
    found = [tuple(n for n in axes_of(entry) if n in zero) for entry in place.spec]
    return [(k, names) for k, names in enumerate(found) if names]


def _zero_last(place: NamedSharding, zero: tuple[str, ...]) -> PartitionSpec:
    """How an array lies that was laid over axes of `zero` after all others."""
    named = [axes_of(entry) for entry in place.spec]
    last = [sorted(names, key=lambda name: name in zero) for names in named]
    return PartitionSpec(*(tuple(names) or None for names in last))


def _without(place: NamedSharding, zero: tuple[str, ...]) -> NamedSharding:
    """The same place without the axes of `zero`."""
    left = [tuple(n for n in axes_of(entry) if n not in zero) or None for entry in place.spec]
    return NamedSharding(place.mesh, PartitionSpec(*left))
