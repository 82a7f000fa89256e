"""The lines of `minimize(..., progress=...)`: where a run stands, or a batch of runs."""

from __future__ import annotations

import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

SECONDS = 1.0  # between two lines, if nobody says after how many evaluations they come

_last = 0.0  # when a line was printed


def say(every: Any, running: Any, evaluations: Any, value: Any, gradient: Any, ended: Any) -> None:
    """Prints a line where it is time for one: of all runs together, if there are several.

    `running` tells which of them this evaluation was for, `ended` which go on no more. `every` is a
    number of evaluations, or 0 for now and then.
    """
    global _last
    every, running, evaluations, value, gradient, ended = map(
        np.asarray, (every, running, evaluations, value, gradient, ended)
    )
    if not running.any():
        return
    done, now = int(evaluations.max()), time.monotonic()
    count = int(every.max())
    due = done % count == 0 if count else done == 1 or now - _last >= SECONDS
    if not (due or ended.all()):
        return
    _last = now
    if running.ndim == 0:
        text = f"value {float(value):.6g}, gradient {float(gradient):.2g}"
    else:
        span = f"value {value.min():.6g} to {value.max():.6g}"
        text = f"{(~ended).sum()} of {running.size} running, {span}, gradient {gradient.max():.2g}"
    print(f"minimize: evaluation {done}: {text}", file=sys.stderr, flush=True)


@jax.custom_batching.custom_vmap
def traced(*numbers: Array) -> Array:
    """`say` in a compiled program; under `jax.vmap` once for the whole batch."""
    jax.debug.callback(say, *numbers)
    return jnp.zeros((), jnp.int32)


@traced.def_vmap
def _together(size: int, batched: Any, *numbers: Array) -> tuple[Array, bool]:
    def stacked(x: Array, is_stacked: bool) -> Array:
        return x if is_stacked else jnp.broadcast_to(x, (size, *x.shape))

    return traced(*map(stacked, numbers, batched)), False
