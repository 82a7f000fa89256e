"""An Equinox model: `gradtx compare examples/equinox_mlp.py`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from gradtx.compare import Problem, Score

images, labels = load_digits(return_X_y=True)
images = jnp.asarray(images, jnp.float32) / 8 - 1
labels = jnp.asarray(labels, jnp.int32)


def build(key):
    return eqx.nn.MLP(64, 10, 32, 2, key=key)


# What is trained are the arrays; activations and sizes are the same for all seeds.
_, static = eqx.partition(build(jax.random.key(0)), eqx.is_inexact_array)


def draw(key):
    return eqx.filter(build(key), eqx.is_inexact_array)


def logits(params, x):
    return jax.vmap(eqx.combine(params, static))(x)


def loss(params, batch, key):
    x, y = batch
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()


def accuracy(params, data):
    x, y = data
    return jnp.mean(logits(params, x).argmax(-1) == y)


problem = Problem(
    draw=draw,
    loss=loss,
    train=(images[:1400], labels[:1400]),
    held_out=(images[1400:], labels[1400:]),
    score=Score("accuracy", accuracy),
    target=0.05,
    steps=300,
)
