"""A model, its gradients, and what runs of optimizers on it are compared by."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SHAPES = {"dense": {"bias": (6,), "kernel": (4, 6)}, "scale": ()}


def model(seed: int = 0, dtype: Any = np.float32) -> Any:
    """Normal numbers in the shapes of a small model."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(random.normal(size=shape), dtype),
        SHAPES,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def trained(tx: Any, steps: int = 3, params: Any = None) -> tuple[Any, Any]:
    """Parameters and state after some steps."""
    params = model() if params is None else params
    state = tx.init(params)
    for k in range(steps):
        grads = jax.tree.map(lambda g, p: g.astype(p.dtype), model(k + 1), params)
        params, state = tx.step(grads, state, params)
    return params, state


def arrays(flat: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a saved state, without its schema."""
    return {name: np.asarray(x) for name, x in flat.items() if name != "#schema"}


def assert_bits(one: Any, other: Any) -> None:
    """Two trees of one structure, dtypes and bits."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def said(report: Any) -> dict[str, Any]:
    """What a report tells beside what was loaded."""
    return {name: found for name, found in vars(report).items() if name != "loaded" and found}
