"""A Flax NNX model with dropout: `gradtx compare examples/flax_nnx.py`."""

import jax.numpy as jnp
import optax
from flax import nnx
from sklearn.datasets import load_diabetes

from gradtx.compare import Problem

inputs, outputs = load_diabetes(return_X_y=True)
inputs = jnp.asarray(inputs / inputs.std(0), jnp.float32)
outputs = jnp.asarray((outputs - outputs.mean()) / outputs.std(), jnp.float32)


class Network(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(10, 32, rngs=rngs)
        self.last = nnx.Linear(32, 1, rngs=rngs)
        self.dropout = nnx.Dropout(0.1)

    def __call__(self, x, key=None):
        x = nnx.relu(self.first(x))
        x = self.dropout(x, deterministic=key is None, rngs=None if key is None else nnx.Rngs(key))
        return self.last(x)[:, 0]


# The definition of the model is the same for all seeds; its parameters are trained.
definition, _ = nnx.split(Network(nnx.Rngs(0)), nnx.Param)


def draw(key):
    _, params = nnx.split(Network(nnx.Rngs(params=key)), nnx.Param)
    return nnx.to_pure_dict(params)


def predict(params, x, key=None):
    model = nnx.merge(definition, params)
    return model(x, key)


def loss(params, batch, key):
    x, y = batch
    return optax.l2_loss(predict(params, x, key), y).mean()


def evaluate(params, data):
    x, y = data
    return optax.l2_loss(predict(params, x), y).mean()


problem = Problem(
    draw=draw,
    loss=loss,
    evaluate=evaluate,
    train=(inputs[:350], outputs[:350]),
    held_out=(inputs[350:], outputs[350:]),
    batch_size=32,
    steps=300,
)
