"""Who counts: `Clocked`, a transformation with a count of its updates."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from jax import Array

from gradtx.engine.front import compiled
from gradtx.engine.init import whole
from gradtx.engine.placement import zero_count
from gradtx.engine.refusals import ORDERS, kind_of_state, refuse_no_arrays
from gradtx.engine.step import At, next_count
from gradtx.struct import type_error
from gradtx.transform import (
    GradientTransformation,
    State,
    with_numbers,
    with_still,
    without_gradients,
)
from gradtx.tree import Extra, P, Tree, U, listed

FRONT = At(None)
"""The place of the whole, before its clock has been read."""


class Clocked(GradientTransformation):
    """A transformation that counts its updates, unless it is a part of one that does.

    A subclass says what it does as a part: `init_part`, `update_part`. Its state as a part has no
    count. Alone it has the same with the count beside: an entry or a field `count` in front. That
    stands still while no array has a gradient: each is `None`.
    """

    _part_names: ClassVar[tuple[str, ...]] = ()  # the other entries of a state that is a mapping

    @abc.abstractmethod
    def init_part(self, params: Tree, at: At) -> State: ...

    @abc.abstractmethod
    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]: ...

    def eval_part(self, state: State, params: Tree, at: At) -> Tree:
        return params

    @whole
    def init(self, params: Tree) -> State:
        refuse_no_arrays(self, params)
        return self.init_alone(params, FRONT)

    @compiled
    def update(
        self, updates: U, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[U, State]:
        return self.update_alone(updates, state, params, FRONT, extra)

    def init_alone(self, params: Tree, at: At) -> State:
        count = zero_count(params)
        return self._with_count(count, self.init_part(params, at._replace(count=count)))

    def update_alone(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        count, part = self._without_count(state)
        if without_gradients(updates):
            return updates, state
        here = at._replace(count=count)
        updates, part = self.update_part(updates, part, params, here, extra)
        return updates, self._with_count(next_count(count), part)

    def step_alone(
        self, grads: Tree, state: State, params: Tree, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        count, part = self._without_count(state)
        if without_gradients(grads):
            return params, state
        params, part = self.step_part(grads, part, params, at._replace(count=count), extra)
        return params, self._with_count(next_count(count), part)

    def eval_alone(self, state: State, params: Tree, at: At) -> Tree:
        count, part = self._without_count(state, "eval_params")
        return self.eval_part(part, params, at._replace(count=count))

    def moments_alone(
        self, at: At, state: State | None = None
    ) -> Iterator[tuple[GradientTransformation, At]]:
        if state is None:
            return self.moments(at)
        count, part = self._without_count(state, "hyperparameters")
        return self.moments(at._replace(count=count), part)

    @compiled
    def step(self, grads: Tree, state: State, params: P, **extra: Any) -> tuple[P, State]:
        new, state = self.step_alone(grads, state, params, FRONT, extra)
        return with_still(self, grads, params, new), state

    @compiled
    def eval_params(self, state: State, params: P) -> P:
        return with_numbers(params, self.eval_alone(state, params, FRONT))

    def _with_count(self, count: Array, part: State) -> State:
        return {"count": count, **part}

    def _without_count(self, state: State, method: str = "update") -> tuple[Array, State]:
        """The count and the state as a part. Raises for a state of another transformation."""
        refuse_other_parts(self, state, ("count", *self._part_names), method)
        return state["count"], {name: part for name, part in state.items() if name != "count"}


def refuse_other_parts(
    called: object, state: State, parts: Iterable[Any], method: str = "update"
) -> None:
    """Raises for a state that is not a mapping with an entry for each part."""
    if isinstance(state, Mapping) and set(state) == set(parts):
        return
    if isinstance(state, Mapping):
        own = (("state", set(state) - set(parts)), ("optimizer", set(parts) - set(state)))
        seen = ", ".join(f"only the {who} has the parts {listed(of)}" for who, of in own if of)
    else:
        seen = f"the state is {kind_of_state(state)}, the optimizer has the parts {listed(parts)}"
    raise type_error(
        f"{called}.{method}",
        seen,
        f"Pass the state that this optimizer's init or last update returned: {ORDERS[method]}",
    )
