"""What all wrappers share: `Wrapper`, a transformation around another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array

from gradtx.clocked import Clocked
from gradtx.engine.beside import aligned, as_they_came, grown, only, with_leaves
from gradtx.engine.placement import zero_count
from gradtx.engine.refusals import refuse_missing, refuse_other_state, refuse_unfit
from gradtx.engine.run import Running, run
from gradtx.engine.slots import Declared
from gradtx.engine.step import At, next_count
from gradtx.foreign import as_transformation
from gradtx.paths import Route
from gradtx.rule import JointRule, NoNumbers, Rule, state_types
from gradtx.struct import converted
from gradtx.transform import (
    GradientTransformation,
    Inside,
    State,
    apply_updates,
    with_frozen,
)
from gradtx.tree import Extra, Tree, as_came, is_inexact, is_none, widened
from gradtx.wrappers.choice import either, zero_updates


class Turn(NamedTuple):
    """What a wrapper makes of the gradients that come in, before `inner` sees them."""

    grads: Callable[[], Tree]  # what `inner` gets; called only where it takes a step
    state: State  # of the wrapper, having looked at the gradients
    extra: Extra  # the arguments that `inner` gets
    takes: Array | None = None  # whether `inner` takes its step now; None: always


class Taken(NamedTuple):
    """What a wrapper was given for a step that `inner` has taken since."""

    updates: Tree  # the gradients that came in
    state: State  # of the wrapper, before
    params: Tree | None
    at: At
    extra: Extra


class Wrapper(Clocked):
    """A transformation around another, `inner`.

    A subclass says what happens `before` the step of `inner`, and names the rule that runs `after`
    it on its steps, which are at least float32 there; the rule has the wrapper's hyperparameters of
    the same names, and a `JointRule` measures the gradients that came in. The state has the fields
    `inner`, those of `Own` or, for a rule, `own`, and with `skips` also `gradient_step`.

        what                                  reads its schedules at
        a wrapper                             its count, of all calls of `update`
        `inner`, if the wrapper never skips   the same count
        `inner`, if it `skips`                `state.gradient_step`, the steps of `inner`
        the rule that runs after              the count of the wrapper
        a transformation of another library   a count of its own

    What differs says so at the field. `tx.count(state)` is the first of them.
    """

    inner: GradientTransformation = converted(converter=as_transformation, hyperparameter=False)

    Own: ClassVar[Any] = NoNumbers
    kinds: ClassVar[Mapping[str, str]] = {}  # fields of `Own` that are no numbers: see `Declared`
    after: ClassVar[type[Rule] | None] = None
    skips: ClassVar[bool] = False
    passes: ClassVar[bool] = False  # whether updates pass where `inner` takes no step
    late: ClassVar[tuple[str, ...]] = ()  # fields that change only where `inner` takes a step
    looks_back: ClassVar[bool] = False  # whether there is something to `finish` after the step
    State: ClassVar[Any]
    Part: ClassVar[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        fields = {"inner": Declared("state")}
        fields |= {name: Declared(cls.kinds.get(name, "number")) for name in cls.Own._fields}
        fields |= {"own": Declared("state")} if cls.after is not None else {}
        fields |= {"gradient_step": Declared("number")} if cls.skips else {}
        cls.State, cls.Part = state_types(cls, fields)
        cls.looks_back = cls.looks_back or cls.after is not None

    # What a subclass says of itself.

    def before(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> Turn:
        """What becomes of the gradients that come in; by default `inner` gets them."""
        return Turn(lambda: updates, state, extra)

    def given(self, before: Any, inner: Any, at: At) -> dict[str, Any]:
        """Arguments for the rule that runs after, from the states before and after `inner`."""
        return {}

    def learned(self, turn: Turn, at: At) -> dict[str, Any]:
        """The fields named by `late`, where `inner` takes its step."""
        return {}

    def finish(self, done: Taken, steps: Tree, state: State) -> tuple[Tree, State]:
        """The steps and the state once `inner` has taken its step; by default the rule runs."""
        rule, at = self.rule, done.at
        more = {**done.extra, **self.given(done.state, state.inner, at)}
        running = Running(rule, state.own, at)
        if isinstance(rule, JointRule):
            running = rule.decided(done.updates, state.own, done.params, at, more)
        seen = self.seen_params(done.state, done.params, done.updates, at)
        steps, own = self.run_own(steps, running, seen, more)
        return steps, state._replace(own=own)

    def seen_params(self, state: State, params: Tree | None, updates: Tree, at: At) -> Tree | None:
        """What the rule that runs after sees as parameters."""
        return params

    def evaluated(self, state: State, params: Tree, at: At) -> Tree:
        """The parameters to evaluate with; by default those of `inner`."""
        return self.inner.eval_part(state.inner, params, self.inner_at(state, at))

    def init_own(self, params: Tree, at: At) -> Any:
        """The fields of `Own` before the first step."""
        return self.Own()

    def inner_count(self, count: Any) -> Any:
        """How many steps `inner` has taken after `count` updates, for who has no state to look."""
        return count

    @property
    def skips_some(self) -> bool:
        """Whether, with these hyperparameters, there are steps that `inner` does not take."""
        return self.skips

    # What follows from it.

    @property
    def skips_steps(self) -> bool:
        return (self.skips_some and not self.passes) or self.inner.skips_steps

    @property
    def rule(self) -> Any:
        """The rule that runs after, with the hyperparameters of this wrapper."""
        kind: Any = self.after
        rule = kind._rebuilt(
            tuple(getattr(self, name) for name in kind._statics),
            [getattr(self, name) for name in kind._leaves],
        )
        rule.__dict__["_arguments"] = self._arguments  # errors print what was typed
        return rule

    def init_part(self, params: Tree, at: At) -> State:
        steps = zero_count(params) if self.skips_some else None
        zero = {"gradient_step": steps} if self.skips else {}
        own = {"own": self.rule.init_part(params, at)} if self.after is not None else {}
        fields = self.init_own(params, at)._asdict()
        inner = self.inner.init_part(params, at.inside("inner"))
        return self.Part(inner=inner, **fields, **own, **zero)

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        self.refuse(updates, state, params, extra)
        turn = self.before(updates, state, params, at, extra)

        def takes() -> Any:
            steps, inner = self.inner_update(turn.grads(), turn.state, params, at, turn.extra)
            if turn.takes is not None:
                refuse_unfit(self.inner, steps, updates if self.passes else params)
            return steps, inner, self.learned(turn, at)

        if turn.takes is None:
            steps, inner, changes = takes()
            new = self._counted(turn, state)._replace(inner=inner, **changes)
            if self.looks_back:
                steps, new = self._finished(Taken(updates, state, params, at, extra), steps, new)
            return as_came(steps, updates), new

        def came() -> Any:
            steps, inner, changes = takes()
            return as_came(steps, updates), inner, changes

        def skips() -> Any:
            same = {name: getattr(turn.state, name) for name in self.late}
            return updates if self.passes else zero_updates(updates, params), state.inner, same

        steps, inner, changes = either(turn.takes, came, skips)
        return steps, self._counted(turn, state)._replace(inner=inner, **changes)

    def _finished(self, done: Taken, steps: Tree, state: State) -> tuple[Tree, State]:
        """`finish`, whose rule sees nothing of the arrays that `inner` never moves."""
        still = [] if self.after is None else self.still(done.updates, done.params)
        if not any(still):
            return self.finish(done, steps, state)
        seen = done._replace(updates=only(grown(done.updates, done.params), still, False))
        steps = grown(steps, done.params)
        moved, state = self.finish(seen, only(steps, still, False), state)
        return as_they_came(with_leaves(steps, still, False, moved), done.updates), state

    def step_part(
        self, grads: Tree, state: State, params: Tree, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        """Where there is nothing to do after `inner`, no tree of updates is made."""
        if self.looks_back:
            return super().step_part(grads, state, params, at, extra)
        self.refuse(grads, state, params, extra)
        turn = self.before(grads, state, params, at, extra)

        def takes() -> Any:
            inner = self.inner_step(turn, grads, params, at)
            return *inner, self.learned(turn, at)

        if turn.takes is None:
            params, inner, changes = takes()
            return params, self._counted(turn, state)._replace(inner=inner, **changes)

        def skips() -> Any:
            same = {name: getattr(turn.state, name) for name in self.late}
            return apply_updates(params, grads) if self.passes else params, state.inner, same

        params, inner, changes = either(turn.takes, takes, skips)
        return params, self._counted(turn, state)._replace(inner=inner, **changes)

    def eval_part(self, state: State, params: Tree, at: At) -> Tree:
        return with_frozen(self, params, self.evaluated(state, params, at))

    def still(self, updates: Tree, params: Tree | None) -> list[bool]:
        """Which arrays `inner` never moves. Raises for parameters of another tree."""
        if params is None:
            return self.frozen(updates)
        aligned(self, jax.tree.structure(updates, is_leaf=is_none), params, "parameters")
        return self.frozen(params)

    def frozen(self, params: Tree) -> list[bool]:
        still = self.inner.frozen(params)
        return [False] * len(still) if self.passes else still

    def moments(
        self, at: At, state: State | None = None
    ) -> Iterator[tuple[GradientTransformation, At]]:
        if state is not None:
            refuse_other_state(self, state, self.Part, "hyperparameters")
            yield self, self.own_at(state, at)
            yield from self.inner.moments(self.inner_at(state, at), state.inner)
        else:
            yield self, at
            inside = at.inside("inner")._replace(count=self.inner_count(at.count))
            yield from self.inner.moments(inside)

    def insides(self, state: State, params: Tree) -> list[Inside]:
        counts = self.skips and state.gradient_step is not None
        clock = ("gradient_step",) if counts else ()
        return [Inside(self.inner, ("inner",), params, clock=clock)]

    def in_state(self, state: State) -> Self:
        return self.with_fields(inner=self.inner.in_state(state.inner))

    def routes(self, params: Tree) -> list[Route]:
        name = type(self).__name__
        return [r._replace(by=f"{name}({r.by})") for r in self.inner.routes(params)]

    # Pieces for a subclass that does otherwise.

    def refuse(self, updates: Tree, state: State, params: Tree | None, extra: Extra) -> None:
        """Raises for a state of another transformation and for missing arguments."""
        refuse_other_state(self, state, self.Part)
        refuse_missing(self, updates, {**extra, "params": params})

    def inner_at(self, state: State, at: At) -> At:
        """The moment at which `inner` is."""
        inside, own = at.inside("inner"), self.skips and state.gradient_step is not None
        return inside._replace(count=state.gradient_step) if own else inside

    def own_at(self, state: State, at: At) -> At:
        """The moment at which its own schedules are read."""
        return at

    def inner_update(
        self, grads: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, Any]:
        """The steps of `inner`, in at least float32 so that none is rounded before its use.

        The state keeps its dtypes also where those of another library would follow the updates.
        """
        here = self.inner_at(state, at)
        steps, new = self.inner.update_part(widened(grads), state.inner, params, here, extra)
        return steps, as_came(new, state.inner)

    def inner_step(self, turn: Turn, before: Tree, params: Tree, at: At) -> tuple[Tree, Any]:
        """`inner.step`; a step leaves in the dtypes of `before` where these are narrow."""
        grads = turn.grads()
        if _dtypes(widened(before)) == _dtypes(before):
            here = self.inner_at(turn.state, at)
            return self.inner.step_part(grads, turn.state.inner, params, here, turn.extra)
        steps, inner = self.inner_update(grads, turn.state, params, at, turn.extra)
        return apply_updates(params, as_came(steps, before)), inner

    def run_own(
        self, steps: Tree, running: Running, params: Tree | None, extra: Extra
    ) -> tuple[Tree, Any]:
        """A rule of the wrapper's own on the steps: the new steps, and its new state.

        A parameter without a gradient stands still: the rule gets a zero step, so that its slots
        know the parameter, and the step stays `None`.
        """
        leaves, treedef = jax.tree.flatten(steps, is_leaf=is_none)
        ps = leaves if params is None else aligned(self, treedef, params, "parameters")
        filled = [
            jnp.zeros_like(p) if u is None and is_inexact(p) else u
            for u, p in zip(leaves, ps, strict=True)
        ]
        after, (own,) = run([running], treedef.unflatten(filled), params, extra)
        news = treedef.flatten_up_to(after)
        kept = [None if u is None else new for u, new in zip(leaves, news, strict=True)]
        return treedef.unflatten(kept), own

    def _counted(self, turn: Turn, before: Any) -> Any:
        """The state with the step of `inner` counted, if it takes one."""
        if not self.skips or before.gradient_step is None:
            return turn.state
        one_more = next_count(before.gradient_step)
        taken = (
            one_more
            if turn.takes is None
            else jnp.where(turn.takes, one_more, before.gradient_step)
        )
        return turn.state._replace(gradient_step=taken)

    def _with_count(self, count: Array, part: State) -> State:
        return self.State(count, *part)

    def _without_count(self, state: State, method: str = "update") -> tuple[Array, State]:
        refuse_other_state(self, state, self.State, method)
        return state.count, self.Part(*state[1:])


def _dtypes(tree: Tree) -> list[Any]:
    return [jnp.result_type(x) for x in jax.tree.leaves(tree) if is_inexact(x)]
