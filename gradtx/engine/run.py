"""The engine: the function of one array, lifted to any tree.

Everything that is the same for all algorithms happens here, once: trees, arrays that are not there,
schedules and hyperparameters that differ between arrays, the step count, dtypes, complex numbers,
shardings of new state, randomness, error messages. The function of one array is compiled as one
unit (`_leaf`), so that a thousand arrays of five shapes are traced five times.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx.engine.batches import in_batches, pay
from gradtx.engine.codes import Stored
from gradtx.engine.hyperparameters import (
    narrowed,
    per_array,
    with_constants_inside,
    with_constants_outside,
)
from gradtx.engine.refusals import explained, refuse_missing, refuse_mixed, refuse_other_state
from gradtx.engine.rounding import seed
from gradtx.engine.slots import is_stored, separate, together
from gradtx.paths import aligned
from gradtx.tree import Tree, is_inexact, is_none, named_leaves, path_salt, real_dtype, widest

Rule = Any
"""A `gradtx.rule.Rule`, which is built on this module."""

cast = lax.convert_element_type


def run(
    rules: Sequence[Rule],
    updates: Tree,
    states: Sequence[Any],
    params: Tree | None,
    factor: Array | None = None,
    shared: Any = None,
) -> tuple[Tree, tuple[Any, ...]]:
    """Multiplies by `factor`, if given, and applies the rules one after the other.

    All that is one function per array. `shared`, if given, is what the first rule gets as `t`.
    Returns the updates and the new states.
    """
    names = " then ".join(type(rule).__name__ for rule in rules)
    called = rules[0] if len(rules) == 1 else names or "multiplication by one number"
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    leaves = [jnp.asarray(g) if isinstance(g, float | complex) else g for g in leaves]
    given = params is not None
    for rule, state in zip(rules, states, strict=True):
        refuse_other_state(rule, state, rule.State)
        if shared is None:
            refuse_missing(rule, updates, {"params": params})
    ps = aligned(called, treedef, params, "parameters") if given else [None] * len(leaves)
    needed = any("params" in rule.needs for rule in rules)
    trees = [slots_of(rule, state) for rule, state in zip(rules, states, strict=True)]
    columns = [
        [separate(rule, treedef, slot) for slot in slots]
        for rule, slots in zip(rules, trees, strict=True)
    ]
    # Arrays are told apart by the parameters where they are given, as in a partition.
    seen = zip(leaves, ps if given else leaves, strict=True)
    model = treedef.unflatten(None if g is None else p for g, p in seen)
    step = _Step(rules, [state.count for state in states], model, shared)
    rows = {
        i: tuple(
            rule.Slots(*(column[i] for column in c)) for rule, c in zip(rules, columns, strict=True)
        )
        for i, g in enumerate(leaves)
        if g is not None and is_inexact(g)
    }

    def job(i: int) -> _Job:
        g, p, slots = leaves[i], ps[i], rows[i]
        refuse_mixed(g, p, slots)
        p = p if needed else None
        dtype = widest([x for row in ((g, p), *slots) for x in row if is_inexact(x)])
        own, salts = step.own_for(i), step.salts_for(i, slots)
        return _Job(step.rules_for(i, dtype), g, slots, p, own, factor, salts)

    def explaining(i: int, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except (TypeError, ValueError) as error:
            raise explained(called, updates, i, leaves[i], ps[i], rows[i], error) from error

    outs = [None if i in rows else _no_update(g) for i, g in enumerate(leaves)]
    jobs = {i: explaining(i, job, i) for i in rows}
    for i, (u, new) in _done(rules, jobs, explaining).items():
        outs[i] = u
        for column, row in zip(columns, new, strict=True):
            for slot, value in zip(column, row, strict=True):
                slot[i] = value
    new_states = tuple(
        state._replace(
            count=t,
            **{
                name: together(type(slot), treedef, column)
                for name, slot, column in zip(rule.Slots._fields, *slots, strict=True)
            },
        )
        for rule, state, t, *slots in zip(rules, states, step.ts, trees, columns, strict=True)
    )
    return treedef.unflatten(outs), new_states


class _Step:
    """The rules at one step: hyperparameters as numbers, what arrays share and what they do not."""

    def __init__(
        self, rules: Sequence[Rule], counts: Sequence[Array], model: Tree, shared: Any
    ) -> None:
        self.first_shared = shared
        self.own = [per_array(rule, c, model) for rule, c in zip(rules, counts, strict=True)]
        self.ts = [next_count(count) for count in counts]
        self.counts = counts
        self.model = model
        self.ready: dict[Any, tuple[Rule, Any]] = {}

    def rules_for(self, i: int, dtype: Any) -> list[tuple[Rule, Any]]:
        """The rules for array `i` in the precision of `dtype`, each with its `shared`."""
        found = []
        for k, (own, t) in enumerate(zip(self.own, self.ts, strict=True)):
            key = (id(own[i]), dtype)
            if key not in self.ready:
                numbers = narrowed(own[i], dtype)
                if k == 0 and self.first_shared is not None:
                    shared = narrowed(self.first_shared, dtype)
                else:
                    with jax.named_scope(type(numbers).__name__):
                        shared = numbers.shared(cast(t, real_dtype(dtype)))
                self.ready[key] = with_constants_inside(numbers), shared
            found.append(self.ready[key])
        return found

    @functools.cached_property
    def paths(self) -> list[str]:
        return [path for path, _ in named_leaves(self.model)]

    @functools.cached_property
    def numbers(self) -> list[np.int32]:
        """For every leaf how many arrays come before it, of those that are moved."""
        moved = map(is_inexact, jax.tree.leaves(self.model, is_leaf=is_none))
        return [np.int32(n) for n in itertools.accumulate(moved, initial=0)]

    def own_for(self, i: int) -> dict[int, Any]:
        """A random key and the number of array `i` for the rules that want one, by their place."""
        found = {}
        for k, (own, count) in enumerate(zip(self.own, self.counts, strict=True)):
            key = (step_key(own[i], self.paths[i], count),) if own[i].random else ()
            number = (self.numbers[i],) if own[i].numbered else ()
            if key or number:
                found[k] = (*key, *number)
        return found

    def salts_for(self, i: int, slots: Sequence[Any]) -> dict[int, tuple[np.uint32, Array]]:
        """What tells this array and step from others, by the place of a rule with stored slots."""
        stored = [k for k, row in enumerate(slots) if any(map(is_stored, row))]
        return {k: (path_salt(self.paths[i]), self.counts[k]) for k in stored}


def measured(rule: Rule, updates: Tree, state: Any, params: Tree | None, known: Any) -> Any:
    """The sum over all arrays of what `rule.measure_leaf` finds in each, at least float32."""
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    ps = aligned(rule, treedef, params, "parameters") if params is not None else leaves
    columns = [separate(rule, treedef, slot) for slot in slots_of(rule, state)]
    dtype = widest([g for g in leaves if is_inexact(g)])
    total = rule.Sums(*(jnp.zeros((), real_dtype(dtype)) for _ in rule.Sums._fields))
    for i, g in enumerate(leaves):
        if g is None or not is_inexact(g):
            continue
        slots = rule.Slots(*(column[i] for column in columns))
        try:
            refuse_mixed(g, ps[i], (slots,))
            found = _measure(rule, g, slots, ps[i], known)
        except (TypeError, ValueError) as error:
            raise explained(rule, updates, i, g, ps[i], (slots,), error) from error
        total = rule.Sums(*(a + cast(b, a.dtype) for a, b in zip(total, found, strict=True)))
    return total


@jax.jit
def _measure(rule: Rule, g: Array, slots: Any, p: Array, known: Any) -> Any:
    dtype = widest([x for x in (g, p, *slots) if is_inexact(x)])
    wide_slots = type(slots)(*(_widened(x, dtype) for x in slots))
    with jax.named_scope(type(rule).__name__), _promotion(dtype):
        numbers = narrowed(rule, dtype)
        known = narrowed(known, dtype)
        return numbers.measure_leaf(cast(g, dtype), wide_slots, cast(p, dtype), known)


def slots_of(rule: Rule, state: Any) -> list[Tree]:
    """The trees of slots in the state of a rule."""
    return [getattr(state, name) for name in rule.Slots._fields]


class _Job(NamedTuple):
    """What is to be done for one array: the rules, each with its `shared`, and what they get."""

    rules: Sequence[tuple[Rule, Any]]
    g: Array
    slots: Sequence[Any]
    p: Array | None
    own: dict[int, Any]
    factor: Array | None
    salts: dict[int, tuple[np.uint32, Array]]


def _done(
    rules: Sequence[Rule], jobs: dict[int, _Job], explaining: Callable[..., Any]
) -> dict[int, tuple[Array, tuple[Any, ...]]]:
    """The update and the new slots of every array."""
    cut = next((k for k, rule in enumerate(rules) if rule.batched and pay()), None)
    if cut is None or not jobs:
        return {i: explaining(i, _leaf, job) for i, job in jobs.items()}
    firsts = {i: explaining(i, _first, cut, job) for i, job in jobs.items()}
    owners = [i for i, (mine, *_) in firsts.items() for _ in mine]

    def of_one(place: int, x: Array) -> Array:
        i = owners[place]
        return explaining(i, _together, jobs[i].rules[cut][0], x)

    results = iter(in_batches(of_one, [x for mine, *_ in firsts.values() for x in mine]))
    done = {}
    for i, (mine, *rest) in firsts.items():
        ready = [next(results) for _ in mine]
        done[i] = explaining(i, _second, cut, jobs[i], ready, *rest)
    return done


@jax.jit
def _leaf(job: _Job) -> tuple[Array, tuple[Any, ...]]:
    """The rules on one array: in wide arithmetic, out in the dtypes that came in."""
    dtype = _dtype_of(job)
    with _promotion(dtype):
        u, new = _through(job, range(len(job.rules)), _scaled(job, dtype), dtype)
    return cast(u, job.g.dtype), new


@functools.partial(jax.jit, static_argnums=0)
def _first(cut: int, job: _Job) -> tuple[list[Array], Any, tuple[Any, ...]]:
    """The rules before the one that is batched and its first half."""
    dtype = _dtype_of(job)
    with _promotion(dtype):
        u, new = _through(job, range(cut), _scaled(job, dtype), dtype)
        with jax.named_scope(type(job.rules[cut][0]).__name__):
            xs, kept = with_constants_outside(job.rules[cut][0]).before_leaf(
                u, *_arguments(job, cut, dtype)
            )
    return xs, kept, new


@jax.jit
def _together(rule: Rule, x: Array) -> Array:
    with jax.named_scope(type(rule).__name__), _promotion(x.dtype):
        return with_constants_outside(rule).together(x)


@functools.partial(jax.jit, static_argnums=0)
def _second(
    cut: int, job: _Job, results: list[Array], kept: Any, new: tuple[Any, ...]
) -> tuple[Array, tuple[Any, ...]]:
    """The second half of the rule that is batched, and the rules after it."""
    dtype = _dtype_of(job)
    with _promotion(dtype):
        with jax.named_scope(type(job.rules[cut][0]).__name__):
            u, own = with_constants_outside(job.rules[cut][0]).after_leaf(results, kept)
        own = _as_before(job, cut, u, own)
        u, rest = _through(job, range(cut + 1, len(job.rules)), u, dtype)
    return cast(u, job.g.dtype), (*new, own, *rest)


def _dtype_of(job: _Job) -> Any:
    return widest([x for x in jax.tree.leaves((job.g, job.slots, job.p)) if is_inexact(x)])


def _scaled(job: _Job, dtype: Any) -> Array:
    u = cast(job.g, dtype)
    return u if job.factor is None else u * cast(job.factor, real_dtype(dtype))


def _through(
    job: _Job, places: Sequence[int], u: Array, dtype: Any
) -> tuple[Array, tuple[Any, ...]]:
    """Some of the rules, one after the other."""
    kept = []
    for k in places:
        rule = job.rules[k][0]
        with jax.named_scope(type(rule).__name__):
            u, new = with_constants_outside(rule).update_leaf(u, *_arguments(job, k, dtype))
        kept.append(_as_before(job, k, u, new))
    return u, tuple(kept)


def _arguments(job: _Job, k: int, dtype: Any) -> tuple[Any, Array | None, Any]:
    """The slots of rule `k` and the parameters, both wide, and what it gets as `t`."""
    shared, old = job.rules[k][1], job.slots[k]
    p = None if job.p is None else cast(job.p, dtype)
    t = (shared, *job.own[k]) if k in job.own else shared
    return type(old)(*(_widened(x, dtype) for x in old)), p, t


def _promotion(dtype: Any) -> contextlib.AbstractContextManager[Any]:
    """Rules mix real numbers with complex arrays, which strict promotion would refuse."""
    mixed = jnp.issubdtype(dtype, jnp.complexfloating)
    return jax.numpy_dtype_promotion("standard") if mixed else contextlib.nullcontext()


def _as_before(job: _Job, k: int, u: Array, new: Any) -> Any:
    """The new slots in the dtypes of the old ones, or stored as they; shapes must be the same."""
    if u.shape != job.g.shape:
        raise ValueError(f"the update would come out with shape {u.shape}")
    old, kept = job.slots[k], []
    for name, x, y in zip(old._fields, old, new, strict=True):
        if x.shape != y.shape:
            raise ValueError(f"slot {name!r} has shape {x.shape} and would become {y.shape}")
        if isinstance(x, Stored):
            path, count = job.salts[k]
            salt = f"{type(job.rules[k][0]).__name__}.{name}"
            kept.append(x.encode(y, seed(path, count, salt) if x.random else None))
        else:
            kept.append(cast(y, x.dtype))
    return type(old)(*kept)


def _widened(slot: Any, dtype: Any) -> Array:
    if isinstance(slot, Stored):
        return slot.decode(real_dtype(dtype))
    if not is_inexact(slot):
        return slot
    is_complex = jnp.issubdtype(slot.dtype, jnp.complexfloating)
    return cast(slot, dtype if is_complex else real_dtype(dtype))


def next_count(count: Array) -> Array:
    """The count after this step; it stays at its largest value rather than wrap around."""
    return lax.min(count, np.int32(2**31 - 2)) + np.int32(1)


def _no_update(g: Any) -> Any:
    """What an array gets that no optimizer moves: itself if it cannot be added, else zeros."""
    dtype = getattr(g, "dtype", None)
    if dtype is None or dtype == jax.dtypes.float0 or jnp.issubdtype(dtype, jax.dtypes.extended):
        return g
    return jnp.zeros_like(g)


def step_key(rule: Any, path: str, count: Array) -> Array:
    """A random key of this array and this step, whatever the order or placing of the arrays."""
    seed = rule.key
    typed = jnp.issubdtype(jnp.result_type(seed), jax.dtypes.prng_key)
    key = jax.random.fold_in(seed if typed else jax.random.key(seed), path_salt(path))
    return jax.random.fold_in(key, count)
