"""The state of an optimizer of Optax as that of ours: `from_optax_state`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from gradtx.foreign import AnyTransformation
from gradtx.interop.conversion import Conversion, Entry, Here
from gradtx.interop.nested import Branch, as_array, branch, is_array, leaves, unwrapped
from gradtx.interop.optax_table import BELOW, COUNTS, OPTIONAL, SCALARS, TABLE
from gradtx.interop.target import Target, kind, momentum_mover
from gradtx.states.report import Report
from gradtx.states.saving import Row
from gradtx.states.survey import Owner
from gradtx.struct import type_error, value_error
from gradtx.transform import State
from gradtx.tree import Tree, listed

CALLED = "from_optax_state"
COUNTLESS = (
    "scale_by_momentum",
    "scale_by_rms",
    "scale_by_stddev",
    "scale_by_adagrad",
    "scale_by_adadelta",
    "scale_by_optimistic_gradient",
)
"""Links that read no count, where Optax keeps none for them."""

_FIELDS = {frozenset(conversion.fields) for conversion in TABLE}


class Node(NamedTuple):
    """A state of one link of Optax."""

    at: tuple[str, ...]
    fields: frozenset[str]
    numbers: Mapping[str, Any]  # those that arrays have in common
    slots: Mapping[str, Mapping[str, Any]]  # by field, and by the path of our parameter
    spare: Mapping[str, Any]  # of parameters that are not ours
    behind: bool | None  # for momentum, whether it lies behind the learning rate, if that is known
    paths: frozenset[str]  # of the parameters of ours that it has something of

    @property
    def name(self) -> str:
        return "/".join(self.at) or "the state"

    def entry(self, path: str) -> Entry:
        own = {field: slot[path] for field, slot in self.slots.items() if path in slot}
        return {**self.numbers, **own}

    @property
    def steps(self) -> int | None:
        if "step_count" in self.numbers:  # of `schedule_free`, which begins at one
            return int(self.numbers["step_count"]) - 1
        return next((int(self.numbers[name]) for name in COUNTS if name in self.numbers), None)


def from_optax_state(
    tx: AnyTransformation,
    state: Any,
    params: Tree,
    *,
    count: int | None = None,
    missing: str = "error",
    unused: str = "error",
) -> tuple[State, Report]:
    """The state of `tx` from one of Optax, live or as it was saved, and a report.

    Taken are named tuples, what Flax makes of them (msgpack, `to_state_dict`), raw restores of
    Orbax, `nnx.state(optimizer)` and flat dicts of "0/mu/dense/kernel"; of a train state its
    `opt_state`. Links are found by the fields they have, for each array. `count` is for states that
    have none, `missing` and `unused` are those of `load_state`. Arrays are copied. Raises
    `ValueError` where two states could be meant, none is found, or one means something else.
    """
    target = Target(CALLED, tx, params, count)
    reading = _Reading(target, _opt_state(state))
    reading.convert()
    return target.state(reading.spare(), COUNTLESS, missing, unused)


def _opt_state(state: Any) -> Branch:
    found = branch(state)
    if not isinstance(found, dict) or not any(map(is_array, (x for _, x in leaves(found)))):
        raise type_error(
            CALLED,
            f"{type(state).__name__} holds no arrays of a state",
            "Pass the state of an optimizer of Optax, such as train_state.opt_state",
        )
    if "param_groups" in found:
        raise type_error(
            CALLED, "this is a state of PyTorch: it has 'param_groups'", "See from_torch_state"
        )
    inside = [*_below("opt_state", found, ())]
    if len(inside) > 1:
        names = listed("/".join(at) for at, _ in inside)
        raise value_error(CALLED, f"there are {len(inside)} states: {names}", "Pass one of them")
    return inside[0][1] if inside else found


def _below(name: str, tree: Any, at: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Branch]]:
    if isinstance(tree, dict):
        for key, below in tree.items():
            if key == name and isinstance(below, dict):
                yield (*at, key), below
            else:
                yield from _below(name, below, (*at, key))


class _Reading:
    """The states of links that were found, and what becomes of each."""

    def __init__(self, target: Target, tree: Branch) -> None:
        self.target, self.tree = target, tree
        self.shows_empty = any(True for _ in _empty(tree))
        self.schedules: dict[str, int] = {}  # counts alone, of schedules
        self.left: dict[str, Any] = {}  # what is in no state that is known
        self.nodes = [*self._nodes(tree, (), {})]
        self.taken: set[tuple[str, str]] = set()

    # Finding -------------------------------------------------------------------------------------

    def _nodes(self, tree: Any, at: tuple[str, ...], around: Branch) -> Iterator[Node]:
        tree = unwrapped(tree)
        if not isinstance(tree, dict):
            self.left["/".join(at)] = tree
            return
        fields = frozenset(tree.keys() - OPTIONAL)
        if fields in _FIELDS:
            yield self._node(tree, at, fields, around)
        elif fields == {"count"} and not isinstance(unwrapped(tree["count"]), dict):
            self.schedules["/".join((*at, "count"))] = int(as_array(unwrapped(tree["count"])))
            return
        elif "hyperparams" in fields and "inner_state" in fields:
            self._hyperparameters(tree["hyperparams"])
            self._schedule(tree, at)
            yield from self._nodes(tree["inner_state"], (*at, "inner_state"), tree)
            return
        for key, below in tree.items():
            if fields not in _FIELDS or key in BELOW:
                yield from self._nodes(below, (*at, key), tree)

    def _schedule(self, tree: Branch, at: tuple[str, ...]) -> None:
        if "count" in tree:
            self.schedules["/".join((*at, "count"))] = int(as_array(unwrapped(tree["count"])))

    def _hyperparameters(self, tree: Branch) -> None:
        for path, x in leaves(tree):
            name = "/".join(path).removesuffix("/value")
            name = "scale_by_momentum.decay" if name == "momentum" else name
            if is_array(x):
                self.target.hyperparameter(name, np.asarray(as_array(x)).tolist())

    def _node(
        self, tree: Branch, at: tuple[str, ...], fields: frozenset[str], around: Branch
    ) -> Node:
        numbers, slots, spare = {}, {}, {}
        for field in fields - BELOW:
            value = unwrapped(tree[field]) if field in SCALARS else tree[field]
            if field in SCALARS:
                numbers[field] = as_array(value) if not isinstance(value, dict) else value
                continue
            slots[field] = {}
            for path, x in leaves(value):
                ours = self.target.path_of("/".join(path))
                if ours is None:
                    spare["/".join((*at, field, *path))] = x
                else:
                    slots[field][ours] = as_array(x)
        behind = self._behind(at, around) if fields == {"trace"} else None
        paths = frozenset(path for slot in slots.values() for path in slot)
        return Node(at, fields, numbers, slots, spare, behind, paths)

    def _behind(self, at: tuple[str, ...], around: Branch) -> bool | None:
        """Whether a momentum lies behind the learning rate, as far as its chain tells.

        Behind is what ends a chain, as in `rmsprop` and `lars`; where states without memory are not
        to be seen, what has one place at least between itself and a mean square.
        """
        if not at or not at[-1].isdecimal():
            return None
        place, others = int(at[-1]), [int(key) for key in around if key.isdecimal()]
        if place == 0 or max(others) > place:
            return False
        if self.shows_empty:
            return True
        squares = [i for i in others if i < place and "nu" in _keys(around[str(i)])]
        return place - squares[-1] >= 2 if squares else None

    # Converting ----------------------------------------------------------------------------------

    def convert(self) -> None:
        by_path: dict[str, list[Row]] = {}
        for row in self.target.rows:
            by_path.setdefault(row.path, []).append(row)
        for path, rows in by_path.items():
            nodes = [node for node in self.nodes if path in node.paths]
            for row, node, conversion in self._pairs(path, rows, nodes):
                self._convert(row, node, conversion)
        self._convert_numbers()
        for name, n in self.schedules.items():
            self._count_of_schedule(name, n)
        if not self.target.flat:
            known = {kind(row.owner) for row in self.target.rows}
            seen = [f"{node.name} ({', '.join(sorted(node.fields))})" for node in self.nodes]
            if known:
                raise value_error(
                    CALLED,
                    f"nothing is found for {listed(known)}; there is "
                    f"{listed(seen) if seen else listed(self.left) or 'no state that is known'}",
                    "Pass the state of the same optimizer, for the same parameters",
                )

    def _pairs(
        self, path: str, rows: list[Row], nodes: list[Node]
    ) -> Iterator[tuple[Row, Node, Conversion]]:
        """Who of ours gets which of theirs: where two could be meant, in their order."""
        fits = {
            (i, k): conversion
            for i, row in enumerate(rows)
            for k, node in enumerate(nodes)
            if (conversion := _conversion(row, node)) is not None
        }
        open_ = {i for i, _ in fits}, {k for _, k in fits}
        for i, k in [*fits]:  # those that have nobody else
            alone = sum(a == i for a, _ in fits) == sum(b == k for _, b in fits) == 1
            if alone:
                yield rows[i], nodes[k], fits[i, k]
                open_[0].discard(i)
                open_[1].discard(k)
        pairs = [*zip(sorted(open_[0]), sorted(open_[1]), strict=False)]
        if len(open_[0]) != len(open_[1]) or any(pair not in fits for pair in pairs):
            where = f" for {path!r}" if path else ""
            ours = listed({kind(rows[i].owner) for i in open_[0]})
            raise value_error(
                CALLED,
                f"{ours}{where} could be {' or '.join(nodes[k].name for k in sorted(open_[1]))}",
                "Pass the one that is meant, or an optimizer with as many links in this order",
            )
        for i, k in pairs:
            yield rows[i], nodes[k], fits[i, k]

    def _convert(self, row: Row, node: Node, conversion: Conversion) -> None:
        link, target = kind(row.owner), self.target
        if conversion.refused:
            raise value_error(
                CALLED,
                f"the state of {link} at {node.name} is of no use here: {conversion.refused}",
                "Begin anew with tx.init(params), or leave it out",
            )
        target.agree(conversion, row)
        entry, moved = node.entry(row.path), momentum_mover(target, row, node.behind)
        here = Here(row, node.steps, moved, lambda: target.rate(row, link), lambda axis: axis)
        for key in row.unique:
            take = conversion.slots[key]
            x = entry.get(take) if isinstance(take, str) else take(entry, here)
            if x is not None:
                field = take if isinstance(take, str) else key
                there = "/".join(filter(None, (*node.at, field, row.path)))
                target.put(row, key, x, there)
        self._numbers(row.owner, conversion, entry)
        self.taken.add(("/".join(node.at), row.path))
        self._count(row, node)

    def _numbers(self, owner: Owner, conversion: Conversion, entry: Entry) -> None:
        for number in self.target.numbers_of(owner):
            last = number.name.rpartition("/")[2]
            if last in conversion.numbers:
                x = np.asarray(conversion.numbers[last](entry))
                self.target.flat[number.name] = x.astype(number.value.dtype)

    def _convert_numbers(self) -> None:
        """Wrappers that remember numbers alone."""
        for conversion in TABLE:
            owners = [one for one in self.target.owners if kind(one) == conversion.to]
            nodes = [node for node in self.nodes if node.fields == {*conversion.fields}]
            if conversion.slots or conversion.refused or not owners or not nodes:
                continue
            if len(owners) != len(nodes):
                names = " or ".join(node.name for node in nodes)
                raise value_error(
                    CALLED,
                    f"{conversion.to} could be {names}",
                    "Pass the one that is meant, or an optimizer with as many in this order",
                )
            for owner, node in zip(owners, nodes, strict=True):
                self._numbers(owner, conversion, node.numbers)
                self.target.note(f"{conversion.to}: {conversion.note}")
                inner = self.target.counts.get((*owner.at, "gradient_step"), {}).values()
                steps = max(inner, default=self.target.given_count or 0)
                left_out = int(node.numbers["total_notfinite"])
                self.target.put_count(owner.clock, node.name, steps + left_out)

    def _count(self, row: Row, node: Node) -> None:
        if "mini_step" in node.numbers:
            self._counts_of_cycles(row, node)
        elif node.steps is not None:
            self.target.put_count(row.owner.clock, node.name, node.steps)
        if "b1" in node.numbers:
            self.target.hyperparameter("b1", float(node.numbers["b1"]))

    def _counts_of_cycles(self, row: Row, node: Node) -> None:
        target, (mini, steps) = (
            self.target,
            (int(node.numbers[n]) for n in ("mini_step", COUNTS[1])),
        )
        target.put_count((*row.owner.at, "gradient_step"), node.name, steps)
        every: Any = row.part
        length = getattr(every.every, "value", None)
        if isinstance(length, int):
            target.put_count(row.owner.clock, node.name, steps * length + mini)
        else:
            target.put_count(row.owner.clock, node.name, steps)
            target.note("accumulate: lengths of cycles move, so its calls are counted as its steps")
        if mini:
            target.note("accumulate: the losses of the micro-batches so far are not known")

    def _count_of_schedule(self, name: str, n: int) -> None:
        """Schedules count steps for whom nothing else does."""
        clocks = {owner.clock for owner in self.target.owners if owner.clock}
        for clock in clocks - self.target.counts.keys():
            self.target.put_count(clock, name, n)

    # What is left --------------------------------------------------------------------------------

    def spare(self) -> dict[str, Any]:
        """What nobody of ours took, by the names it has there."""
        found = {name: x for name, x in self.left.items() if is_array(x)}
        for node in self.nodes:
            found |= node.spare
            for field, slot in node.slots.items():
                for path, x in slot.items():
                    if ("/".join(node.at), path) not in self.taken:
                        found["/".join(filter(None, (*node.at, field, path)))] = x
        return {name: np.asarray(as_array(x)) for name, x in found.items()}


def _conversion(row: Row, node: Node) -> Conversion | None:
    link = kind(row.owner)
    fitting = (c for c in TABLE if c.to == link and node.fields == set(c.fields))
    return next(fitting, None)


def _keys(tree: Any) -> set[str]:
    return set(tree) if isinstance(tree, dict) else set()


def _empty(tree: Any) -> Iterator[None]:
    if isinstance(tree, dict):
        if not tree:
            yield None
        for below in tree.values():
            yield from _empty(below)
