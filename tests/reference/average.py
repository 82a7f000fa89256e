"""Averages, schedule-free, outer optimizers and sharpness, with every sequence written out.

Where a method keeps two sequences of which our state holds but one, here both are kept. What is
evaluated is in the state as "eval".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .formula import Reference, each, ema, sqr
from .problem import NOISE, PARAMS, STEPS, Arrays, at_step, gradients

# Schedule-free ---------------------------------------------------------------------------------


def plain(g, p, t, s, weight_decay=0.0):
    return g + weight_decay * p, s


def rms(g, p, t, s, b2=0.999, eps=1e-8, weight_decay=0.0):
    v = ema(b2, s.get("v", 0.0), sqr(g))
    return g / (np.sqrt(v / (1 - b2**t)) + eps) + weight_decay * p, {"v": v}


def schedule_free(direction):
    """Defazio+ 2024, 2405.15682: p is y; the learning rate is that of this step."""

    def rule(g, p, t, s, learning_rate, b1=0.9, weight_lr_power=2.0, r=0.0, window=None, **hyper):
        z, x = s.get("z", p), s.get("x", p)
        d, inner = direction(g, p, t, s.get("inner", {}), **hyper)
        peak = max(s.get("peak", 0.0), learning_rate)
        weight = t**r * peak**weight_lr_power
        total = s.get("total", 0.0) + weight
        c = weight / total if total > 0 else 0.0
        if window is not None:  # Song+ 2025, 2507.09846
            c = min(1.0, c * (1 - b1) * window)
        z = z - learning_rate * d
        x = (1 - c) * x + c * z
        new = {"z": z, "x": x, "peak": peak, "total": total, "inner": inner, "eval": x}
        return (1 - b1) * z + b1 * x - p, new

    return rule


def warmed(learning_rate: float, steps: int) -> Callable[[int], float]:
    """gamma min(1, t / W), t from 1, as a function of the updates done."""
    return lambda count: learning_rate * min(1.0, (count + 1) / steps)


def gpa(g, p, t, s, learning_rate, decay=0.9967, b1=0.7, b1_next=None):
    """Defazio+ 2025, 2512.17131, around gradient descent; `b1_next` where b1 moves."""
    z, x = s.get("z", p), s.get("x", p)
    z = z - learning_rate * g
    x = decay * x + (1 - decay) * z
    b1 = b1 if b1_next is None else b1_next
    return (1 - b1) * z + b1 * x - p, {"z": z, "x": x, "eval": x}


# Lookahead, outer optimizers -------------------------------------------------------------------


def lookahead(g, p, t, s, learning_rate, sync_period=5, slow_step_size=0.5):
    """Zhang+ 2019, 1907.08610, around gradient descent."""
    slow, fast = s.get("slow", p), p - learning_rate * g
    if t % sync_period == 0:
        slow = fast = slow + slow_step_size * (fast - slow)
    return fast - p, {"slow": slow, "eval": slow}


def diloco(g, p, t, s, learning_rate, every=32, outer_rate=0.7, momentum=0.9):
    """Douillard+ 2023, 2311.08105, around gradient descent."""
    slow, b, fast = s.get("slow", p), s.get("b", 0.0), p - learning_rate * g
    if t % every == 0:
        way = slow - fast
        b = momentum * b + way
        slow = fast = slow - outer_rate * (way + momentum * b)
    return fast - p, {"slow": slow, "b": b, "eval": slow}


def ema_nesterov(g, p, t, s, learning_rate, beta=0.3, beta_next=None, decay=0.99):
    """Yau+ 2026, 2605.25395, around gradient descent: p is the point ahead of theta."""
    theta, m = s.get("theta", p), s.get("m", 0.0)
    new = theta + beta * m - learning_rate * g
    m = decay * m + (1 - decay) * (new - theta)
    ahead = new + (beta if beta_next is None else beta_next) * m
    return ahead - p, {"theta": new, "m": m, "eval": new}


# Sharpness -------------------------------------------------------------------------------------


def ascent(gs, ps, rho=0.05, eta=None):
    """Foret+ 2020, 2010.01412; with eta Kwon+ 2021, 2102.11600."""
    sizes = {k: 1.0 if eta is None else np.abs(p) + eta for k, p in ps.items()}
    length = np.sqrt(sum(np.sum(sqr(sizes[k] * g)) for k, g in gs.items()))
    return {k: rho * sizes[k] ** 2 * g / length for k, g in gs.items()}


def sam(gs, ps, t, s, learning_rate, sync_period=2, rho=0.05, eta=None):
    """Alternating, around gradient descent."""
    start = s.get("start", ps)
    if t % sync_period:
        return ascent(gs, ps, rho, eta), {"start": start, "eval": start}
    new = {k: start[k] - learning_rate * g for k, g in gs.items()}
    return {k: new[k] - p for k, p in ps.items()}, {"eval": new}


REFERENCES: dict[str, Reference] = {
    "schedule_free_sgd": each(schedule_free(plain)),
    "schedule_free_adamw": each(schedule_free(rms)),
}

# Runs ------------------------------------------------------------------------------------------


def followed(reference: Reference, **hyper: Any) -> tuple[list[Arrays], list[Arrays]]:
    """The parameters after every step of a reference, and what is evaluated then."""
    ps, noise, states = PARAMS[False], NOISE[False], {}
    parameters, evaluated = [], []
    for t in range(1, STEPS + 1):
        gs = gradients(ps, {k: x[t - 1] for k, x in noise.items()})
        us, states = reference(gs, ps, t, states, **at_step(hyper, t))
        ps = {k: p + us[k] for k, p in ps.items()}
        parameters.append(ps)
        evaluated.append(states.get("eval") or {k: states[k]["eval"] for k in ps})
    return parameters, evaluated


def trained(builders: dict[str, Callable[[], Any]], dtype: Any = None) -> dict[str, Any]:
    """The same of transformations, all in one compiled scan; `step` is what moves them."""
    txs = {name: build() for name, build in builders.items()}
    start, noise = (
        jax.tree.map(lambda x: jnp.asarray(x, dtype), x[False]) for x in (PARAMS, NOISE)
    )

    def step(carry: Any, noise: Any) -> Any:
        new, seen = {}, {}
        for name, (ps, state) in carry.items():
            gs = gradients(ps, noise)
            more = {"grad_fn": lambda ps, noise=noise: gradients(ps, noise)}
            ps, state = txs[name].step(gs, state, ps, **more)
            new[name], seen[name] = (ps, state), (ps, txs[name].eval_params(state, ps))
        return new, seen

    @jax.jit
    def all_steps(start: Any, noise: Any) -> Any:
        return jax.lax.scan(step, {k: (start, tx.init(start)) for k, tx in txs.items()}, noise)[1]

    runs = jax.tree.map(np.asarray, all_steps(start, noise))
    return {
        name: tuple([{k: x[t] for k, x in part.items()} for t in range(STEPS)] for part in parts)
        for name, parts in runs.items()
    }


RESOLVED = {
    # The step goes along z - p, of which float32 has few digits where it is small beside p.
    ("schedule_free_adamw", "float32"): {"learning_rate": 0.1},
}
"""Arguments for the comparison in a dtype, where it cannot resolve what the published ones need."""
