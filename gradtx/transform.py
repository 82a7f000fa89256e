"""What a transformation is: `init`, `update`; and what every user calls on one.

A transformation is a pure pair: `init(params)` makes the state, `update(updates, state, params)`
turns gradients into updates. `step` does update and `apply_updates` in one. The object holds the
definition and never the state.
"""

from __future__ import annotations

import abc
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import DictKey, GetAttrKey

from gradtx.engine.init import whole
from gradtx.engine.placement import zero_count
from gradtx.engine.refusals import kind_of_state
from gradtx.engine.rounding import is_narrow, round_to, seed_from_key
from gradtx.engine.slots import map_slots
from gradtx.engine.step import At, next_count
from gradtx.paths import Route, aligned, table
from gradtx.schedules.base import Schedule, evaluate
from gradtx.struct import NUMBERS, Static, Struct, complaint, fields_below, static
from gradtx.tree import Tree, is_inexact, is_none, named_leaves, path_salt, widest

State = Any
"""A pytree of arrays that one update hands to the next."""

_DATA = (jax.Array, np.ndarray, np.generic, *NUMBERS)
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Runs `function` as one cached compiled function when it is called outside of any trace.

    Under a trace, or with an argument that is not data (a function, a shape), it runs as it is.
    """
    jitted = jax.jit(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        leaves = jax.tree.leaves((args, kwargs))
        data = all(isinstance(x, _DATA) and not isinstance(x, Tracer) for x in leaves)
        return (jitted if data else function)(*args, **kwargs)

    return call  # pyright: ignore[reportReturnType]


class GradientTransformation(Struct, abc.ABC):
    """A pure pair `(init, update)` whose hyperparameters are its leaves.

    Subclass it for what depends on more than one array; what treats every array alone is a
    `Rule`. It can be unpacked as `init, update = tx`. Extra arguments of `update` reach every part
    and are ignored by those that have no use for them.
    """

    needs: ClassVar[tuple[str, ...]] = ()  # arguments of `update` that it cannot do without
    wants: ClassVar[tuple[str, ...]] = ()  # those that it uses where they are given

    @abc.abstractmethod
    def init(self, params: Tree) -> State:
        """The state before the first update, from the parameters or their shapes."""

    @abc.abstractmethod
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        """The transformed updates, in the dtype in which they came, and the next state."""

    @compiled
    def step(self, grads: Tree, state: State, params: Tree, **extra: Any) -> tuple[Tree, State]:
        """`(params, state)` after `update` and `apply_updates`, computed together."""
        updates, state = self.update(grads, state, params, **extra)
        return apply_updates(params, updates), state

    def eval_params(self, state: State, params: Tree) -> Tree:
        """The parameters to evaluate the model with: `params`, unless a part averages them."""
        return params

    def count(self, state: State) -> Array:
        """The updates done, as the outermost part of `state` that counts has them."""
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            if path and path[-1] in _COUNT:
                return leaf
        raise ValueError(
            complaint(f"{self}.count", "nothing in the state counts", "Count the steps yourself")
        )

    # As a part of another, under whose clock it may run: by default it keeps its own.

    def init_part(self, params: Tree, at: At) -> State:
        """The state of this part of an optimizer; see `Clocked`."""
        return self.init(params)

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Mapping[str, Any]
    ) -> tuple[Tree, State]:
        """`update` of this part at a moment."""
        return self.update(updates, state, params, **extra)

    def step_part(
        self, grads: Tree, state: State, params: Tree, at: At, extra: Mapping[str, Any]
    ) -> tuple[Tree, State]:
        """`step` of this part at a moment."""
        updates, state = self.update_part(grads, state, params, at, extra)
        return apply_updates(params, updates), state

    def eval_part(self, state: State, params: Tree, at: At) -> Tree:
        """`eval_params` of this part after `at.count` updates."""
        return self.eval_params(state, params)

    def moments(self, at: At, state: State | None = None) -> Iterator[tuple[Any, At]]:
        """Every transformation in this one, and the count that its schedules read; its place too.

        Without a state, the count of a part that skips steps is what it would be without a fault.
        """
        yield self, at

    def routes(self, params: Tree) -> list[Route]:
        """What becomes of each leaf of `params` (`None` counts as one), for `describe`."""
        return [Route(type(self).__name__) for _ in named_leaves(params)]

    def describe(self, params: Tree) -> None:
        """Prints who moves which array of `params` (or of its shapes), as what and why."""
        print(table(params, self.routes(params)))

    def hyperparameters(self, count: Any = 0) -> dict[str, Any]:
        """All hyperparameters by path, schedules evaluated at `count`: a flat dict for loggers."""
        found = {}
        for path, value, chooses_code in fields_below(self, whole=(Schedule,)):
            if chooses_code or (isinstance(value, Struct) and not isinstance(value, _MOVING)):
                continue
            below = jax.tree.map(
                lambda v: evaluate(v, count), value, is_leaf=lambda v: isinstance(v, _MOVING)
            )
            for name, number in named_leaves(below):
                found[".".join((*path, name) if name else path)] = number
        return {path: number for path, number in found.items() if number is not None}

    def memory(self, params: Tree) -> dict[str, int]:
        """The bytes of state for such parameters, by the path of the slot, and their "total".

        Shapes are enough: arrays or `jax.ShapeDtypeStruct`s; nothing is computed.
        """
        found: dict[str, int] = {}

        def note(path: str, slot: Any, _: bool) -> Any:
            found[path] = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(slot))
            return slot

        map_slots(note, jax.eval_shape(self.init, params))
        return {**found, "total": sum(found.values())}

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter((self.init, self.update))

    def __len__(self) -> int:
        return 2


_MOVING = (Schedule, Static)
_COUNT = (DictKey("count"), GetAttrKey("count"))


@compiled
def apply_updates(params: Tree, updates: Tree, key: Any = None) -> Tree:
    """`params + updates`, added at least in float32, in the dtype of the parameters.

    With a random key (or a number for one), which should be another at every step, parameters
    below float32 are rounded at random: small updates count on average. A parameter whose update
    is `None` stays as it is, and so does one that is no floating or complex array. Raises
    `ValueError` where trees or shapes differ.
    """
    if key is not None and not jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key):
        key = jax.random.key(key)
    leaves, treedef = jax.tree.flatten(params, is_leaf=is_none)
    changes = aligned("apply_updates", treedef, updates, "updates", "parameters")

    def add(index: int, p: Any, u: Any) -> Any:
        if p is None or u is None or not is_inexact(p):
            return p
        if np.shape(p) != np.shape(u):
            path = named_leaves(params)[index][0]
            raise ValueError(
                complaint(
                    "apply_updates",
                    f"at {path!r} the parameter has shape {np.shape(p)}, the update {np.shape(u)}",
                    "Pass updates of the same parameters",
                )
            )
        p, u, dtype = jnp.asarray(p), jnp.asarray(u), widest([p, u])
        if p.dtype == u.dtype == dtype:
            return jax.lax.add(p, u)
        total = p.astype(dtype) + u.astype(dtype)
        if key is not None and is_narrow(p.dtype):
            own = jax.random.fold_in(key, path_salt(named_leaves(params)[index][0]))
            total = round_to(total, p.dtype, seed_from_key(own))
        return total.astype(p.dtype)

    return treedef.unflatten(
        add(index, p, u) for index, (p, u) in enumerate(zip(leaves, changes, strict=True))
    )


class identity(GradientTransformation):
    """Leaves the updates as they are."""

    def init(self, params: Tree) -> State:
        return ()

    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        return updates, state


class foreign(GradientTransformation):
    """A transformation from elsewhere, such as one of Optax, as a part of ours.

    It is held as a static value: its hyperparameters are closed over and cannot be edited.
    """

    transformation: Any = static()

    def init(self, params: Tree) -> State:
        return self.transformation.init(params)

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        signature = inspect.signature(self.transformation.update)
        if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            extra = {}
        return self.transformation.update(updates, state, params, **extra)


def as_transformation(called: Any, value: Any) -> GradientTransformation:
    """`value` as a transformation; refuses what is none, a forgotten call above all."""
    if isinstance(value, GradientTransformation):
        return value
    methods = (getattr(value, "init", None), getattr(value, "update", None))
    if all(map(callable, methods)) and not isinstance(value, type):
        return foreign(value)
    name = getattr(value, "__name__", None)
    raise TypeError(
        complaint(
            called,
            f"{name or repr(value)} is not a gradient transformation",
            f"Call it: {name}(...)" if callable(value) and name else "Pass one, such as adam(1e-3)",
        )
    )


class Clocked(GradientTransformation):
    """A transformation that counts its updates, unless it is a part of one that does.

    A subclass says what it does as a part: `init_part`, `update_part`. Its state as a part has no
    count. Alone it has the same with the count beside: an entry or a field `count` in front.
    """

    _part_names: ClassVar[tuple[str, ...]] = ()  # the other entries of a state that is a mapping

    @abc.abstractmethod
    def init_part(self, params: Tree, at: At) -> State: ...

    @abc.abstractmethod
    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Mapping[str, Any]
    ) -> tuple[Tree, State]: ...

    def eval_part(self, state: State, params: Tree, at: At) -> Tree:
        return params

    @whole
    def init(self, params: Tree) -> State:
        count = zero_count(params)
        return self._with_count(count, self.init_part(params, At(count)))

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        count, part = self._without_count(state)
        updates, part = self.update_part(updates, part, params, At(count), extra)
        return updates, self._with_count(next_count(count), part)

    @compiled
    def step(self, grads: Tree, state: State, params: Tree, **extra: Any) -> tuple[Tree, State]:
        count, part = self._without_count(state)
        params, part = self.step_part(grads, part, params, At(count), extra)
        return params, self._with_count(next_count(count), part)

    @compiled
    def eval_params(self, state: State, params: Tree) -> Tree:
        count, part = self._without_count(state)
        return self.eval_part(part, params, At(count))

    def _with_count(self, count: Array, part: State) -> State:
        return {"count": count, **part}

    def _without_count(self, state: State) -> tuple[Array, State]:
        """The count and the state as a part. Raises for a state of another transformation."""
        refuse_other_parts(self, state, ("count", *self._part_names))
        return state["count"], {name: part for name, part in state.items() if name != "count"}


def refuse_other_parts(called: Any, state: State, parts: Iterable[Any]) -> None:
    """Raises for a state that is not a mapping with an entry for each part."""
    if isinstance(state, Mapping) and set(state) == set(parts):
        return
    seen = (
        f"the state has the parts {list(state)}"
        if isinstance(state, Mapping)
        else (f"the state is {kind_of_state(state)}")
    )
    raise TypeError(
        complaint(
            f"{called}.update",
            f"{seen}, the optimizer {list(parts)}",
            "Pass the state that this optimizer's init or last update returned",
        )
    )
