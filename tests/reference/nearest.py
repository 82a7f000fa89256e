"""Links that end in a set or in a proximal map, beside those of `levers`."""

from __future__ import annotations

import numpy as np

from .formula import Reference, each, norm
from .levers import box, simplex, to


def l1_sphere(x, scale=1.0):
    return np.where(x < 0, -1, 1) * simplex(np.abs(x), scale)


def hypercube(x, scale=1.0):
    return box(x, 0.0, scale)


def hyperplane(u, p, t, s, normal=1.0, offset=0.5):
    x, a = p + u, normal * np.ones(np.shape(p))
    if not np.iscomplexobj(x):
        return u - (np.sum(a * x) - offset) / norm(a) ** 2 * a, s
    # Of the moduli, none below zero, by bisection.
    r, low, high = np.abs(x), -1e3, 1e3
    for _ in range(200):
        t = (low + high) / 2
        low, high = (t, high) if np.sum(a * np.maximum(r - t * a, 0)) > offset else (low, t)
    return x / r * np.maximum(r - (low + high) / 2 * a, 0) - p, s


def half_space(u, p, t, s, normal=1.0, offset=0.5):
    x = np.abs(p + u) if np.iscomplexobj(p) else p + u
    return (u, s) if np.sum(normal * x) <= offset else hyperplane(u, p, t, s, normal, offset)


def l1(x, weight=0.3, learning_rate=0.1):
    """Entries without a sign change when they are moved towards zero by eta weight."""
    moved = x - np.sign(x) * weight * learning_rate
    return np.where(np.sign(moved) == np.sign(x), moved, 0)


def elastic_net(x, weight=0.3, l2_weight=0.5, learning_rate=0.1):
    return l1(x, weight, learning_rate) / (1 + learning_rate * l2_weight)


def group(u, p, t, s, weight=1.0, learning_rate=0.1):
    x = p + u
    return x * max(1 - weight * learning_rate / norm(x), 0) - p, s


def nuclear(u, p, t, s, weight=1.0, learning_rate=0.1):
    """By the eigenvectors of x x*: U max(1 - eta weight / sigma, 0) U* x."""
    if np.ndim(u) != 2:
        return u, s
    x = p + u
    squares, vectors = np.linalg.eigh(x @ x.conj().T)
    shares = np.maximum(1 - weight * learning_rate / np.sqrt(squares), 0)
    return (vectors * shares) @ vectors.conj().T @ x - p, s


REFERENCES: dict[str, Reference] = {
    "projection_l1_sphere": each(to(l1_sphere)),
    "projection_hypercube": each(to(hypercube)),
    "projection_half_space": each(half_space),
    "projection_hyperplane": each(hyperplane),
    "proximal_l1": each(to(l1)),
    "proximal_elastic_net": each(to(elastic_net)),
    "proximal_group": each(group),
    "proximal_nuclear": each(nuclear),
}
