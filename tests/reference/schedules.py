"""Formulas of schedules in plain Python: of the count, then of the leaves in their order."""

from __future__ import annotations

from typing import Any

import numpy as np

import gradtx


def share(done: float, steps: float) -> float:
    return float(np.clip(done / steps, 0, 1)) if steps > 0 else float(done >= 0)


def fall(start: float, end: float, s: float) -> float:
    """Half a cosine from start to end."""
    return end + (start - end) * (1 + np.cos(np.pi * s)) / 2


def line(start: float, end: float, s: float) -> float:
    return start + (end - start) * s


def cosine_onecycle(c, steps, peak, pct, div, final):
    start, middle = peak / div, pct * steps
    if c < middle:
        return fall(start, peak, c / middle)
    return fall(peak, start / final, share(c - middle, steps - middle))


def linear_onecycle(c, steps, peak, pct, back, div, final):
    start, first, second = peak / div, pct * steps, back * steps
    if c < first:
        return line(start, peak, c / first)
    if c < second:
        return line(peak, start, (c - first) / (second - first))
    return line(start, start / final, share(c - second, steps - second))


def triangle(c, base, peak, up, down, height):
    inside = c % (up + down)
    weight = inside / up if inside < up else 1 - (inside - up) / down
    return base + (peak - base) * weight * height


def triangular(c, base, peak, up, down, gamma):
    return triangle(c, base, peak, up, down, 1.0)


def triangular2(c, base, peak, up, gamma):
    return triangle(c, base, peak, up, up, 0.5 ** (c // (2 * up)))


def exp_range(c, base, peak, up, down, gamma):
    return triangle(c, base, peak, up, down, gamma**c)


def warm_restarts(c, peak, period, longer, lower, end):
    while c >= period:
        c, period, peak = c - period, period * longer, peak * lower
    return fall(peak, end, c / period)


def warmed(rise):
    def formula(c, start, steps, alpha, exponent, warmup, init):
        decayed = start * (alpha + (1 - alpha) * fall(1, 0, share(c - warmup, steps)) ** exponent)
        return init + (decayed - init) * rise(share(c, warmup))

    return formula


def untuned_linear(c, peak, b2):
    return peak * min(1, (1 - b2) / 2 * (c + 1))


def untuned_exponential(c, peak, b2):
    return peak * (1 - np.exp(-(1 - b2) * (c + 1)))


def power(c, peak, warmup, exponent):
    t = c + 1
    return peak * t / warmup if t < warmup else peak * (warmup / t) ** exponent


def chebyshev(c, smallest, largest, period):
    root = np.cos((2 * (c % period) + 1) * np.pi / (2 * period))
    return 2 / (largest + smallest + (largest - smallest) * root)


def silver(c, scale):
    t, twos = c + 1, 0
    while t % 2 == 0:
        t, twos = t // 2, twos + 1
    return scale * (1 + (1 + np.sqrt(2)) ** (twos - 1))


def wsd(shape):
    def formula(c, peak, warmup, total, decay, start, end):
        if c < warmup:
            return line(start, peak, c / warmup)
        return end + (peak - end) * shape(share(c - (total - decay), decay))

    return formula


DECAY = gradtx.cosine_decay_schedule(0.4, 23.5, 0.1, 1.5)

# Lengths are such that no count of the tests falls on a kink, where there is no derivative.
MORE: dict[str, tuple[Any, Any]] = {
    "cosine one-cycle": (
        gradtx.cosine_onecycle_schedule(41.5, 0.9, 0.29, 12.0, 50.0),
        cosine_onecycle,
    ),
    "linear one-cycle": (
        gradtx.linear_onecycle_schedule(41.5, 0.9, 0.29, 0.83, 12.0, 50.0),
        linear_onecycle,
    ),
    "triangular": (gradtx.cyclic_schedule(0.1, 0.9, 7.3, 4.9, 0.9), triangular),
    "triangular2": (
        gradtx.cyclic_schedule(0.1, 0.9, 7.3, gamma=0.9, mode="triangular2"),
        triangular2,
    ),
    "exp_range": (gradtx.cyclic_schedule(0.1, 0.9, 7.3, 4.9, 0.95, mode="exp_range"), exp_range),
    "warm restarts": (gradtx.warm_restarts_schedule(0.9, 6.3, 1.7, 0.8, 0.05), warm_restarts),
    "warm-up linear": (gradtx.warmup_schedule(DECAY, 6.5, 0.05), warmed(lambda s: s)),
    "warm-up cosine rise": (
        gradtx.warmup_schedule(DECAY, 6.5, 0.05, shape="cosine"),
        warmed(lambda s: (1 - np.cos(np.pi * s)) / 2),
    ),
    "warm-up sqrt": (gradtx.warmup_schedule(DECAY, 6.5, 0.05, shape="sqrt"), warmed(np.sqrt)),
    "warm-up square": (
        gradtx.warmup_schedule(DECAY, 6.5, 0.05, shape="square"),
        warmed(np.square),
    ),
    "untuned linear": (gradtx.untuned_warmup(0.7, 0.93), untuned_linear),
    "untuned exponential": (
        gradtx.untuned_warmup(0.7, 0.93, shape="exponential"),
        untuned_exponential,
    ),
    "power": (gradtx.power_schedule(0.7, 6.5, 0.51), power),
    "chebyshev": (gradtx.chebyshev_schedule(0.3, 4.0, 7.35), chebyshev),
    "silver": (gradtx.silver_schedule(0.3), silver),
    "wsd square": (
        gradtx.wsd_schedule(0.9, 7.5, 42.5, 12.3, 0.1, 0.05, decay="square"),
        wsd(lambda s: (1 - s) ** 2),
    ),
    "wsd 1-square": (
        gradtx.wsd_schedule(0.9, 7.5, 42.5, 12.3, 0.1, 0.05, decay="1-square"),
        wsd(lambda s: 1 - s**2),
    ),
}
