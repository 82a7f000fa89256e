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


def linear(c, start, end, steps, begin):
    return start + (end - start) * share(c - begin, steps)


def polynomial(c, start, end, power, steps, begin):
    return end + (start - end) * (1 - share(c - begin, steps)) ** power


def cosine(s: float, exponent: float = 1.0) -> float:
    return (0.5 * (1 + np.cos(np.pi * s))) ** exponent


def cosine_decay(c, start, steps, alpha, exponent):
    return start * (alpha + (1 - alpha) * cosine(share(c, steps), exponent))


def exponential(c, start, steps, rate, begin):
    return start * rate ** (max(c - begin, 0) / steps)


def stairs(c, start, steps, rate, begin, end):
    return max(start * rate ** np.floor(max(c - begin, 0) / steps), end)


def growth(c, start, steps, rate, begin, end):
    return min(start * rate ** (max(c - begin, 0) / steps), end)


def inverse_time(c, start, rate, steps):
    return start / (1 + rate * c / steps)


def inverse_time_stairs(c, start, rate, steps):
    return start / (1 + rate * np.floor(c / steps))


def inverse_sqrt(c, peak, warmup):
    t, warmup = c + 1, max(warmup, 1)
    return peak * (t / warmup if t < warmup else np.sqrt(warmup / t))


def piecewise(c, start, first, second, scale, other):
    return start * (scale if c >= first else 1) * (other if c >= second else 1)


def interpolated(shape):
    def formula(c, start, first, second, scale, other):
        middle, last = start * scale, start * scale * other
        if c < first:
            return middle + (start - middle) * shape(c / first)
        return last + (middle - last) * shape(share(c - first, second - first))

    return formula


def drops(c, start, size, rate):
    return start * rate ** (c // size)


def warmup_cosine(c, start, peak, warmup, steps, end, exponent):
    if c < warmup:
        return start + (peak - start) * c / warmup
    return end + (peak - end) * cosine(share(c - warmup, steps - warmup), exponent)


def joined(c, a, b, steps, begin, d, decay, scale, last_value, boundary, last):
    if c < boundary:
        return linear(c, a, b, steps, begin)
    return inverse_time(c - boundary, d, decay, scale) if c < last else last_value


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

SCHEDULES: dict[str, tuple[Any, Any]] = {
    "constant": (gradtx.constant_schedule(0.3), lambda c, value: value),
    "linear": (gradtx.linear_schedule(0.1, 0.7, 21.5, 4.2), linear),
    "polynomial": (gradtx.polynomial_schedule(0.9, 0.1, 2.5, 30.5, 3.2), polynomial),
    "polynomial root": (gradtx.polynomial_schedule(0.9, 0.1, 0.5, 30.5, 3.2), polynomial),
    "cosine": (gradtx.cosine_decay_schedule(0.4, 33.5, 0.1, 1.5), cosine_decay),
    "exponential": (gradtx.exponential_decay(0.5, 9.5, 0.7, 2.5), exponential),
    "exponential stairs": (
        gradtx.exponential_decay(0.5, 9.3, 0.7, 2.5, staircase=True, end_value=0.2),
        stairs,
    ),
    "exponential growth": (gradtx.exponential_decay(0.5, 9.5, 1.7, 2.5, end_value=2.0), growth),
    "inverse time": (gradtx.inverse_time_schedule(0.5, 0.3, 4.37), inverse_time),
    "inverse time stairs": (
        gradtx.inverse_time_schedule(0.5, 0.3, 4.37, staircase=True),
        inverse_time_stairs,
    ),
    "inverse sqrt": (gradtx.inverse_sqrt_schedule(0.5, 8.5), inverse_sqrt),
    "piecewise linear": (
        gradtx.piecewise_interpolate_schedule("linear", 0.5, {10.5: 0.3, 25.5: 2.0}),
        interpolated(lambda s: 1 - s),
    ),
    "piecewise cosine": (
        gradtx.piecewise_interpolate_schedule("cosine", 0.5, {10.5: 0.3, 25.5: 2.0}),
        interpolated(cosine),
    ),
    "piecewise": (
        gradtx.piecewise_constant_schedule(0.5, {10.5: 0.3, 25.5: 0.2}),
        piecewise,
    ),
    "step": (gradtx.step_schedule(0.5, 7.3, 0.4), drops),
    "warm-up cosine": (
        gradtx.warmup_cosine_decay_schedule(0.1, 0.9, 7.5, 33.5, 0.05, 0.5),
        warmup_cosine,
    ),
    "wsd linear": (
        gradtx.wsd_schedule(0.9, 7.5, 42.5, 12.3, 0.1, 0.05, decay="linear"),
        wsd(lambda s: 1 - s),
    ),
    "wsd 1-sqrt": (
        gradtx.wsd_schedule(0.9, 7.5, 42.5, 12.3, 0.1, 0.05),
        wsd(lambda s: 1 - np.sqrt(s)),
    ),
    "wsd cosine": (
        gradtx.wsd_schedule(0.9, 7.5, 42.5, 12.3, 0.1, 0.05, decay="cosine"),
        wsd(cosine),
    ),
    "join": (
        gradtx.join_schedules(
            [
                gradtx.linear_schedule(0.1, 0.7, 9.5, 1.2),
                gradtx.inverse_time_schedule(0.7, 0.3, 7.0),
                0.25,
            ],
            [14.5, 30.5],
        ),
        joined,
    ),
    "arithmetic": (
        2.0 * gradtx.linear_schedule(0.1, 0.7, 21.5, 4.2) / gradtx.constant_schedule(4.0)
        - gradtx.step_schedule(0.5, 7.3, 0.4) * 0.5
        + 1.5,
        lambda c, two, a, b, steps, begin, four, start, size, rate, half, more: (
            two * linear(c, a, b, steps, begin) / four - drops(c, start, size, rate) * half + more
        ),
    ),
    "reflected": (
        1.0 / (1.5 - -gradtx.linear_schedule(0.1, 0.7, 21.5, 4.2)),
        lambda c, one, more, minus, a, b, steps, begin: (
            one / (more - minus * linear(c, a, b, steps, begin))
        ),
    ),
    "clipped": (
        gradtx.linear_schedule(0.1, 0.7, 21.5, 4.2).clip(0.2, 0.55),
        lambda c, a, b, steps, begin, low, high: min(max(linear(c, a, b, steps, begin), low), high),
    ),
    **MORE,
}
