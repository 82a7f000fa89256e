"""What references are made of.

A rule maps (gradient, parameter, step t from 1, state, hyperparameters) of one array to the update
u and the next state. The state is a dict; what is not in it yet has its starting value. `each`
lifts a rule to a dict of arrays, `descend` also multiplies by minus the learning rate. Algorithms
that look at all arrays together are written on dicts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
Arrays = dict[str, Array]
State = dict[str, Any]


def ema(decay: float, old: Array, new: Array) -> Array:
    return decay * old + (1 - decay) * new


def sqr(x: Array) -> Array:
    return np.abs(x) ** 2


def norm(*arrays: Array) -> float:
    return np.sqrt(sum(np.sum(sqr(x)) for x in arrays))


Reference = Callable[..., tuple[Arrays, State]]


def at_step(value: Any, t: int) -> Any:
    """A hyperparameter at step t: a schedule sees the number of updates done before it."""
    if isinstance(value, dict):
        return {k: at_step(v, t) for k, v in value.items()}
    return value(t - 1) if callable(value) else value


def each(rule: Callable[..., Any], **fixed: Any) -> Reference:
    """A rule of one array on a dict of arrays; a dict as a hyperparameter has a value for each."""

    def on_all(gs: Arrays, ps: Arrays, t: int, s: State, **hyper: Any) -> tuple[Arrays, State]:
        updates, states = {}, {}
        for k, g in gs.items():
            own = {n: v[k] if isinstance(v, dict) else v for n, v in {**fixed, **hyper}.items()}
            updates[k], states[k] = rule(g, ps[k], t, s.get(k, {}), **own)
        return updates, states

    return on_all


def descend(direction: Callable[..., Any], **fixed: Any) -> Reference:
    """Minus the learning rate times the direction of a rule."""

    def rule(g: Array, p: Array, t: int, s: State, learning_rate: float, **hyper: Any) -> Any:
        u, s = direction(g, p, t, s, **hyper)
        return -learning_rate * u, s

    return each(rule, **fixed)
