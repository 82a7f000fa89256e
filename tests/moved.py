"""What a transformation does in its first step, array by array."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from laws.cases import arrays

import gradtx

PATHS = ("dense/bias", "dense/kernel", "scale")


def moved(tx, grads=None, params=None, **extra):
    """The first updates of a transformation, by path."""
    params = arrays(0) if params is None else params
    grads = jax.tree.map(jnp.ones_like, params) if grads is None else grads
    updates, _ = tx.update(grads, tx.init(params), params, **extra)
    return dict(gradtx.tree.named_leaves(updates))


def factors(tx, **kwargs):
    """By how much a transformation multiplies gradients of ones, by path."""
    return {path: float(u.mean()) for path, u in moved(tx, **kwargs).items() if u is not None}


def first(tx: Any, params: Any = None, **extra: Any) -> Any:
    """The first updates and the state after them; the parameters are the gradients too."""
    params = jnp.ones(3) if params is None else params
    return tx.update(params, tx.init(params), params, **extra)
