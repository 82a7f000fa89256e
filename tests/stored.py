"""What tests of `store` share: arrays of many sizes, and what the codes of a slot stand for."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx import blockwise
from gradtx.engine.slots import separate


def decoded(slot: Any) -> np.ndarray:
    (one,) = separate("test", jax.tree.structure(0), slot)
    return np.asarray(one.decode(np.dtype(np.float32)), np.float64)


def spread_out(seed: int, shape: tuple[int, ...], low: float = -4.0) -> Any:
    """Normal entries of very different sizes."""
    random = np.random.default_rng(seed)
    return jnp.asarray(random.normal(size=shape) * 10 ** random.uniform(low, 0, shape), "float32")


def eight_bits(**more: Any) -> Any:
    return blockwise(min_size=0, **more)
