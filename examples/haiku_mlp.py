"""A Haiku model on batches made by a function: `gradtx compare examples/haiku_mlp.py`."""

import haiku as hk
import jax
import jax.numpy as jnp

from gradtx.compare import Problem

network = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([32, 32, 1])(x)[:, 0]))


def batch(key):
    """Points of a wave, fresh ones at every step."""
    x = jax.random.uniform(key, (64, 1), minval=-3.0, maxval=3.0)
    return x, jnp.sin(2 * x[:, 0])


def draw(key):
    return network.init(key, jnp.zeros((1, 1)))


def loss(params, batch, key):
    x, y = batch
    return jnp.mean((network.apply(params, x) - y) ** 2)


problem = Problem(draw=draw, loss=loss, train=batch, target=0.01, steps=300)
