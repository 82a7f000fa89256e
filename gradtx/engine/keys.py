"""Random keys: of a part of an optimizer, an array and a step."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from gradtx.engine.step import At
from gradtx.struct import Fixed, converted, type_error, value_error


def as_seed(value: Any, called: str = "random_key") -> Any:
    """A seed as it is kept: an integer or a random key. No integer is narrowed.

    Raises `TypeError` for what is neither, `ValueError` for one of more than 64 bits.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**64:
            raise value_error(called, f"the key is {value!r}", "Pass an integer of at most 64 bits")
        # A leaf of JAX has 32 bits: it would be an error where it is traced.
        return value if -(2**31) <= value < 2**31 else Fixed(int(value))
    if isinstance(value, jax.Array | jax.ShapeDtypeStruct | np.ndarray) and _is_seed(value.dtype):
        return value
    if isinstance(value, Fixed):
        return value
    raise type_error(called, f"the key is {value!r}", "Pass an integer, or a key of jax.random.key")


def random_key(*, default: Any = dataclasses.MISSING) -> Any:
    """Declares the field of a `random` rule with its seed: an integer, or a key.

    It is a leaf, so that each of a stack of optimizers may have its own, but no hyperparameter.
    """
    return converted(converter=as_seed, default=default, hyperparameter=False)


def _is_seed(dtype: DTypeLike) -> bool:
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jax.dtypes.prng_key)


def as_key(seed: Any) -> Array:
    """The random key of a seed."""
    if isinstance(seed, Fixed):
        # In two halves, since what JAX makes of 64 bits depends on its settings.
        low, high = np.uint32(seed.value & 0xFFFFFFFF), np.uint32((seed.value >> 32) & 0xFFFFFFFF)
        return jax.random.fold_in(jax.random.key(low), high)
    typed = jnp.issubdtype(jnp.result_type(seed), jax.dtypes.prng_key)
    return seed if typed else jax.random.key(seed)


def array_key(seed: Any, name: str, at: At, path: tuple[Any, ...]) -> Array:
    """The random key of one array in a rule called `name`, the same at all steps.

    It depends on the place of the rule in the whole optimizer, so that no two draw the same
    numbers, and not on the order or placing of the arrays.
    """
    return jax.random.fold_in(as_key(seed), salt((*at.place, name), path))


def salt(place: tuple[str, ...], path: tuple[Any, ...]) -> np.uint32:
    """A number that belongs to an array in a part of an optimizer."""
    # The keys one by one: joined strings of different paths can be the same.
    return np.uint32(zlib.crc32(repr((place, [*map(_told_apart, path)])).encode()))


def _told_apart(key: Any) -> str:
    """A key of a path: names are the same in a dict and in a class, places in a list are not."""
    name = getattr(key, "name", getattr(key, "key", None))
    return repr(name) if isinstance(name, str | int) else str(key)
