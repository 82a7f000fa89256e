"""The hyperparameters of a Gaussian process, by the marginal likelihood of real data."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import solve_triangular

from .problem import Data, Params, Problem
from .split import split

ROWS = 100  # of the data set, as the time of a step grows with the third power
JITTER = 1e-4  # of the variance: so much noise there is always, or float32 finds no Cholesky factor


def gaussian_process() -> Problem:
    from sklearn.datasets import load_diabetes  # slow to import: only where it is asked for

    inputs, targets = map(np.asarray, load_diabetes(return_X_y=True, scaled=False))
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    targets = (targets - targets.mean()) / targets.std()
    chosen = np.random.default_rng(1).permutation(len(targets))[:ROWS]
    data = inputs[chosen].astype(np.float32), targets[chosen].astype(np.float32)
    train, held_out = split(data, 0.4)
    return Problem(
        name="gaussian-process",
        title="Gaussian process",
        about="A Gaussian process for the progress of diabetes from 10 measurements "
        "(scikit-learn): the length scale of each, the variance and the noise, by the negative "
        "logarithm of the marginal likelihood, for a patient. Held out are other patients, and "
        "their likelihood.",
        draw=draw,
        loss=lambda params, batch, key: surprise(params, batch),
        train=train,
        held_out=held_out,
        steps=100,
        batch_size=None,
        target=TARGET,
        rates=9,
    )


TARGET = 1.135  # the minimum is 1.1267


def draw(key: Array) -> dict[str, Array]:
    """Logarithms: of a length scale for every input, of the variance, of that of the noise."""
    keys = jax.random.split(key, 3)
    return {
        "lengths": 1 + 0.5 * jax.random.normal(keys[0], (10,)),
        "variance": 0.5 * jax.random.normal(keys[1]),
        "noise": 0.5 * jax.random.normal(keys[2]) - 2,
    }


def covariance(params: Params, x: Array) -> Array:
    """That of the values at `x`: v exp(-|x - x'|^2 / 2), lengths taken in their scales."""
    scaled = x * jnp.exp(-params["lengths"])[None, :]
    squares = jnp.sum(scaled**2, axis=1)
    between = squares[:, None] + squares[None, :] - 2 * scaled @ scaled.T
    variance, noise = jnp.exp(params["variance"]), jnp.exp(params["noise"])
    kernel = variance * jnp.exp(-jnp.maximum(between, 0) / 2)
    return kernel + (noise + JITTER * variance) * jnp.eye(len(x), dtype=x.dtype)


def surprise(params: Params, data: Data) -> Array:
    """-log p(y | x) / n of all values together: y' K^-1 y / 2 + log det K / 2 + n log(2 pi) / 2."""
    x, y = data
    factor = jnp.linalg.cholesky(covariance(params, x))
    white = solve_triangular(factor, y, lower=True)
    half_log_det = jnp.sum(jnp.log(jnp.diagonal(factor)))
    return (jnp.sum(white**2) / 2 + half_log_det) / len(y) + jnp.log(2 * jnp.pi) / 2
