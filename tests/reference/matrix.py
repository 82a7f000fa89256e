"""Muon and its kin on one matrix [inputs, outputs]; other arrays go to AdamW, or pass.

The iterations act on singular values, so here they are polynomials of these.
"""

from __future__ import annotations

import jax
import numpy as np

import gradtx

from .classic import adam
from .formula import Reference, each, ema, norm, sqr
from .problem import LOGITS

# Card 62, digit by digit, apart from the library's own table.
JORDAN = [(3.4445, -4.7750, 2.0315)] * 5
POLAR_EXPRESS = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


STEPS = {
    "jordan": JORDAN,
    "polar_express": POLAR_EXPRESS,
    "newton_schulz": [(2.0, -1.5, 0.5)] * 12,
}


def values(steps, s):
    for a, b, c in steps:
        s = a * s + b * s**3 + c * s**5
    return s


def factor(x, polar=None, eps=1e-7):
    """U p(S) V^T of x / (|x| + eps); the exact factor U V^T if `polar` is `exact_polar()`."""
    u, s, v = np.linalg.svd(x, full_matrices=False)
    if isinstance(polar, gradtx.exact_polar):
        return u @ v
    steps = STEPS[polar.ns_coeffs if polar else "polar_express"]
    return (u * values(steps, s / (np.sqrt(np.sum(s**2)) + eps))) @ v


def averaged(form, nesterov, beta, g, mu, t):
    if form == "trace":
        mu = beta * mu + g
        return (g + beta * mu if nesterov else mu), mu
    mu = ema(beta, mu, g)
    if form == "lerp":
        return ((1 - beta) * g + beta * mu if nesterov else mu), mu
    if not nesterov:
        return mu / (1 - beta**t), mu
    return beta * mu / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t), mu


def shape(scale, x, rms=0.2):
    n, m = x.shape
    return {
        None: 1.0,
        "original": np.sqrt(max(1, m / n)),
        "spectral": np.sqrt(m / n),
        "match_rms_adamw": rms * np.sqrt(max(n, m)),
    }[scale]


def muon_direction(
    g,
    p,
    t,
    s,
    beta=0.95,
    rms=0.2,
    nesterov=True,
    momentum="lerp",
    scale="match_rms_adamw",
    polar=None,
):
    u, mu = averaged(momentum, nesterov, beta, g, s.get("mu", 0.0), t)
    o = factor(u, polar)
    if scale == "rms":
        o = o * rms * np.sqrt(o.size) / norm(o)
    elif scale == "nuclear":
        o = o * np.sum(np.real(np.conj(o) * u))
    else:
        o = o * shape(scale, g, rms)
    return o, {"mu": mu}


def normuon_direction(g, p, t, s, beta=0.95, b2=0.95, eps=1e-8, scale="rms", polar=None):
    u, mu = averaged("lerp", True, beta, g, s.get("mu", 0.0), t)
    o = factor(u, polar)
    nu = ema(b2, s.get("nu", 0.0), sqr(o).mean(axis=0))
    n = o / (np.sqrt(nu) + eps)
    if scale == "rms":
        n = 0.2 * np.sqrt(n.size) * n / norm(n)
    else:
        n = n * norm(o) / norm(n) * shape(scale, g)
    return n, {"mu": mu, "nu": nu}


def adamuon_direction(g, p, t, s, beta=0.95, b2=0.95, eps=1e-8, signed=True, polar=None):
    mu = ema(beta, s.get("mu", 0.0), g)
    o = factor(mu / np.abs(mu) if signed else mu, polar)
    nu = ema(b2, s.get("nu", 0.0), sqr(o))
    n = o / (np.sqrt(nu) + eps)
    return 0.2 * np.sqrt(n.size) * n / norm(n), {"mu": mu, "nu": nu}


def adago_direction(g, p, t, s, beta=0.95, gamma=10.0, floor=0.01, polar=None):
    mu = ema(beta, s.get("mu", 0.0), g)
    size = min(norm(g), gamma)
    total = s.get("total", 0.0) + size**2
    step = max(floor, size / np.sqrt(total))
    return step * factor(mu, polar), {"mu": mu, "total": total}


def first_basis(n, r):
    """Q at the start: of these random numbers a reference can only ask."""
    return np.asarray(jax.random.normal(jax.random.key(0), (n, r), "float32"), float)


def dion_direction(g, p, t, s, beta=0.95, rank=None):
    """Ahn+ 2025, algorithm 1, with their M = (outputs, inputs)."""
    m, n = g.T.shape
    q = s["q"] if "q" in s else first_basis(n, rank or min(n, m))
    b = s.get("m", 0.0) + g.T
    left = np.linalg.qr(b @ q.conj() if np.iscomplexobj(g) else b @ q)[0]
    right = b.T @ left.conj()
    new = b - (1 - beta) * left @ right.T
    q = right / np.sqrt(sqr(right).sum(axis=0))
    return (np.sqrt(m / n) * left @ q.T).T, {"m": new, "q": q}


def lmo_direction(g, p, t, s, radius=0.1, decay=0.9, norm="spectral", polar=None):
    d = ema(decay, s.get("d", 0.0), g)
    n, m = g.shape if g.ndim == 2 else (1, 1)
    if norm == "sign":
        u = d / np.abs(d) / n
    elif norm == "columns":
        u = np.sqrt(m) * d / np.sqrt(sqr(d).sum(axis=1, keepdims=True))
    else:
        u = np.sqrt(m / n) * factor(d, polar)
    return radius * u, {"d": d}


# Who moves what ---------------------------------------------------------------------------------


def passing(direction):
    """For a link: arrays that are no matrices pass."""

    def rule(g, p, t, s, **hyper):
        return direction(g, p, t, s, **hyper) if np.ndim(g) == 2 else (g, s)

    return each(rule)


def adamw_of_the_rest(g, p, t, s, learning_rate):
    u, s = adam(g, p, t, s, b2=0.95)
    return -learning_rate * u, s


def by_role(direction, decay):
    """Decoupled weight decay and the learning rate for matrices, AdamW for others."""

    def rule(g, p, t, s, learning_rate, weight_decay=decay, **hyper):
        if np.ndim(g) != 2:
            return adamw_of_the_rest(g, p, t, s, learning_rate)
        u, s = direction(g, p, t, s, **hyper)
        return -learning_rate * (u + weight_decay * p), s

    return each(rule)


def adago(g, p, t, s, learning_rate, **hyper):
    if np.ndim(g) != 2:
        return adamw_of_the_rest(g, p, t, s, learning_rate)
    u, s = adago_direction(g, p, t, s, **hyper)
    return -learning_rate * u, s


def scion(
    g,
    p,
    t,
    s,
    learning_rate,
    radius=50.0,
    rest_radius=1.0,
    decay=0.9,
    constrained=False,
    polar=None,
):
    if np.ndim(g) == 2:
        u, s = lmo_direction(g, p, t, s, radius, decay, polar=polar)
    else:
        u, s = lmo_direction(g, p, t, s, rest_radius, decay, "sign")
    return -learning_rate * (u + p if constrained else u), s


def qk_clip(gs, ps, t, s, threshold=100.0, power=0.5):
    """Kimi 2025, 2507.20534: W <- gamma^power W after the step; the logits are the problem's."""
    factors = {k: min(1, threshold / LOGITS[k]) ** power if k in LOGITS else 1 for k in gs}
    return {k: factors[k] * (ps[k] + g) - ps[k] for k, g in gs.items()}, s


REFERENCES: dict[str, Reference] = {
    "qk_clip": qk_clip,
    "muon": by_role(muon_direction, 0.1),
    "normuon": by_role(normuon_direction, 0.1),
    "adamuon": by_role(adamuon_direction, 0.1),
    "adago": each(adago),
    "dion": by_role(dion_direction, 0.01),
    "scion": each(scion),
    "scale_by_muon": passing(muon_direction),
    "scale_by_normuon": passing(normuon_direction),
    "scale_by_adamuon": passing(adamuon_direction),
    "scale_by_adago": passing(adago_direction),
    "scale_by_dion": passing(dion_direction),
    "scale_by_lmo": passing(lmo_direction),
}

# In float32 the sets that stay off one multiply the rounding of singular values.
_SMOOTH = {"polar": gradtx.newton_schulz("newton_schulz")}
_BY_STEPS = [name for name in REFERENCES if name != "qk_clip" and "dion" not in name]
RESOLVED = {
    **{(name, "float32"): _SMOOTH for name in _BY_STEPS},
    ("adago", "float32"): {"learning_rate": 3e-3, **_SMOOTH},
    ("scion", "float32"): {"learning_rate": 1e-4, **_SMOOTH},
}
