"""New state: for every array, slots that lie where it lies; all of it one compiled program."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jax.sharding import Sharding

from gradtx.engine.front import as_typed
from gradtx.engine.hyperparameters import narrowed, per_array
from gradtx.engine.nodes import naming_nodes
from gradtx.engine.placement import (
    beside,
    on_any_mesh,
    ordered_after,
    sharding_of,
    stacked_as,
    varying_as,
)
from gradtx.engine.refusals import unmade
from gradtx.engine.step import At
from gradtx.tree import Tree, is_data, is_inexact, is_none, wide

Rule = Any
"""A `gradtx.rule.Rule`, which is built on this package."""

F = TypeVar("F", bound=Callable[[Any, Tree], Any])


def whole(init: F) -> F:
    """Runs `init(tx, params)` as one compiled program when it is called outside of any trace.

    The program is that of arrays, or of shapes alone (`jax.ShapeDtypeStruct`), which may carry a
    sharding. Parameters on several sets of devices cannot be in one: each set has its own then.
    """
    jitted = jax.jit(init)

    @functools.wraps(init)
    def call(tx: Any, params: Tree) -> Any:
        leaves, treedef = jax.tree.flatten(params)
        if any(isinstance(x, Tracer) for x in [*leaves, *jax.tree.leaves(tx)]):
            return init(tx, params)
        shapes = tuple(x if isinstance(x, jax.ShapeDtypeStruct) else None for x in leaves)
        # What is no array is refused by `init`, with its path.
        numbers = all(map(is_data, leaves))
        places = {frozenset(p.device_set): p for p in map(sharding_of, leaves) if p is not None}
        if not numbers:
            return init(tx, params)
        program, given, there = jitted, params, contextlib.nullcontext()
        if any(shapes):
            program = _from_shapes(init, treedef, shapes)
            given = [x for x, shape in zip(leaves, shapes, strict=True) if shape is None]
            there = _there(next(iter(places.values()), None))
        try:
            if len(places) > 1 and not any(shapes):
                return _by_devices(init, tx, params)
            with there:
                return program(tx, given)
        except (TypeError, ValueError) as error:
            failed = error
        raise as_typed(inspect.unwrap(program), (tx, given), {}) or failed

    return naming_nodes(call)  # pyright: ignore[reportReturnType]


def _there(place: Sharding | None) -> contextlib.AbstractContextManager[Any]:
    """Makes one device the place of what a program without arguments makes."""
    if place is None or len(place.device_set) > 1:
        return contextlib.nullcontext()
    return jax.default_device(next(iter(place.device_set)))


@functools.lru_cache(maxsize=256)
def _from_shapes(
    init: Callable[..., Any], treedef: Any, shapes: tuple[Any, ...]
) -> Callable[..., Any]:
    def from_shapes(tx: Any, arrays: list[Any]) -> Any:
        rest = iter(arrays)
        leaves = (next(rest) if shape is None else shape for shape in shapes)
        return init(tx, treedef.unflatten(leaves))

    return jax.jit(from_shapes)


def _by_devices(init: Callable[..., Any], tx: Any, params: Tree) -> Any:
    """One program for each set of devices, for the slots of the parameters that lie there."""
    leaves, treedef = jax.tree.flatten(params)
    places = [None if p is None else frozenset(p.device_set) for p in map(sharding_of, leaves)]
    program, shape = jax.make_jaxpr(init, return_shape=True)(tx, params)
    of_params = [id(v) for v in program.jaxpr.invars[-len(leaves) :]]
    source: dict[int, set[int]] = {v: {i} for i, v in enumerate(of_params)}
    for equation in program.jaxpr.eqns:
        reached = set().union(*(source.get(id(v), set()) for v in equation.invars))
        source.update({id(v): reached for v in equation.outvars})
    # A slot is bound to its parameter, and what belongs to none to the first.
    owner = [min(source.get(id(v), {0}), default=0) for v in program.jaxpr.outvars]
    found: list[Any] = [None] * len(owner)
    for place in dict.fromkeys(places):
        wanted = [k for k, i in enumerate(owner) if places[i] == place]
        mine = {i: p for i, p in enumerate(leaves) if places[i] == place}

        def slots_there(tx: Any, mine: dict[int, Any], wanted: list[int] = wanted) -> list[Any]:
            whole = (mine[i] if i in mine else _elsewhere(p) for i, p in enumerate(leaves))
            state = jax.tree.leaves(init(tx, treedef.unflatten(whole)))
            return [state[k] for k in wanted]

        for k, slot in zip(wanted, jax.jit(slots_there)(tx, mine), strict=True):
            found[k] = slot
    return jax.tree.unflatten(jax.tree.structure(shape), found)


def _elsewhere(p: Any) -> Any:
    """What stands for a parameter on other devices, whose slots another program makes."""
    shape = jax.ShapeDtypeStruct(p.shape, p.dtype)
    return jnp.zeros(p.shape, p.dtype) if is_inexact(p) else shape


def init_rule(rule: Rule, params: Tree, at: At) -> Any:
    """The slots of a rule: for each a tree like the parameters."""
    leaves, treedef = jax.tree.flatten(params, is_leaf=is_none)
    rules = per_array(rule, at.count, params, strict=at.whole)
    rows = []
    for i, p in enumerate(leaves):
        try:
            new = _new_slots(rules[i], p) if is_inexact(p) else (None,) * len(rule.Slots._fields)
        except (TypeError, ValueError) as error:
            raise unmade(rule, params, i, error) from error
        rows.append(new)
    columns = zip(*rows, strict=True) if rows else ((),) * len(rule.Slots._fields)
    slots = dict(zip(rule.Slots._fields, map(treedef.unflatten, columns), strict=True))
    return rule.Part(*(None for _ in rule.Part._fields))._replace(**slots)


def _new_slots(rule: Rule, p: Any) -> Any:
    """Slots that share no memory with the parameter and lie where it lies."""
    if not isinstance(p, jax.ShapeDtypeStruct):
        return _beside_array(rule, jnp.asarray(p))
    _refuse_if_values_matter(rule, p)
    slots = _slots(rule, jnp.zeros(p.shape, p.dtype))
    own, near = p.sharding, beside(p)
    if own is None or near is None:
        return slots
    places = (
        own if s.shape == p.shape else stacked_as(own) if name in rule.stacked else near
        for name, s in zip(slots._fields, slots, strict=True)
    )
    return type(slots)(*map(lax.with_sharding_constraint, slots, places))


@jax.jit
def _beside_array(rule: Rule, p: Any) -> Any:
    """Slots of the shape of the parameter are bound to lie as it does."""

    def like() -> Any:
        return beside_p(jax.eval_shape(_slots, rule, jax.ShapeDtypeStruct(p.shape, p.dtype)))

    def beside_p(slots: Any) -> Any:
        """For each slot the parameter, or a stack of it, or None."""
        return type(slots)(
            *(
                p
                if s.shape == p.shape
                else jnp.broadcast_to(p, s.shape)
                if name in rule.stacked
                else None
                for name, s in zip(slots._fields, slots, strict=True)
            )
        )

    slots = on_any_mesh(_slots, rule, p, like=like)
    bound = (
        s if near is None else ordered_after(near, s)
        for s, near in zip(slots, beside_p(slots), strict=True)
    )
    return type(slots)(*(varying_as(p, s) for s in bound))


def _slots(rule: Rule, p: Any) -> Any:
    dtype = wide(p.dtype)
    with jax.named_scope(type(rule).__name__):
        slots = narrowed(rule, dtype).init_leaf(lax.convert_element_type(p, dtype))
    return type(slots)(*map(jnp.asarray, slots))


def _refuse_if_values_matter(rule: Rule, p: jax.ShapeDtypeStruct) -> None:
    """Raises when the slots are made from the values of the parameter, which a shape has not."""
    program = jax.make_jaxpr(lambda p: tuple(_slots(rule, p)))(
        jax.ShapeDtypeStruct(p.shape, p.dtype)
    )
    used = set(map(id, program.jaxpr.outvars))
    for equation in reversed(program.jaxpr.eqns):
        if any(id(out) in used for out in equation.outvars):
            used.update(map(id, equation.invars))
    if id(program.jaxpr.invars[0]) in used:
        raise ValueError(
            f"it remembers the values of the parameters, and a shape {p.shape} has none"
            ". Call init on arrays, or on shapes under jax.eval_shape or jax.jit"
        )
