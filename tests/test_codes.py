"""The codes of a slot: the nearest of the papers' levels, and rounding at random."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from stored import decoded, spread_out

import gradtx
from gradtx import blockwise, rounded, store
from gradtx.engine.rounding import random_bits, seed, uniform
from gradtx.engine.slots import separate

# Codes in NumPy, from the papers ----------------------------------------------------------------


def dynamic(signed: bool) -> np.ndarray:
    """The levels of the dynamic tree code between 0 and 1, the largest of them 1."""
    found = [0.0]
    for power in range(7):
        ends = np.linspace(0.1, 1, 2 ** (power + (not signed)) + 1)
        found += list(10.0 ** (power - 6) * (ends[1:] + ends[:-1]) / 2)
    found = found if signed else [*found, 1.0]
    return np.array(found) / found[-1]


def companded(signed: bool) -> np.ndarray:
    if signed:  # q / 127 = 2 x / (1 + x)
        q = np.arange(128) / 127
        return q / (2 - q)
    return (np.arange(256) / 255) ** 2


LEVELS = {"dynamic": dynamic, "companded": companded}
SHAPES = [(7, 300), (3, 3, 8, 16), (1000,), (5, 3), (2, 257), (1,), (2, 64)]


def largest_of_blocks(x: np.ndarray, scales: tuple[int, ...]) -> np.ndarray:
    """The largest |x| of the block of every entry; blocks are even pieces of the last axes."""
    *lead, blocks = scales
    rows = np.abs(x).reshape(*lead, -1)
    size = -(-rows.shape[-1] // blocks)
    pieces = [rows[..., i * size : (i + 1) * size] for i in range(blocks)]
    found = [np.broadcast_to(p.max(-1, keepdims=True), p.shape) for p in pieces if p.size]
    return np.concatenate(found, -1).reshape(x.shape)


def kept(format: Any, slot: str, x: np.ndarray) -> Any:
    """The array as `store` keeps it in a slot of this name."""

    class remember(gradtx.identity):
        def init(self, params):
            return _state(slot)(params)

    return getattr(store(remember(), {slot: format}).init(x), slot)


def _state(slot: str) -> Any:
    return NamedTuple("State", [(slot, Any)])


# What `store` makes of them ---------------------------------------------------------------------


@pytest.mark.parametrize("code", LEVELS)
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_codes_are_the_nearest_of_the_paper(code, signed, shape):
    """Every entry becomes the nearest level times the largest of its block."""
    x = spread_out(len(shape), shape)
    x = x if signed else x**2
    format = blockwise(code, signed=signed, stochastic=False, min_size=0)
    slot = kept(format, "mu", x)
    assert slot.codes.shape == shape
    assert slot.codes.dtype == (jnp.int8 if signed else jnp.uint8)
    largest = largest_of_blocks(np.asarray(x, float), slot.scales.shape)
    levels = LEVELS[code](signed)
    levels = np.concatenate([-levels[:0:-1], levels]) if signed else levels
    shares = np.asarray(x, float) / largest
    best = np.abs(shares[..., None] - levels).min(-1)
    found = np.abs(decoded(slot) / largest - shares)
    if not signed:  # but a number that is not zero stays so
        least = np.abs(shares - levels[1])
        best = np.where((shares > 0) & (shares < levels[1]), least, best)
    np.testing.assert_allclose(found, best, atol=3e-7)


@pytest.mark.parametrize("code", [*LEVELS, "float8_e4m3fn", "float8_e5m2", "float16"])
def test_the_largest_of_a_block_is_kept_exactly(code):
    """With either sign, in every code: else what is only read would shrink from step to step."""
    for sign in (1, -1):
        x = sign * jnp.linspace(0.1, 3.7, 512).reshape(2, 256)
        slot = kept(blockwise(code, block=64, min_size=0), "mu", x)
        np.testing.assert_array_equal(decoded(slot)[:, 63::64], np.asarray(x)[:, 63::64])
        np.testing.assert_array_equal(slot.scales, np.abs(x)[:, 63::64])


FORMATS = {
    "bfloat16": rounded("bfloat16", stochastic=True),
    "float16": rounded("float16", stochastic=True),
    **{
        f"{code} {'signed' if signed else 'unsigned'}": blockwise(
            code, block=64, signed=signed, stochastic=True, min_size=0
        )
        for code in ("dynamic", "companded", "float8_e4m3fn", "float8_e5m2", "float16")
        for signed in (True, False)
    },
}


@pytest.mark.parametrize("name", FORMATS)
def test_rounding_at_random_is_right_on_average(name):
    """The mean over 1000 steps is the number itself, and every number is one of two neighbours."""
    x = spread_out(0, (2, 96), -2.0)
    x = x**2 + 1e-3 if "unsigned" in name else x
    slot = kept(FORMATS[name], "mu", x)
    (blank,) = separate("test", jax.tree.structure(0), slot)

    def again(step):
        return blank.encode(x, seed(np.uint32(7), step, "mu")).decode(jnp.dtype("float32"))

    drawn = np.asarray(jax.jit(jax.vmap(again))(jnp.arange(1000)), float)
    spread, off = drawn.std(0), np.abs(drawn.mean(0) - np.asarray(x, float))
    never = spread == 0  # so near to a neighbour that a thousand draws do not reach the other
    assert (off[never] < 0.01 * np.abs(x)[never]).all()
    assert never.mean() < 0.05
    errors = off[~never] / (spread[~never] / 1000**0.5)
    assert errors.max() < 5
    assert 0.85 < np.mean(errors**2) ** 0.5 < 1.15
    for entry in drawn.reshape(1000, -1).T[::7]:
        assert len(np.unique(entry)) <= 2


def test_random_bits():
    """Uniform, independent between entries, steps and slots; any way of sharding gives the same."""
    at = [seed(np.uint32(3), jnp.int32(step), "mu") for step in (0, 1)]
    drawn = [np.asarray(uniform(random_bits(s, (300, 200)), jnp.float32), float) for s in at]
    other = seed(np.uint32(3), jnp.int32(0), "nu")
    drawn.append(np.asarray(uniform(random_bits(other, (300, 200)), jnp.float32), float))
    for u in drawn:
        assert abs(u.mean() - 0.5) < 4 * (1 / 12 / u.size) ** 0.5
        assert abs(u.var() - 1 / 12) < 4 * (1 / 180 / u.size) ** 0.5
        pairs = (u[:, 1:], u[:, :-1]), (u[1:], u[:-1])
        for a, b in pairs:
            assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / u.size**0.5
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(drawn[a].ravel(), drawn[b].ravel())[0, 1]) < 4 / 60000**0.5
    place = NamedSharding(Mesh(np.array(jax.devices()), "x"), PartitionSpec(None, "x"))
    sharded = jax.jit(lambda: random_bits(at[0], (300, 200)), out_shardings=place)()
    np.testing.assert_array_equal(sharded, random_bits(at[0], (300, 200)))
