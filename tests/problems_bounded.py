"""Test problems with bounds: Hock & Schittkowski 1981, the driver of L-BFGS-B, and variants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from problems_mgh import loss


class Bounded(NamedTuple):
    function: Callable[[Any], Any]
    start: Any
    lower: Any
    upper: Any
    minimum: float
    evaluations: int  # of SciPy 1.17.1's L-BFGS-B


def of(name: str) -> Callable[[Any], Any]:
    return lambda x: loss(x, name)


def hs3(x: Any) -> Any:
    return x[1] + 1e-5 * (x[1] - x[0]) ** 2


def hs4(x: Any) -> Any:
    return (x[0] + 1) ** 3 / 3 + x[1]


def hs5(x: Any) -> Any:
    return jnp.sin(x[0] + x[1]) + (x[0] - x[1]) ** 2 - 1.5 * x[0] + 2.5 * x[1] + 1


def hs45(x: Any) -> Any:
    return 2 - jnp.prod(x) / 120


def hs110(x: Any) -> Any:
    logs = jnp.log(x - 2) ** 2 + jnp.log(10 - x) ** 2
    return jnp.sum(logs) - jnp.prod(x) ** 0.2


def driver1(x: Any) -> Any:
    """Of the code of Zhu, Byrd, Lu & Nocedal: odd entries at least 1, even ones at least -100."""
    return 4 * (0.25 * (x[0] - 1) ** 2 + jnp.sum((x[1:] - x[:-1] ** 2) ** 2))


def chained(x: Any) -> Any:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


INF = np.inf
ODD = np.where(np.arange(25) % 2 == 0, 1.0, -100.0)
BOUNDED = {
    "HS1": Bounded(of("Rosenbrock"), [-2.0, 1.0], [-INF, -1.5], [INF, INF], 0.0, 48),
    "HS2": Bounded(of("Rosenbrock"), [-2.0, 1.0], [-INF, 1.5], [INF, INF], 4.94123, 16),
    "HS3": Bounded(hs3, [10.0, 1.0], [-INF, 0.0], [INF, INF], 0.0, 4),
    "HS4": Bounded(hs4, [1.125, 0.125], [1.0, 0.0], [INF, INF], 8 / 3, 2),
    "HS5": Bounded(hs5, [0.0, 0.0], [-1.5, -3.0], [4.0, 3.0], -np.sqrt(3) / 2 - np.pi / 3, 8),
    "HS38": Bounded(of("Wood"), [-3.0, -1, -3, -1], [-10.0] * 4, [10.0] * 4, 0.0, 33),
    "HS45": Bounded(hs45, [2.0] * 5, [0.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0], 1.0, 10),
    "HS110": Bounded(hs110, [9.0] * 10, [2.001] * 10, [9.999] * 10, -45.778470, 7),
    "driver1": Bounded(driver1, [3.0] * 25, ODD, [100.0] * 25, 0.0, 36),
    "extended Rosenbrock": Bounded(
        of("extended Rosenbrock"),
        np.tile([-1.2, 1.0], 500),
        [-INF] * 1000,
        np.tile([0.5, INF], 500),
        125.0,
        31,
    ),
    "chained Rosenbrock": Bounded(chained, [0.5] * 100, [0.0] * 100, [0.9] * 100, 77.972178, 34),
    "Broyden tridiagonal": Bounded(
        of("Broyden tridiagonal"), [-1.0] * 1000, [-0.6] * 1000, [1.0] * 1000, 78.104496, 11
    ),
}

LONGEST = 1000


def long(name: str) -> tuple[Any, Any, Any]:
    """Start and bounds with zeros behind, where both bounds are zero."""
    problem = BOUNDED[name]
    numbers = (np.asarray(x, float) for x in (problem.start, problem.lower, problem.upper))
    start, lower, upper = (np.pad(x, (0, LONGEST - x.size)) for x in numbers)
    return start, lower, upper


def any_bounded(x: Any, number: Any, lower: Any, upper: Any) -> Any:
    """One of the problems, by its number; outside of the box there is nothing."""

    def of_one(problem: Bounded) -> Callable[[Any], Any]:
        return lambda x: problem.function(x[: len(problem.start)])

    value = lax.switch(number, [of_one(problem) for problem in BOUNDED.values()], x)
    return jnp.where(jnp.all((lower <= x) & (x <= upper)), value, jnp.nan)
