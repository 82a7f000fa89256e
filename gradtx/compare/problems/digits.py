"""Handwritten digits, 8 x 8 pixels: a perceptron and a convolutional network."""

from collections.abc import Callable
from typing import Any, Unpack

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .network import Network
from .problem import Data, Described, Params, Problem, Score
from .split import split


def digits_mlp() -> Problem:
    return _digits(
        lambda key: eqx.nn.MLP(64, 10, 32, 2, key=key),
        name="digits-mlp",
        title="Digits, multilayer perceptron",
        about="1,797 handwritten digits of 8 × 8 pixels (scikit-learn) and a perceptron with two "
        "hidden layers of 32: the smallest problem that behaves like deep learning.",
        steps=600,
        target=0.05,
    )


def digits_cnn() -> Problem:
    return _digits(
        _Convolutional,
        name="digits-cnn",
        title="Digits, convolutional network",
        about="1,797 handwritten digits of 8 × 8 pixels (scikit-learn) and two convolutions with "
        "pooling, then one dense layer.",
        steps=300,
        target=0.1,
    )


class _Convolution(eqx.Module):
    """A 3 x 3 convolution, (height, width, channels), as a dense layer applied to patches.

    Stacked over runs, a convolution becomes a grouped one, which XLA runs many times slower on
    CPU than this product of matrices.
    """

    dense: eqx.nn.Linear

    def __init__(self, channels: int, out: int, key: Array) -> None:
        self.dense = eqx.nn.Linear(9 * channels, out, key=key)

    def __call__(self, x: Array) -> Array:
        rows, columns, _ = x.shape
        padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
        shifted = [padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
        return jax.vmap(jax.vmap(self.dense))(jnp.concatenate(shifted, axis=-1))


class _Convolutional(eqx.Module):
    first: _Convolution
    second: _Convolution
    last: eqx.nn.Linear

    def __init__(self, key: Array) -> None:
        keys = jax.random.split(key, 3)
        self.first = _Convolution(1, 8, keys[0])
        self.second = _Convolution(8, 16, keys[1])
        self.last = eqx.nn.Linear(64, 10, key=keys[2])

    def __call__(self, x: Array) -> Array:
        x = _halve(jax.nn.relu(self.first(x.reshape(8, 8, 1))))
        x = _halve(jax.nn.relu(self.second(x)))
        return self.last(x.reshape(-1))


def _halve(x: Array) -> Array:
    """Mean over squares of 2 x 2 pixels."""
    rows, columns, channels = x.shape
    return x.reshape(rows // 2, 2, columns // 2, 2, channels).mean((1, 3))


def _digits(build: Callable[[Array], Any], **described: Unpack[Described]) -> Problem:
    from sklearn.datasets import load_digits  # slow to import: only where it is asked for

    images, labels = load_digits(return_X_y=True)
    images = np.asarray(images, np.float32) / 8 - 1
    train, held_out = split((images, np.asarray(labels, np.int32)))
    network = Network(build)

    def loss(params: Params, batch: Data, key: Array) -> Array:
        x, label = batch
        # One-hot, not indexing: the gradient of indexing is a scatter, slow on CPU.
        chosen = jax.nn.one_hot(label, 10) * jax.nn.log_softmax(network.each(params, x))
        return -jnp.sum(chosen) / len(x)

    def accuracy(params: Params, data: Data) -> Array:
        x, label = data
        return jnp.mean(jnp.argmax(network.each(params, x), -1) == label, dtype=jnp.float32)

    return Problem(
        **described,
        draw=network.draw,
        loss=loss,
        train=train,
        held_out=held_out,
        batch_size=64,
        score=Score("accuracy", accuracy),
        rates=9,
    )
