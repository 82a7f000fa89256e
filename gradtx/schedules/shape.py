"""Pieces of schedules: interpolation and the shapes between two values."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.struct import numbers
from gradtx.tree import root

# Shapes that rise from 0 to 1 by the share that has passed and the share that is left: of two
# numbers that add up to one the smaller loses its digits when it is found from the larger.
RISES = {
    "linear": lambda share, left: share,
    "cosine": lambda share, left: cosine(left, share),
    "sqrt": lambda share, left: root(share),
    "square": lambda share, left: jnp.square(share),
    "1-sqrt": lambda share, left: share / (1 + root(left)),
    "1-square": lambda share, left: share * (1 + left),
}


def between(start: Any, end: Any, weight: Array, rest: Array | None = None) -> Array:
    """`start` where the weight is one, `end` where it is zero, exactly; `rest` is what it lacks."""
    return weight * start + (1 - weight if rest is None else rest) * end


def cosine(share: Array, left: Array) -> Array:
    """(1 + cos(pi share)) / 2 as cos^2 or, near its end, as the sine of what is left."""
    late = left < 0.5
    wave = jnp.where(late, jnp.sin(0.5 * jnp.pi * left), jnp.cos(0.5 * jnp.pi * share))
    return jnp.square(wave)


def power(weight: Array, exponent: Any) -> Array:
    """A power with a finite derivative at zero, for any exponent."""
    some = weight > 0
    at_zero = jnp.equal(exponent, 0).astype(weight.dtype)
    return jnp.where(some, jnp.where(some, weight, 1) ** exponent, at_zero)


def known(*values: Any) -> list[float] | None:
    """The numbers, if all are known without a device; NumPy's among them."""
    found = [number for value in values for _, number in numbers(value)]
    return found if len(found) == len(values) else None
