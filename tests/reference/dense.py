"""Quasi-Newton directions from a dense inverse of the Hessian."""

from __future__ import annotations

import numpy as np

from .formula import Arrays, Reference
from .problem import with_value
from .solve import DTYPES, EPS, Direction, lbfgs


def real_vector(arrays: Arrays) -> np.ndarray:
    parts = [[x.real, x.imag] if np.iscomplexobj(x) else [x] for x in arrays.values()]
    return np.concatenate([np.ravel(x) for part in parts for x in part])


def as_arrays(vector: np.ndarray, like: Arrays) -> Arrays:
    found, start = {}, 0
    for k, x in like.items():
        parts = []
        for _ in range(2 if np.iscomplexobj(x) else 1):
            parts.append(vector[start : start + x.size].reshape(x.shape))
            start += x.size
        found[k] = parts[0] + 1j * parts[1] if len(parts) == 2 else parts[0]
    return found


def scale_by_bfgs(gs, ps, t, s, scaling="initial", eps=EPS):
    """For every array alone, as H = V H V' + r s s' with V = I - r s y'."""
    found, new = {}, {}
    for k, g in gs.items():
        found[k], new[k] = _dense({k: g}, {k: ps[k]}, s.get(k), scaling, eps)
    return {k: u[k] for k, u in found.items()}, new


def _dense(gs, ps, before, scaling, eps):
    g, p = real_vector(gs), real_vector(ps)
    n = g.size
    inverse, paired = np.eye(n), False
    if before is not None:
        inverse, paired = before["inverse"], before["paired"]
        s, y = p - before["p"], g - before["g"]
        if s @ y > eps * (y @ y):
            r = 1 / (s @ y)
            if not paired and scaling is not None:
                inverse = inverse / (r * (y @ y))
            elif scaling == "al-baali":
                inverse = inverse / min(1.0, 1 / _steepness(before, s, r))
            if scaling == "broyden" and paired:
                inverse = _broyden(inverse, s, y, r, _steepness(before, s, r))
            else:
                skew = np.eye(n) - r * np.outer(s, y)
                inverse = skew @ inverse @ skew.T + r * np.outer(s, s)
            paired = True
    u = inverse @ g
    return as_arrays(u, gs), {"inverse": inverse, "paired": paired, "p": p, "g": g, "u": u}


def _steepness(before, s, r):
    """s'H^-1 s / s'y, where s lies along the direction; one elsewhere."""
    u = before["u"]
    if (s @ u) ** 2 < 0.999 * (s @ s) * (u @ u):
        return 1.0
    b = r * (s @ np.linalg.solve(before["inverse"], s))
    return b if b > 0 else 1.0


def _broyden(inverse, s, y, r, b):
    """SSBroyden, Urban+ 2025, with the bounds of theta."""
    n, turned = s.size, inverse @ y
    h = r * (y @ turned)
    a = max(b * h - 1, 1e-300)
    low = min(1.0, h * (1 - np.sqrt(a / (1 + a))))
    theta = max((low - 1) / a, min(1 / low, (1 - b) / b))
    sigma = 1 + theta * a
    spread = abs(sigma) ** (1 / (1 - n)) if n > 1 else 1.0
    tau = min(1.0, 1 / b)
    tau = tau * min(spread, 1 / theta) if theta > 0 else min(tau * spread, sigma)
    phi = (1 - theta) / (1 + a * theta)
    v = r * s - turned / (y @ turned)
    middle = inverse - np.outer(turned, turned) / (y @ turned) + phi * (y @ turned) * np.outer(v, v)
    return middle / tau + r * np.outer(s, s)


def bfgs(gs, ps, t, s, value, slope_rtol=1e-4, scaling="initial", **numbers):
    def fresh() -> Direction:
        last = [None]

        def direction(x: Arrays, g: Arrays) -> Arrays:
            found, last[0] = _dense(g, x, last[0], scaling, EPS)
            return found

        return direction

    return lbfgs(gs, ps, t, s, value, slope_rtol=slope_rtol, fresh=fresh, **numbers)


REFERENCES: dict[str, Reference] = {
    "bfgs": with_value(bfgs),
    "scale_by_bfgs": scale_by_bfgs,
}

# As for L-BFGS.
RESOLVED = {
    **{("bfgs", dtype): {"max_linesearch_steps": 3} for dtype in DTYPES},
    **{("scale_by_bfgs", dtype): {"eps": 0.02} for dtype in DTYPES},
}
