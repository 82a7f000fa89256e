"""What a transformation is: `init`, `update`; and what every user calls on one.

A transformation is a pure pair: `init(params)` makes the state, `update(updates, state, params)`
turns gradients into updates. `step` does update and `apply_updates` in one. The object holds the
definition and never the state.
"""

from __future__ import annotations

import abc
import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import jax
from jax import Array
from jax.tree_util import DictKey, GetAttrKey

from gradtx.engine.apply import apply_updates as apply_updates
from gradtx.engine.beside import aligned, with_leaves
from gradtx.engine.front import asking, compiled as compiled
from gradtx.engine.hyperparameters import in_use
from gradtx.engine.plain import plain
from gradtx.engine.slots import map_slots
from gradtx.engine.step import At
from gradtx.hyper import fields_of, refuse_no_axes
from gradtx.paths import Route, by_path, label_tree, table
from gradtx.struct import (
    FINITE,
    NUMBERS,
    Struct,
    refuse_object,
    shown,
    type_error,
    value_error,
)
from gradtx.tree import Extra, P, Tree, U, is_none, named_leaves

State = Any
"""A pytree of arrays that one update hands to the next."""


class Inside(NamedTuple):
    """A transformation inside another, and where its state lies in that of the other."""

    part: GradientTransformation
    at: tuple[str, ...]  # fields and keys, from outside; () where it is the whole state
    params: Tree  # the parameters that it sees, others among them
    group: str = ""  # what tells it from its siblings, where its class does not
    clock: tuple[str, ...] = ()  # where its count lies, if it is another than that around it


class GradientTransformation(Struct, abc.ABC):
    """A pure pair `(init, update)` whose hyperparameters are its leaves.

    Subclass it for what depends on more than one array; what treats every array alone is a
    `Rule`. It can be unpacked as `init, update = tx`. Extra arguments of `update` reach every part
    and are ignored by those that have no use for them; of `trees` each array or group of arrays
    gets its own.
    """

    needs: ClassVar[tuple[str, ...]] = ()  # arguments of `update` that it cannot do without
    wants: ClassVar[tuple[str, ...]] = ()  # those that it uses where they are given
    tables: ClassVar[tuple[str, ...]] = ()  # those whose order counts: it gets a dict as a `Table`
    trees: ClassVar[tuple[str, ...]] = ()  # those that are trees like the parameters

    _axes: ClassVar[frozenset[str]] = frozenset()  # its fields annotated `AxesField`

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._axes = fields_of(cls, "AxesField")
        numbers = fields_of(cls, "HyperField", "OptionalHyperField")
        cls._judges = dict.fromkeys(numbers, refuse_object) | dict.fromkeys(
            cls._axes, refuse_no_axes
        )
        cls._intervals = dict.fromkeys(numbers, FINITE) | cls._intervals

    @abc.abstractmethod
    def init(self, params: Tree) -> State:
        """The state before the first update, from the parameters or their shapes."""

    @abc.abstractmethod
    def update(
        self, updates: U, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[U, State]:
        """The transformed updates, in the dtype in which they came, and the next state.

        A complex gradient is the direction of ascent, as PyTorch has it: the conjugate of what
        `jax.grad` of a real loss gives, `jax.tree.map(jnp.conj, grads)`.
        """

    @compiled
    def step(self, grads: Tree, state: State, params: P, **extra: Any) -> tuple[P, State]:
        """`(params, state)` after `update` and `apply_updates`, computed together."""
        updates, state = self.update(grads, state, params, **extra)
        return with_still(self, grads, params, apply_updates(params, updates)), state

    def own_extras(self) -> frozenset[str] | None:
        """The extra arguments that it uses itself; `None` if it may use any."""
        methods = (type(self).update, type(self).step)
        declared = [getattr(method, "takes", None) for method in methods]
        if None in declared:
            return None
        return frozenset(self.needs).union(self.wants, *filter(None, declared))

    @functools.cached_property
    def wanted_extras(self) -> frozenset[str] | None:
        """The extra arguments of which it or a part inside it makes use; `None` if of any."""
        wanted = [self.own_extras(), *(part.wanted_extras for part in self._inside())]
        return None if None in wanted else frozenset().union(*filter(None, wanted))

    @functools.cached_property
    def table_extras(self) -> frozenset[str]:
        """The extra arguments whose order counts for it or a part inside it."""
        return frozenset(self.tables).union(*(part.table_extras for part in self._inside()))

    @functools.cached_property
    def tree_extras(self) -> frozenset[str]:
        """The extra arguments that are trees like the parameters for it or a part inside it."""
        return frozenset(self.trees).union(*(part.tree_extras for part in self._inside()))

    def _inside(self) -> list[GradientTransformation]:
        """The transformations in its fields."""
        below = [getattr(self, name) for name in self._leaves]
        leaves = jax.tree.leaves(below, is_leaf=lambda x: isinstance(x, GradientTransformation))
        return [part for part in leaves if isinstance(part, GradientTransformation)]

    def eval_params(self, state: State, params: P) -> P:
        """The parameters to evaluate the model with: `params`, unless a part averages them."""
        return params

    def count(self, state: State) -> Array:
        """The updates done, as the outermost part of `state` that counts has them."""
        return count_in(state, f"{self}.count")

    @property
    def skips_steps(self) -> bool:
        """Whether it, or a part of it, makes zero updates in calls that are no steps."""
        return any(part.skips_steps for part in self._inside())

    @property
    def searches(self) -> bool:
        """Whether it, or a part of it, looks for a lower loss, which nothing else may change."""
        return any(part.searches for part in self._inside())

    def bounds(self, params: Tree) -> tuple[Tree, Tree] | None:
        """The lower and upper bounds within which it keeps parameters, None where there are none.

        Two trees like the parameters, of numbers, arrays, or None for an array without.
        """
        found = (part.bounds(params) for part in self._inside())
        return next((both for both in found if both is not None), None)

    def frozen(self, params: Tree) -> list[bool]:
        """Which leaves of `params` (`None` counts as one) it never moves, whatever the numbers.

        They come through every wrapper, and out of `step` and `eval_params`, bit for bit.
        """
        return [False] * len(jax.tree.leaves(params, is_leaf=is_none))

    # As a part of another, under whose clock it may run: by default it keeps its own.

    def init_part(self, params: Tree, at: At) -> State:
        """The state of this part of an optimizer; see `Clocked`."""
        return self.init(params)

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        """`update` of this part at a moment."""
        return self.update(updates, state, params, **extra)

    def step_part(
        self, grads: Tree, state: State, params: Tree, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        """`step` of this part at a moment."""
        updates, state = self.update_part(grads, state, params, at, extra)
        return apply_updates(params, updates), state

    def eval_part(self, state: State, params: Tree, at: At) -> Tree:
        """`eval_params` of this part after `at.count` updates."""
        return self.eval_params(state, params)

    def moments(
        self, at: At, state: State | None = None
    ) -> Iterator[tuple[GradientTransformation, At]]:
        """Every transformation in this one, and the count that its schedules read; its place too.

        Without a state, the count of a part that skips steps is what it would be without a fault.
        A part comes once for every count that it reads, such as those of arrays in `separately`.
        """
        yield self, at

    # By a clock of its own, as the whole or for a group of arrays; see `Clocked`.

    def init_alone(self, params: Tree, at: At) -> State:
        """The state with what it counts, at a place in the whole."""
        return self.init_part(params, at)

    def update_alone(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        """`update` at the next moment of its clock, which waits while no array has a gradient."""
        if without_gradients(updates):
            return updates, state
        return self.update_part(updates, state, params, at, extra)

    def step_alone(
        self, grads: Tree, state: State, params: Tree, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        """`step` at the next moment of its clock."""
        if without_gradients(grads):
            return params, state
        return self.step_part(grads, state, params, at, extra)

    def eval_alone(self, state: State, params: Tree, at: At) -> Tree:
        """`eval_params` at the moment of its clock."""
        return self.eval_part(state, params, at)

    def moments_alone(
        self, at: At, state: State | None = None
    ) -> Iterator[tuple[GradientTransformation, At]]:
        """`moments` by its clock, where there is a state."""
        yield from self.moments(at, state)

    def routes(self, params: Tree) -> list[Route]:
        """What becomes of each leaf of `params` (`None` counts as one), for `describe`."""
        values = [
            [f"{name}={shown(v)}" for v in label_tree(self, value, params)]
            for name in self._leaves
            if name != "axes" and _differs(value := getattr(self, name))
        ]
        name = type(self).__name__
        if not values:
            return [Route(name) for _ in named_leaves(params)]
        return [Route(f"{name}({', '.join(own)})") for own in zip(*values, strict=True)]

    def describe(self, params: Tree) -> None:
        """Prints who moves which array of `params` (or of its shapes), as what and why.

        Hyperparameters that differ between arrays, decays under a mask among them, are shown.
        """
        print(table(params, self.routes(params)))

    def hyperparameters(self, state: State | None = None, *, count: Any = None) -> dict[str, Any]:
        """All hyperparameters by name: a flat dict of Python numbers, for a logger.

        Those that the next step uses: schedules are read at the count that their part has in the
        state, else after `count` updates (0) none of which was left out for a fault. A name is the
        field where no other has it, such as "learning_rate", else the shortest end of its path; it
        stays when a wrapper is put around all or around a group: what is the wrapper's gives way
        ("ema.decay"). `replace` takes the same names. Values along axes and of stacks are lists, as
        are those of `separately` where its arrays differ; None is what cannot be read here (deleted
        arrays, those of other processes). Under a trace the numbers are arrays.
        """
        if state is not None and count is not None:
            seen = "a state and a count are given, and the state has counts of its own"
            raise type_error("hyperparameters", seen, "Pass one of them")
        # Which refuses a state of another transformation.
        moments = list(self.moments_alone(At(0 if count is None else count), state))
        tx = self if state is None else self.in_state(state)
        return plain(in_use(tx, moments))

    def in_state(self, state: State) -> Self:
        """Itself with the hyperparameters that parts of it keep in their state."""
        return self

    # How a state is saved: by what its arrays mean, not as they lie in memory; see `states`.

    def insides(self, state: State, params: Tree) -> list[Inside]:
        """The transformations whose states lie in `state`."""
        return []

    def saved_leaf(self, leaf: Mapping[str, Any], p: Any) -> Mapping[str, Any]:
        """What is saved of one array, by name, from its slots; `p` is the parameter or its shape.

        Two forms of an optimizer that mean the same save the same.
        """
        return leaf

    def loaded_leaf(self, saved: Mapping[str, Any], p: Any) -> Mapping[str, Any]:
        """The slots of one array, of which `saved_leaf` makes `saved`."""
        return saved

    def memory(self, params: Tree) -> dict[str, int]:
        """The bytes of state for such parameters, by the path of the slot, and their sum, "in all".

        Shapes are enough: arrays or `jax.ShapeDtypeStruct`s; nothing is computed.
        """
        found: dict[str, int] = {}

        def note(path: str, slot: Any, _: Any) -> Any:
            found[path] = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(slot))
            return slot

        map_slots(note, jax.eval_shape(self.init, params))
        return {**found, "in all": sum(found.values())}  # no slot has a space in its name

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter((self.init, self.update))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: int) -> Callable[..., Any]:
        return (self.init, self.update)[place]


_COUNT = (DictKey("count"), GetAttrKey("count"))


def count_in(state: State, called: str) -> Array:
    """The count of the outermost part of `state` that counts."""
    flat = jax.tree_util.tree_leaves_with_path(state)
    counts = [(len(path), leaf) for path, leaf in flat if path and path[-1] in _COUNT]
    if counts:
        return min(counts, key=operator.itemgetter(0))[1]
    raise value_error(called, "nothing in the state counts", "Count the steps yourself")


def _differs(value: Any) -> bool:
    """Whether a hyperparameter differs between arrays: `by_path` or a tree."""
    if isinstance(value, Struct):
        return isinstance(value, by_path)
    return not (value is None or jax.tree_util.all_leaves([value]))


class identity(GradientTransformation):
    """Leaves the updates as they are."""

    def init(self, params: Tree) -> State:
        return ()

    @asking()
    def update(
        self, updates: U, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[U, State]:
        return updates, state


def without_gradients(updates: Tree) -> bool:
    """Whether there are arrays, and all of their updates are `None`."""
    leaves = jax.tree.leaves(updates, is_leaf=is_none)
    return bool(leaves) and all(leaf is None for leaf in leaves)


def with_still(tx: GradientTransformation, grads: Tree, params: P, new: P) -> P:
    """New parameters; those without a gradient, or that `tx` never moves, are as they were."""
    gs = aligned(tx, jax.tree.structure(params, is_leaf=is_none), grads, "updates", "parameters")
    still = [g is None or never for g, never in zip(gs, tx.frozen(params), strict=True)]
    return with_leaves(new, still, True, params) if any(still) else new


def with_numbers(params: P, shown: P) -> P:
    """Parameters to evaluate with in which Python numbers, which nobody moved, are as they were."""
    plain = [type(p) in NUMBERS for p in jax.tree.leaves(params, is_leaf=is_none)]
    return with_leaves(shown, plain, True, params) if any(plain) else shown


def with_frozen(tx: GradientTransformation, params: P, new: P) -> P:
    """New parameters in which those that `tx` never moves are as they were."""
    still = tx.frozen(params)
    return with_leaves(new, still, True, params) if any(still) else new
