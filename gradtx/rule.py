"""What an algorithm is: a `Rule`, plain mathematics on one array; the engine does the rest."""

from __future__ import annotations

import abc
from collections import namedtuple
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx.axes import described
from gradtx.clocked import Clocked
from gradtx.engine.hyperparameters import for_all_arrays, per_array
from gradtx.engine.init import init_rule
from gradtx.engine.joint import NormOf as NormOf, decided
from gradtx.engine.leaf import together
from gradtx.engine.refusals import refuse_other_state
from gradtx.engine.run import Running, run
from gradtx.engine.slots import Copy as Copy, Declared, Square as Square, declare, declared, start
from gradtx.engine.step import At, Step as Step
from gradtx.hyper import (
    Hyper as Hyper,
    HyperField as HyperField,
    OptionalHyperField as OptionalHyperField,
)
from gradtx.paths import Route, reasons
from gradtx.transform import GradientTransformation, State
from gradtx.tree import Extra, Tree, is_inexact, named_leaves, real_dtype_of


class NoSlots(NamedTuple):
    """What a rule without a memory remembers of an array."""


class NoNumbers(NamedTuple):
    """What arrays have in common that measure nothing, or remember nothing together."""


def state_types(owner: type, fields: Mapping[str, Declared]) -> tuple[type, type]:
    """The states of a class: alone, with a count in front, and as a part of another."""
    camel = "".join(word.capitalize() for word in owner.__name__.split("_"))
    made = []
    for name, more in (("State", {"count": Declared("number")}), ("Part", {})):
        whole = {**more, **fields}
        state: Any = namedtuple(f"{camel}{name}", tuple(whole))
        state.__module__, state.__qualname__ = owner.__module__, f"{owner.__qualname__}.{name}"
        alone = "" if more == {} else "the updates done, and "
        state.__doc__ = f"State of `{owner.__qualname__}`: {alone}{', '.join(fields) or 'nothing'}."
        declare(state, whole)
        if owner.__module__ != "__main__" and "<locals>" not in owner.__qualname__:
            register_for_export(state)
        made.append(state)
    return made[0], made[1]


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


class Rule(Clocked):
    """An algorithm that treats every array alone.

    A subclass names what it remembers of one array in `Slots` (annotated `Square` or `Copy` where
    it is one), makes it in `init_leaf` and writes its formula in `update_leaf`. There the arrays
    are at least float32, hyperparameters are numbers, and `step` knows the rest: see `Step`.
    `p` is there if `needs` holds "params", or where it is given if `wants` does; other arguments of
    `update` that it `needs` or `wants` are in `step.extra`. The state is `Rule.State`: the count,
    then a tree for every slot.
    """

    Slots: ClassVar[Any] = NoSlots
    Globals: ClassVar[Any] = NoNumbers
    State: ClassVar[Any]
    Part: ClassVar[Any]  # the same without the count
    seed_field: ClassVar[str] = ""  # the name of its field of `random_key`, if it draws from one
    alike: ClassVar[bool] = False  # whether all arrays draw the same, as layers of one stack do
    random: ClassVar[bool] = False  # whether each array draws numbers of its own
    numbered: ClassVar[bool] = False  # whether it asks for `step.place`
    lies_apart: ClassVar[bool] = False  # whether slots of its shape are not laid out like it
    # Slots of several arrays like the parameter, [k, ...], which lie as it does, the k everywhere.
    stacked: ClassVar[frozenset[str]] = frozenset()
    # Whether entries are cut to what can be squared and added up; None: if a slot is a `Square`.
    cut: ClassVar[bool | None] = None
    batched: ClassVar[bool] = False  # whether it is a `BatchedRule`, which the engine cannot ask

    def __init_subclass__(cls, called: str | None = None, **kwargs: Any) -> None:
        """`called` names a rule by the transformation of which it is a part, for errors."""
        super().__init_subclass__(**kwargs)
        common = dict.fromkeys(cls.Globals._fields, Declared("number"))
        cls.State, cls.Part = state_types(cls, {**common, **declared(cls.Slots)})
        cls.seed_field = next(iter(cls._others), "")
        cls.random = bool(cls.seed_field) and not cls.alike
        if called is not None:
            cls.__name__ = called

    def init_leaf(self, p: Array) -> Any:
        """The slots of one parameter array before the first step.

        By default `p` in a `Copy`, zeros in others, and real zeros in a `Square`.
        """
        return self.Slots(*(start(p, kind) for kind, _ in declared(self.Slots).values()))

    def shared(self, t: Array) -> Any:
        """`step.shared`: numbers of step `t` (from 1) that are the same for all arrays."""
        return None

    @abc.abstractmethod
    def update_leaf(self, g: Array, slots: Any, p: Any, step: Step) -> tuple[Array, Any]:
        """The update that takes the place of `g`, and the new slots."""

    def init_part(self, params: Tree, at: At) -> State:
        return init_rule(self, params, at)

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        updates, (state,) = run([Running(self, state, at)], updates, params, extra)
        return updates, state

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

    def _with_count(self, count: Array, part: State) -> State:
        return self.State(count, *part)

    def _without_count(self, state: State, method: str = "update") -> tuple[Array, State]:
        refuse_other_state(self, state, self.State, method)
        return state.count, self.Part(*state[1:])


class BatchedRule(Rule):
    """A rule whose heart is one function of arrays alone, such as the matrices of an array.

    `before_leaf` makes of one array what `together` is a function of, stacks [..., n, m] or trees
    of them, and what `after_leaf` needs besides; that turns the results into the update. `together`
    knows static fields only: the engine computes it for all arrays of a shape in one batch where
    that is faster, and shares it out over a mesh under `distribute`. With `in_turn` it gets (turns,
    what changes, ...): whose turn it is, and returns what changes, for these computed anew.
    """

    batched: ClassVar[bool] = True
    in_turn: ClassVar[bool] = False
    cut: ClassVar[bool | None] = False

    @abc.abstractmethod
    def before_leaf(self, g: Array, slots: Any, p: Any, step: Step) -> tuple[list[Any], Any]:
        """Arguments of `together`, and any tree of arrays for `after_leaf`."""

    @abc.abstractmethod
    def together(self, x: Any) -> Any:
        """The function."""

    @abc.abstractmethod
    def after_leaf(self, results: list[Any], kept: Any) -> tuple[Array, Any]:
        """The update that takes the place of `g`, and the new slots."""

    def update_leaf(self, g: Array, slots: Any, p: Any, step: Step) -> tuple[Array, Any]:
        xs, kept = self.before_leaf(g, slots, p, step)
        return self.after_leaf([together(self, x) for x in xs], kept)


class JointRule(Rule):
    """A rule whose arrays decide together: by numbers that all of them give their part to.

    In `measure_leaf` each array gives its part of the `Sums`: real scalars, or arrays of one shape
    for all, that are added up, or `NormOf` an array. `decide` turns these and what is remembered in
    common (`Globals`, at least float32) into new globals and `step.shared`. By default that is one
    number, by which every array is multiplied; a chain lets the formula melt into the rules that
    follow. Hyperparameters are one number for all arrays. The state is `Rule.State`: count,
    globals, slots.
    """

    Sums: ClassVar[Any] = NoNumbers
    cut: ClassVar[bool | None] = False

    def prepare(self, globals_: Any, t: Array) -> Any:
        """What the arrays measure with at step `t` (from 1), as `known`."""
        return None

    def measure_leaf(self, g: Array, slots: Any, p: Any, known: Any) -> Any:
        """The part of one array in `Sums`; `known` is what `prepare` returned."""
        return self.Sums()

    @abc.abstractmethod
    def decide(self, sums: Any, globals_: Any, t: Array, **extra: Any) -> tuple[Any, Any]:
        """The new globals, and what the arrays share at step `t` (from 1).

        `extra` has the arguments of `update` that the rule `needs` or `wants`, but for "params".
        """

    def update_leaf(self, g: Array, slots: Any, p: Any, step: Step) -> tuple[Array, Any]:
        return step.shared * g, slots

    def init_globals(self) -> Any:
        """The globals before the first step: zeros."""
        return self.Globals(*(0.0 for _ in self.Globals._fields))

    def init_part(self, params: Tree, at: At) -> State:
        numbers = for_all_arrays(self, at.count)
        real = real_dtype_of(params)
        nothing = (at.count - at.count).astype(real)  # on the devices and axes of the count
        start = [jnp.asarray(x, real) + nothing for x in numbers.init_globals()]
        state = init_rule(self, params, at)
        return state._replace(**dict(zip(self.Globals._fields, start, strict=True)))

    def decided(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> Running:
        """This rule, ready to run, once it has looked at all arrays."""
        shared, state = decided(self, updates, state, params, at, extra)
        return Running(self, state, at, shared)

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        running = self.decided(updates, state, params, at, extra)
        updates, (state,) = run([running], updates, params, extra)
        return updates, state


class LengthSums(NamedTuple):
    """`Sums` of a rule that looks at the joint norm of all arrays, and at nothing else."""

    length: Array


def measure_length(self: Any, g: Array, slots: Any, p: Any, known: Any) -> LengthSums:
    """`measure_leaf` of such a rule."""
    return LengthSums(NormOf(g))  # pyright: ignore[reportArgumentType]


class scaled(Rule):
    """Multiplies all arrays by `factor`, which need not be a number that is known before."""

    factor: HyperField

    def update_leaf(self, g: Array, slots: Any, p: Any, step: Step) -> tuple[Array, Any]:
        return self.factor * g, slots


def times(factor: Any, updates: Tree) -> Tree:
    """The updates, each multiplied by one number in wide arithmetic."""
    at = At(jnp.zeros((), jnp.int32))
    return run([Running(scaled(factor), scaled.Part(), at)], updates, None)[0]
