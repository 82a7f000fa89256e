"""Steps in proportion to norms, and links that measure norms or means of one array."""

from __future__ import annotations

import numpy as np

from .classic import adam
from .formula import Reference, descend, each, ema, norm, sqr


def lars_direction(g, p, t, s, weight_decay=5e-4, trust_coefficient=1e-3, eps=0.0):
    """You+ 2017, equation 6 with decay: the norms of gradient and decay are added."""
    w, d = norm(p), norm(g) + weight_decay * norm(p)
    local = trust_coefficient * w / (d + eps) if w > 0 and d > 0 else 1.0
    return local * (g + weight_decay * p), s


def lars(g, p, t, s, learning_rate, momentum=0.9, nesterov=False, **rest):
    """Algorithm 1 there: the learning rate is inside the momentum."""
    u, _ = lars_direction(g, p, t, {}, **rest)
    v = momentum * s.get("v", 0.0) + learning_rate * u
    return -(learning_rate * u + momentum * v if nesterov else v), {"v": v}


def trust(u, p):
    return norm(p) / norm(u) if norm(p) > 0 and norm(u) > 0 else 1.0


def lamb(g, p, t, s, eps=1e-6, weight_decay=0.01, **rest):
    """You+ 2019, algorithm 2 with phi(z) = z."""
    r, s = adam(g, p, t, s, eps=eps, **rest)
    u = r + weight_decay * p
    return trust(u, p) * u, s


def novograd(g, p, t, s, b1=0.95, b2=0.98, eps=1e-8, weight_decay=0.0):
    """Ginsburg+ 2019, algorithm 1."""
    square = np.sum(sqr(g))
    v = ema(b2, s["v"], square) if s else square
    term = g / (np.sqrt(v) + eps) + weight_decay * p
    m = b1 * s["m"] + term if s else term
    return m, {"v": v, "m": m}


def fromage(g, p, t, s, learning_rate):
    """Bernstein+ 2020, algorithm 1: the parameters after the step, less those before."""
    new = (p - learning_rate * trust(g, p) * g) / np.sqrt(1 + learning_rate**2)
    return new - p, s


def fromage_direction(g, p, t, s, learning_rate=0.01):
    u, s = fromage(g, p, t, s, learning_rate)
    return -u, s


def scale_by_trust_ratio(g, p, t, s, min_norm=0.0, trust_coefficient=1.0, eps=0.0):
    w, d = max(norm(p), min_norm), max(norm(g), min_norm)
    return (g * trust_coefficient * w / (d + eps) if w > 0 and d > 0 else g), s


def rms(x):
    return np.sqrt(np.mean(sqr(x)))


def clip_by_block_rms(g, p, t, s, threshold=1.0):
    """Shazeer & Stern 2018, section 6."""
    return g / max(1.0, rms(g) / threshold), s


def unit_norm(x):
    """One norm for every output, the last axis of a matrix; one for a vector."""
    return np.sqrt(np.sum(sqr(x), axis=0, keepdims=True)) if np.ndim(x) == 2 else norm(x)


def adaptive_grad_clip(g, p, t, s, clipping=0.1, eps=1e-3):
    """Brock+ 2021, equation 3."""
    most = clipping * np.maximum(unit_norm(p), eps)
    over = unit_norm(g) > most
    return np.where(over, most * g / np.where(over, unit_norm(g), 1.0), g), s


def scale_by_param_block_norm(g, p, t, s, min_scale=1e-3):
    return g * max(norm(p), min_scale), s


def scale_by_param_block_rms(g, p, t, s, min_scale=1e-3):
    return g * max(rms(p), min_scale), s


def normalize(gs, ps, t, s):
    return {k: g / norm(*gs.values()) for k, g in gs.items()}, s


def centralize(g, p, t, s):
    """Yong+ 2020, equation 1, for a matrix of (inputs, outputs)."""
    return (g - np.mean(g, axis=0, keepdims=True) if np.ndim(g) == 2 else g), s


REFERENCES: dict[str, Reference] = {
    "lars": each(lars),
    "lamb": descend(lamb),
    "novograd": descend(novograd),
    "fromage": each(fromage),
    "scale_by_lars": each(lars_direction),
    "scale_by_novograd": each(novograd),
    "scale_by_fromage": each(fromage_direction),
    "scale_by_trust_ratio": each(scale_by_trust_ratio),
    "clip_by_block_rms": each(clip_by_block_rms),
    "adaptive_grad_clip": each(adaptive_grad_clip),
    "scale_by_param_block_norm": each(scale_by_param_block_norm),
    "scale_by_param_block_rms": each(scale_by_param_block_rms),
    "normalize": normalize,
    "centralize": each(centralize),
}
