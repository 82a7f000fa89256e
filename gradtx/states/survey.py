"""What a state is made of: its fields, whose they are, and what they are called when saved.

A name is `link/slot/parameter`, such as `scale_by_adam/mu/dense/kernel`. What stands around a link
(a wrapper, a group of a partition) and its position do not enter it. Where two arrays would have
the same name, the group does: `scale_by_adam[head]/mu/kernel`; and numbers, of which a group has
its own, always have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from gradtx.clocked import Clocked
from gradtx.engine.refusals import kind_of_state
from gradtx.engine.slots import Declared, is_state, is_stored, separate
from gradtx.foreign import AnyTransformation, as_transformation
from gradtx.rule import Rule
from gradtx.struct import type_error
from gradtx.transform import GradientTransformation, Inside, State
from gradtx.tree import Tree, is_none, named_leaves
from gradtx.wrappers.base import Wrapper
from gradtx.wrappers.transparent import Transparent

At = tuple[str, ...]
"""Where something lies in a state: keys and fields, from outside."""


class Owner(NamedTuple):
    """A transformation whose state has fields of its own."""

    part: GradientTransformation
    at: At
    link: str
    groups: tuple[str, ...]
    clock: At  # where the count lies by which it runs
    params: Tree


class Field(NamedTuple):
    """A field of a state."""

    owner: Owner
    at: At
    name: str  # empty for the whole of a state that declares no fields
    kind: str  # "slot", "clock", "number" for any other tree, "nothing" where there are none
    value: Any


class Names(NamedTuple):
    """What the fields of an owner are called by."""

    slots: str
    numbers: str


# The fields --------------------------------------------------------------------------------------


def fields(
    called: str, tx: AnyTransformation, state: State, params: Tree
) -> tuple[GradientTransformation, list[Field]]:
    """A transformation, and all fields of its state, from outside; of arrays or of shapes.

    Raises `TypeError` for the state of another, `called` being who asks.
    """
    tx = as_transformation(tx, called)
    outermost = Owner(tx, (), type(tx).__name__, (), _own_count(tx, state) or (), params)
    try:
        return tx, list(_fields(outermost, state))
    except _OtherStateError as error:
        seen = f"the state has no place for {error.args[0]}: it is {kind_of_state(state)}"
    raise type_error(
        called, seen, "Pass the state that init, update or step of this optimizer returned"
    )


class _OtherStateError(Exception):
    """Something in a state is not what the transformation, its argument, has there."""


def _fields(owner: Owner, state: State) -> Iterator[Field]:
    part = owner.part
    if isinstance(part, Transparent):
        yield from _fields(owner._replace(part=part.inner, link=type(part.inner).__name__), state)
        return
    if isinstance(part, Rule | Wrapper):
        own = (part.State._fields, part.Part._fields)
        if getattr(state, "_fields", None) not in own:
            raise _OtherStateError(part)
    insides = part.insides(state, owner.params)
    if isinstance(part, Wrapper) and part.after is not None:
        insides = [*insides, Inside(part.rule, ("own",), owner.params)]
    clocks = {(*owner.at, *inside.clock) for inside in insides if inside.clock}
    count = _own_count(part, state)
    if count is not None:
        clocks.add((*owner.at, *count))
    taken = {(*owner.at, *inside.at) for inside in insides}
    own = list(_own_fields(owner, owner.at, state, taken, clocks, declares=True))
    alone = not own and not insides
    yield from [Field(owner, owner.at, "", "nothing", None)] if alone else own
    for inside in insides:
        at = (*owner.at, *inside.at)
        below, its = read(state, inside.at), _own_count(inside.part, read(state, inside.at))
        clock = (*owner.at, *inside.clock) if inside.clock else owner.clock
        groups = (*owner.groups, inside.group) if inside.group else owner.groups
        same = inside.at == ("own",)  # the rule of a wrapper is that wrapper
        link = owner.link if same else _link(inside)
        clock = clock if its is None else (*at, *its)
        yield from _fields(Owner(inside.part, at, link, groups, clock, inside.params), below)


def _link(inside: Inside) -> str:
    """The name of the class, or that of a part of a chain, which has a number behind it."""
    usual, last = type(inside.part).__name__, inside.at[-1] if inside.at else ""
    return last if last.startswith(f"{usual}_") and not inside.group else usual


def _own_count(part: GradientTransformation, state: State) -> At | None:
    """Where a state has its own count, if it has one."""
    if isinstance(part, Transparent):
        return _own_count(part.inner, state)
    names = state if isinstance(state, Mapping) else getattr(state, "_fields", ())
    return ("count",) if isinstance(part, Clocked) and "count" in names else None


def _own_fields(
    owner: Owner, at: At, value: Any, taken: set[At], clocks: set[At], declares: bool = False
) -> Iterator[Field]:
    """The fields below `at` that belong to no part inside."""
    name = "/".join(at[len(owner.at) :])
    if at in taken:
        return
    if at in clocks:
        yield Field(owner, at, name, "clock", value)
        return
    opens = any(other[: len(at)] == at for other in (*taken, *clocks))
    known: Mapping[str, Declared] = type(value).declared_fields if is_state(value) else {}
    if not (opens or (declares and known)):
        yield Field(owner, at, name, "number", value)
        return
    for key, below in _entries(value):
        here = (*at, key)
        if key in known and known[key].kind in ("signed", "square", "copy"):
            yield Field(owner, here, key, "slot", below)
        else:
            yield from _own_fields(owner, here, below, taken, clocks)


def _entries(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(str(key), below) for key, below in value.items()]
    if not hasattr(value, "_fields"):
        return []
    return list(zip(value._fields, value, strict=True))


def read(state: State, at: At) -> Any:
    """What lies at a place in a state."""
    for key in at:
        below = dict(_entries(state))
        if key not in below:
            raise _OtherStateError(repr("/".join(at)))
        state = below[key]
    return state


def written(state: State, changes: Mapping[At, Any]) -> State:
    """A state with some of its fields replaced."""
    if not changes:
        return state
    if () in changes:
        return changes[()]
    below: dict[str, dict[At, Any]] = {}
    for (key, *rest), value in changes.items():
        below.setdefault(key, {})[tuple(rest)] = value
    new = [written(value, below[key]) if key in below else value for key, value in _entries(state)]
    if isinstance(state, Mapping):
        return dict(zip(state, new, strict=True))
    return state._replace(**dict(zip(state._fields, new, strict=True)))


# Names -------------------------------------------------------------------------------------------


def names(found: list[Field]) -> dict[At, Names]:
    """What the fields of each owner, by its place, are called by."""
    owners = {field.owner.at: field.owner for field in found}
    often: Counter[tuple[str, tuple[str, ...]]] = Counter()
    numbers = {}
    for at, owner in owners.items():
        key = (owner.link, owner.groups)
        often[key] += 1
        again = f"_{often[key]}" if often[key] > 1 else ""
        numbers[at] = f"{owner.link}{again}{bracketed(owner.groups)}"
    plain = _told_apart_by_parameters(found)
    return {
        at: Names(owner.link if at in plain else numbers[at], numbers[at])
        for at, owner in owners.items()
    }


def _told_apart_by_parameters(found: list[Field]) -> set[At]:
    """The owners that no other of the same link shares a slot of an array with."""
    sharing: dict[tuple[str, str, str], set[At]] = {}
    for field in found:
        for path in paths(field.value) if field.kind == "slot" else ():
            key = (field.owner.link, field.name, path)
            sharing.setdefault(key, set()).add(field.owner.at)
    mixed = {at for ats in sharing.values() if len(ats) > 1 for at in ats}
    return {field.owner.at for field in found} - mixed


def paths(slot: Any) -> list[str]:
    """The parameters of which a slot keeps something."""
    first = slot[0] if is_stored(slot) else slot
    return [path for path, x in named_leaves(first) if x is not None]


def bracketed(groups: tuple[str, ...]) -> str:
    return "".join(f"[{group}]" for group in groups)


def clock_names(found: list[Field], called: Mapping[At, Names]) -> dict[At, str]:
    """The counts by their place: `count`, `count[head]` of a group, `accumulate/gradient_step`."""
    given = {f.at: _clock_name(f, called[f.owner.at]) for f in found if f.kind == "clock"}
    unique = Unique()
    return {at: unique(name) for at, name in given.items()}


class Unique:
    """Gives a name that was there before a number behind it."""

    def __init__(self) -> None:
        self.given: set[str] = set()

    def __call__(self, usual: str) -> str:
        again, name = 1, usual
        while name in self.given:
            again += 1
            name = f"{usual}_{again}"
        self.given.add(name)
        return name


def _clock_name(field: Field, called: Names) -> str:
    owner, at = field.owner, field.at
    if len(at) == 1 and field.name == "count":
        return "count"
    if at[-1:] == ("count",):
        return f"count{bracketed(owner.groups)}" if owner.groups else "/".join(at)
    if len(at) - len(owner.at) > 1:
        return f"count{bracketed((*owner.groups, at[-1]))}"
    return f"{called.numbers}/{field.name}"


def leafwise(slots: Mapping[str, Any]) -> tuple[Any, list[tuple[str, dict[str, Any]]]]:
    """The structure of slots, and for every array, by its path, what each slot keeps of it.

    That is an array, a `Stored` of arrays, or `None`.
    """
    first = next(iter(slots.values()))
    treedef = jax.tree.structure(first[0] if is_stored(first) else first, is_leaf=is_none)
    columns = {name: separate("states", treedef, slot) for name, slot in slots.items()}
    named = [path for path, _ in named_leaves(treedef.unflatten([0] * treedef.num_leaves))]
    rows = [{name: column[i] for name, column in columns.items()} for i in range(len(named))]
    return treedef, list(zip(named, rows, strict=True))
