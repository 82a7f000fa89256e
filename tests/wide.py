"""64-bit types for a while, by whatever name this JAX has for it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import jax


def wide_types() -> AbstractContextManager[None]:
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import (  # pyright: ignore[reportAttributeAccessIssue]
        enable_x64,  # pyright: ignore[reportAttributeAccessIssue]
    )  # JAX before 0.8

    return enable_x64()
