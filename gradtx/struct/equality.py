"""When two objects are equal: numbers by type and value, arrays by their bits, never an error.

Equal optimizers are one static argument of `jax.jit`, also after they were saved and restored.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

NUMBERS = (bool, int, float, complex)


def same(a: Any, b: Any) -> bool:
    """Equality of trees that never fails.

    Python and NumPy numbers are equal by type and value, arrays by their bits where these can be
    read (which waits for their values); anything else (tracers, donated arrays, arrays of other
    machines) is equal to itself only.
    """
    if a is b:
        return True
    leaves_a, structure_a = jax.tree.flatten(a)
    leaves_b, structure_b = jax.tree.flatten(b)
    return structure_a == structure_b and all(map(_same_leaf, leaves_a, leaves_b))


def fingerprint(tree: Any) -> int:
    """A hash that fits `same`: of numbers by type and value, of arrays by shape and dtype.

    It waits for no device.
    """
    leaves, structure = jax.tree.flatten(tree)
    return hash((structure, tuple(map(_mark, leaves))))


def _same_leaf(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if _mark(a) != _mark(b):
        return False
    if not _is_array(a):
        return True  # the mark says it all
    if not (_is_readable(a) and _is_readable(b)):
        return False
    return _bits(a) == _bits(b)


def _mark(leaf: Any) -> Any:
    """What equal leaves have in common, found without looking at the values of arrays."""
    if isinstance(leaf, np.generic):
        return type(leaf), leaf.tobytes()
    if type(leaf) is float:
        return float, leaf.hex()  # tells -0.0 from 0.0
    if type(leaf) is complex:
        return complex, leaf.real.hex(), leaf.imag.hex()
    if type(leaf) in (bool, int, str):
        return type(leaf), leaf
    if isinstance(leaf, np.ndarray):
        return np.ndarray, leaf.shape, leaf.dtype
    if isinstance(leaf, jax.Array):
        return jax.Array, leaf.shape, leaf.dtype, leaf.aval.weak_type  # pyright: ignore
    return type(leaf), id(leaf)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _is_readable(x: Any) -> bool:
    if isinstance(x, np.ndarray):
        return not x.dtype.hasobject
    return not isinstance(x, Tracer) and not x.is_deleted() and x.is_fully_addressable


def _bits(x: Any) -> bytes:
    if jnp.issubdtype(x.dtype, jax.dtypes.extended):
        with jax.ensure_compile_time_eval():
            x = jax.random.key_data(x)
    return np.asarray(x).tobytes()
