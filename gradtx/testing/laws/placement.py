"""Law 7: fresh state aliases nothing, donation works, state lies where the parameters lie."""

from __future__ import annotations

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from gradtx.testing.ask import update
from gradtx.testing.compare import (
    avals,
    close,
    leaves,
    require,
    room,
    same,
    same_types,
    three_parts,
)
from gradtx.testing.count import compilations
from gradtx.testing.evidence import Evidence
from gradtx.testing.laws.law import law
from gradtx.transform import GradientTransformation, State, apply_updates
from gradtx.tree import Tree


def _train(tx: GradientTransformation, params: Tree, state: State, grads: Tree) -> Any:
    updates, state = update(tx, grads, state, params)
    return apply_updates(params, updates), state


@law(7)
def fresh_state_aliases_nothing(e: Evidence) -> None:
    """No two arrays of parameters and state share memory."""
    zeros = jax.device_put(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), e.params))
    for params in (e.params, zeros):
        arrays = leaves((params, e.tx.init(params)))
        places: dict[int, str] = {}
        for path, x in arrays:
            other = places.setdefault(x.unsafe_buffer_pointer(), path)
            require(other == path, "two arrays share memory", other, path)


@law(7)
def compiled_donated_step_holds_no_copy(e: Evidence) -> None:
    """Everything donated is reused, and no temporary has the size of a parameter.

    What reduces first holds `temporary_bytes` for each float32 parameter. The compiler of JAX
    before 0.10 also stores what is reduced: 4 bytes a parameter for a reduction.
    """
    n = e.entries
    params = jax.ShapeDtypeStruct((n,), jnp.float32)
    state = jax.eval_shape(e.tx.init, params)
    train = jax.jit(functools.partial(_train, e.tx), donate_argnums=(0, 1))
    traced = train.trace(params, state, params)
    memory: Any = traced.lower().compile().memory_analysis()
    donated = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((params, state)))
    aliased = memory.alias_size_in_bytes
    require(aliased == donated, "bytes that are reused, of those donated", aliased, donated)
    old = jax.__version_info__ < (0, 10)
    reduced = 4.2 * len(re.findall(r"= reduce_\w+\[", str(traced.jaxpr))) if old else 0
    limit = e.temporary_bytes + reduced + 4096 / n
    held = memory.temp_size_in_bytes / n
    require(held <= limit, f"bytes held per parameter, of {limit:.3f} allowed", f"{held:.3f}")


@law(7)
def init_on_shapes(e: Evidence) -> None:
    """`jax.ShapeDtypeStruct`s are enough: real arrays come out, as from parameters.

    What remembers values refuses them; under `jax.eval_shape` it takes them too.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), e.params)
    expected = e.alone.path.states[0]
    same_types(jax.eval_shape(e.tx.init, shapes), expected, "jax.eval_shape(init) of shapes")
    state = _init_on_shapes(e, shapes)
    if state is not None:
        arrays = all(isinstance(x, jax.Array) for x in jax.tree.leaves(state))
        require(arrays, "init of shapes gives what is no array", state)
        same(state, expected, "init of shapes")


def _init_on_shapes(e: Evidence, shapes: Any) -> Any:
    """`init(shapes)`, or None if it remembers values, which shapes have not: it says so."""
    if not e.remembers_values:
        return e.tx.init(shapes)
    try:
        e.tx.init(shapes)
    except ValueError as error:
        three_parts(error, "remembers the values of the parameters", "shape", "Call init on arrays")
        return None
    raise AssertionError("init of shapes passes, although the state holds values of parameters")


@law(7)
def init_on_shapes_of_other_leaves(e: Evidence) -> None:
    """Integer and key shapes get no state there either."""
    shapes = {
        "index": jax.ShapeDtypeStruct((3,), jnp.int32),
        "key": jax.eval_shape(lambda: jax.random.key(0)),
        "none": None,
        "p": jax.ShapeDtypeStruct((2,), jnp.float32),
    }
    alone, traced = (
        jax.eval_shape(e.tx.init, {name: shapes[name] for name in names})
        for names in (("p",), ("p", "index"))
    )
    require(avals(traced)[1] == avals(alone)[1], "the state beside an integer shape", traced)
    state = _init_on_shapes(e, shapes)
    if state is not None:
        require(avals(state)[1] == avals(alone)[1], "the state beside other shapes", state)


# On a mesh -------------------------------------------------------------------------------------


def _lies_as(state: State, params: Tree, what: str) -> None:
    """Every slot of the shape of a parameter lies as it does, counts on all of its devices."""
    where = {p.shape: p.sharding for p in jax.tree.leaves(params)}
    devices = next(iter(where.values())).device_set
    for path, slot in leaves(state):
        require(slot.sharding.device_set == devices, f"{what}: {path!r} lies at", slot.sharding)
        if slot.shape in where and slot.ndim:
            # Where it lies among devices; `offload` has it in another memory of them.
            expected = where[slot.shape].with_memory_kind(slot.sharding.memory_kind)
            there = slot.sharding.is_equivalent_to(expected, slot.ndim)
            require(there, f"{what}: {path!r} lies at", slot.sharding, expected)


@law(7)
def init_on_a_mesh(e: Evidence) -> None:
    """From arrays, from shapes that carry a sharding, and in jit, state lies as parameters lie."""
    if e.mesh is None:
        return
    for name, state in e.meshed.init.items():
        _lies_as(state, e.meshed.params, name)
        if name == "init":
            same(state, e.alone.path.states[0], "init on a mesh")


@law(7)
def steps_on_a_mesh(e: Evidence) -> None:
    """Three donated steps are one compilation and end where one device ends; all stays in place."""
    if e.mesh is None:
        return
    found = e.meshed
    require(
        found.compiled == found.traces == 1, "compilations, traces", found.compiled, found.traces
    )
    require(found.given_away, "arrays that were donated are still there")
    params, state = found.stepped
    for (path, p), q in zip(leaves(params), jax.tree.leaves(found.params), strict=True):
        require(p.sharding.is_equivalent_to(q.sharding, p.ndim), f"{path} went to", p.sharding)
    _lies_as(state, params, "after three steps")
    alone, *others = map(_without_bases, (e.stepped.after[-1], *e.stepped.jolts))
    close(_without_bases(found.stepped), alone, room(alone, others), "three steps on a mesh")


def _without_bases(values: Any) -> Any:
    """Eigenvectors left out: those of equal values, such as zeros, are what rounding makes them."""

    def picked(path: Any, x: Any) -> Any:
        return None if re.search("(left|right)_basis", jax.tree_util.keystr(path)) else x

    return jax.tree_util.tree_map_with_path(picked, values)


@law(7)
def state_lies_on_the_device_of_the_parameters(e: Evidence) -> None:
    """Parameters on another device than the first get their slots there.

    Init of parameters on two devices is at most one compiled function for each.
    """
    if e.mesh is None:
        return
    device = jax.devices()[-1]
    state = e.tx.init(jax.device_put(e.host[0], device))
    for path, slot in leaves(state):
        there = SingleDeviceSharding(device, memory_kind=slot.sharding.memory_kind)
        require(slot.ndim == 0 or slot.sharding == there, f"{path} lies at", slot.sharding)
    both = [jax.device_put(e.host[0]["dense"]["kernel"], d) for d in (jax.devices()[0], device)]
    with compilations() as compiled:
        state = e.tx.init({"a": both[0], "b": both[1]})
    require(len(compiled) <= 2, "functions compiled for parameters on two devices", len(compiled))
