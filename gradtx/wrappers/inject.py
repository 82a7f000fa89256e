"""Hyperparameters in the state: for who holds an optimizer as a static value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import tree_leaves_with_path

from gradtx.engine.hyperparameters import in_use
from gradtx.engine.plain import Each
from gradtx.engine.refusals import refuse_other_state
from gradtx.engine.step import At
from gradtx.struct import Struct, named_numbers, nearest, value_error
from gradtx.struct.along import along
from gradtx.transform import GradientTransformation, State, count_in
from gradtx.tree import Extra, Tree, path_string
from gradtx.wrappers.base import Wrapper


class InjectOwn(NamedTuple):
    """What `inject_hyperparams` keeps: numbers by the names that `tx.hyperparameters` gives."""

    # In use at the last step. One that a schedule gives follows from it and is not set here.
    hyperparams: dict[str, Any]
    schedules: dict[str, Any]  # the numbers of the schedules, such as "learning_rate.peak_value"


class inject_hyperparams(Wrapper):
    """Keeps all hyperparameters of `inner` in the state, where they are read, set and saved.

    `state.hyperparams["learning_rate"] = 0.01` holds from the next update on, without a new trace,
    where the optimizer itself is static (`TrainState` of Flax, `nnx.Optimizer`). Those that are
    schedules show the value of the last step; what can be set is in `state.schedules`. The numbers
    of the object are those of a fresh state. `hyperparams(state)` reads them through any wrappers.
    Differs from Optax, which takes a function that makes an optimizer: this takes any optimizer.
    """

    Own = InjectOwn
    kinds: ClassVar[Mapping[str, str]] = dict.fromkeys(InjectOwn._fields, "hyperparameter")

    def init_own(self, params: Tree, at: At) -> InjectOwn:
        self._refuse_axes()
        leaves = jax.tree.leaves(self.inner)
        schedules = {name: _strong(leaves[i]) for name, i in self._places()[1].items()}
        return InjectOwn(self._numbers(at, None), schedules)

    def _numbers(self, at: At, inner: State | None) -> dict[str, Array]:
        """The numbers of `inner` in use, as strongly typed arrays."""
        found = in_use(self.inner, self.inner.moments(At(at.count), inner))
        # Where arrays count for themselves, that of the first.
        numbers = {name: x.values[0] if isinstance(x, Each) else x for name, x in found.items()}
        return {name: _strong(number) for name, number in numbers.items()}

    def _refuse_axes(self) -> None:
        """Raises `ValueError` for an array with axes that nobody named."""
        for name, entry in named_numbers(self.inner).items():
            if not isinstance(entry.value, Struct) and jnp.ndim(entry.value):
                seen = f"{name} has shape {jnp.shape(entry.value)}, a hyperparameter is one number"
                raise value_error(self, seen, "Run a stack of optimizers under jax.vmap")

    def _places(self) -> tuple[dict[str, int], dict[str, int]]:
        """Which leaf of `inner` each constant is, and each number of a schedule."""
        leaves, treedef = jax.tree.flatten(self.inner)
        constants, moving = {}, {}
        for name, entry in named_numbers(treedef.unflatten(range(len(leaves)))).items():
            for path, i in tree_leaves_with_path(entry.value, is_leaf=_has_axes):
                i = i.values if _has_axes(i) else i
                if path:
                    below = jax.tree_util.keystr(path, simple=True, separator=".")
                    moving[f"{name}.{below}"] = i
                else:
                    constants[name] = i
        return constants, moving

    def in_state(self, state: State) -> Self:
        """Itself with the numbers of a state."""
        self._refuse_axes()
        leaves, treedef = jax.tree.flatten(self.inner)
        known = named_numbers(self.inner)
        for name in state.hyperparams:
            if name not in known:
                seen = f"there is no hyperparameter {name!r} to be set"
                raise value_error(self, seen, nearest(name, known))
        for kept, places in zip((state.hyperparams, state.schedules), self._places(), strict=True):
            for name, i in places.items():
                if name not in kept:
                    seen = f"{name!r} is missing among the hyperparameters of the state"
                    raise value_error(self, seen, "Set those that are there")
                number, own = kept[name], _strong(leaves[i])
                same = isinstance(number, Array) and number.dtype == own.dtype
                leaves[i] = number if same else jnp.asarray(number).astype(own.dtype)
        inner: GradientTransformation = treedef.unflatten(leaves)
        return self.with_fields(inner=inner.in_state(state.inner))

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        self.refuse(updates, state, params, extra)
        tx = self.in_state(state)
        updates, new = Wrapper.update_part(tx, updates, state, params, at, extra)
        return updates, tx.with_numbers(new, state, at)

    def step_part(
        self, grads: Tree, state: State, params: Tree, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        self.refuse(grads, state, params, extra)
        tx = self.in_state(state)
        params, new = Wrapper.step_part(tx, grads, state, params, at, extra)
        return params, tx.with_numbers(new, state, at)

    def with_numbers(self, new: State, before: State, at: At) -> State:
        """The new state with the numbers that were in use for it."""
        return new._replace(hyperparams=self._numbers(at, before.inner))

    def evaluated(self, state: State, params: Tree, at: At) -> Tree:
        return Wrapper.evaluated(self.in_state(state), state, params, at)

    def moments(
        self, at: At, state: State | None = None
    ) -> Iterator[tuple[GradientTransformation, At]]:
        if state is None:
            return Wrapper.moments(self, at)
        refuse_other_state(self, state, self.Part, "hyperparameters")
        return Wrapper.moments(self.in_state(state), at, state)


def _has_axes(entry: Any) -> bool:
    return isinstance(entry, along)


def _strong(number: Any) -> Array:
    """A number as an array of the widest dtype of its kind that JAX has; a random key as it is."""
    array = jnp.asarray(number)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return array
    kinds = ((jnp.floating, float), (jnp.integer, int))
    widest = next((k for kind, k in kinds if jnp.issubdtype(array.dtype, kind)), array.dtype)
    return jax.lax.convert_element_type(array, jnp.result_type(widest))


def hyperparams(state: State) -> dict[str, Array]:
    """The hyperparameters in use at the last step, and the "count" of steps, through any wrappers.

    Where two `inject_hyperparams` keep one of the same name, its path in the state comes before it.
    Raises `ValueError` where no `inject_hyperparams` keeps them in the state.
    """

    def is_kept(x: Any) -> bool:
        return isinstance(getattr(x, "hyperparams", None), dict)

    flat = tree_leaves_with_path(state, is_leaf=is_kept)
    found = [(path_string(path), x.hyperparams) for path, x in flat if is_kept(x)]
    if not found:
        seen = "no hyperparameters are kept in the state"
        raise value_error("hyperparams", seen, "Make the optimizer with inject_hyperparams(...)")
    often = Counter(name for _, kept in found for name in kept)
    named = {
        f"{where}/{name}" if often[name] > 1 else name: number
        for where, kept in found
        for name, number in kept.items()
    }
    return {"count": count_in(state, "hyperparams"), **named}
