"""Composition in sequence: `chain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self

import jax

from gradtx.clocked import Clocked, refuse_other_parts
from gradtx.engine.run import Running, run
from gradtx.engine.step import At
from gradtx.foreign import AnyTransformation, all_as_transformations, as_transformation, foreign
from gradtx.paths import Route
from gradtx.rule import JointRule, Rule
from gradtx.schedules.base import Schedule
from gradtx.struct import Static, Table, converted, value_error
from gradtx.transform import GradientTransformation, Inside, State, identity
from gradtx.tree import Extra, Tree


class chain(Clocked):
    """Runs transformations one after the other.

    The state is a dict keyed by the names of the parts, not by their positions: a part has the
    name of its class (with `_2`, `_3` ... when it repeats) or the keyword that it was given by. A
    chain inside a chain is the same as its parts. They have one step count, `state["count"]`, but
    for those that skip steps. Neighbouring rules run as one function per array. Differs from Optax,
    whose state is a tuple by position, with a count in every link.
    """

    parts: Mapping[str, GradientTransformation] = converted(converter=all_as_transformations)

    _names_by_class: ClassVar[bool] = True

    def __init__(self, *parts: AnyTransformation, **named: AnyTransformation) -> None:
        entries: dict[str, GradientTransformation] = {}
        for name, part in _flat(parts):
            usual, repeats = type(part).__name__, 1
            while name in entries or name in named or name == "count":
                repeats += 1
                name = f"{usual}_{repeats}"
            entries[name] = part
        for name, part in named.items():
            entries[name] = as_transformation(part, "chain")
        object.__setattr__(self, "parts", Table(entries))
        self.__post_init__()

    def check(self) -> None:
        if "count" in self.parts:
            raise value_error(
                "chain", "a part is named 'count'", "Name it otherwise: that is the step count"
            )
        for name in list(self.parts)[:-1]:
            if self.parts[name].searches:
                raise value_error(
                    "chain",
                    f"{name!r} is a search, and what comes after it changes the points that it "
                    "asks for",
                    "Put it last, and what makes directions inside: wolfe(chain(...))",
                )
        skipping = None
        for name, part in self.parts.items():
            if skipping is not None and _ticks(part):
                raise value_error(
                    "chain",
                    f"{name!r} has a schedule or remembers something, and {skipping!r} before it "
                    "leaves out steps, at which it would go on all the same",
                    f"Put the whole chain inside: {skipping}(chain(...), ...)",
                )
            skipping = name if part.skips_steps else skipping

    @property
    def _part_names(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return tuple(self.parts)

    def init_part(self, params: Tree, at: At) -> State:
        return {name: part.init_part(params, at.inside(name)) for name, part in self.parts.items()}

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        refuse_other_parts(self, state, self.parts)
        new: dict[str, State] = {}
        waiting: dict[str, Running] = {}  # rules that run together with what follows

        def flush(updates: Tree) -> Tree:
            if not waiting:
                return updates
            updates, states = run(list(waiting.values()), updates, params, extra)
            new.update(zip(waiting, states, strict=True))
            waiting.clear()
            return updates

        for name, part in self.parts.items():
            here, own = at.inside(name), state[name]
            if isinstance(part, JointRule):
                updates = flush(updates)  # which it looks at
                waiting[name] = part.decided(updates, own, params, here, extra)
            elif isinstance(part, Rule):
                waiting[name] = Running(part, own, here)
            else:
                updates, new[name] = part.update_part(flush(updates), own, params, here, extra)
        updates = flush(updates)
        return updates, {name: new[name] for name in self.parts}

    def frozen(self, params: Tree) -> list[bool]:
        """Those that its last part freezes: an earlier zero may become a step again."""
        parts = list(self.parts.values())
        return (parts[-1] if parts else identity()).frozen(params)

    def eval_part(self, state: State, params: Tree, at: At) -> Tree:
        for name, part in self.parts.items():
            params = part.eval_part(state[name], params, at.inside(name))
        return params

    def moments(
        self, at: At, state: State | None = None
    ) -> Iterator[tuple[GradientTransformation, At]]:
        if state is not None:
            refuse_other_parts(self, state, self.parts, "hyperparameters")
        yield self, at
        for name, part in self.parts.items():
            yield from part.moments(at.inside(name), None if state is None else state[name])

    def insides(self, state: State, params: Tree) -> list[Inside]:
        return [
            Inside(part, (name,), params, "" if _is_usual(name, part) else name)
            for name, part in self.parts.items()
        ]

    def in_state(self, state: State) -> Self:
        parts = {name: part.in_state(state[name]) for name, part in self.parts.items()}
        return self.with_fields(parts=Table(parts))

    def routes(self, params: Tree) -> list[Route]:
        through = [part.routes(params) for part in self.parts.values()]
        return [
            Route(
                " > ".join(route.by for route in routes),
                next((route.seen for route in routes if route.seen), ""),
                "; ".join(dict.fromkeys(route.why for route in routes if route.why)),
            )
            for routes in zip(*through, strict=True)
        ]

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        usual = chain(*self.parts.values()).parts if self.parts else {}
        split = 0
        for name, default in zip(self.parts, usual, strict=True):
            if name != default:
                break
            split += 1
        entries = list(self.parts.items())
        return [part for _, part in entries[:split]], dict(entries[split:])


def _is_usual(name: str, part: GradientTransformation) -> bool:
    """Whether a part has the name of its class, or that and a number."""
    head, underscore, number = name.rpartition("_")
    usual = type(part).__name__
    return name == usual or (head == usual and bool(underscore) and number.isdigit())


def _ticks(part: GradientTransformation) -> bool:
    """Whether it would do otherwise after a call that is no step."""
    leaves = jax.tree.leaves(part, is_leaf=lambda x: isinstance(x, Schedule | Static))
    inside = [one for one, _ in part.moments(At(0))]
    rules = [one for one in inside if isinstance(one, Rule)]
    return (
        any(isinstance(x, Schedule | Static) for x in leaves)
        or any(r.Slots._fields or r.Globals._fields or r.seed_field for r in rules)
        or any(one.remembers for one in inside if isinstance(one, foreign))
    )


def _flat(parts: Iterable[AnyTransformation]) -> Iterator[tuple[str, GradientTransformation]]:
    """The parts with their names; a chain among them stands for its own parts."""
    for part in parts:
        part = as_transformation(part, "chain")
        if isinstance(part, chain):
            yield from part.parts.items()
        else:
            yield type(part).__name__, part
