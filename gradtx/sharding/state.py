"""Where every array of a state is to lie, from shapes alone: `state_shardings`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec

from gradtx.engine.placement import sharding_of
from gradtx.engine.slots import is_stored
from gradtx.foreign import AnyTransformation
from gradtx.rule import Rule
from gradtx.sharding.layout import CALLED, AnyMesh, Chosen, Rules, axes_of, spread
from gradtx.states.survey import Field, Names, fields, names, written
from gradtx.struct import value_error
from gradtx.transform import State
from gradtx.tree import Tree, is_inexact, is_none, named_leaves, path_string


class Placed(NamedTuple):
    """An array of a state, and where it is to lie."""

    slot: str  # its name, as `state_dict` has it: link/slot/parameter
    shape: tuple[int, ...]
    dtype: Any
    sharding: NamedSharding
    why: str

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def bytes_per_device(self) -> int:
        return math.prod(self.sharding.shard_shape(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True)
class StateShardings:
    """Where the arrays of a state are to lie; printed, a table of them with the reasons.

    `tree` is like the state: the `out_shardings` of `jax.jit(tx.init, ...)`, or what
    `jax.device_put` puts a state to. `params` and `updates` are like the parameters: where these
    lie, and where their gradients and updates lie while the state is updated. `rows` has a line for
    each array. `abstract` has the state as shapes that lie so, the target of what restores one.
    """

    tree: State
    abstract: State
    params: Tree
    updates: Tree
    mesh: AnyMesh
    zero: tuple[str, ...]
    rows: tuple[Placed, ...]
    moved: int  # the bytes that each device sends in a `zero_step`

    @property
    def bytes(self) -> int:
        """The bytes of the whole state."""
        return sum(row.bytes for row in self.rows)

    @property
    def bytes_per_device(self) -> int:
        """The bytes that each device has of it."""
        return sum(row.bytes_per_device for row in self.rows)

    def __repr__(self) -> str:
        head = ("slot", "type", "over", "bytes a device", "why")
        lines: list[tuple[str, ...]] = [head]
        for row in self.rows:
            kind = f"{row.dtype}{list(row.shape)}"
            each = f"{row.bytes_per_device:,}"
            lines.append((row.slot, kind, _shown(row.sharding.spec), each, row.why))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        said = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        number = self.mesh.size
        total = f"{self.bytes_per_device:,} bytes on each of {number} devices, of {self.bytes:,}"
        total += f"; a step sends {self.moved:,} from each"
        return "\n".join([said[0], "-" * max(map(len, said)), *said[1:], total])


def state_shardings(
    tx: AnyTransformation,
    params: Tree,
    zero: str | tuple[str, ...] | None = "data",
    rules: Mapping[str, PartitionSpec] | None = None,
    mesh: AnyMesh | None = None,
) -> StateShardings:
    """Where each array of the state of `tx` is to lie on a mesh, from shapes alone: ZeRO-1.

    A slot lies as its parameter and over the axes `zero` too, along its largest axis that these
    divide and nothing else uses; a slot of another shape, such as a basis, along one of its own.
    Counts and scalars are on all devices. `rules` go first: the first pattern that fits the name of
    a slot, `link/slot/parameter`, or the path of a parameter and slots of its shape, says where
    these lie; `P()` leaves them whole. `params` are arrays or shapes, with shardings or without;
    the mesh is theirs, `mesh`, or that of `jax.set_mesh`, and may be an `AbstractMesh`.
    Rajbhandari et al. 2020 (arXiv:1910.02054).
    """
    mesh = _mesh_of(params, mesh)
    names_of_zero = (zero,) if isinstance(zero, str) else tuple(zero or ())
    missing = [name for name in names_of_zero if name not in mesh.axis_names]
    if missing:
        seen = f"the mesh has the axes {list(mesh.axis_names)}, not {missing}"
        raise value_error(CALLED, seen, 'Name one that it has, zero="..."')
    shapes = jax.tree.map(_shape, params)
    program, state = jax.make_jaxpr(tx.init, return_shape=True)(shapes)
    both = zip(jax.tree.leaves(state), program.out_avals, strict=True)
    host = {id(x) for x, aval in both if aval.memory_space == jax.memory.Space.Host}
    plan = _Plan(mesh, names_of_zero, Rules(rules or {}, mesh), host)
    tx, found = fields(CALLED, tx, state, shapes)
    own = {path: plan.own(p) for path, p in named_leaves(params) if hasattr(p, "shape")}
    called = names(found)
    changes = {
        field.at: plan.field(field, called[field.owner.at], own)
        for field in found
        if field.kind != "nothing"
    }
    updates = jax.tree_util.tree_map_with_path(plan.update, params, is_leaf=is_none)
    plan.rules.refuse_unused([*own])
    tree = written(state, changes)
    return StateShardings(
        tree=tree,
        abstract=jax.tree.map(_lying, state, tree),
        params=jax.tree.map(lambda p: NamedSharding(mesh, plan.own(p)), params),
        updates=updates,
        mesh=mesh,
        zero=names_of_zero,
        rows=tuple(plan.rows),
        moved=sum(plan.moved(p) for p in jax.tree.leaves(params)),
    )


class _Plan:
    """One call of `state_shardings`."""

    def __init__(self, mesh: AnyMesh, zero: tuple[str, ...], rules: Rules, host: set[int]) -> None:
        self.mesh, self.zero, self.rules = mesh, zero, rules
        self.host = host  # what waits in host memory, by its identity
        self.rows: list[Placed] = []

    def own(self, p: Any) -> PartitionSpec:
        """How a parameter lies on the mesh."""
        place = sharding_of(p)
        return place.spec if isinstance(place, NamedSharding) else PartitionSpec()

    def moved(self, p: Any) -> int:
        """Bytes that a device sends: of its part of a gradient, scattered, and of the parameter,
        gathered, each time all but its share; as many for an all-reduce."""
        if not (hasattr(p, "shape") and is_inexact(p)):
            return 0
        number = math.prod(self.mesh.shape[name] for name in self.zero)
        used = {name for entry in self.own(p) for name in axes_of(entry)} - {*self.zero}
        part = p.size * p.dtype.itemsize // math.prod(self.mesh.shape[name] for name in used)
        return round(2 * part * (1 - 1 / number))

    def update(self, path: Any, p: Any) -> NamedSharding | None:
        """Where the update of a parameter is made."""
        if p is None:
            return None
        own = self.own(p)
        moved = is_inexact(p) and hasattr(p, "shape")
        spec = self._like(path_string(path), p.shape, own).spec if moved else own
        return NamedSharding(self.mesh, spec)

    def field(self, field: Field, called: Names, own: Mapping[str, PartitionSpec]) -> Any:
        """The shardings of a field of the state."""
        params = {path: p for path, p in named_leaves(field.owner.params) if hasattr(p, "shape")}
        stacked = isinstance(field.owner.part, Rule) and field.name in field.owner.part.stacked
        compressed = _compressed(field.value) if is_stored(field.value) else set()
        head = called.slots if field.kind == "slot" else called.numbers

        def one(path: Any, x: Any) -> NamedSharding:
            part, below = (path[:1], path[1:]) if is_stored(field.value) else ((), path)
            whose = inside = path_string(below)
            name = "/".join(filter(None, (head, field.name, inside)))
            name += f"#{path_string(part)}" if inside in compressed else ""
            if field.kind == "number":  # such as a state of Optax
                whose = _end(inside, params, x.shape)
            spec, why = self._slot(name, whose, x, params.get(whose), own, stacked)
            kind = "pinned_host" if id(x) in self.host else None
            place = NamedSharding(self.mesh, spec, memory_kind=kind)
            self.rows.append(Placed(name, tuple(x.shape), x.dtype, place, why))
            return place

        return jax.tree_util.tree_map_with_path(one, field.value)

    def _slot(
        self,
        name: str,
        path: str,
        x: Any,
        p: Any,
        own: Mapping[str, PartitionSpec],
        stacked: bool,
    ) -> Chosen:
        shape, given = tuple(x.shape), self.rules.of(name, tuple(x.shape))
        if given is not None:
            return given
        if p is None:
            why = "a scalar" if not shape else "it belongs to no parameter"
            return Chosen(PartitionSpec(), why)
        spec = own.get(path, PartitionSpec())
        if shape == tuple(p.shape):
            return self._like(path, shape, spec)
        if stacked and shape[1:] == tuple(p.shape):
            spec, why = self._like(path, shape[1:], spec)
            return Chosen(PartitionSpec(None, *spec), why)
        return spread(shape, PartitionSpec(), self.mesh, self.zero)

    def _like(self, path: str, shape: tuple[int, ...], own: PartitionSpec) -> Chosen:
        """What lies as a parameter does, and over more axes."""
        return self.rules.of(path, shape) or spread(shape, own, self.mesh, self.zero)


def _mesh_of(params: Tree, given: AnyMesh | None) -> AnyMesh:
    """The mesh of a call. Raises where there is none, or another."""
    places = [(path, sharding_of(p)) for path, p in named_leaves(params) if p is not None]
    found = {path: s.mesh for path, s in places if isinstance(s, NamedSharding)}
    mesh = given if given is not None else next(iter(found.values()), None)
    if mesh is None:
        mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        seen = "no mesh is known: the parameters lie on none"
        raise value_error(CALLED, seen, "Pass mesh=, or call it under jax.set_mesh(mesh)")
    other = [path for path, one in found.items() if one.shape != mesh.shape]
    if other:
        seen = f"{other[0]!r} lies on a mesh {dict(found[other[0]].shape)}, not {dict(mesh.shape)}"
        raise value_error(CALLED, seen, "Pass the mesh on which the parameters lie")
    return mesh


def _shape(x: Any) -> Any:
    """An array as a shape that lies nowhere; other leaves as they are."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype) if hasattr(x, "shape") else x


def _lying(x: jax.ShapeDtypeStruct, place: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)


def _end(path: str, params: Mapping[str, Any], shape: tuple[int, ...]) -> str:
    """The parameter of this shape at whose path a path ends."""
    fits = (p for p, x in params.items() if tuple(x.shape) == tuple(shape))
    return next((p for p in fits if f"/{path}".endswith(f"/{p}")), "")


def _compressed(slot: Any) -> set[str]:
    """The parameters of which a slot in the format of `store` keeps more arrays than one."""
    _, *rest = slot
    return {path for tree in rest for path, x in named_leaves(tree) if x is not None}


def _shown(spec: PartitionSpec) -> str:
    """The axes of a mesh, by the axis of the array: `1: data`."""
    said = [f"{k}: {'+'.join(axes_of(entry))}" for k, entry in enumerate(spec) if axes_of(entry)]
    return ", ".join(said) or "-"
