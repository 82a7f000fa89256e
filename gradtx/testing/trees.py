"""Small trees of NumPy arrays on which transformations are tried."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SHAPES = {"dense": {"bias": (8,), "kernel": (8, 3)}, "scale": ()}
NARROW = ("float32", "bfloat16", "float16")
WIDE = (*NARROW, "float64")
PAIRS = tuple((p, g) for p in NARROW for g in NARROW)
WIDE_PAIRS = tuple((p, g) for p in WIDE for g in WIDE if "float64" in (p, g))
MIXED = (
    ("bfloat16", "bfloat16"),
    ("float16", "float16"),
    ("float32", "bfloat16"),
    ("bfloat16", "float32"),
)


def tree(seed: int, dtype: Any = "float32", shapes: Any = SHAPES) -> Any:
    """Normal numbers."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: np.asarray(random.normal(size=shape), jnp.dtype(dtype)),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def paired(pairs: Any, seed: int = 0) -> tuple[Any, Any]:
    """Parameters and gradients with a matrix for each pair of their dtypes."""
    random = np.random.default_rng(seed)
    draw = {pair: random.normal(size=(2, 4, 3)) for pair in pairs}
    params = {f"{p} {g}": x[0].astype(jnp.dtype(p)) for (p, g), x in draw.items()}
    grads = {f"{p} {g}": x[1].astype(jnp.dtype(g)) for (p, g), x in draw.items()}
    return params, grads


def widened(values: Any, dtype: str = "float32") -> Any:
    return jax.tree.map(lambda x: np.asarray(x).astype(dtype), values)


def zeros(values: Any) -> Any:
    return jax.tree.map(lambda x: np.zeros(np.shape(x), x.dtype), values)


def jolted(values: Any, seed: int) -> Any:
    """Every entry off by at most the last digit of a float32."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: (x * (1 + 2.0**-23 * random.uniform(-1, 1, np.shape(x)))).astype(x.dtype), values
    )


def complex_pair(dtype: str = "complex64") -> tuple[Any, Any]:
    """A complex parameter and a gradient."""
    random = np.random.default_rng(5)
    p = random.normal(size=(8, 3)) + 1j * random.normal(size=(8, 3))
    return {"c": p.astype(dtype)}, {"c": (2 * p[::-1].conj() - 0.5).astype(dtype)}


EMPTY = {"absent": None, "empty": {}, "tuple": ()}


def unmoved() -> Any:
    """Leaves that no optimizer moves."""
    return {
        "flag": np.array([True, False]),
        "index": np.arange(3, dtype=np.int32),
        "key": jax.random.key(0),
        "small": np.arange(2, dtype=np.uint8),
    }


def no_gradients(leaves: Any) -> Any:
    """The gradients that `jax.grad(..., allow_int=True)` gives for such leaves."""
    return jax.tree.map(lambda x: np.zeros(x.shape, jax.dtypes.float0), leaves)
