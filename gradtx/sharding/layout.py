"""Along which of its axes one array is laid over the axes of a mesh, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from gradtx.paths import matches
from gradtx.struct import value_error
from gradtx.tree import listed

CALLED = "state_shardings"
AnyMesh = Mesh | AbstractMesh


class Chosen(NamedTuple):
    """Where an array lies, and why there."""

    spec: PartitionSpec
    why: str


def axes_of(entry: Any) -> tuple[str, ...]:
    """The axes of a mesh in one entry of a PartitionSpec."""
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)


def entries(spec: PartitionSpec, ndim: int) -> list[Any]:
    """The entries of a PartitionSpec, one for each axis of the array."""
    return [*spec, *[None] * (ndim - len(spec))]


def spread(shape: tuple[int, ...], own: PartitionSpec, mesh: AnyMesh, zero: Any) -> Chosen:
    """An array that lies as `own`, laid over the axes `zero` too, along its largest axis if it can.

    Axes of the array that are laid over others already, and axes of the mesh that it uses, stay.
    """
    now = entries(own, len(shape))
    used = {name for entry in now for name in axes_of(entry)}
    free = tuple(name for name in zero if name not in used)
    size = math.prod(mesh.shape[name] for name in free)
    if not shape:
        return Chosen(own, "a scalar")
    if not free:
        named = " and ".join(map(repr, zero))
        return Chosen(own, f"it lies over {named} already" if zero else "as its parameter")
    if 0 in shape:
        return Chosen(own, "it is empty")
    left = {k: n for k, n in enumerate(shape) if now[k] is None}
    found = [k for k, n in left.items() if n % size == 0]
    if found:
        best = max(found, key=lambda k: shape[k])
        now[best] = free[0] if len(free) == 1 else free
        only = "its only" if len(found) == 1 else "its largest"
        return Chosen(_trimmed(now), f"{only} free axis that is a multiple of {size}")
    spec = _one_by_one(now, left, {name: mesh.shape[name] for name in free})
    if spec is None:
        return Chosen(own, f"no free axis is a multiple of {size}")
    return Chosen(spec, f"no free axis is a multiple of {size}, so one by one")


def _one_by_one(
    now: list[Any], left: dict[int, int], sizes: Mapping[str, int]
) -> PartitionSpec | None:
    """Axes of a mesh, the largest first, each along the longest axis of an array that it divides.

    None where there are no such, or one axis of a mesh only.
    """
    if len(sizes) == 1:
        return None
    named = [axes_of(entry) for entry in now]
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        found = [k for k, n in left.items() if n % sizes[name] == 0]
        if found:
            best = max(found, key=lambda k: left[k])
            named[best], left[best] = (*named[best], name), left[best] // sizes[name]
    if named == [axes_of(entry) for entry in now]:
        return None
    return _trimmed([names[0] if len(names) == 1 else names or None for names in named])


class Rules:
    """The rules of a call, by pattern, and which of them were used."""

    def __init__(self, table: Mapping[str, PartitionSpec], mesh: AnyMesh) -> None:
        self.table, self.mesh = table, mesh
        self.used: set[str] = set()
        for pattern, spec in table.items():
            given = [name for entry in spec for name in axes_of(entry)]
            missing = [name for name in given if name not in mesh.axis_names]
            if missing:
                seen = f"the rule {pattern!r} names {missing}, the mesh {list(mesh.axis_names)}"
                raise value_error(CALLED, seen, "Name axes that the mesh has")

    def of(self, name: str, shape: tuple[int, ...]) -> Chosen | None:
        """What the first pattern that fits a name says of an array."""
        for pattern, spec in self.table.items():
            if matches(pattern, name):
                self.used.add(pattern)
                return self._chosen(pattern, spec, name, shape)
        return None

    def _chosen(
        self, pattern: str, spec: PartitionSpec, name: str, shape: tuple[int, ...]
    ) -> Chosen:
        sizes = [math.prod(self.mesh.shape[a] for a in axes_of(entry)) for entry in spec]
        if len(spec) > len(shape) or any(n % s for n, s in zip(shape, sizes, strict=False)):
            seen = f"the rule {pattern!r}, {spec}, does not divide {name!r} of shape {list(shape)}"
            raise value_error(CALLED, seen, "Name axes whose sizes divide those of the array")
        return Chosen(_trimmed(list(spec)), f"rule {pattern!r}")

    def refuse_unused(self, paths: list[str]) -> None:
        """Raises `ValueError` for a rule that fits nothing, or comes too late."""
        unused = [pattern for pattern in self.table if pattern not in self.used]
        if unused:
            seen = f"no array goes to the rule {listed(unused)} (parameters: {listed(paths)})"
            raise value_error(CALLED, seen, "Mend the pattern, list it first, or leave it out")


def _trimmed(now: list[Any]) -> PartitionSpec:
    while now and now[-1] is None:
        now = now[:-1]
    return PartitionSpec(*now)
