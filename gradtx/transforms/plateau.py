"""Smaller steps once a value has stopped falling."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx.rule import HyperField, JointRule
from gradtx.struct import within


class reduce_on_plateau(JointRule):
    """Multiplies updates by a scale that falls when `value=` has not improved for a while.

    An improvement is avg < best - rtol |best| - atol, where avg is the mean of `accumulation_size`
    values. After `patience` averages without one the scale is multiplied by `factor`, but stays at
    `min_scale`, and the next `cooldown` averages do not count. Pass `update(..., value=loss)`.
    Differs from PyTorch, which waits for one average more than `patience`.
    """

    factor: HyperField = within("(0, 1)", default=0.1)
    patience: HyperField = within("(0, inf)", default=10)
    rtol: HyperField = within("[0, 1]", default=1e-4)
    atol: HyperField = within("[0, inf)", default=0.0)
    cooldown: HyperField = within("[0, inf)", default=0)
    accumulation_size: HyperField = within("(0, inf)", default=1)
    min_scale: HyperField = within("[0, 1]", default=0.0)

    class Globals(NamedTuple):
        scale: Array
        best_value: Array
        plateau_count: Array  # values without an improvement
        cooldown_count: Array  # values that are still left out
        seen: Array  # values in the present average
        avg_value: Array

    needs: ClassVar[tuple[str, ...]] = ("value",)

    def init_globals(self) -> Globals:
        largest = float(np.finfo(np.float32).max)  # inf would not survive arithmetic
        return self.Globals(1.0, largest, 0.0, 0.0, 0.0, 0.0)  # pyright: ignore[reportArgumentType]

    def decide(
        self, sums: Any, globals_: Globals, t: Array, **extra: Array
    ) -> tuple[Globals, Array]:
        old = globals_
        seen = old.seen + 1
        average = old.avg_value + (extra["value"] - old.avg_value) / seen
        full = seen >= self.accumulation_size
        better = average < old.best_value - self.rtol * jnp.abs(old.best_value) - self.atol
        cooling = old.cooldown_count > 0
        waited = jnp.where(better | cooling, 0, old.plateau_count + 1)
        lower = waited >= self.patience
        decided = self.Globals(
            jnp.where(lower, jnp.maximum(old.scale * self.factor, self.min_scale), old.scale),
            jnp.where(better, average, old.best_value),
            jnp.where(lower, 0, waited),
            jnp.where(cooling, old.cooldown_count - 1, jnp.where(lower, self.cooldown, 0)),
            jnp.zeros_like(seen),
            jnp.zeros_like(average),
        )
        waiting = old._replace(seen=seen, avg_value=average)
        new = self.Globals(*(jnp.where(full, x, y) for x, y in zip(decided, waiting, strict=True)))
        return new, new.scale
