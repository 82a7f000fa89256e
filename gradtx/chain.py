"""Composition in sequence: `chain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from gradtx.engine.run import run
from gradtx.paths import Route
from gradtx.rule import GlobalScale, JointRule, Rule
from gradtx.struct import Table, converted
from gradtx.transform import (
    GradientTransformation,
    State,
    all_as_transformations,
    as_transformation,
    compiled,
    refuse_other_parts,
)
from gradtx.tree import Tree


class chain(GradientTransformation):
    """Runs transformations one after the other.

    The state is a dict keyed by the names of the parts, not by their positions: a part has the
    name of its class (with `_2`, `_3` ... when it repeats) or the keyword that it was given by. A
    chain inside a chain is the same as its parts. Neighbouring rules run as one function per array.
    """

    parts: Table = converted(all_as_transformations)  # name -> transformation

    _names_by_class: ClassVar[bool] = True

    def __init__(self, *parts: Any, **named: Any) -> None:
        entries: dict[str, GradientTransformation] = {}
        for name, part in _flat(parts):
            usual, repeats = type(part).__name__, 1
            while name in entries or name in named:
                repeats += 1
                name = f"{usual}_{repeats}"
            entries[name] = part
        for name, part in named.items():
            entries[name] = as_transformation("chain", part)
        object.__setattr__(self, "parts", Table(entries))
        self.__post_init__()

    def init(self, params: Tree) -> State:
        return {name: part.init(params) for name, part in self.parts.items()}

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        refuse_other_parts(self, state, self.parts)
        new: dict[str, State] = {}
        waiting: dict[str, Rule] = {}  # rules that run together with what follows
        factor = None  # the number that they all are multiplied by first

        def flush(updates: Tree) -> Tree:
            if not waiting and factor is None:
                return updates
            states = [state[name] for name in waiting]
            updates, states = run(list(waiting.values()), updates, states, params, factor)
            new.update(zip(waiting, states, strict=True))
            waiting.clear()
            return updates

        for name, part in self.parts.items():
            if isinstance(part, Rule) and not isinstance(part, JointRule):
                waiting[name] = part
                continue
            updates, factor = flush(updates), None
            if isinstance(part, GlobalScale):
                factor, new[name] = part.factor(updates, state[name], params, **extra)
            else:
                updates, new[name] = part.update(updates, state[name], params, **extra)
        return flush(updates), new

    def eval_params(self, state: State, params: Tree) -> Tree:
        for name, part in self.parts.items():
            params = part.eval_params(state[name], params)
        return params

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


def _flat(parts: Iterable[Any]) -> Iterator[tuple[str, GradientTransformation]]:
    """The parts with their names; a chain among them stands for its own parts."""
    for part in parts:
        part = as_transformation("chain", part)
        if isinstance(part, chain):
            yield from part.parts.items()
        else:
            yield type(part).__name__, part
