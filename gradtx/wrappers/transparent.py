"""What stands around another without a state of its own: `Transparent`."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterator
from typing import Any, Self

from jax import Array

from gradtx.clocked import FRONT
from gradtx.engine.init import whole
from gradtx.engine.refusals import refuse_no_arrays
from gradtx.engine.step import At
from gradtx.foreign import as_transformation
from gradtx.paths import Route
from gradtx.struct import converted
from gradtx.transform import (
    GradientTransformation,
    Inside,
    State,
    compiled,
    with_numbers,
    with_still,
)
from gradtx.tree import Extra, P, Tree, U


class Transparent(GradientTransformation):
    """A transformation around another, whose state is that of the other alone, seen otherwise.

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

    def around_extra(self, extra: Extra, updates: Tree, params: Tree | None) -> Extra:
        """The extra arguments that `inner` gets."""
        return extra

    def around_at(self, at: At) -> At:
        """The moment at which `inner` is."""
        return at

    @whole
    def init(self, params: Tree) -> State:
        refuse_no_arrays(self, params)
        return self.init_part(params, FRONT)

    @compiled
    def update(
        self, updates: U, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[U, State]:
        return self.update_part(updates, state, params, FRONT, extra)

    @compiled
    def step(self, grads: Tree, state: State, params: P, **extra: Any) -> tuple[P, State]:
        new, state = self.step_part(grads, state, params, FRONT, extra)
        return with_still(self, grads, params, new), state

    @compiled
    def eval_params(self, state: State, params: P) -> P:
        return with_numbers(params, self.eval_part(state, params, FRONT))

    def frozen(self, params: Tree) -> list[bool]:
        return self.inner.frozen(params)

    def count(self, state: State) -> Array:
        return self.inner.count(state)

    def insides(self, state: State, params: Tree) -> list[Inside]:
        return [Inside(self.inner, (), params)]

    def in_state(self, state: State) -> Self:
        return self.with_fields(inner=self.inner.in_state(state))

    def init_part(self, params: Tree, at: At) -> State:
        return self.around_init(lambda p: self.inner.init_alone(p, at), params)

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        extra = self.around_extra(extra, updates, params)
        update = functools.partial(_with_at, self.inner.update_alone, self.around_at(at), extra)
        return self.around_update(update, updates, state, params)

    def step_part(
        self, grads: Tree, state: State, params: Tree, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        given = self.around_extra(extra, grads, params)
        step = functools.partial(_with_at, self.inner.step_alone, self.around_at(at), given)
        found = self.around_step(step, grads, state, params)
        if found is not None:
            return found
        return GradientTransformation.step_part(self, grads, state, params, at, extra)

    def eval_part(self, state: State, params: Tree, at: At) -> Tree:
        return self.around_eval(lambda s, p: self.inner.eval_alone(s, p, at), state, params)

    def moments(
        self, at: At, state: State | None = None
    ) -> Iterator[tuple[GradientTransformation, At]]:
        yield self, at
        yield from self.inner.moments_alone(at.inside("inner"), state)

    def routes(self, params: Tree) -> list[Route]:
        name = type(self).__name__
        return [r._replace(by=f"{name}({r.by})") for r in self.inner.routes(params)]


def _with_at(call: Any, at: At, extra: Any, updates: Tree, state: State, params: Any) -> Any:
    return call(updates, state, params, at, extra)
