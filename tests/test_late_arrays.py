"""An array whose gradient is `None` at first, as a layer that is unfrozen later."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import ROWS, build, extras, some

import gradtx as gx
from gradtx.catalogue import optimizers

LATE, STEPS = 5, 6
SHAPES = {"early": (4, 3), "late": (4, 3)}


def grads(i, late):
    g = np.random.default_rng(i).normal(size=(4, 3)).astype(np.float32) + 0.5
    return {"early": jnp.asarray(g), "late": jnp.asarray(g) if late else None}


def travelled(name, waits):
    """How far the late array goes in its first steps, and each of them."""
    tx = build(optimizers[name])
    start = {k: jnp.full(shape, 0.5) for k, shape in SHAPES.items()}
    params, state, moves = start, tx.init(start), []
    for i in range(waits + STEPS):
        g = grads(i, i >= waits)
        more = extras(tx, params, {k: jnp.ones_like(p) for k, p in params.items()})
        new, state = tx.step(g, state, params, **more)
        if i < waits:
            np.testing.assert_array_equal(new["late"], params["late"])
        else:
            moves.append(float(jnp.abs(new["late"] - params["late"]).max()))
        params = new
    return float(jnp.abs(params["late"] - start["late"]).max()), moves


OFTEN = ["adam", "lion", "adopt", "adan", "novograd", "ldog", "prodigy", "momo", "rprop", "muon"]
SEARCHES = {"lbfgs"}  # an array joins where a search ends, which these gradients do not let it
OFTEN += ["soap", "adafactor", "optimistic_gradient_descent"]


@pytest.mark.parametrize("name", some(sorted({*optimizers} & {*ROWS} - SEARCHES), OFTEN))
def test_it_begins_much_as_a_fresh_one(name):
    """It neither explodes nor stands still: bias corrections may be those of the others."""
    fresh, usual = travelled(name, 0)
    late, moves = travelled(name, LATE)
    assert np.isfinite(moves).all()
    assert max(moves) <= 40 * max(usual)
    assert fresh / 40 <= late <= 40 * fresh


def test_state_and_jit():
    """The flag is a number of its own for every array, in the dtype of arithmetic."""
    tx = gx.scale_by_adopt()
    params = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(3)}
    state = tx.init(params)
    _, state = jax.jit(tx.update)({"a": None, "b": jnp.ones(3)}, state, params)
    assert (float(state.begun["a"]), float(state.begun["b"])) == (0.0, 1.0)
