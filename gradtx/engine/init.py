"""New state: a zero count and, for every array, slots that lie where it lies."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from gradtx.engine.hyperparameters import narrowed, per_array
from gradtx.engine.placement import bound_to, like, sharding_of, zero_count
from gradtx.engine.refusals import unmade
from gradtx.tree import Tree, is_inexact, is_none, wide

Rule = Any
"""A `gradtx.rule.Rule`, which is built on this module."""


def init_rule(rule: Rule, params: Tree) -> Any:
    """The state of a rule: a zero count and, for every slot, a tree like the parameters."""
    leaves, treedef = jax.tree.flatten(params, is_leaf=is_none)
    count = zero_count(params)
    rules = per_array(rule, count, params, strict=True)
    rows = []
    for i, p in enumerate(leaves):
        try:
            new = _new_slots(rules[i], p) if is_inexact(p) else (None,) * len(rule.Slots._fields)
        except (TypeError, ValueError) as error:
            raise unmade(rule, params, i, error) from error
        rows.append(new)
    columns = zip(*rows, strict=True) if rows else ((),) * len(rule.Slots._fields)
    slots = dict(zip(rule.Slots._fields, map(treedef.unflatten, columns), strict=True))
    blank = rule.State(*(None for _ in rule.State._fields))
    return blank._replace(count=count, **slots)


def _new_slots(rule: Rule, p: Any) -> Any:
    """Slots that share no memory with the parameter and lie where it lies."""
    if isinstance(p, Tracer):
        # Slots of the shape of the parameter are bound to lie as it will.
        slots = _slots(rule, p)
        return type(slots)(*(bound_to(p, s) if s.shape == p.shape else s for s in slots))
    if not isinstance(p, jax.ShapeDtypeStruct):
        p = jnp.asarray(p)
    if sharding_of(p) is None:
        return _slots_from(rule, p)
    shapes = jax.eval_shape(_slots, rule, p)
    places = tuple(like(p, slot.shape) for slot in shapes)
    return _slots_at(places)(rule, p)


def _slots(rule: Rule, p: Any) -> Any:
    dtype = wide(p.dtype)
    with jax.named_scope(type(rule).__name__):
        slots = narrowed(rule, dtype).init_leaf(lax.convert_element_type(p, dtype))
    return type(slots)(*(jnp.array(s, copy=True) for s in slots))


@functools.lru_cache(maxsize=256)
def _slots_at(places: tuple[Any, ...] | None) -> Any:
    """`_slots`, of an array or of its shape alone, with the results at these places."""
    from_array = jax.jit(lambda rule, p: tuple(_slots(rule, p)), out_shardings=places)
    from_shape = jax.jit(
        lambda rule, shape, dtype: tuple(_slots(rule, jnp.zeros(shape, dtype))),
        static_argnums=(1, 2),
        out_shardings=places,
    )

    def new(rule: Rule, p: Any) -> Any:
        if isinstance(p, jax.ShapeDtypeStruct):
            _refuse_if_values_matter(rule, p)
            return rule.Slots(*from_shape(rule, p.shape, p.dtype))
        return rule.Slots(*from_array(rule, p))

    return new


_slots_from = _slots_at(None)


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
