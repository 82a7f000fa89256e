"""Numbers for loggers: of Python, in lists where they have axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


class Each(NamedTuple):
    """Numbers of arrays that each count for themselves, along the first axis."""

    values: Any


def here(x: Any) -> Any:
    """What this process can read of a number; None if it was deleted or lies elsewhere."""
    if isinstance(x, Tracer) or not isinstance(x, jax.Array):
        return x
    if x.is_deleted():
        return None
    if x.is_fully_addressable:
        return x
    if not x.is_fully_replicated:
        return None
    own = x.addressable_data(0)
    # On no device: its own is another than those of a mesh under which this is called.
    return own if jnp.issubdtype(x.dtype, jax.dtypes.extended) else np.asarray(own)


def plain(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Python numbers, lists where they have axes, all fetched together; traced ones as they are.

    None stands for an array that was deleted or lies on devices of other processes.
    """
    found = {name: here(x.values if isinstance(x, Each) else x) for name, x in numbers.items()}
    fetched = jax.device_get({name: _bits(x) for name, x in found.items() if _is_known(x)})
    for name, array in fetched.items():
        value = np.asarray(array).tolist()
        is_one = isinstance(numbers[name], Each) and all(x == value[0] for x in value)
        found[name] = value[0] if is_one else value
    return found


def _is_known(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray | np.generic) and not isinstance(x, Tracer)


def _bits(x: Any) -> Any:
    """The bits of a random key; any other array as it is."""
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
