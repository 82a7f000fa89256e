"""Equinox models as parameters and a function to put them together again."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax import Array


class Network:
    """`draw(key)` gives the arrays of a fresh model, calling the network the model itself.

    Whatever is not a float array (activations, sizes) is the same for all models and lives here,
    so that parameters can be stacked; in them it is `None`.
    """

    def __init__(self, build: Callable[[Array], Any]) -> None:
        self._build = build
        self._rest = eqx.filter(build(jax.random.key(0)), eqx.is_inexact_array, inverse=True)

    def draw(self, key: Array) -> Any:
        return eqx.filter(self._build(key), eqx.is_inexact_array)

    def __call__(self, params: Any) -> Any:
        return eqx.combine(params, self._rest)

    def each(self, params: Any, inputs: Array) -> Array:
        """What the model makes of every row of `inputs`."""
        return jax.vmap(self(params))(inputs)
