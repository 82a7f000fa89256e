"""When and where a part of an optimizer runs, and what its formula for one array gets to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, lax


class At(NamedTuple):
    """The moment of a step and the place of a part in the whole optimizer.

    Parts that always step together are handed one count, by what holds them. The place, names of
    parts from the outermost on, keeps their random numbers apart.
    """

    count: Any  # updates done before this one, int32  # pyright: ignore
    place: tuple[str, ...] = ()
    whole: bool = True  # whether it gets all arrays that its hyperparameters speak of
    owners: Any = None  # the `Owners` over whose devices matrices are shared out, or None

    def inside(self, name: Any) -> At:
        """The same moment, in a part of this name."""
        return self._replace(place=(*self.place, str(name)))


class Step(NamedTuple):
    """What `update_leaf` gets to know of a step beside its arrays."""

    t: Array  # the number of the step, from 1, in the real dtype of the arithmetic
    count: Any  # the same less one as an int32: exact where `t` is not  # pyright: ignore
    shared: Any = None  # what all arrays share: from `Rule.shared` or `JointRule.decide`
    source: Array | None = None  # a random key of this rule and array, if the rule is `random`
    place: Any = None  # how many arrays come before this one, if the rule is `numbered`
    extra: Mapping[str, Any] = {}  # arguments of `update` that the rule `needs` or `wants`

    @property
    def key(self) -> Array:
        """A random key of this rule, array and step."""
        return self.key_of(self.count)

    def key_of(self, turn: Array) -> Array:
        """The same for a turn of several steps, from its number."""
        if self.source is None:
            raise TypeError("the rule has no seed. Declare one: `key: Any = random_key(default=0)`")
        return jax.random.fold_in(self.source, turn)


def next_count(count: Array) -> Array:
    """The count after this step; it stays at its largest value rather than wrap around."""
    return lax.min(count, np.int32(2**31 - 2)) + np.int32(1)
