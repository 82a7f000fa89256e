"""Arrays in the memory of the host and of the device: moved, and computed with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.core import Tracer

KINDS = {"device": jax.memory.Space.Device, "pinned_host": jax.memory.Space.Host}
"""Kinds of memory under a trace, where shardings are not known."""


def put(x: Any, kind: str) -> Any:
    """An array in a kind of memory, such as "pinned_host"; numbers stay where they are."""
    if not isinstance(x, Array) or x.ndim == 0:
        return x
    if not isinstance(x, Tracer):
        return jax.device_put(x, x.sharding.with_memory_kind(kind))
    # A derivative goes back the way, and has to be told where it starts.
    return jax.device_put(x, KINDS[kind], src=jax.typeof(x).memory_space)


def kind_of(x: Any) -> str:
    """The kind of memory in which an array lies."""
    if not isinstance(x, Tracer):
        return getattr(getattr(x, "sharding", None), "memory_kind", None) or "device"
    return "pinned_host" if jax.typeof(x).memory_space == KINDS["pinned_host"] else "device"


def on_device(function: Callable[..., Any], *values: Any) -> Any:
    """`function(*values)`; of values in host memory it is computed on the device, and put back."""
    kinds = (kind_of(x) for x in jax.tree.leaves(values))
    host = next((kind for kind in kinds if kind.endswith("host")), None)
    if host is None:
        return function(*values)
    moved = jax.tree.map(lambda x: put(x, "device"), values)
    return jax.tree.map(lambda y: put(y, host), function(*moved))
