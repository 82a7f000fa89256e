"""Step sizes of plain gradient descent that theory asks for: large steps among small ones.

chebyshev_schedule   for a quadratic with eigenvalues between two bounds
silver_schedule      for a smooth convex function
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from gradtx.schedules.base import Number, Schedule, longest
from gradtx.schedules.steps import as_steps, periods, steps
from gradtx.struct import static, whole, within


class chebyshev_schedule(Schedule):
    """The best `period` step sizes for a quadratic, again and again.

    1 / (c + r cos((2 k + 1) pi / (2 period))), k = 0 ... period - 1, with c and r the middle and
    half the width of the interval of eigenvalues (Young 1953). With `fractal` the order is that of
    Lebedev & Finogenov 1971, for which `period` is a power of two: no run of steps grows much on
    the way (Agarwal+ 2021, 2103.01338).
    """

    smallest: Number = within("(0, inf)")  # eigenvalue
    largest: Number = within("(0, inf)")  # eigenvalue
    period: Number = whole(within="[1, inf)")
    fractal: bool = static(default=False)

    def span(self) -> float:
        return 2 * longest(self.period)

    def __call__(self, count: Any) -> Array:
        place: Any = periods(count, self.period)[1]
        if self.fractal:
            place = _fractal(place.whole, steps(self.period).whole)
        middle, half = (self.largest + self.smallest) / 2, (self.largest - self.smallest) / 2
        angle = (as_steps(place) + 0.5) * jnp.pi / as_steps(self.period)
        return 1 / (middle + half * jnp.cos(angle))


def _fractal(place: Array, period: Array) -> Array:
    """Where `place` stands in the order s_2n = (s_n(0), 2n - 1 - s_n(0), s_n(1), ...)."""
    offset, sign = jnp.zeros_like(period), jnp.ones_like(period)
    for _ in range(31):
        more, odd = period > 1, place % 2 == 1
        offset = jnp.where(more & odd, offset + sign * (period - 1), offset)
        sign = jnp.where(more & odd, -sign, sign)
        place, period = jnp.where(more, place // 2, place), jnp.where(more, period // 2, period)
    return offset


class silver_schedule(Schedule):
    """scale (1 + rho^(v - 1)) with rho = 1 + sqrt(2) and 2^v the power of two in t = count + 1.

    With scale = 1 / L, L the smoothness, gradient descent on a convex function needs
    eps^-0.786 steps instead of eps^-1. Altschuler & Parrilo 2023, 2309.16530.
    """

    scale: Number = within("[0, inf)", default=1.0)

    def span(self) -> float:
        return 64

    def __call__(self, count: Any) -> Array:
        t = steps(count).whole.astype(jnp.uint32) + 1
        valuation = lax.population_count((t ^ (t - 1)) >> 1)  # of the ones below the lowest
        factors = [1 + (1 + 2**0.5) ** (v - 1) for v in range(32)]
        return self.scale * jnp.asarray(factors, jnp.result_type(float))[valuation]
