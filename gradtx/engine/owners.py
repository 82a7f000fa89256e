"""Matrices of one shape shared out over the devices of a mesh, each of which works on its own."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from gradtx.engine.flops import flops
from gradtx.engine.placement import explicit_mesh, placed
from gradtx.struct import value_error

Stack = Any
"""A tree of arrays that share the axes in front of their matrices, [..., n, m]."""


class Shared(NamedTuple):
    """Matrices of one array, and of how many equal ones each device works on how many."""

    array: int  # its number among the leaves
    matrices: int
    shape: tuple[int, int]
    of: int  # equal matrices, of all arrays
    each: int
    moved: int  # bytes of it that a step moves at most, to the owners and back
    flops: float  # of one matrix


class Owners(NamedTuple):
    """The axes of a mesh over whose devices matrices are shared out."""

    axes: tuple[str, ...]
    mesh: Mesh | AbstractMesh | None = None  # None: that of `jax.set_mesh`
    ledger: list[Shared] | None = None  # where it is noted who works on what, if anybody asks

    def found(self) -> Mesh | AbstractMesh:
        """The mesh. Raises `ValueError` where nobody said which, or it lacks an axis."""
        mesh = jax.sharding.get_abstract_mesh() if self.mesh is None else self.mesh
        if mesh.empty:
            seen = f"no mesh with the axes {list(self.axes)} is known here"
            raise value_error("distribute", seen, "Call it under jax.set_mesh(mesh), or give mesh=")
        missing = [name for name in self.axes if name not in mesh.axis_names]
        if missing:
            seen = f"the mesh has the axes {list(mesh.axis_names)}, not {missing}"
            raise value_error("distribute", seen, "Name axes that it has")
        return mesh

    @property
    def number(self) -> int:
        """How many devices there are to own something."""
        shape = self.found().shape
        return math.prod(shape[name] for name in self.axes)


def groups(xs: Sequence[Stack]) -> list[list[int]]:
    """The places of those whose matrices have the same shapes and dtypes."""
    found: dict[Hashable, list[int]] = {}
    for i, x in enumerate(xs):
        k = len(_stack_of(x))
        leaves, treedef = jax.tree.flatten(x)
        key = (treedef, *((leaf.shape[k:], leaf.dtype) for leaf in leaves))
        found.setdefault(key, []).append(i)
    return list(found.values())


def matrices_in(x: Stack) -> int:
    return math.prod(_stack_of(x))


def each(count: int, owners: int) -> int:
    """Of so many equal matrices, how many a device works on: all, where sharing spares nothing."""
    most = -(-count // owners)
    return most if most < count else count


def shared_out(
    function: Callable[[int, Stack], Stack],
    xs: Sequence[Stack],
    arrays: Sequence[int],
    owners: Owners,
    in_turn: bool,
) -> list[Stack]:
    """`function(place, stack)` of all matrices of a shape at once, each device having its own.

    `arrays` are the numbers of the arrays to which the stacks belong.

    They go to their owners in one move and back in another; stacks of zeros fill up what cannot be
    shared evenly. Equal matrices that are too few are left as they are. `in_turn` a stack is
    (whose turn it is, what changes, what else is needed ...), and only those whose turn it is move.
    """
    number = owners.number
    results: dict[int, Stack] = {}
    for places in groups(xs):
        some = [xs[i] for i in places]
        counts = [matrices_in(x) for x in some]
        if owners.ledger is not None:
            whose = [arrays[i] for i in places]
            one = functools.partial(function, places[0])
            owners.ledger.extend(_noted(one, some, whose, number))
            results.update((i, one(x)) for i, x in zip(places, some, strict=True))
            continue
        if each(sum(counts), number) == sum(counts):
            results.update((i, function(places[0], x)) for i, x in zip(places, some, strict=True))
            continue
        whole = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *map(_in_a_row, some))
        run = _in_rounds if in_turn else _at_owners
        out = run(functools.partial(function, places[0]), whole, owners)
        ends = [sum(counts[: k + 1]) for k in range(len(counts))]
        for i, x, count, end in zip(places, some, counts, ends, strict=True):
            lead = _stack_of(x)
            part = jax.tree.map(lambda y, a=end - count, b=end: y[a:b], out)
            results[i] = jax.tree.map(lambda y, s=lead: y.reshape(*s, *y.shape[1:]), part)
    return [results[i] for i in range(len(xs))]


def _noted(
    function: Callable[[Stack], Stack], some: list[Stack], arrays: list[int], number: int
) -> list[Shared]:
    """Who works on what, of stacks of equal matrices."""
    counts = [matrices_in(x) for x in some]
    of, k = sum(counts), len(_stack_of(some[0]))
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[k:]), x.dtype), some[0])
    out = jax.eval_shape(function, one)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((one, out)))
    largest = max(jax.tree.leaves(one), key=lambda x: (x.ndim, x.size))
    work, own = flops(function, one), each(of, number)
    moved = 0 if own == of else round(size * (1 - 1 / number))
    shape = largest.shape[-2], largest.shape[-1]
    return [
        Shared(array, count, shape, of, own, count * moved, work)
        for array, count in zip(arrays, counts, strict=True)
    ]


def _in_rounds(function: Callable[[Stack], Stack], whole: Stack, owners: Owners) -> Stack:
    """What changes in those whose turn it is, as many in each round as there are owners."""
    turns, old, *rest = whole
    count, number = turns.shape[0], owners.number
    rounds = -(-count // number)
    due = jnp.sum(turns, dtype=jnp.int32)
    first = jnp.argsort(jnp.logical_not(turns), stable=True).astype(jnp.int32)
    order = lax.pad(first, np.int32(0), [(0, rounds * number - count, 0)]).reshape(rounds, number)
    ranks = np.arange(rounds * number, dtype=np.int32).reshape(rounds, number)

    def one(old: Stack, which: Any) -> tuple[Stack, None]:
        order, rank = which
        theirs = rank < due

        def refreshed(old: Stack) -> Stack:
            rows = jax.tree.map(lambda x: x[order], (old, *rest))
            new = _at_owners(function, (theirs, *rows), owners)
            at = jnp.where(theirs, order, count)
            return jax.tree.map(lambda x, y: x.at[at].set(y, mode="drop"), old, new)

        return lax.cond(rank[0] < due, refreshed, lambda old: old, old), None

    return lax.scan(one, old, (order, ranks))[0]


def _in_a_row(x: Stack) -> Stack:
    """A stack with one axis in front; a number for all of them stands at each then."""
    lead = _stack_of(x)

    def row(leaf: Array) -> Array:
        leaf = leaf if leaf.ndim else jnp.broadcast_to(leaf, lead)
        return leaf.reshape(-1, *leaf.shape[len(lead) :])

    return jax.tree.map(row, x)


def _stack_of(x: Stack) -> tuple[int, ...]:
    """The shape of the axes in front of the matrices."""
    largest = max(jax.tree.leaves(x), key=lambda leaf: leaf.ndim)
    return largest.shape[: largest.ndim - 2]


def _at_owners(function: Callable[[Stack], Stack], whole: Stack, owners: Owners) -> Stack:
    """`function` of a stack [B, ...], of which each owner has a part of the same length."""
    mesh, number = owners.found(), owners.number
    count = jax.tree.leaves(whole)[0].shape[0]
    length = -(-count // number) * number

    def padded(x: Array) -> Array:
        more = [(0, length - count, 0), *[(0, 0, 0)] * (x.ndim - 1)]
        return lax.pad(x, jnp.zeros((), x.dtype), more) if length > count else x

    parts = PartitionSpec(owners.axes)
    full = jax.tree.map(padded, whole)
    explicit = AxisType.Explicit in mesh.axis_types

    def to_owners(x: Array) -> Array:
        return jax.sharding.reshard(x, NamedSharding(mesh, parts)) if explicit else x

    if not explicit:
        full = jax.tree.map(lambda x: _all_of_each(x, mesh), full)
    run = jax.shard_map(
        function, mesh=owners.mesh, in_specs=parts, out_specs=parts, check_vma=False
    )
    out = run(jax.tree.map(to_owners, full))
    return jax.tree.map(lambda y: y[:count], _back(out, full, mesh, explicit))


def _all_of_each(x: Array, mesh: Any) -> Array:
    """A stack whose matrices lie as they like, none of them with fewer devices than another."""
    free = (PartitionSpec.UNCONSTRAINED,) * (x.ndim - 1)
    return lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(None, *free)))


def _back(out: Stack, before: Stack, mesh: Any, explicit: bool) -> Stack:
    """Results where what came in lay, if that has their shape, else on all devices."""
    by_shape = {x.shape: x for x in jax.tree.leaves(before)}

    def put(y: Array) -> Array:
        like = by_shape.get(y.shape)
        if explicit:
            near = None if like is None else explicit_mesh(like)
            own = jax.typeof(like).sharding if near else NamedSharding(mesh, PartitionSpec())
            return jax.sharding.reshard(y, own)
        if like is None:
            return lax.with_sharding_constraint(y, NamedSharding(mesh, PartitionSpec()))
        return placed(like, _all_of_each(y, mesh))

    return jax.tree.map(put, out)
