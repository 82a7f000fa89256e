"""What an algorithm is: a `Rule`, plain mathematics on one array; the engine does the rest."""

from __future__ import annotations

import abc
from collections import namedtuple
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx.axes import described
from gradtx.engine.hyperparameters import for_all_arrays, narrowed, per_array
from gradtx.engine.init import init_rule
from gradtx.engine.placement import zero_count
from gradtx.engine.refusals import refuse_missing, refuse_other_state
from gradtx.engine.run import measured, next_count, run
from gradtx.paths import Route, reasons
from gradtx.transform import GradientTransformation, State, compiled
from gradtx.tree import Tree, is_inexact, named_leaves, real_dtype, widest

Hyper = Any
"""A hyperparameter: a number, an array without axes, a schedule (or a bare function of the count),
`by_path`, or a prefix tree of the parameters with these as leaves."""


class NoSlots(NamedTuple):
    """What a rule without a memory remembers of an array."""


class NoGlobals(NamedTuple):
    """What arrays remember together when they remember nothing together."""


def state_type(rule: type[Rule]) -> type:
    camel = "".join(word.capitalize() for word in rule.__name__.split("_"))
    common = rule.Globals._fields
    state: Any = namedtuple(f"{camel}State", ("count", *common, *rule.Slots._fields))
    state.__module__, state.__qualname__ = rule.__module__, f"{rule.__qualname__}.State"
    state.__doc__ = f"State of `{rule.__qualname__}`: the updates done, and its slots."
    state.slots_of_rule = rule.Slots._fields  # those that the engine reads and writes
    if rule.__module__ != "__main__" and "<locals>" not in rule.__qualname__:
        register_for_export(state)
    return state


def register_for_export(state: type) -> None:
    try:
        from jax.export import register_namedtuple_serialization
    except ImportError:  # some releases of JAX lack a dependency of their own export module
        return
    name = usual = f"{state.__module__}.{state.__qualname__}"
    for again in range(2, 1000):
        try:
            register_namedtuple_serialization(state, serialized_name=name)
            return
        except ValueError:  # the module was loaded before, as notebooks do: that type has the name
            name = f"{usual} ({again})"


class Rule(GradientTransformation):
    """An algorithm that treats every array alone.

    A subclass names what it remembers of one array in `Slots`, makes it in `init_leaf` and writes
    its formula in `update_leaf`. There the arrays are at least float32, hyperparameters are
    numbers and `t` counts steps from 1. If `needs` holds "params", `p` is there; if the rule is
    `random`, `t` is a pair with a random key for this array and step, drawn from its field `key`;
    if it is `numbered`, `t` ends with how many arrays come before this one in the tree.
    The state is `Rule.State`: the count, then a tree for every slot.
    """

    Slots: ClassVar[Any] = NoSlots
    Globals: ClassVar[Any] = NoGlobals
    State: ClassVar[Any]
    random: ClassVar[bool] = False
    numbered: ClassVar[bool] = False
    batched: ClassVar[bool] = False  # whether it is a `BatchedRule`, which the engine cannot ask

    def __init_subclass__(cls, called: str | None = None, **kwargs: Any) -> None:
        """`called` names a rule by the transformation of which it is a part, for errors."""
        super().__init_subclass__(**kwargs)
        cls.State = state_type(cls)
        if called is not None:
            cls.__name__ = called

    def init_leaf(self, p: Array) -> Any:
        """The slots of one parameter array before the first step."""
        return self.Slots()

    def shared(self, t: Array) -> Any:
        """What `update_leaf` gets as `t`: numbers of step `t` (from 1) that all arrays share."""
        return t

    @abc.abstractmethod
    def update_leaf(self, g: Array, slots: Any, p: Any, t: Any) -> tuple[Array, Any]:
        """The update that takes the place of `g`, and the new slots."""

    def init(self, params: Tree) -> State:
        return init_rule(self, params)

    def routes(self, params: Tree) -> list[Route]:
        """With `axes`, what they make of an array is what it is seen as."""
        plain = GradientTransformation.routes(self, params)
        if "axes" not in self._leaves:
            return plain
        given: Any = self
        rules, leaves = per_array(given, 0, params), named_leaves(params)
        seen = [
            described(rule.axes, np.shape(x)) if is_inexact(x) else ""
            for rule, (_, x) in zip(rules, leaves, strict=True)
        ]
        why = reasons(f"{self}", given.axes, params)
        return [
            r._replace(seen=as_, why=reason) if as_ else r
            for r, as_, reason in zip(plain, seen, why, strict=True)
        ]

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        updates, (state,) = run((self,), updates, (state,), params)
        return updates, state


class BatchedRule(Rule):
    """A rule whose heart is one function of arrays alone, such as the matrices of an array.

    `before_leaf` makes of one array what `together` is a function of, and what `after_leaf` needs
    besides; that turns the results into the update. `together` knows static fields only: the
    engine computes it for all arrays of a shape in one batch where that is faster.
    """

    batched: ClassVar[bool] = True

    @abc.abstractmethod
    def before_leaf(self, g: Array, slots: Any, p: Any, t: Any) -> tuple[list[Array], Any]:
        """Arrays for `together`, and any tree of arrays for `after_leaf`."""

    @abc.abstractmethod
    def together(self, x: Array) -> Array:
        """The function."""

    @abc.abstractmethod
    def after_leaf(self, results: list[Array], kept: Any) -> tuple[Array, Any]:
        """The update that takes the place of `g`, and the new slots."""

    def update_leaf(self, g: Array, slots: Any, p: Any, t: Any) -> tuple[Array, Any]:
        xs, kept = self.before_leaf(g, slots, p, t)
        return self.after_leaf([self.together(x) for x in xs], kept)


class JointRule(Rule):
    """A rule whose arrays decide together, through sums over all of them.

    In `measure_leaf` each array gives its part of the sums (`Sums`, real scalars), with what
    `prepare` makes of globals and step; `decide` turns the sums and what is remembered in common
    (`Globals`, real scalars of at least float32) into new globals and what `update_leaf` gets as
    `t`. Extra arguments of `update` that `needs` names reach `decide`, where all hyperparameters
    are numbers: arrays have none of their own. Parameters are always needed. The state is
    `Rule.State`: the count, the globals, then the slots.
    """

    Sums: ClassVar[Any]

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def prepare(self, globals_: Any, t: Array) -> Any:
        """What the arrays measure with at step `t` (from 1)."""
        return t

    @abc.abstractmethod
    def measure_leaf(self, g: Array, slots: Any, p: Array, known: Any = None) -> Any:
        """The part of one array in `Sums`; `known` is what `prepare` returned."""

    @abc.abstractmethod
    def decide(self, sums: Any, globals_: Any, t: Array, **extra: Any) -> tuple[Any, Any]:
        """The new globals and what the arrays share at step `t` (from 1)."""

    def init_globals(self) -> Any:
        """The globals before the first step: zeros."""
        return self.Globals(*(0.0 for _ in self.Globals._fields))

    def init(self, params: Tree) -> State:
        count = zero_count(params)
        numbers = for_all_arrays(self, count)
        real = real_dtype(widest([p for p in jax.tree.leaves(params) if is_inexact(p)]))
        start = [jnp.asarray(x, real) + count.astype(real) for x in numbers.init_globals()]
        state = init_rule(self, params)
        return state._replace(**dict(zip(self.Globals._fields, start, strict=True)))

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        refuse_other_state(self, state, self.State)
        refuse_missing(self, updates, {"params": params, **extra})
        before = self.Globals(*(getattr(state, name) for name in self.Globals._fields))
        arrays = [g for g in jax.tree.leaves(updates) if is_inexact(g)]
        real = real_dtype(widest([*arrays, *before]))
        plain = for_all_arrays(self, state.count)
        numbers, t = narrowed(plain, real), next_count(state.count).astype(real)
        old = type(before)(*(x.astype(real) for x in before))
        with jax.named_scope(type(self).__name__):
            known = numbers.prepare(old, t)
            sums = measured(plain, updates, state, params, known)
            new, shared = numbers.decide(
                type(sums)(*(x.astype(real) for x in sums)),
                old,
                t,
                **{name: jnp.asarray(extra[name], real) for name in self.needs if name in extra},
            )
        updates, (state,) = run((self,), updates, (state,), params, shared=shared)
        kept = (x.astype(y.dtype) for x, y in zip(new, before, strict=True))
        return updates, state._replace(**dict(zip(self.Globals._fields, kept, strict=True)))


CountState = namedtuple("CountState", ("count",))
"""State of what remembers nothing but how often it ran."""
register_for_export(CountState)


class GlobalScale(GradientTransformation):
    """A transformation that multiplies every array by one number, found by looking at them all.

    A subclass finds the number in `measure`, where its hyperparameters are numbers. A chain lets
    the multiplication melt into the rules that follow: no scaled copy of the tree is made.
    """

    @abc.abstractmethod
    def measure(self, updates: Tree, params: Tree | None, **extra: Any) -> Array:
        """The number to multiply by."""

    def init(self, params: Tree) -> CountState:
        count = zero_count(params)
        for_all_arrays(self, count)
        return CountState(count)

    def factor(
        self, updates: Tree, state: CountState, params: Tree | None, **extra: Any
    ) -> tuple[Array, CountState]:
        """The number to multiply by, hyperparameters evaluated, and the next state."""
        refuse_other_state(self, state, CountState)
        numbers = for_all_arrays(self, state.count)
        numbers = narrowed(numbers, widest([x for x in jax.tree.leaves(updates) if is_inexact(x)]))
        with jax.named_scope(type(self).__name__):
            return numbers.measure(updates, params, **extra), CountState(next_count(state.count))

    @compiled
    def update(
        self, updates: Tree, state: CountState, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, CountState]:
        factor, state = self.factor(updates, state, params, **extra)
        return run((), updates, (), params, factor)[0], state
