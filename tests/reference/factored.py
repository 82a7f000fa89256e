"""Methods that keep less than one number per parameter of the squares."""

from __future__ import annotations

import numpy as np

from .formula import Reference, descend, each, ema, sqr


def rms(x):
    return np.sqrt(np.mean(sqr(x)))


def estimate(s, key, beta, square, factored=True):
    """The averages of `square` and what they say of it: R C / mean(R) for a matrix."""
    if not (factored and np.ndim(square) == 2):
        v = ema(beta, s.get(key, 0.0), square)
        return v, {key: v}
    r = ema(beta, s.get(key + "_r", 0.0), square.mean(axis=1))
    c = ema(beta, s.get(key + "_c", 0.0), square.mean(axis=0))
    return np.outer(r, c) / r.mean(), {key + "_r": r, key + "_c": c}


def factored_rms(g, p, t, s, decay_rate=0.8, eps=1e-30, clipping_threshold=1.0, factored=True):
    """Shazeer & Stern 2018, algorithm 4, up to the step size."""
    v, s = estimate(s, "v", 1 - t**-decay_rate, sqr(g) + eps, factored)
    u = g / np.sqrt(v)
    if clipping_threshold is not None:
        u = u / max(1.0, rms(u) / clipping_threshold)
    return u, s


def adafactor(
    g,
    p,
    t,
    s,
    learning_rate,
    multiply_by_parameter_scale=True,
    momentum=None,
    weight_decay=0.0,
    min_scale=1e-3,
    relative_step=True,
    **rest,
):
    """The whole of it: alpha = max(eps_2, RMS(x)) rho with rho = min(1e-2, 1 / sqrt(t))."""
    u, inner = factored_rms(g, p, t, s.get("inner", {}), **rest)
    if multiply_by_parameter_scale:
        u = max(min_scale, rms(p)) * u
    if momentum is not None:
        u = ema(momentum, s.get("m", 0.0), u)
    rho = min(learning_rate, 1 / np.sqrt(t)) if relative_step else learning_rate
    return -rho * (u + weight_decay * p), {"inner": inner, "m": u}


def came_direction(
    g,
    p,
    t,
    s,
    b1=0.9,
    b2=0.999,
    b3=0.9999,
    eps=1e-30,
    eps_instability=1e-16,
    clipping_threshold=1.0,
):
    """Luo+ 2023, algorithm 2; a vector, which it cannot factor, moves by the momentum."""
    v, second = estimate(s.get("v", {}), "v", b2, sqr(g) + eps)
    u = g / np.sqrt(v)
    u = u / max(1.0, rms(u) / clipping_threshold)
    m = ema(b1, s.get("m", 0.0), u)
    if np.ndim(g) != 2:
        return m, {"v": second, "m": m}
    inst, third = estimate(s.get("s", {}), "s", b3, sqr(u - m) + eps_instability)
    return m / np.sqrt(inst), {"v": second, "m": m, "s": third}


def came(g, p, t, s, weight_decay=0.0, **rest):
    u, s = came_direction(g, p, t, s, **rest)
    return u + weight_decay * p, s


def sm3_direction(g, p, t, s):
    """Anil+ 2019, algorithm SM3-II; the cover of a matrix is its rows and columns."""
    if np.ndim(g) != 2:
        nu = s.get("mu", 0.0) + sqr(g)
        mu = {"mu": nu}
    else:
        n, m = g.shape
        row, column = s.get("row", np.zeros(n)), s.get("column", np.zeros(m))
        nu = np.minimum(row[:, None], column[None, :]) + sqr(g)
        mu = {"row": nu.max(axis=1), "column": nu.max(axis=0)}
    return np.where(nu > 0, g / np.sqrt(np.where(nu > 0, nu, 1.0)), 0.0), mu


def average(g, p, t, s, decay=0.9):
    m = ema(decay, s.get("m", 0.0), g)
    return m, {"m": m}


def sm3(g, p, t, s, momentum=0.9):
    u, inner = sm3_direction(g, p, t, s.get("inner", {}))
    m = ema(momentum, s.get("m", 0.0), u)
    return m, {"inner": inner, "m": m}


def adam_mini_direction(g, p, t, s, b1=0.9, b2=0.999, eps=1e-8):
    """Zhang+ 2024, algorithm 1; the blocks of a matrix (inputs, outputs) are its columns."""
    m = ema(b1, s.get("m", 0.0), g)
    block = sqr(g).mean(axis=0, keepdims=True) if np.ndim(g) == 2 else sqr(g).mean()
    v = ema(b2, s.get("v", 0.0), block)
    return m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps), {"m": m, "v": v}


def adam_mini(g, p, t, s, weight_decay=0.0, **rest):
    u, s = adam_mini_direction(g, p, t, s, **rest)
    return u + weight_decay * p, s


def relative_step(g, p, t, s, learning_rate=0.1):
    return -min(learning_rate, 1 / np.sqrt(t)) * g, s


REFERENCES: dict[str, Reference] = {
    "adafactor": each(adafactor),
    "came": descend(came),
    "sm3": descend(sm3),
    "adam_mini": descend(adam_mini),
    "scale_by_factored_rms": each(factored_rms),
    "scale_by_came": each(came_direction),
    "scale_by_sm3": each(sm3_direction),
    "scale_by_adam_mini": each(adam_mini_direction),
    "scale_by_relative_step": each(relative_step),
    "average_updates": each(average),
}
