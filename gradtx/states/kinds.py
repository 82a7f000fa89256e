"""Whether one array can take the place of another, and how it gets there."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.engine.codes import Stored
from gradtx.engine.placement import sharding_of


def unlike(x: Any, like: Any, where: tuple[str, str] = ("there", "here")) -> str:
    """What keeps an array from the place of another, in words, or nothing."""
    pairs = [(tuple(y.shape), _kind(y)) for y in (x, like)]
    for one, other in zip(*pairs, strict=True):
        if one != other:
            return f"is {one} {where[0]}, {other} {where[1]}"
    return ""


def _kind(x: Any) -> str:
    """The kind of numbers among which a conversion loses digits at most."""
    if isinstance(x, Stored):
        return "floating"
    kinds: tuple[tuple[str, Any], ...] = (
        ("floating", jnp.floating),
        ("complex", jnp.complexfloating),
        ("integer", jnp.integer),
    )
    return next((name for name, kind in kinds if jnp.issubdtype(x.dtype, kind)), str(x.dtype))


def placed(x: Any, like: Any) -> Any:
    """A copy of an array in the dtype of another and where that lies, or is to lie."""
    if isinstance(x, Tracer) or isinstance(like, Tracer):
        return jnp.asarray(x).astype(like.dtype)
    place = sharding_of(like)
    if place is None:
        return jnp.array(np.asarray(x), dtype=like.dtype, copy=True)
    if place.is_fully_addressable:
        return jax.device_put(x.astype(like.dtype), place, may_alias=False)
    if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
        move = jax.jit(lambda x: jnp.array(x, like.dtype, copy=True), out_shardings=place)
        return move(x)
    # Of several processes each puts what its own devices have.
    host = np.asarray(x).astype(like.dtype)
    return jax.make_array_from_callback(host.shape, place, lambda part: host[part])
