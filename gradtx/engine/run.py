"""The engine: the function of one array, lifted to any tree.

Everything that is the same for all algorithms happens here, once: trees, arrays that are not there,
schedules and hyperparameters that differ between arrays, the step count, dtypes, complex numbers,
shardings of new state, randomness, error messages. The function of one array is compiled as one
unit (`one_array`), so that a thousand arrays of five shapes are traced five times.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from gradtx.engine.batches import batching_pays, in_batches
from gradtx.engine.beside import aligned, alike
from gradtx.engine.hyperparameters import narrowed, per_array, with_constants_inside
from gradtx.engine.keys import array_key, salt
from gradtx.engine.leaf import Job, after_batch, batched, before_batch, one_array
from gradtx.engine.owners import shared_out
from gradtx.engine.placement import explicit_mesh
from gradtx.engine.refusals import explained, refuse_missing, refuse_mixed, refuse_other_state
from gradtx.engine.slots import is_stored, separate, together
from gradtx.engine.step import At, Step, next_count
from gradtx.tree import Extra, Tree, is_inexact, is_none, real_dtype, widest

Rule = Any
"""A `gradtx.rule.Rule`, which is built on this module."""

UNDECIDED = object()


class Running(NamedTuple):
    """A rule that runs, with its state and what was decided for all arrays before."""

    rule: Rule
    state: Any  # its slots, as `rule.Part` or `rule.State`
    at: At
    shared: Any = UNDECIDED  # what `update_leaf` gets in the place of `rule.shared`
    each: Mapping[int, Any] | None = None  # the same for single arrays, by their number


def run(
    running: Sequence[Running], updates: Tree, params: Tree | None, extra: Mapping[str, Any] = {}
) -> tuple[Tree, list[Any]]:
    """Applies rules one after the other; all that is one function per array.

    Returns the updates and the states with new slots.
    """
    rules = [one.rule for one in running]
    called = rules[0] if len(rules) == 1 else " then ".join(type(rule).__name__ for rule in rules)
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    leaves = [jnp.asarray(g) if isinstance(g, float | complex) else g for g in leaves]
    given = params is not None
    for rule, state, *_ in running:
        refuse_other_state(rule, state, rule.Part)
        refuse_missing(rule, updates, {**extra, "params": params})
    ps = aligned(called, treedef, params, "parameters") if given else [None] * len(leaves)
    needed = any("params" in (*rule.needs, *rule.wants) for rule in rules)
    trees = [slots_of(rule, state) for rule, state, *_ in running]
    columns = [
        [separate(rule, treedef, slot) for slot in slots]
        for rule, slots in zip(rules, trees, strict=True)
    ]
    # Arrays are told apart by the parameters where they are given, as in a partition.
    seen = zip(leaves, ps if given else leaves, strict=True)
    model = treedef.unflatten(None if g is None else p for g, p in seen)
    ready = _Ready(running, model, extra)
    rows = {
        i: tuple(
            rule.Slots(*(column[i] for column in c)) for rule, c in zip(rules, columns, strict=True)
        )
        for i, g in enumerate(leaves)
        if g is not None and is_inexact(g)
    }

    def job(i: int) -> Job:
        g, p, slots = leaves[i], ps[i], rows[i]
        refuse_mixed(g, p, slots)
        p = p if needed else None
        dtype = widest([x for row in ((g, p), *slots) for x in row if is_inexact(x)])
        return Job(*ready.for_array(i, dtype), g, slots, p, ready.salts(i, slots))

    def explaining(i: int, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except (TypeError, ValueError) as error:
            seen = leaves[i], ps[i], rows[i]
            raise explained(called, updates, i, *seen, error, rules) from error

    outs = [None if i in rows else no_update(g) for i, g in enumerate(leaves)]
    jobs = {i: explaining(i, job, i) for i in rows}
    owners = next((one.at.owners for one in running if one.rule.batched), None)
    for i, (u, new) in _done(rules, jobs, explaining, owners).items():
        outs[i] = u
        for column, row in zip(columns, new, strict=True):
            for slot, value in zip(column, row, strict=True):
                slot[i] = value
    new_states = [
        state._replace(
            **{
                name: together(type(slot), treedef, column)
                for name, slot, column in zip(rule.Slots._fields, *slots, strict=True)
            }
        )
        for (rule, state, *_), *slots in zip(running, trees, columns, strict=True)
    ]
    return treedef.unflatten(outs), new_states


class _Ready:
    """The rules at one step: hyperparameters as numbers, what arrays share and what they do not."""

    def __init__(self, running: Sequence[Running], model: Tree, extra: Extra) -> None:
        self.running = running
        self.model = model
        self.own = [per_array(rule, at.count, model) for rule, _, at, *_ in running]
        self.extra = [
            {
                name: _for_each(rule, name, extra[name], model)
                for name in {*rule.needs, *rule.wants} - {"params"}
                if extra.get(name) is not None
            }
            for rule, *_ in running
        ]
        self.ready: dict[Any, tuple[Rule, Any, Array]] = {}

    def for_array(self, i: int, dtype: DTypeLike) -> tuple[list[Rule], list[Step]]:
        """The rules for array `i` in the precision of `dtype`, and what each gets to know."""
        rules, steps = [], []
        for k, (one, own) in enumerate(zip(self.running, self.own, strict=True)):
            key = (k, id(own[i]), dtype)
            if key not in self.ready:
                self.ready[key] = self._made_ready(one, own[i], dtype)
            rule, shared, t = self.ready[key]
            if one.each is not None:
                shared = narrowed(one.each[i], dtype)
            extra = {name: in_precision(found(i), dtype) for name, found in self.extra[k].items()}
            name = type(rule).__name__
            source = None
            if rule.seed_field:
                seed = getattr(own[i], rule.seed_field)
                source = array_key(seed, name, one.at, () if rule.alike else self.paths[i])
            place = self.numbers[i] if rule.numbered else None
            rules.append(rule)
            steps.append(Step(t, one.at.count, shared, source, place, extra))
        return rules, steps

    def _made_ready(self, one: Running, own: Rule, dtype: DTypeLike) -> tuple[Rule, Any, Array]:
        numbers = narrowed(own, dtype)
        t = lax.convert_element_type(next_count(one.at.count), real_dtype(dtype))
        if one.shared is not UNDECIDED or one.each is not None:
            shared = None if one.shared is UNDECIDED else narrowed(one.shared, dtype)
        else:
            with jax.named_scope(type(numbers).__name__):
                shared = numbers.shared(t)
        return with_constants_inside(numbers), shared, t

    @functools.cached_property
    def paths(self) -> list[tuple[Any, ...]]:
        flat = jax.tree_util.tree_flatten_with_path(self.model, is_leaf=is_none)[0]
        return [path for path, _ in flat]

    @functools.cached_property
    def numbers(self) -> list[np.int32]:
        """For every leaf how many arrays come before it, of those that are moved."""
        moved = map(is_inexact, jax.tree.leaves(self.model, is_leaf=is_none))
        return [np.int32(n) for n in itertools.accumulate(moved, initial=0)]

    def salts(self, i: int, slots: Sequence[Any]) -> dict[int, tuple[np.uint32, Array]]:
        """What tells this array and step from others, by the place of a rule with stored slots."""
        stored = [k for k, row in enumerate(slots) if any(map(is_stored, row))]
        return {
            k: (salt((*at.place, type(rule).__name__), self.paths[i]), at.count)
            for k in stored
            for rule, _, at, *_ in [self.running[k]]
        }


def _for_each(rule: Rule, name: str, value: Any, model: Tree) -> Callable[[int], Any]:
    """What each array gets of an argument of `update`: its own of a tree like the parameters."""
    if name in rule.trees:
        return alike(rule, name, value, model).__getitem__
    return lambda _: value


def in_precision(value: Any, dtype: DTypeLike) -> Any:
    """An argument of `update` with its real and complex numbers in the precision of `dtype`."""

    def cast(x: Any) -> Any:
        if not is_inexact(x):
            return x
        is_complex = jnp.issubdtype(jnp.result_type(x), jnp.complexfloating)
        return jnp.asarray(x).astype(
            np.promote_types(dtype, np.complex64) if is_complex else real_dtype(dtype)
        )

    return jax.tree.map(cast, value)


def slots_of(rule: Rule, state: Any) -> list[Tree]:
    """The trees of slots in the state of a rule."""
    return [getattr(state, name) for name in rule.Slots._fields]


def _done(
    rules: Sequence[Rule], jobs: dict[int, Job], explaining: Callable[..., Any], owners: Any
) -> dict[int, tuple[Array, tuple[Any, ...]]]:
    """The update and the new slots of every array."""
    split = next((k for k, rule in enumerate(rules) if rule.batched), None)
    if split is None or not jobs or not (owners or _batching_pays(rules[split], jobs)):
        return {i: explaining(i, one_array, job) for i, job in jobs.items()}
    firsts = {i: explaining(i, before_batch, split, job) for i, job in jobs.items()}
    arrays = [i for i, (mine, *_) in firsts.items() for _ in mine]
    xs = [x for mine, *_ in firsts.values() for x in mine]

    def of_one(place: int, x: Any) -> Any:
        i = arrays[place]
        return explaining(i, batched, jobs[i].rules[split], x)

    in_turn = rules[split].in_turn
    results = iter(
        shared_out(of_one, xs, arrays, owners, in_turn) if owners else in_batches(of_one, xs)
    )
    done = {}
    for i, (mine, *rest) in firsts.items():
        ready = [next(results) for _ in mine]
        done[i] = explaining(i, after_batch, split, jobs[i], ready, *rest)
    return done


def _batching_pays(rule: Rule, jobs: dict[int, Job]) -> bool:
    explicit = explicit_mesh([job.g for job in jobs.values()]) is not None
    return batching_pays() and not rule.in_turn and not explicit


def no_update(g: Any) -> Any:
    """What an array gets that no optimizer moves: itself if it cannot be added, else zeros."""
    dtype = getattr(g, "dtype", None)
    if dtype is None or dtype == jax.dtypes.float0 or jnp.issubdtype(dtype, jax.dtypes.extended):
        return g
    return jnp.zeros_like(g)
