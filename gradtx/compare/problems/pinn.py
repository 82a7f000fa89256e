"""A physics-informed network: it is to solve a differential equation that it knows."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .network import Network
from .problem import Data, Params, Problem

SIDE = 10  # points of the grid inside, along each side
EDGE = 50.0  # how much more a value on the boundary weighs than the equation inside


def pinn() -> Problem:
    """Poisson's equation on a square, whose solution is known."""
    network = Network(lambda key: eqx.nn.MLP(2, "scalar", 16, 2, jnp.tanh, key=key))

    def loss(params: Params, batch: Data, key: Array) -> Array:
        """The mean square of what does not hold: of the equation, of values, as each row says."""
        points, equation, value = batch
        field = network(params)
        off = jax.vmap(lambda point: laplacian(field, point))(points) + source(points)
        error = jax.vmap(field)(points) - solution(points)
        return jnp.mean(equation * off**2 + value * error**2)

    return Problem(
        name="pinn",
        title="Physics-informed network",
        about="A small network is to be the solution of Poisson's equation on a square: what is "
        "left of the equation at 100 points, and of the values on the boundary, is squared. Held "
        "out is the mean square error against the known solution, sin 2πx sin πy.",
        draw=network.draw,
        loss=loss,
        train=conditions(),
        held_out=truth(),
        steps=600,
        batch_size=None,
        target=TARGET,
        log=True,
        rates=9,
    )


TARGET = 1.0  # at first it is some hundreds


def laplacian(field: Callable[[Array], Array], point: Array) -> Array:
    """The sum of the second derivatives, forward over forward."""

    def second(direction: Array) -> Array:
        def slope(at: Array) -> Array:
            return jax.jvp(field, (at,), (direction,))[1]

        return jax.jvp(slope, (point,), (direction,))[1]

    return jnp.sum(jax.vmap(second)(jnp.eye(len(point), dtype=point.dtype)))


def solution(points: Array) -> Array:
    return jnp.sin(2 * jnp.pi * points[..., 0]) * jnp.sin(jnp.pi * points[..., 1])


def source(points: Array) -> Array:
    """Minus the Laplacian of the solution."""
    return 5 * jnp.pi**2 * solution(points)


def conditions() -> Data:
    """Points, what the equation weighs there, what the value weighs: inside, and on the edges."""
    inside = (np.arange(SIDE) + 0.5) / SIDE
    grid = np.stack(np.meshgrid(inside, inside), -1).reshape(-1, 2)
    zero, one = np.zeros(SIDE), np.ones(SIDE)
    edges = [(zero, inside), (one, inside), (inside, zero), (inside, one)]
    edge = np.concatenate([np.stack(pair, -1) for pair in edges])
    equation = np.repeat([1.0, 0.0], [len(grid), len(edge)])
    rows = np.concatenate([grid, edge]), equation, EDGE * (1 - equation)
    return tuple(x.astype(np.float32) for x in rows)


def truth() -> Data:
    """Points between those of the grid, at which the value alone counts."""
    between = np.arange(1, SIDE) / SIDE
    points = np.stack(np.meshgrid(between, between), -1).reshape(-1, 2)
    rows = points, np.zeros(len(points)), np.ones(len(points))
    return tuple(x.astype(np.float32) for x in rows)
