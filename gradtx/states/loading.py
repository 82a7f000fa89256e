"""A state from named arrays, whoever saved them: `load_state`, `migrate`."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.engine.codes import RandomlyRounded, Stored
from gradtx.engine.slots import is_stored, together
from gradtx.foreign import AnyTransformation, as_transformation
from gradtx.states.abstract import abstract_state, like_shapes
from gradtx.states.kinds import placed, unlike
from gradtx.states.report import Report
from gradtx.states.saving import Row, Saved, decoded, state_dict
from gradtx.states.source import Source, described
from gradtx.states.survey import At, Owner, leafwise, read, written
from gradtx.struct import value_error
from gradtx.transform import State
from gradtx.tree import Tree, listed


def load_state(
    tx: AnyTransformation,
    flat: Mapping[str, Any],
    params: Tree,
    *,
    missing: str = "error",
    unused: str = "error",
    counts: str = "continue",
    rename: Mapping[str, str] | None = None,
    shardings: Tree | None = None,
) -> tuple[State, Report]:
    """The state of `tx` from what `state_dict` made of that of any optimizer, and a report.

    It lies as `tx.init(params)` would, or as a tree of `shardings`, `state_shardings(...).tree`,
    says; structure and dtypes are those of a fresh one, `params` may be shapes, and no memory is
    shared. `missing="fresh"` lets what is not there begin anew, `unused="report"` leaves the rest;
    `counts="restart"` begins all counts anew. `rename={"scale_by_adam/mu": "scale_by_muon/mu"}`
    takes what lacks an array of its own from another name. Counts follow the links that they were
    for. Raises `ValueError` with names, and where nothing would be loaded.
    """
    return loaded("load_state", tx, flat, params, missing, unused, counts, rename, shardings)


def loaded(
    called: str,
    tx: AnyTransformation,
    flat: Mapping[str, Any],
    params: Tree,
    missing: str = "error",
    unused: str = "error",
    counts: str = "continue",
    rename: Mapping[str, str] | None = None,
    shardings: Tree | None = None,
) -> tuple[State, Report]:
    """`load_state` for `called`."""
    for name, value, known in (
        ("missing", missing, ("error", "fresh")),
        ("unused", unused, ("error", "report")),
        ("counts", counts, ("continue", "restart")),
    ):
        if value not in known:
            seen = f"{name} is {value!r}"
            raise value_error(called, seen, f"Pass {known[0]!r} or {known[1]!r}")
    return _Loading(called, tx, flat, params, rename or {}, counts, shardings).state(
        missing, unused
    )


def migrate(
    old_tx: AnyTransformation,
    old_state: State,
    new_tx: AnyTransformation,
    params: Tree,
    *,
    counts: str = "continue",
    rename: Mapping[str, str] | None = None,
) -> tuple[State, Report]:
    """The state of another optimizer for the same parameters, with all that both know by a name.

    What only the new one has begins anew, what only the old one had is left; the report tells of
    both. `counts` and `rename` are those of `load_state`.
    """
    flat = state_dict(old_tx, old_state, params)
    return loaded("migrate", new_tx, flat, params, "fresh", "report", counts, rename)


class _Loading:
    """One call of `load_state`: what is wanted, where it comes from, and what became of it."""

    def __init__(
        self,
        called: str,
        tx: AnyTransformation,
        flat: Mapping[str, Any],
        params: Tree,
        rename: Mapping[str, str],
        counts: str,
        shardings: Tree | None,
    ) -> None:
        self.called, self.params, self.restart = called, params, counts == "restart"
        self.source = Source(called, flat, rename)
        self.placing = shardings is not None
        self.like = (
            abstract_state(tx, params) if shardings is None else _to_lie(tx, params, shardings)
        )
        self.tx, self.wanted = Saved.of(called, tx, self.like, params)
        names = [number.name for number in self.wanted.numbers]
        names += [name for row in self.wanted.rows for name in row.unique.values()]
        self.where = self.source.found(names)
        self.loaded: list[str] = []
        self.fresh: list[str] = []
        self.reshaped: dict[str, str] = {}
        self.renamed = {new: old for new, old in self.where.items() if new != old}
        self.converted: dict[str, str] = {}

    def state(self, missing: str, unused: str) -> tuple[State, Report]:
        changes: dict[At, Any] = self._clocks() | self._numbers() | self._arrays()
        spare = self.source.unused()
        self._refuse(missing == "error", spare if unused == "error" else [])
        state = written(self.like, changes)
        if any(map(_is_shape, jax.tree.leaves(state))):  # of which nothing was loaded
            state = jax.tree.map(lambda x, y: y if _is_shape(x) else x, state, self.new)
        report = Report(
            loaded=tuple(self.loaded),
            fresh=tuple(self.fresh),
            unused=tuple(spare),
            reshaped=self.reshaped,
            renamed=self.renamed,
            converted=self.converted,
            hyperparameters=self._differing(state),
            notes=tuple(self._notes(state)),
        )
        return state, report

    # Made where something of it is needed.

    @functools.cached_property
    def new(self) -> State:
        """A fresh state."""
        new = self.tx.init(self.params)
        return jax.tree.map(placed, new, self.like) if self.placing else new

    @functools.cached_property
    def fresh_numbers(self) -> dict[str, Any]:
        """The numbers of a fresh state by name."""
        fresh = Saved.of(self.called, self.tx, self.new, self.params)[1]
        return {number.name: number.value for number in fresh.numbers}

    @functools.cached_property
    def fresh_arrays(self) -> dict[str, Any]:
        """What would be saved of a fresh state by name."""
        fresh = Saved.of(self.called, self.tx, self.new, self.params)[1]
        return {row.unique[key]: x for row in fresh.rows for key, x in row.saved().items()}

    # What is wanted ------------------------------------------------------------------------------

    def _clocks(self) -> dict[At, Any]:
        if self.restart:
            self.source.taken.update(self.source.clocks, self.wanted.clocks)
            return {}
        changes = {}
        links = self.source.clocks
        remembering = {row.owner.link for row in self.wanted.rows}
        for name, field in self.wanted.clocks.items():
            found = _clock(name, self.wanted.ticked[name], links, self.source, remembering)
            if found is None:
                self.fresh.append(name)
                continue
            x = self._fitting(name, found, field.value)
            if x is not None:
                changes[field.at] = x
            if found != name:
                self.renamed[name] = found
        # What counts the same as a count that was taken is not left over.
        there = {n: self.source.arrays[n] for n in links}
        there = {n: np.asarray(x).tolist() for n, x in there.items() if not isinstance(x, Tracer)}
        counted = [there[n] for n in there if n in self.source.taken]
        self.source.taken.update(n for n, x in there.items() if x in counted)
        return changes

    def _numbers(self) -> dict[At, Any]:
        found: dict[str, Any] = {}
        for number in self.wanted.numbers:
            found[number.name] = self._one(number.name, number.value)
        changes: dict[At, Any] = {}
        for field in self.wanted.fields:
            own = [n.name for n in self.wanted.numbers if n.field.at == field.at]
            if field.kind == "number" and any(found[name] is not None for name in own):
                leaves, treedef = jax.tree.flatten(field.value)
                pairs = zip(own, leaves, strict=True)
                new = (found[name] if found[name] is not None else x for name, x in pairs)
                changes[field.at] = treedef.unflatten(new)
        return changes

    def _arrays(self) -> dict[At, Any]:
        new = {id(row.leaf): self._row(row) for row in self.wanted.rows}
        changes: dict[At, Any] = {}
        owners: dict[At, Owner] = {row.owner.at: row.owner for row in self.wanted.rows}
        for at in owners:
            own = [row for row in self.wanted.rows if row.owner.at == at]
            fields = [f for f in self.wanted.fields if f.owner.at == at and f.kind == "slot"]
            treedef, leaves = leafwise({field.name: field.value for field in fields})
            rows = {row.path: new[id(row.leaf)] for row in own}
            for field in fields:
                column = [
                    rows[path][field.name] if path in rows else leaf[field.name]
                    for path, leaf in leaves
                ]
                kind = type(field.value) if is_stored(field.value) else jax.Array
                changes[field.at] = together(kind, treedef, column)
        return changes

    def _row(self, row: Row) -> Mapping[str, Any]:
        """The slots of one array; shapes where nothing was loaded."""
        if not row.reshapes:
            return {
                slot: x if x is None else self._slot(row.unique[slot], x)
                for slot, x in row.leaf.items()
            }
        wanted = like_shapes(row.shapes())
        found = {key: self._one(row.unique[key], x) for key, x in wanted.items()}
        if all(x is None for x in found.values()):
            return row.leaf
        if any(x is None for x in found.values()):
            fresh = self.fresh_arrays
            found = {k: fresh[row.unique[k]] if x is None else x for k, x in found.items()}
        leaf = row.part.loaded_leaf(found, row.p)
        kept = {slot: _kept(leaf[slot], x) for slot, x in row.leaf.items()}
        for slot, x in kept.items():
            if isinstance(x, Stored) and not _equal(decoded(x), leaf[slot]):
                self.converted[row.named(slot)] = f"float32 -> {described(x)}"
        return kept

    def _slot(self, name: str, like: Any) -> Any:
        found = self._one(name, like)
        return like if found is None else found

    # Where it comes from -------------------------------------------------------------------------

    def _one(self, name: str, like: Any) -> Any:
        """What is in the file for an array, as it is to be, or None."""
        if name not in self.where:
            self.fresh.append(name)
            return None
        return self._fitting(name, self.where[name], like)

    def _fitting(self, name: str, there: str, like: Any) -> Any:
        found = self.source.take(there)
        if isinstance(found, str):
            self.fresh.append(found)
            return None
        is_key = not isinstance(like, Stored) and jnp.issubdtype(like.dtype, jax.dtypes.prng_key)
        target = jax.eval_shape(jax.random.key_data, like) if is_key else like
        misfit = unlike(found, target)
        if misfit:
            self.reshaped[name] = misfit
            return None
        was, now = described(found), described(target)
        if was != now:
            self.converted[name] = f"{was} -> {now}"
        self.loaded.append(name)
        if is_key:
            impl = jax.random.key_impl(self.fresh_numbers[name])
            return jax.random.wrap_key_data(placed(found, target), impl=impl)
        return _kept(found, like)

    # What is said of it --------------------------------------------------------------------------

    def _refuse(self, strict: bool, spare: list[str]) -> None:
        clocks = set(self.wanted.clocks)
        slots = {*self.loaded, *self.fresh, *self.reshaped} - clocks
        seen, do = [], []
        if strict and self.fresh:
            seen.append(f"what is loaded has no {listed(self.fresh)}")
        if strict and self.reshaped:
            seen += [f"{name!r} {what}" for name, what in list(self.reshaped.items())[:5]]
        if seen:
            do.append('missing="fresh" to begin these anew')
        if spare:
            seen.append(f"the optimizer has no {listed(spare)}")
            do.append('unused="report" to leave those out')
        if seen:
            raise value_error(self.called, "; ".join(seen), f"Pass {', '.join(do)}")
        rest = [name for name in self.source.arrays if name not in self.source.clocks]
        nothing = slots and not slots & set(self.loaded)
        if nothing and (rest or not self.source.arrays):
            raise value_error(
                self.called,
                f"nothing would be loaded: there is {listed(self.source.arrays) or 'no array'}, "
                f"the optimizer has {listed(sorted(slots))}",
                "Name what is to be taken, rename={'link/slot there': 'link/slot here'}, or begin "
                "anew with tx.init(params)",
            )

    def _notes(self, state: State) -> Iterator[str]:
        if not self.source.schema:
            yield "no schema: names alone tell what is what"
        began = set(self.fresh) | set(self.reshaped)
        for owner in dict.fromkeys(row.owner.at for row in self.wanted.rows):
            rows = [row for row in self.wanted.rows if row.owner.at == owner]
            names = {name for row in rows for name in row.unique.values()}
            count = read(state, rows[0].owner.clock) if rows[0].owner.clock else 0
            if names <= began and not isinstance(count, Tracer) and count > 0:
                yield (
                    f"{rows[0].owner.link} begins anew, at a count of {count} that its bias "
                    'corrections and schedules read: see counts="restart"'
                )

    def _differing(self, state: State) -> dict[str, tuple[Any, Any]]:
        before = self.source.schema.get("hyperparameters", {})
        if any(isinstance(x, Tracer) for x in jax.tree.leaves((state, self.tx))) or not before:
            return {}
        now = self.tx.hyperparameters(state)
        both = {name: (before[name], now[name]) for name in before if name in now}
        return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def _clock(
    name: str,
    links: list[str],
    there: Mapping[str, list[str]],
    source: Source,
    remembering: set[str],
) -> str | None:
    """The count in the file by which these links ran; else that of this name, else any.

    Links that remember something decide.
    """

    def weight(other: str) -> tuple[int, int, bool]:
        both = set(links) & set(there[other])
        return len(both & remembering), len(both), other == name

    best = max(there, key=weight, default=None)
    if best is not None and weight(best)[1]:
        return best
    if name in source.arrays:
        return name
    return next((n for n in ("count", *there) if n in source.arrays), None)


def _is_shape(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct)


def _equal(x: Any, y: Any) -> bool:
    """Whether two arrays have the same numbers; of traced ones nobody knows."""
    traced = isinstance(x, Tracer) or isinstance(y, Tracer)
    return not traced and np.array_equal(np.asarray(x), np.asarray(y))


def _to_lie(tx: AnyTransformation, params: Tree, shardings: Tree) -> State:
    """The shapes of a state that lies as a tree of shardings says. Raises where that is another."""
    shapes = jax.eval_shape(as_transformation(tx, "load_state").init, like_shapes(params))
    if jax.tree.structure(shapes) != jax.tree.structure(shardings):
        seen = "the tree of shardings has another structure than the state"
        do = "Pass state_shardings(tx, params).tree of this optimizer"
        raise value_error("load_state", seen, do)
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, shardings
    )


# Where it goes -----------------------------------------------------------------------------------


def _kept(x: Any, like: Any) -> Any:
    """An array or a compressed one in the format of `like`, in memory of its own."""
    if not isinstance(like, Stored):
        return placed(decoded(x), like)
    if isinstance(x, Stored) and described(x) == described(like):
        parts = [*x]  # pyright: ignore[reportGeneralTypeIssues]
        return type(like)(*map(placed, parts, like))  # pyright: ignore
    if isinstance(like, RandomlyRounded) and not isinstance(x, Stored):
        return RandomlyRounded(placed(x, like.values))
    plain = jnp.asarray(decoded(x), np.float32)
    return jax.tree.map(placed, like_shapes(like).encode(plain, None), like)
