"""What `minimize` returns: data, which says of itself how it ended."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from gradtx.transform import State

RUNNING, GRADIENT, CHANGE_OF_VALUE, CHANGE_OF_PARAMS, USED_UP, NO_LOWER, BAD_START = range(7)
UNBOUNDED, STOPPED = 7, 8
CONVERGED = (GRADIENT, CHANGE_OF_VALUE, CHANGE_OF_PARAMS)
REASONS = (
    "still running",
    "gradient {seen:.1g} <= {tolerance:.1g}",
    "the value changes by less than {tolerance:.1g}",
    "the parameters change by less than {tolerance:.1g}",
    "all evaluations are used up, gradient {seen:.1g}",
    "no lower point is found, gradient {seen:.1g}",
    "value or gradient of the start are not finite",
    "unbounded below: a value is under the floor",
    "stopped by the callback, gradient {seen:.1g}",
)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        *("params", "value", "grad_norm", "aux", "state", "iterations", "evaluations", "status"),
        *("history", "tolerance", "implicit_residual"),
    ),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True, repr=False)
class Minimum:
    """What `minimize` found: arrays, in a stack of them where it ran under `jax.vmap`.

    `status` is 1 where the gradient is small enough, 2 and 3 where the value and the parameters
    change too little, 4 where all evaluations are used up, 5 where the search finds no lower point,
    6 where the start is not finite, 7 where a value is under `floor`, 8 by the callback.
    """

    params: Any  # the best point with a finite value that was accepted
    value: Array  # there
    grad_norm: Array  # the largest entry of the gradient there
    aux: Any  # what the loss returned there beside its value
    state: State  # of the transformation, to go on from
    iterations: Array  # points accepted after the start
    evaluations: Array
    status: Array
    history: Array | None  # the value of every evaluation, NaN for those that were not made
    tolerance: Array  # the one that was met, 0 if none
    # With `implicit`: |H z - r| / |r| of a system like that of the derivatives, with the Hessian H
    # at `params` and a random r. If it is not small, H is singular there, or not positive.
    implicit_residual: Array | None = None

    @property
    def converged(self) -> Any:
        """Whether a tolerance was met."""
        status = jnp.asarray(self.status)
        return (status >= CONVERGED[0]) & (status <= CONVERGED[-1])

    @property
    def reason(self) -> Any:
        """Why it ended, in words: a string, or an array of them for a stack."""
        return _worded(_reason, self.status, self.grad_norm, self.tolerance)

    def __repr__(self) -> str:
        numbers = self.status, self.iterations, self.evaluations, self.grad_norm, self.tolerance
        if any(isinstance(x, Tracer) for x in numbers):
            return f"Minimum(status={self.status})"
        lines = np.atleast_1d(_worded(_line, *numbers)).ravel()
        more = [f"and {len(lines) - 8} more"] if len(lines) > 9 else []
        return "\n".join([*lines[: 8 if more else 9], *more])


def _worded(function: Callable[..., str], *numbers: Any) -> Any:
    found = np.vectorize(function, otypes=[object])(*map(np.asarray, numbers))
    return found.item() if found.ndim == 0 else found


def _reason(status: int, seen: float, tolerance: float) -> str:
    return REASONS[status].format(seen=seen, tolerance=tolerance)


def _line(status: int, iterations: int, evaluations: int, seen: float, tolerance: float) -> str:
    how = "converged in" if status in CONVERGED else "ended after"
    steps = f"{iterations} iteration{'s' * (iterations != 1)}"
    calls = f"{evaluations} evaluation{'s' * (evaluations != 1)}"
    return f"{how} {steps}, {calls}: {_reason(status, seen, tolerance)}"
