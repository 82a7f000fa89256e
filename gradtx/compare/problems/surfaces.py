"""Functions of two variables, whose minimization can be watched from above."""

from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .problem import Described, Problem


class Surface(NamedTuple):
    """A function of the plane, where runs start, where its minimum is, and the part to draw."""

    start: tuple[float, float]
    minimum: tuple[float, float]
    x: tuple[float, float]
    y: tuple[float, float]


SURFACES = {
    "quadratic": Surface((-3.2, 1.6), (0.0, 0.0), (-4.4, 2.4), (-3.4, 2.6)),
    "rosenbrock": Surface((-1.2, 1.0), (1.0, 1.0), (-2.0, 1.9), (-0.9, 2.9)),
}


def height(name: str, x: Any, y: Any) -> Any:
    """The function called `name`: an oblique valley of condition number 40, or Rosenbrock's."""
    if name == "rosenbrock":
        return (1 - x) ** 2 + 100 * (y - x**2) ** 2
    # Turned by 30 degrees: a valley along an axis would be a gift to methods that scale
    # every coordinate by itself.
    cos, sin = np.cos(np.pi / 6).item(), 0.5
    along, across = cos * x + sin * y, cos * y - sin * x
    return 0.5 * (along**2 + 40 * across**2)


def _surface(**described: Unpack[Described]) -> Problem:
    name = described["name"]
    surface = SURFACES[name]

    def draw(key: Array) -> dict[str, Array]:
        x, y = jnp.array(surface.start) + 0.1 * jax.random.normal(key, (2,))
        return {"x": x, "y": y}

    nothing = np.zeros((1, 0), np.float32)
    return Problem(
        **described,
        draw=draw,
        loss=lambda params, batch, key: height(name, params["x"], params["y"]),
        train=nothing,
        batch_size=None,
        log=True,
        rates=19,
        rates_per_decade=3,
        watch=lambda params: jnp.stack([params["x"], params["y"]]),
    )


def quadratic() -> Problem:
    return _surface(
        name="quadratic",
        title="Oblique quadratic",
        about="½(a² + 40 b²) with a and b turned by 30° against the coordinates: the simplest "
        "function on which one learning rate cannot suit every direction.",
        steps=300,
        target=1e-4,
    )


def rosenbrock() -> Problem:
    return _surface(
        name="rosenbrock",
        title="Rosenbrock's valley",
        about="(1 − x)² + 100 (y − x²)²: a curved valley that is easy to find and hard to follow "
        "to its minimum at (1, 1).",
        steps=1000,
        target=1e-2,
    )
