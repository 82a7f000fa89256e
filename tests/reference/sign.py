"""Sign methods."""

from __future__ import annotations

import numpy as np

from .formula import Reference, descend, each, ema


def phase(z):
    """The sign of a real number, z / |z| of a complex one."""
    modulus = np.abs(z)
    return np.where(modulus > 0, z / np.where(modulus > 0, modulus, 1.0), 0.0)


def sign(g, p, t, s):
    """Bernstein+ 2018, algorithm 1."""
    return phase(g), s


def signum(g, p, t, s, b1=0.9):
    """Bernstein+ 2018, algorithm 2."""
    m = ema(b1, s.get("m", 0.0), g)
    return phase(m), {"m": m}


def lion_direction(g, p, t, s, b1=0.9, b2=0.99):
    """Chen+ 2023, algorithm 2: the update comes before the momentum."""
    m = s.get("m", 0.0 * g)
    return phase(ema(b1, m, g)), {"m": ema(b2, m, g)}


def lion(g, p, t, s, weight_decay=1e-3, **rest):
    u, s = lion_direction(g, p, t, s, **rest)
    return u + weight_decay * p, s


def tiger(g, p, t, s, b1=0.965, weight_decay=0.01):
    """Su 2023: Lion whose two decays are one."""
    u, s = lion_direction(g, p, t, s, b1, b1)
    return u + weight_decay * p, s


def rprop_direction(
    g,
    p,
    t,
    s,
    learning_rate=0.01,
    eta_minus=0.5,
    eta_plus=1.2,
    min_step_size=1e-6,
    max_step_size=50.0,
):
    """Riedmiller & Braun 1993, without going back where the sign changes."""
    product = (g * np.conj(s.get("g", 0.0 * g))).real
    d = s.get("d", learning_rate + 0.0 * np.abs(g))
    d = np.where(product > 0, d * eta_plus, np.where(product < 0, d * eta_minus, d))
    d = np.minimum(np.maximum(d, min_step_size), max_step_size)
    g = np.where(product < 0, 0.0, g)
    return phase(g) * d, {"g": g, "d": d}


def rprop(g, p, t, s, **rest):
    u, s = rprop_direction(g, p, t, s, **rest)
    return -u, s


REFERENCES: dict[str, Reference] = {
    "sign_sgd": descend(sign),
    "signum": descend(signum),
    "lion": descend(lion),
    "tiger": descend(tiger),
    "rprop": each(rprop),
    "scale_by_sign": each(sign),
    "scale_by_signum": each(signum),
    "scale_by_lion": each(lion_direction),
    "scale_by_rprop": each(rprop_direction),
}
