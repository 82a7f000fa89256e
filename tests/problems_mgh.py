"""Test problems for unconstrained optimization, from their published definitions.

Moré, Garbow & Hillstrom 1981, ACM TOMS 7, 17-41: sums of squares, with the numbers they have there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

LONGEST = 100


class Problem(NamedTuple):
    residuals: Callable[[Any], Any]  # of an array of n numbers
    start: Any
    minima: tuple[float, ...]  # published


def counted(m: int) -> Any:
    return np.arange(1.0, m + 1)


def rosenbrock(x: Any) -> Any:
    return jnp.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def freudenstein_roth(x: Any) -> Any:
    a, b = x
    return jnp.stack(
        [-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b],
    )


def powell_badly_scaled(x: Any) -> Any:
    return jnp.stack([1e4 * x[0] * x[1] - 1, jnp.exp(-x[0]) + jnp.exp(-x[1]) - 1.0001])


def brown_badly_scaled(x: Any) -> Any:
    return jnp.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def beale(x: Any) -> Any:
    return jnp.asarray([1.5, 2.25, 2.625]) - x[0] * (1 - jnp.stack([x[1], x[1] ** 2, x[1] ** 3]))


def jennrich_sampson(x: Any) -> Any:
    i = counted(10)
    return 2 + 2 * i - jnp.exp(i * x[0]) - jnp.exp(i * x[1])


def helical_valley(x: Any) -> Any:
    a, b, c = x
    turn = jnp.arctan(b / a) / (2 * np.pi) + jnp.where(a < 0, 0.5, 0.0)
    return jnp.stack([10 * (c - 10 * turn), 10 * (jnp.sqrt(a**2 + b**2) - 1), c])


def bard(x: Any) -> Any:
    y = [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39]
    u = counted(15)
    v = 16 - u
    return np.asarray(y) - (x[0] + u / (v * x[1] + np.minimum(u, v) * x[2]))


def gaussian(x: Any) -> Any:
    y = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989]
    t = (8 - counted(15)) / 2
    return x[0] * jnp.exp(-x[1] * (t - x[2]) ** 2 / 2) - np.asarray(y + y[-2::-1])


def meyer(x: Any) -> Any:
    y = [34780.0, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427]
    y += [3820, 3307, 2872]
    return x[0] * jnp.exp(x[1] / (45 + 5 * counted(16) + x[2])) - np.asarray(y)


def gulf(x: Any) -> Any:
    t = counted(99) / 100
    y = 25 + (-50 * np.log(t)) ** (2 / 3)
    return jnp.exp(-(jnp.abs(y - x[1]) ** x[2]) / x[0]) - t


def box(x: Any) -> Any:
    t = 0.1 * counted(10)
    return jnp.exp(-t * x[0]) - jnp.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10 * t))


def powell_singular(x: Any) -> Any:
    a, b, c, d = x.reshape(-1, 4).T
    root5, root10 = 5**0.5, 10**0.5
    rows = a + 10 * b, root5 * (c - d), (b - 2 * c) ** 2, root10 * (a - d) ** 2
    return jnp.stack(rows).reshape(-1)


def wood(x: Any) -> Any:
    a, b, c, d = x
    return jnp.stack(
        [
            10 * (b - a**2),
            1 - a,
            90**0.5 * (d - c**2),
            1 - c,
            10**0.5 * (b + d - 2),
            10**-0.5 * (b - d),
        ]
    )


def kowalik_osborne(x: Any) -> Any:
    y = [0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
    u = np.asarray([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
    return np.asarray(y) - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(x: Any) -> Any:
    t = counted(20) / 5
    return (x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2


def osborne_1(x: Any) -> Any:
    y = [0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718]
    y += [0.685, 0.658, 0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467]
    y += [0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406]
    t = 10 * (counted(33) - 1)
    return np.asarray(y) - (x[0] + x[1] * jnp.exp(-t * x[3]) + x[2] * jnp.exp(-t * x[4]))


def biggs(x: Any) -> Any:
    t = 0.1 * counted(13)
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    sums = x[2] * jnp.exp(-t * x[0]) - x[3] * jnp.exp(-t * x[1]) + x[5] * jnp.exp(-t * x[4])
    return sums - y


def watson(x: Any) -> Any:
    n = x.size
    t = counted(29)[:, None] / 29
    powers = t ** np.arange(n)[None]
    slopes = np.arange(1.0, n)[None] * t ** np.arange(n - 1)[None]
    first = slopes @ x[1:] - (powers @ x) ** 2 - 1
    return jnp.concatenate([first, jnp.stack([x[0], x[1] - x[0] ** 2 - 1])])


def extended_rosenbrock(x: Any) -> Any:
    a, b = x.reshape(-1, 2).T
    return jnp.concatenate([10 * (b - a**2), 1 - a])


def penalty_1(x: Any) -> Any:
    return jnp.concatenate([1e-5**0.5 * (x - 1), jnp.sum(x**2)[None] - 0.25])


def penalty_2(x: Any) -> Any:
    n, a = x.size, 1e-5**0.5
    i = counted(n)[1:]
    y = np.exp(i / 10) + np.exp((i - 1) / 10)
    e = jnp.exp(x / 10)
    rows = (
        x[:1] - 0.2,
        a * (e[1:] + e[:-1] - y),
        a * (e[1:] - np.exp(-0.1)),
        jnp.sum((n - counted(n) + 1) * x**2)[None] - 1,
    )
    return jnp.concatenate(rows)


def variably_dimensioned(x: Any) -> Any:
    total = jnp.sum(counted(x.size) * (x - 1))[None]
    return jnp.concatenate([x - 1, total, total**2])


def trigonometric(x: Any) -> Any:
    n = x.size
    return n - jnp.sum(jnp.cos(x)) + counted(n) * (1 - jnp.cos(x)) - jnp.sin(x)


def brown_almost_linear(x: Any) -> Any:
    return jnp.concatenate([x[:-1] + jnp.sum(x) - (x.size + 1), jnp.prod(x)[None] - 1])


def boundary_value(x: Any) -> Any:
    h = 1 / (x.size + 1)
    t, around = h * counted(x.size), jnp.pad(x, 1)
    return 2 * x - around[:-2] - around[2:] + h**2 * (x + t + 1) ** 3 / 2


def integral_equation(x: Any) -> Any:
    h = 1 / (x.size + 1)
    t = h * counted(x.size)
    cubes = (x + t + 1) ** 3
    below, above = jnp.cumsum(t * cubes), jnp.cumsum(((1 - t) * cubes)[::-1])[::-1]
    return x + h * ((1 - t) * below + t * (above - (1 - t) * cubes)) / 2


def broyden_tridiagonal(x: Any) -> Any:
    around = jnp.pad(x, 1)
    return (3 - 2 * x) * x - around[:-2] - 2 * around[2:] + 1


def broyden_banded(x: Any) -> Any:
    around = jnp.pad(x * (1 + x), (5, 1))
    near = sum(around[k : k + x.size] for k in (0, 1, 2, 3, 4, 6))
    return x * (2 + 5 * x**2) + 1 - near


def chebyquad(x: Any) -> Any:
    n, y = x.size, 2 * x - 1
    rows = [jnp.ones_like(y), y]
    for _ in range(n - 1):
        rows.append(2 * y * rows[-1] - rows[-2])
    means = jnp.mean(jnp.stack(rows[1:]), axis=1)
    return means - np.asarray([0.0 if i % 2 else -1 / (i**2 - 1) for i in range(1, n + 1)])


def _on_line(n: int) -> Any:
    t = counted(n) / (n + 1)
    return t * (t - 1)


def problem(residuals: Callable[[Any], Any], start: Any, *minima: float) -> Problem:
    return Problem(residuals, np.asarray(start, float), minima)


PROBLEMS: dict[str, Problem] = {
    "Rosenbrock": problem(rosenbrock, [-1.2, 1], 0),
    "Freudenstein-Roth": problem(freudenstein_roth, [0.5, -2], 0, 48.9842),
    "Powell badly scaled": problem(powell_badly_scaled, [0, 1], 0),
    "Brown badly scaled": problem(brown_badly_scaled, [1, 1], 0),
    "Beale": problem(beale, [1, 1], 0),
    "Jennrich-Sampson": problem(jennrich_sampson, [0.3, 0.4], 124.362),
    "helical valley": problem(helical_valley, [-1, 0, 0], 0),
    "Bard": problem(bard, [1, 1, 1], 8.21487e-3),
    "Gaussian": problem(gaussian, [0.4, 1, 0], 1.12793e-8),
    "Meyer": problem(meyer, [0.02, 4000, 250], 87.9458),
    "Gulf": problem(gulf, [5, 2.5, 0.15], 0),
    "Box": problem(box, [0, 10, 20], 0),
    "Powell singular": problem(powell_singular, [3, -1, 0, 1], 0),
    "Wood": problem(wood, [-3, -1, -3, -1], 0),
    "Kowalik-Osborne": problem(kowalik_osborne, [0.25, 0.39, 0.415, 0.39], 3.07505e-4),
    "Brown-Dennis": problem(brown_dennis, [25, 5, -5, -1], 85822.2),
    "Osborne 1": problem(osborne_1, [0.5, 1.5, -1, 0.01, 0.02], 5.46489e-5),
    "Biggs EXP6": problem(biggs, [1, 2, 1, 1, 1, 1], 0, 5.65565e-3),
    "Watson 6": problem(watson, np.zeros(6), 2.28767e-3),
    "Watson 9": problem(watson, np.zeros(9), 1.39976e-6),
    "extended Rosenbrock": problem(extended_rosenbrock, [-1.2, 1] * 50, 0),
    "extended Powell": problem(powell_singular, [3, -1, 0, 1] * 25, 0),
    "penalty I": problem(penalty_1, counted(10), 7.08765e-5),
    "penalty II": problem(penalty_2, np.full(10, 0.5), 2.93660e-4),
    "variably dimensioned": problem(variably_dimensioned, 1 - counted(10) / 10, 0),
    "trigonometric": problem(trigonometric, np.full(10, 0.1), 0, 2.79506e-5),
    "Brown almost-linear": problem(brown_almost_linear, np.full(10, 0.5), 0, 1),
    "discrete boundary value": problem(boundary_value, _on_line(10), 0),
    "discrete integral": problem(integral_equation, _on_line(10), 0),
    "Broyden tridiagonal": problem(broyden_tridiagonal, np.full(100, -1), 0),
    "Broyden banded": problem(broyden_banded, np.full(100, -1), 0),
    "Chebyquad 8": problem(chebyquad, counted(8) / 9, 3.51687e-3),
    "Chebyquad 10": problem(chebyquad, counted(10) / 11, 6.50395e-3),
}
BADLY_SCALED = {
    *("Powell badly scaled", "Brown badly scaled", "Jennrich-Sampson", "Meyer", "Brown-Dennis"),
}
NAMES = list(PROBLEMS)


def loss(x: Any, name: str) -> Any:
    """The function of one problem, a sum of squares."""
    return jnp.sum(PROBLEMS[name].residuals(x) ** 2)


def any_loss(x: Any, number: Any) -> Any:
    """All problems as one function of an array that is long enough for each, by their numbers.

    One compiled program is all that they need; the entries that a problem has not have no gradient.
    """

    def of(name: str) -> Callable[[Any], Any]:
        return lambda x: loss(x[: PROBLEMS[name].start.size], name)

    return jax.lax.switch(number, [of(name) for name in NAMES], x)


def long_start(name: str) -> Any:
    start = PROBLEMS[name].start
    return np.pad(start, (0, LONGEST - start.size))


def is_minimum(name: str, value: Any, digits: float = 1e-5) -> bool:
    """Whether a value is one of the minima that are published, to as many digits as are."""
    return any(abs(value - f) <= digits * f + 1e-8 * (f == 0) for f in PROBLEMS[name].minima)
