"""A Flax model with batch normalization and dropout: `gradtx compare examples/flax_linen.py`."""

import flax.linen as nn
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from gradtx.compare import Problem, Score

images, labels = load_digits(return_X_y=True)
images = jnp.asarray(images, jnp.float32) / 8 - 1
labels = jnp.asarray(labels, jnp.int32)


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.Dense(32)(x))
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(0.1, deterministic=not train)(x)
        return nn.Dense(10)(x)


network = Network()


def draw(key):
    variables = network.init(key, images[:1], train=False)
    return variables["params"], {"batch_stats": variables["batch_stats"]}


def loss(params, aux, batch, key):
    x, y = batch
    z, aux = network.apply(
        {"params": params, **aux}, x, train=True, mutable=["batch_stats"], rngs={"dropout": key}
    )
    return optax.softmax_cross_entropy_with_integer_labels(z, y).mean(), aux


def evaluate(params, aux, data):
    x, y = data
    z = network.apply({"params": params, **aux}, x, train=False)
    return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()


def accuracy(params, aux, data):
    x, y = data
    return jnp.mean(network.apply({"params": params, **aux}, x, train=False).argmax(-1) == y)


problem = Problem(
    draw=draw,
    loss=loss,
    evaluate=evaluate,
    aux=True,
    train=(images[:1400], labels[:1400]),
    held_out=(images[1400:], labels[1400:]),
    score=Score("accuracy", accuracy),
    steps=300,
)
