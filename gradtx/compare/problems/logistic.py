"""Logistic regression: convex, on real data."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .network import Network
from .problem import Data, Params, Problem, Score
from .split import split


def logistic() -> Problem:
    from sklearn.datasets import load_breast_cancer  # slow to import: only where it is asked for

    inputs, labels = load_breast_cancer(return_X_y=True)
    inputs = np.asarray(inputs, np.float32)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    train, held_out = split((inputs, np.asarray(labels, np.float32)))
    network = Network(lambda key: eqx.nn.Linear(30, "scalar", key=key))

    def loss(params: Params, batch: Data, key: Array) -> Array:
        x, y = batch
        z = network.each(params, x)
        ridge = 1e-3 * jnp.sum(params.weight**2)  # without it the minimum can lie at infinity
        return jnp.mean(jax.nn.softplus(z) - y * z) + ridge

    def accuracy(params: Params, data: Data) -> Array:
        x, y = data
        return jnp.mean((network.each(params, x) > 0) == (y > 0.5), dtype=jnp.float32)

    return Problem(
        name="logistic",
        title="Logistic regression",
        about="Malignant or benign from 30 measurements of a cell (breast cancer data of "
        "scikit-learn), with a small ridge penalty: a convex problem.",
        draw=network.draw,
        loss=loss,
        train=train,
        held_out=held_out,
        steps=400,
        batch_size=32,
        target=0.08,
        score=Score("accuracy", accuracy),
        rates=9,
    )
