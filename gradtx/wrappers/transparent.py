"""What stands around another without a state of its own: `Transparent`."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from jax import Array

from gradtx.engine.init import whole
from gradtx.engine.refusals import refuse_no_arrays
from gradtx.engine.step import At
from gradtx.interop import as_transformation
from gradtx.paths import Route
from gradtx.struct import converted
from gradtx.transform import (
    GradientTransformation,
    State,
    apply_updates,
    compiled,
    with_frozen,
)
from gradtx.tree import P, Tree, U


class Transparent(GradientTransformation):
    """A transformation around another, whose state is that of the other, seen otherwise.

    A subclass says what it does around `init`, `update`, `step` and `eval_params` of `inner`.
    """

    inner: GradientTransformation = converted(converter=as_transformation, hyperparameter=False)

    @abc.abstractmethod
    def around_init(self, init: Callable[..., State], params: Tree) -> State: ...

    @abc.abstractmethod
    def around_update(
        self, update: Callable[..., Any], updates: Tree, state: State, params: Tree | None
    ) -> tuple[Tree, State]: ...

    @abc.abstractmethod
    def around_eval(self, eval_params: Callable[..., Any], state: State, params: Tree) -> Tree: ...

    def around_step(
        self, step: Callable[..., Any], grads: Tree, state: State, params: Tree
    ) -> tuple[Tree, State] | None:
        """`step` of `inner`, or None where updates have to be made."""
        return None

    @whole
    def init(self, params: Tree) -> State:
        refuse_no_arrays(self, params)
        return self.around_init(self.inner.init, params)

    @compiled
    def update(
        self, updates: U, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[U, State]:
        update = functools.partial(_without_at, self.inner.update, extra)
        return self.around_update(update, updates, state, params)

    @compiled
    def step(self, grads: Tree, state: State, params: P, **extra: Any) -> tuple[P, State]:
        step = functools.partial(_without_at, self.inner.step, extra)
        found = self.around_step(step, grads, state, params)
        if found is not None:
            return found
        updates, state = self.update(grads, state, params, **extra)
        return with_frozen(self, params, apply_updates(params, updates)), state

    @compiled
    def eval_params(self, state: State, params: P) -> P:
        return self.around_eval(self.inner.eval_params, state, params)

    def frozen(self, params: Tree) -> list[bool]:
        return self.inner.frozen(params)

    def count(self, state: State) -> Array:
        return self.inner.count(state)

    def _part_of(self, state: State) -> State:
        return self.inner._part_of(state)

    def in_state(self, state: State) -> Self:
        return self.with_fields(inner=self.inner.in_state(state))

    def init_part(self, params: Tree, at: At) -> State:
        return self.around_init(lambda p: self.inner.init_part(p, at), params)

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Mapping[str, Any]
    ) -> tuple[Tree, State]:
        update = functools.partial(_with_at, self.inner.update_part, at, extra)
        return self.around_update(update, updates, state, params)

    def step_part(
        self, grads: Tree, state: State, params: Tree, at: At, extra: Mapping[str, Any]
    ) -> tuple[Tree, State]:
        step = functools.partial(_with_at, self.inner.step_part, at, extra)
        found = self.around_step(step, grads, state, params)
        return super().step_part(grads, state, params, at, extra) if found is None else found

    def eval_part(self, state: State, params: Tree, at: At) -> Tree:
        return self.around_eval(lambda s, p: self.inner.eval_part(s, p, at), state, params)

    def moments(
        self, at: At, state: State | None = None
    ) -> Iterator[tuple[GradientTransformation, At]]:
        yield self, at
        yield from self.inner.moments(at.inside("inner"), state)

    def routes(self, params: Tree) -> list[Route]:
        name = type(self).__name__
        return [r._replace(by=f"{name}({r.by})") for r in self.inner.routes(params)]


def _without_at(call: Any, extra: Any, updates: Tree, state: State, params: Any) -> Any:
    return call(updates, state, params, **extra)


def _with_at(call: Any, at: At, extra: Any, updates: Tree, state: State, params: Any) -> Any:
    return call(updates, state, params, at, extra)
