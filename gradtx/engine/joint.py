"""Numbers that are found from all arrays: what each measures, added up, and a decision."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx.engine.beside import aligned
from gradtx.engine.hyperparameters import for_all_arrays, narrowed
from gradtx.engine.leaf import cut, promotion, wide_slots
from gradtx.engine.refusals import explained, refuse_missing, refuse_mixed, refuse_other_state
from gradtx.engine.run import in_precision, slots_of
from gradtx.engine.slots import separate
from gradtx.engine.step import At, next_count
from gradtx.tree import Extra, Tree, global_norm, is_inexact, is_none, real_dtype_of, widest

JointRule = Any
"""A `gradtx.rule.JointRule`, which is built on this module."""


class NormOf(NamedTuple):
    """In `Sums`: an array of which the l2 norm over all arrays is wanted, in the place of a sum.

    It neither overflows nor underflows, as sums of squares do.
    """

    array: Array


def decided(
    rule: JointRule,
    updates: Tree,
    state: Any,
    params: Tree | None,
    at: At,
    extra: Extra,
) -> tuple[Any, Any]:
    """What the arrays share at this step, and the state with what they remember together."""
    refuse_other_state(rule, state, rule.Part)
    refuse_missing(rule, updates, {**extra, "params": params})
    before = rule.Globals(*(getattr(state, name) for name in rule.Globals._fields))
    arrays = [g for g in jax.tree.leaves(updates) if is_inexact(g)]
    real = real_dtype_of([arrays, before])
    plain = for_all_arrays(rule, at.count)
    numbers, t = narrowed(plain, real), next_count(at.count).astype(real)
    old = narrowed(before, real)
    wanted = {*rule.needs, *rule.wants} - {"params"}
    given = {k: in_precision(extra[k], real) for k in wanted if extra.get(k) is not None}
    with jax.named_scope(type(rule).__name__):
        if not arrays and not set(rule.needs) <= {*given, "params"}:
            return None, state  # there is no array, and so nothing to decide
        known = numbers.prepare(old, t)
        sums = _measured(plain, updates, state, params, known)
        new, shared = numbers.decide(narrowed(sums, real), old, t, **given)
    kept = (jnp.asarray(x).astype(y.dtype) for x, y in zip(new, before, strict=True))
    return shared, state._replace(**dict(zip(rule.Globals._fields, kept, strict=True)))


def _measured(rule: JointRule, updates: Tree, state: Any, params: Tree | None, known: Any) -> Any:
    """What `rule.measure_leaf` finds in each array, put together; at least float32."""
    if not rule.Sums._fields:
        return rule.Sums()
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    given = params is not None
    ps = aligned(rule, treedef, params, "parameters") if given else [None] * len(leaves)
    columns = [separate(rule, treedef, slot) for slot in slots_of(rule, state)]
    real = real_dtype_of(leaves)
    found = []
    for i, g in enumerate(leaves):
        if g is None or not is_inexact(g):
            continue
        g = jnp.asarray(g)
        slots = rule.Slots(*(column[i] for column in columns))
        p = ps[i] if "params" in rule.needs else None
        try:
            refuse_mixed(g, ps[i], (slots,))
            found.append(_measure(rule, g, slots, p, known))
        except (TypeError, ValueError) as error:
            raise explained(rule, updates, i, g, ps[i], (slots,), error) from error
    if not found:
        found = [_of_nothing(rule, real, known)]
    return rule.Sums(*(_together(parts, real) for parts in zip(*found, strict=True)))


def _of_nothing(rule: JointRule, real: Any, known: Any) -> Any:
    """What an array without an entry gives: sums of the right shapes that are zero."""
    empty = jnp.zeros((0,), real)
    p = empty if "params" in rule.needs else None
    return _measure(rule, empty, narrowed(rule, real).init_leaf(empty), p, known)


def _together(parts: tuple[Any, ...], real: Any) -> Array:
    if isinstance(parts[0], NormOf):
        return global_norm([part.array for part in parts]).astype(real)
    wide = [lax.convert_element_type(part, real) for part in parts]
    return sum(wide[1:], wide[0])


@jax.jit
def _measure(rule: JointRule, g: Array, slots: Any, p: Array | None, known: Any) -> Any:
    dtype = widest([x for x in (g, p, *slots) if x is not None and is_inexact(x)])
    with jax.named_scope(type(rule).__name__), promotion(dtype):
        numbers = narrowed(rule, dtype)
        return numbers.measure_leaf(
            cut(rule, lax.convert_element_type(g, dtype)),
            wide_slots(slots, dtype),
            None if p is None else lax.convert_element_type(p, dtype),
            narrowed(known, dtype),
        )
