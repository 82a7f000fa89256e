"""Gradient descent, the adaptive methods, Adam, and the basic links."""

from __future__ import annotations

import numpy as np

from .formula import Reference, descend, each, ema, norm, sqr

# Gradient descent ----------------------------------------------------------------------------


def sgd(g, p, t, s, momentum=0.0, nesterov=False):
    """Polyak 1964; Sutskever+ 2013."""
    b = momentum * s.get("b", 0.0) + g
    return (g + momentum * b if nesterov else b), {"b": b}


def scale_by_momentum(g, p, t, s, decay=0.9, nesterov=False):
    return sgd(g, p, t, s, decay, nesterov)


# Adaptive ------------------------------------------------------------------------------------


def adagrad(g, p, t, s, initial_accumulator_value=0.0, eps=1e-10):
    """Duchi, Hazan & Singer 2011: delta I + diag(G)^(1/2)."""
    total = s.get("G", initial_accumulator_value) + sqr(g)
    return g / (np.sqrt(total) + eps), {"G": total}


def rms(
    g, p, t, s, decay=0.9, eps=1e-8, initial_scale=0.0, eps_in_sqrt=True, bias_correction=False
):
    """Tieleman & Hinton 2012."""
    v = ema(decay, s.get("v", initial_scale), sqr(g))
    v_hat = v / (1 - decay**t) if bias_correction else v
    d = np.sqrt(v_hat + eps) if eps_in_sqrt else np.sqrt(v_hat) + eps
    return g / d, {"v": v}


def stddev(
    g, p, t, s, decay=0.9, eps=1e-8, initial_scale=0.0, eps_in_sqrt=True, bias_correction=False
):
    """Graves 2013, equations 38 to 41."""
    v = ema(decay, s.get("v", initial_scale), sqr(g))
    m = ema(decay, s.get("m", 0.0), g)
    c = 1 - decay**t if bias_correction else 1.0
    variance = v / c - sqr(m / c)
    d = np.sqrt(variance + eps) if eps_in_sqrt else np.sqrt(variance) + eps
    return g / d, {"v": v, "m": m}


def rmsprop(g, p, t, s, centered=False, momentum=0.0, nesterov=False, **rest):
    """The normalised gradient, then momentum (PyTorch's order: the learning rate comes last)."""
    u, normalizer = (stddev if centered else rms)(g, p, t, s.get("normalizer", {}), **rest)
    u, buffer = sgd(u, p, t, s.get("buffer", {}), momentum, nesterov)
    return u, {"normalizer": normalizer, "buffer": buffer}


def adadelta(g, p, t, s, rho=0.95, eps=1e-6):
    """Zeiler 2012, algorithm 1."""
    e_g = ema(rho, s.get("e_g", 0.0), sqr(g))
    u = np.sqrt(s.get("e_x", 0.0) + eps) / np.sqrt(e_g + eps) * g
    return u, {"e_g": e_g, "e_x": ema(rho, s.get("e_x", 0.0), sqr(u))}


# Adam ----------------------------------------------------------------------------------------


def adam(g, p, t, s, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0):
    """Kingma & Ba 2014, algorithm 1."""
    m = ema(b1, s.get("m", 0.0), g)
    v = ema(b2, s.get("v", 0.0), sqr(g))
    m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
    return m_hat / (np.sqrt(v_hat + eps_root) + eps), {"m": m, "v": v}


def adamw(g, p, t, s, weight_decay=1e-4, **rest):
    """Loshchilov & Hutter 2017, algorithm 2, the decay multiplied by the learning rate."""
    u, s = adam(g, p, t, s, **rest)
    return u + weight_decay * p, s


# Links ---------------------------------------------------------------------------------------


def identity(g, p, t, s):
    return g, s


def scale(g, p, t, s, step_size=0.5):
    return step_size * g, s


def scale_by_learning_rate(g, p, t, s, learning_rate=0.1, flip_sign=True):
    return (-learning_rate if flip_sign else learning_rate) * g, s


def clip(g, p, t, s, max_delta=1.0):
    """Every entry keeps its sign (its phase) and has a modulus of at most max_delta."""
    modulus = np.abs(g)
    return np.where(modulus > max_delta, max_delta * g / modulus, g), s


def clip_by_norm(g, p, t, s, max_norm=1.0):
    return (g * (max_norm / norm(g)) if norm(g) > max_norm else g), s


def clip_by_global_norm(gs, ps, t, s, max_norm=1.0):
    """Pascanu+ 2012, algorithm 1."""
    total = norm(*gs.values())
    return {k: g * (max_norm / total) if total > max_norm else g for k, g in gs.items()}, s


def add_decayed_weights(g, p, t, s, weight_decay=1e-4):
    return g + weight_decay * p, s


def add_noise(gs, ps, t, s, draws, eta=0.01, gamma=0.55):
    """Neelakantan+ 2015; `draws` are the standard normal numbers of every step."""
    return {k: g + np.sqrt(eta / t**gamma) * draws[k][t - 1] for k, g in gs.items()}, s


REFERENCES: dict[str, Reference] = {
    "sgd": descend(sgd),
    "momentum": descend(sgd, momentum=0.9),
    "nesterov": descend(sgd, momentum=0.9, nesterov=True),
    "adagrad": descend(adagrad),
    "rmsprop": descend(rmsprop),
    "rmsprop_centered": descend(rmsprop, centered=True),
    "rmsprop_momentum": descend(rmsprop, momentum=0.9, eps_in_sqrt=False),
    "adadelta": descend(adadelta, learning_rate=1.0),
    "adam": descend(adam),
    "adamw": descend(adamw),
    "identity": each(identity),
    "scale": each(scale),
    "stateless": each(scale),
    "stateless_with_tree_map": each(scale),
    "scale_by_learning_rate": each(scale_by_learning_rate),
    "scale_by_momentum": each(scale_by_momentum),
    "scale_by_adagrad": each(adagrad),
    "scale_by_rms": each(rms),
    "scale_by_stddev": each(stddev),
    "scale_by_adadelta": each(adadelta),
    "scale_by_adam": each(adam),
    "clip": each(clip),
    "clip_by_norm": each(clip_by_norm),
    "clip_by_global_norm": clip_by_global_norm,
    "add_decayed_weights": each(add_decayed_weights),
    "add_noise": add_noise,
}
