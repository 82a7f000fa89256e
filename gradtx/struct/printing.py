"""How objects print: as what one would type, on lines that are not too long."""

from __future__ import annotations

import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

WIDTH = 88  # where a printed object starts to break its lines


def call(name: str, positional: list[Any], keywords: dict[str, Any]) -> str:
    """A call as one would type it."""
    items = [shown(value) for value in positional]
    return bracketed(f"{name}(", items + [f"{k}={shown(v)}" for k, v in keywords.items()], ")")


def bracketed(head: str, items: list[str], tail: str) -> str:
    line = head + ", ".join(items) + tail
    if len(line) <= WIDTH and "\n" not in line:
        return line
    body = "".join("  " + item.replace("\n", "\n  ") + ",\n" for item in items)
    return f"{head}\n{body}{tail}"


def shown(value: Any) -> str:
    """A value as one would type it; of large arrays and of traced ones the type and shape."""
    if isinstance(value, types.FunctionType):
        return value.__qualname__
    if isinstance(value, float | np.floating) and not np.isfinite(value):
        kind = f"np.{type(value).__name__}" if isinstance(value, np.generic) else "float"
        return f"{kind}({str(value)!r})"
    if isinstance(value, Tracer):
        return f"{value.dtype}{list(value.shape)}"
    if type(value) is dict:
        return bracketed("{", [f"{k!r}: {shown(v)}" for k, v in value.items()], "}")
    if type(value) is list:
        return bracketed("[", [shown(v) for v in value], "]")
    if type(value) is tuple:
        text = bracketed("(", [shown(v) for v in value], ")")
        return f"{text[:-1]},)" if len(value) == 1 and "\n" not in text else text
    if not isinstance(value, jax.Array):
        return repr(value)
    if value.is_deleted() or not value.is_fully_addressable:
        return f"Array({value.dtype}{list(value.shape)})"
    if value.size > 8 or not jnp.issubdtype(value.dtype, jnp.number):
        return f"Array({value.dtype}{list(value.shape)})"
    return f"Array({np.array2string(np.asarray(value), separator=', ', precision=6)})"
