"""Momentum over the diagonal of the Hessian, of which every step has one.

References get it as `hessian_diag`, a dict like the gradients.
"""

from __future__ import annotations

import numpy as np

from .formula import Reference, ema
from .problem import with_curvature


def sophia_of_one(g, d, s, b1=0.965, b2=0.99, eps=1e-12, gamma=0.01, clip_threshold=1.0):
    """Liu+ 2023, 2305.14342, algorithm 3, lines 6 to 12, a step that has an estimate."""
    m, h = ema(b1, s.get("m", 0.0), g), ema(b2, s.get("h", 0.0), d)
    u = m / np.maximum(gamma * h, eps)
    if clip_threshold is not None:
        u = u * np.minimum(1, clip_threshold / np.abs(u))
    return u, {"m": m, "h": h}


def adahessian_of_one(g, d, s, t, b1=0.9, b2=0.999, eps=1e-4, hessian_power=1.0):
    """Yao+ 2020, 2006.00719, algorithm 1, with eps where the authors' code has it."""
    m, v = ema(b1, s.get("m", 0.0), g), ema(b2, s.get("v", 0.0), d**2)
    root = np.sqrt(v / (1 - b2**t))
    return m / (1 - b1**t) / (root**hessian_power + eps), {"m": m, "v": v}


def scale_by_sophia(gs, ps, t, s, hessian_diag, **hyper):
    found = {k: sophia_of_one(g, hessian_diag[k], s.get(k, {}), **hyper) for k, g in gs.items()}
    return {k: u for k, (u, _) in found.items()}, {k: new for k, (_, new) in found.items()}


def scale_by_adahessian(gs, ps, t, s, hessian_diag, **hyper):
    found = {
        k: adahessian_of_one(g, hessian_diag[k], s.get(k, {}), t, **hyper) for k, g in gs.items()
    }
    return {k: u for k, (u, _) in found.items()}, {k: new for k, (_, new) in found.items()}


def descending(direction, usual):
    def reference(gs, ps, t, s, hessian_diag, learning_rate, weight_decay=usual, **hyper):
        us, s = direction(gs, ps, t, s, hessian_diag, **hyper)
        return {k: -learning_rate * (u + weight_decay * ps[k]) for k, u in us.items()}, s

    return reference


REFERENCES: dict[str, Reference] = {
    "scale_by_sophia": with_curvature(scale_by_sophia),
    "scale_by_adahessian": with_curvature(scale_by_adahessian),
    "sophia": with_curvature(descending(scale_by_sophia, 1e-4)),
    "adahessian": with_curvature(descending(scale_by_adahessian, 0.0)),
}

# By default nearly all entries are clipped to their sign, and where the average of a curvature that
# turns negative is near zero, it decides by its last digits.
_SMOOTH = {"gamma": 1.0, "eps": 0.1}
RESOLVED = {
    (name, dtype): _SMOOTH
    for name in ("sophia", "scale_by_sophia")
    for dtype in ("float64", "float32", "complex128")
}
