# pyright: basic
"""Types for what JAX leaves untyped in part, of which strict pyright complains."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

F = TypeVar("F", bound=Callable[..., Any])
P = TypeVar("P")


def array(size: int = 3) -> jax.Array:
    return jnp.ones(size)


def zeros_like(x: jax.Array) -> jax.Array:
    return jnp.zeros_like(x)


def jit(function: F) -> F:
    return jax.jit(function)  # pyright: ignore[reportReturnType]


def grad(loss: Callable[[P, jax.Array], jax.Array]) -> Callable[[P, jax.Array], P]:
    return jax.grad(loss)


def value_and_grad(
    loss: Callable[[P, jax.Array], jax.Array],
) -> Callable[[P, jax.Array], tuple[jax.Array, P]]:
    return jax.value_and_grad(loss)
