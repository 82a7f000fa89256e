"""Pieces of schedules: the share of a length that has passed, and interpolation."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.schedules.base import as_steps
from gradtx.struct import numbers


def fraction(count: Any, steps: Any, begin: Any = 0) -> Array:
    """How much of `steps` steps from `begin` has passed, in [0, 1]; all of it for no steps."""
    done, steps = as_steps(count) - begin, as_steps(steps)
    some = steps > 0
    share = jnp.clip(done / jnp.where(some, steps, 1), 0, 1)
    return jnp.where(some, share, (done >= 0).astype(share.dtype))


def between(start: Any, end: Any, weight: Array) -> Array:
    """`start` where the weight is one, `end` where it is zero, exactly."""
    return weight * start + (1 - weight) * end


def cosine(s: Array) -> Array:
    # cos^2(pi s / 2) = (1 + cos(pi s)) / 2 without the cancellation near s = 1.
    return jnp.where(s < 1, jnp.square(jnp.cos(0.5 * jnp.pi * s)), 0)


def known(*values: Any) -> list[float] | None:
    """The numbers, if all are known without a device; NumPy's among them."""
    found = [number for value in values for _, number in numbers(value)]
    return found if len(found) == len(values) else None
