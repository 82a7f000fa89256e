"""Parameters below float32: random rounding, compensation, master weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from laws.cases import assert_same, assert_three_parts

import gradtx
from gradtx import apply_updates, kahan, master_weights, stochastic_rounding
from gradtx.engine.rounding import round_to, seed
from gradtx.wrappers.precision import _bits, _joined, _upper

WRAPPERS = {
    "kahan": kahan,
    "master_weights": master_weights,
    "master_weights_split": partial(master_weights, split=True),
    "stochastic_rounding": stochastic_rounding,
}
over_wrappers = pytest.mark.parametrize("name", WRAPPERS)
over_exact = pytest.mark.parametrize("name", [n for n in WRAPPERS if n != "stochastic_rounding"])


def trained(tx: Any, p: Any, g: Any, steps: int, way: str = "step") -> tuple[Any, Any]:
    """Parameters and state after some steps with one and the same gradient."""

    def body(carry, _):
        params, state = carry
        if way == "step":
            return tx.step(g, state, params), None
        updates, state = tx.update(g, state, params)
        return (apply_updates(params, updates), state), None

    return jax.jit(lambda p: jax.lax.scan(body, (p, tx.init(p)), length=steps)[0])(p)


def normal(key: int, shape: Any, dtype: Any = "float32") -> jax.Array:
    return jax.random.normal(jax.random.key(key), shape).astype(dtype)


# Many small steps ---------------------------------------------------------------------------------


@over_wrappers
@pytest.mark.parametrize("way", ["step", "update"])
def test_a_hundred_small_steps_count(name, way):
    """1.0 under adam(1e-3) is 0.9 after 100 steps; alone it stays where it is."""
    p, g = jnp.ones(500, jnp.bfloat16), jnp.ones(500, jnp.bfloat16)
    found, _ = trained(WRAPPERS[name](gradtx.adam(1e-3)), p, g, 100, way)
    assert found.dtype == jnp.bfloat16
    assert abs(np.asarray(found, float).mean() - 0.9) < 0.009
    stuck, _ = trained(gradtx.adam(1e-3), p[:1], g[:1], 100, way)
    assert stuck == 1


def test_small_steps_with_random_rounding():
    """T17: 1e-4 added to 1.0 ten thousand times, 2000 copies, in bfloat16.

    The mean is 2 and the variance the sum of (x - below)(above - x) over all steps: 1e-4 (step -
    1e-4) each, with steps of 2^-7 between 1 and 2.
    """
    p, g = jnp.ones(2000, jnp.bfloat16), jnp.full(2000, -1e-4)
    found = np.asarray(trained(stochastic_rounding(gradtx.sgd(1.0)), p, g, 10_000)[0], float)
    variance = 1e4 * 1e-4 * (2**-7 - 1e-4)
    assert abs(found.mean() - 2) < 4 * (variance / 2000) ** 0.5
    assert abs(found.var() / variance - 1) < 4 * (2 / 2000) ** 0.5


@over_exact
def test_small_steps_that_are_remembered(name):
    """T17: the same is exact with a float32 compensation (in bfloat16 it would be 2.026)."""
    p, g = jnp.ones(2, jnp.bfloat16), jnp.full(2, -1e-4)
    found, _ = trained(WRAPPERS[name](gradtx.sgd(1.0)), p, g, 10_000)
    assert (found == 2).all()


def test_kahan_makes_float32_better_too():
    """1e-7 added to 1 ten thousand times: rounded every time it is off by 19 %."""
    p, g = jnp.ones(()), jnp.full((), -1e-7)
    exact = 1 + 1e4 * float(g) * -1
    found, _ = trained(kahan(gradtx.sgd(1.0)), p, g, 10_000)
    assert abs(float(found) - exact) <= 2**-24
    plain, _ = trained(gradtx.sgd(1.0), p, g, 10_000)
    assert abs(float(plain) - exact) > 1e-4


# update and step ----------------------------------------------------------------------------------


@over_wrappers
def test_update_and_step_agree(name):
    """The same parameters and states, bit for bit, with gradients in float32."""
    p, g = normal(0, 64, "bfloat16"), normal(1, 64)
    tx = WRAPPERS[name](gradtx.adam(0.01))
    assert_same(trained(tx, p, g, 5, "update"), trained(tx, p, g, 5, "step"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("grads", ["bfloat16", "float16", "float32"])
def test_kahan_knows_where_apply_updates_leads(dtype, grads):
    """Parameter and what is lost are always the exact sum, whatever is rounded on the way.

    Rounding is done for good inside the program: the compiler may not leave it out.
    """
    p, g = normal(0, 256, dtype), normal(1, 256, grads)
    tx, exact = kahan(gradtx.sgd(1e-3)), np.asarray(p, float)

    @jax.jit
    def step(p, state):
        updates, state = tx.update(g, state, p)
        return apply_updates(p, updates), state, updates

    state = tx.init(p)
    for _ in range(20):
        p, state, updates = step(p, state)
        assert updates.dtype == g.dtype
        exact -= 1e-3 * np.asarray(g, float)
    np.testing.assert_allclose(
        np.asarray(p, float) + np.asarray(state.lost, float), exact, atol=3e-6
    )


def test_kahan_in_chunks_of_narrow_updates():
    """`update` in bfloat16 gives what `step` gives: both are computed from what is handed out."""
    p, g = normal(0, 64, "bfloat16"), normal(1, 64, "bfloat16")
    tx = kahan(gradtx.adam(0.01))
    assert_same(trained(tx, p, g, 5, "update"), trained(tx, p, g, 5, "step"))


# Master weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("grads", ["bfloat16", "float32"])
def test_masters_train_as_float32_does(split, grads):
    """The masters are the parameters of a run in float32; the others are these, rounded."""
    p = normal(0, 64, "bfloat16")
    g = normal(1, 64, grads)
    inner = gradtx.adamw(0.01, weight_decay=0.1)
    found, state = trained(master_weights(inner, split), p, g, 10)
    exact, _ = trained(inner, p.astype("float32"), g.astype("float32"), 10)
    master = _joined(found, state.master)
    np.testing.assert_allclose(master, exact, rtol=3e-7)
    rounded = _upper(master).astype(jnp.bfloat16) if split else master.astype(jnp.bfloat16)
    assert_same(found, rounded)


def test_a_split_master_is_restored_exactly():
    """bfloat16 and 16 bits give back every float32 number, in the middle of two as well."""
    random = np.random.default_rng(0)
    numbers = random.integers(0, 2**32, 10_000, np.uint32).view(np.float32)
    middles = (np.arange(0, 2**16, 7, np.uint32) << 16 | 0x8000).view(np.float32)
    numbers = np.concatenate([numbers, middles])
    largest = float(ml_dtypes.finfo("bfloat16").max)
    numbers = numbers[(np.abs(numbers) >= 2.0**-126) & (np.abs(numbers) <= largest)]
    upper = _upper(jnp.asarray(numbers))
    half = upper.astype(jnp.bfloat16)
    below = _bits(jnp.asarray(numbers)) - _bits(half.astype("float32"))
    assert below.min() >= -(2**15)
    assert below.max() < 2**15
    assert (_joined(half, below.astype(jnp.int16)) == numbers).all()
    nearest = numbers.astype("bfloat16").astype("float32")
    assert (np.abs(upper - numbers) <= np.abs(nearest - numbers)).all()


def test_memory_of_masters():
    """4 bytes a narrow parameter, or 2; none for those that are wide already."""
    params = {"narrow": jnp.ones(100, jnp.bfloat16), "wide": jnp.ones(1000)}
    sgd = gradtx.sgd(0.1)
    assert master_weights(sgd).memory(params)["master"] == 400
    assert master_weights(sgd, split=True).memory(params)["master"] == 200
    assert kahan(sgd).memory(params)["lost"] == 4400
    assert master_weights(sgd).init(params).master["wide"] is None


def test_what_is_wrapped_sees_the_masters():
    """Decay of what bfloat16 cannot tell from 1 is decay of the exact weight."""
    p, state = jnp.ones(1, jnp.bfloat16), None
    tx = master_weights(gradtx.chain(gradtx.add_decayed_weights(1.0), gradtx.scale(-1e-3)))
    p, state = trained(tx, p, jnp.zeros(1, jnp.bfloat16), 1000)
    np.testing.assert_allclose(state.master, 0.999**1000, rtol=1e-4)


# Random rounding ----------------------------------------------------------------------------------


def test_apply_updates_with_a_key():
    """One of the two neighbours, right on average; nothing changes for float32 or without a key."""
    n = 4000
    p, u = jnp.ones(n, jnp.bfloat16), jnp.full(n, 0.003)
    found = np.asarray(apply_updates(p, u, key=jax.random.key(1)), float)
    assert set(found) == {1.0, 1.0078125}
    share = 0.003 / 2**-7
    assert abs((found > 1).mean() - share) < 4 * (share * (1 - share) / n) ** 0.5
    same = apply_updates(p, u, key=jax.random.key(1))
    assert_same(same, jax.jit(apply_updates)(p, u, 1))  # a number stands for a key
    assert (same != apply_updates(p, u, key=jax.random.key(2))).any()
    assert (apply_updates(p, u) == 1).all()
    assert_same(apply_updates(u, u, key=3), apply_updates(u, u))


def test_random_rounding_belongs_to_path_and_step():
    """What is drawn depends on no other array, differs between arrays and steps, and on the key."""
    n = 256
    p, g = jnp.ones(n, jnp.bfloat16), jnp.full(n, 0.003)
    tx = stochastic_rounding(gradtx.sgd(1.0))

    def stepped(tx, *names):
        params, grads = dict.fromkeys(names, p), dict.fromkeys(names, g)
        state, seen = tx.init(params), []
        for _ in range(2):
            updates, state = tx.update(grads, state, params)
            seen.append(updates)
        return seen

    (a, b), (c, d) = stepped(tx, "x", "y"), stepped(tx, "y", "z")
    assert_same((a["y"], b["y"]), (c["y"], d["y"]))
    assert (a["x"] != a["y"]).any()
    assert (a["x"] != b["x"]).any()
    assert (stepped(tx.replace(key=1), "x")[0]["x"] != a["x"]).any()


def test_random_rounding_on_a_mesh():
    """The same bits wherever the parameter lies."""
    p, g = normal(0, (16, 8), "bfloat16"), 1e-3 * normal(1, (16, 8))
    place = NamedSharding(Mesh(np.array(jax.devices()), "x"), PartitionSpec("x"))
    sharded = jax.tree.map(lambda x: jax.device_put(x, place), (p, g))
    tx = stochastic_rounding(gradtx.sgd(1.0))
    expected, _ = tx.step(g, tx.init(p), p)
    found, _ = tx.step(sharded[1], tx.init(sharded[0]), sharded[0])
    assert found.sharding.is_equivalent_to(place, 2)
    assert_same(found, expected)


NARROW = ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"]


@pytest.mark.parametrize("dtype", NARROW)
def test_rounding_to_nearest(dtype):
    """`round_to` says what a conversion says, subnormal numbers and middles included."""
    info = ml_dtypes.finfo(dtype)
    random = np.random.default_rng(0)
    x = random.normal(size=20_000) * 10 ** random.uniform(-12, 6, 20_000)
    steps = np.arange(-300, 300) / 2 * float(info.smallest_subnormal)
    x = np.concatenate([x, steps, random.integers(-999, 999, 999) / 64, [0.0]]).astype("float32")
    x = x[(np.abs(x) < float(info.max)) & ((x == 0) | (np.abs(x) > 1e-30))]
    np.testing.assert_array_equal(
        round_to(jnp.asarray(x), dtype), x.astype(dtype).astype("float32")
    )
    assert jnp.isnan(round_to(jnp.asarray(jnp.nan), dtype))
    assert jnp.isinf(round_to(jnp.asarray(-jnp.inf), dtype))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["float32", *NARROW])
def test_rounding_of_float64(dtype):
    """From float64 too, at random as well: numbers that are there already stay."""
    x = np.random.default_rng(0).normal(size=2000)
    nearest = round_to(jnp.asarray(x), dtype)
    np.testing.assert_array_equal(nearest, x.astype(dtype).astype("float64"))
    drawn = [round_to(nearest, dtype, seed(np.uint32(1), jnp.int32(t), "")) for t in range(3)]
    for again in drawn:
        np.testing.assert_array_equal(again, nearest)
    up = round_to(jnp.asarray(x), dtype, seed(np.uint32(1), jnp.int32(0), ""))
    assert (jnp.abs(up - x) < 2 * jnp.abs(x) * float(ml_dtypes.finfo(dtype).eps)).mean() > 0.95


def test_rounding_has_the_derivative_one():
    """To nearest and at random: what is learnt through it does not stop there."""
    for s in (None, seed(np.uint32(1), jnp.int32(0), "")):
        slope = jax.grad(lambda x, s=s: (round_to(x, "bfloat16", s) * 3).sum())(jnp.ones(3))
        np.testing.assert_array_equal(slope, 3 * np.ones(3))


# Errors -------------------------------------------------------------------------------------------


@over_wrappers
def test_a_state_of_another_model(name):
    """What is remembered of an array of another shape is refused with its path."""
    tx = WRAPPERS[name](gradtx.sgd(0.1))
    state = tx.init({"w": jnp.ones((2, 3), jnp.bfloat16)})
    p = {"w": jnp.ones(3, jnp.bfloat16)}
    if name == "stochastic_rounding":  # it remembers no array
        tx.update(p, state, p)
        return
    with pytest.raises(ValueError, match="'w'") as raised:
        tx.update(p, state, p)
    assert_three_parts(raised.value, "[2, 3]", "[3]")
    with pytest.raises(ValueError, match="different trees") as raised:
        tx.update({"v": p["w"]}, state, {"v": p["w"]})
    assert_three_parts(raised.value, "'v'")
