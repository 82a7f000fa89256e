"""The minimum of a quadratic model in a box, corner by corner."""

from __future__ import annotations

from typing import Any

import numpy as np


def hessian(theta: float, pairs: list[tuple[Any, Any]], n: int) -> Any:
    """B of L-BFGS by one BFGS update after the other."""
    b = theta * np.eye(n)
    for s, y in pairs:
        b = b - np.outer(b @ s, b @ s) / (s @ b @ s) + np.outer(y, y) / (y @ s)
    return b


def least_of_model(
    x: Any, g: Any, lower: Any, upper: Any, theta: float, pairs: list[tuple[Any, Any]]
) -> tuple[Any, str]:
    """The Cauchy point by a walk along -g, then the minimum over what is free; and how it went."""
    n = x.size
    b = hessian(theta, pairs, n)
    ends = np.full(n, np.inf)
    ends[g < 0] = (x - upper)[g < 0] / g[g < 0]
    ends[g > 0] = (x - lower)[g > 0] / g[g > 0]
    z, now = np.zeros(n), 0.0
    while True:
        d = np.where(ends > now, -g, 0)
        slope, curvature = d @ (g + b @ z), d @ b @ d
        if not d.any() or slope >= 0:
            break
        corner = ends[ends > now].min()
        way = min(-slope / curvature, corner - now)
        z, now = z + way * d, now + way
        if now < corner:
            break
    free = ends > now
    cauchy, d = x + z, np.zeros(n)
    if free.any():
        d[free] = np.linalg.solve(b[np.ix_(free, free)], -(g + b @ z)[free])
    aim = np.clip(cauchy + d, lower, upper)
    if (aim - x) @ g <= 0:
        return aim, "projected"
    rooms = np.where(d > 0, upper - cauchy, lower - cauchy)[d != 0] / d[d != 0]
    return cauchy + min(1.0, rooms.min()) * d, "shortened"
