"""What multiplies all arrays by one number and remembers numbers for it."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from gradtx.engine.hyperparameters import for_all_arrays, narrowed
from gradtx.engine.placement import zero_count
from gradtx.engine.run import next_count, refuse_missing, refuse_other_state, run
from gradtx.rule import NoSlots, state_type
from gradtx.transform import GradientTransformation, State, compiled
from gradtx.tree import Tree, is_inexact, real_dtype, widest


class RememberingScale(GradientTransformation):
    """A transformation that multiplies every array by one number, with a memory of numbers.

    A subclass names what it remembers in `Globals`, real scalars of at least float32 that begin
    with `start`, and finds the factor and the new memory in `decide`, where its hyperparameters
    are numbers, `t` counts from 1 and extra arguments that it `needs` are scalars.
    """

    Globals: ClassVar[Any]
    Slots: ClassVar[Any] = NoSlots
    State: ClassVar[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.State = state_type(cls)  # pyright: ignore[reportArgumentType]

    @abc.abstractmethod
    def start(self) -> Any:
        """The memory before the first step."""

    @abc.abstractmethod
    def decide(self, updates: Tree, old: Any, t: Array, **extra: Array) -> tuple[Array, Any]:
        """The factor and the new memory."""

    def init(self, params: Tree) -> State:
        count = zero_count(params)
        numbers = for_all_arrays(self, count)
        real = real_dtype(widest([p for p in jax.tree.leaves(params) if is_inexact(p)]))
        start = (jnp.asarray(x, real) + count.astype(real) for x in numbers.start())
        return self.State(count, *start)

    @compiled
    def update(
        self, updates: Tree, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, State]:
        refuse_other_state(self, state, self.State)
        refuse_missing(self, updates, {"params": params, **extra})
        old, t = self.Globals(*state[1:]), next_count(state.count)
        arrays = [g for g in jax.tree.leaves(updates) if is_inexact(g)]
        real = jnp.result_type(*old) if old else real_dtype(widest(arrays))
        numbers = narrowed(for_all_arrays(self, state.count), real)
        needed = {k: jnp.asarray(extra[k]) for k in self.needs if extra.get(k) is not None}
        if all(map(needed.__contains__, self.needs)):  # else there is no array to scale
            needed = {k: x.astype(real) for k, x in needed.items()}
            with jax.named_scope(type(self).__name__):
                factor, new = numbers.decide(updates, old, t.astype(real), **needed)
        else:
            factor, new = jnp.ones((), real), old
        updates, _ = run((), updates, (), params, factor)
        return updates, self.State(t, *(x.astype(y.dtype) for x, y in zip(new, old, strict=True)))
