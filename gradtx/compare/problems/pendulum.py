"""A pendulum whose motor is too weak to lift it: a policy has to learn to swing."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .network import Network
from .problem import Data, Params, Problem, Score
from .split import split

GRAVITY = 10.0  # of a mass of 1 on a rod of length 1
TORQUE = 7.0  # at most; 10 would hold it level
STEP = 0.06  # seconds
STEPS = 80
SPEED = 8.0  # at the start, at most, either way
HANGING = (np.pi - 0.3, 0.0)  # angle from upright and velocity; at rest, nearly straight down


def pendulum() -> Problem:
    network = Network(lambda key: eqx.nn.MLP(3, 1, 16, 2, jnp.tanh, key=key))

    def roll(params: Params, start: Array) -> tuple[Array, Array, Array]:
        """Angle from upright, velocity and torque at every instant, from `start` (angle, velocity).

        Semi-implicit Euler, which keeps the energy of a swinging pendulum.
        """
        policy = network(params)

        def step(state: tuple[Array, Array], _: None):
            angle, velocity = state
            seen = jnp.stack([jnp.cos(angle), jnp.sin(angle), velocity / 4])
            torque = TORQUE * jnp.tanh(policy(seen)[0])
            velocity = velocity + STEP * (GRAVITY * jnp.sin(angle) + torque)
            angle = angle + STEP * velocity
            return (angle, velocity), (angle, velocity, torque)

        return jax.lax.scan(step, (start[0], start[1]), None, STEPS)[1]

    def loss(params: Params, batch: Data, key: Array) -> Array:
        angle, velocity, torque = jax.vmap(roll, (None, 0))(params, batch)
        return jnp.mean((1 - jnp.cos(angle)) + 0.01 * velocity**2 + 0.01 * torque**2)

    def upright(params: Params, data: Data) -> Array:
        angle, _, _ = jax.vmap(roll, (None, 0))(params, data)
        return jnp.mean(jnp.cos(angle[:, -STEPS // 4 :]) > 0.9, dtype=jnp.float32)

    chance = np.random.default_rng(0)
    starts = chance.uniform((-np.pi, -SPEED), (np.pi, SPEED), (640, 2))
    train, held_out = split(starts.astype(np.float32))
    return Problem(
        name="pendulum",
        title="Pendulum swing-up",
        about="A small network drives a motor that can hold only seven tenths of the pendulum's "
        "weight: it has to swing up, then balance, from any start. Gradients flow through 80 "
        "steps of simulation and grow on the way.",
        draw=network.draw,
        loss=loss,
        train=train,
        held_out=held_out,
        steps=400,
        batch_size=16,
        target=0.8,
        score=Score("time upright", upright),
        rates=9,
        show=lambda params: roll(params, jnp.array(HANGING))[0],
    )
