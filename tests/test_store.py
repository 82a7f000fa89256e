"""Slots in less memory, in any transformation: what is kept how, and what stays the same."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from laws.cases import assert_close, assert_same, assert_three_parts, avals
from stored import decoded, eight_bits, spread_out

import gradtx
from gradtx import blockwise, rounded, store
from gradtx.engine.codes import Stored
from gradtx.engine.slots import map_slots

# Second moments -----------------------------------------------------------------------------------


def _nu(tx: Any, g: jax.Array, start: float, steps: int) -> jax.Array:
    state = tx.init(g)
    whole = state["scale_by_adam"].nu
    state["scale_by_adam"] = state["scale_by_adam"]._replace(
        nu=jax.tree.map(lambda x: jnp.full_like(x, start), whole)
    )

    def body(state, _):
        return tx.update(g, state, g)[1], None

    return jax.lax.scan(body, state, length=steps)[0]["scale_by_adam"].nu


def test_second_moments_in_bfloat16_do_not_stall():
    """nu rises to 1 - b2^t and falls as b2^t; rounded to nearest it stays at 1/4, and at 1 (E7)."""
    adam, n = gradtx.adam(1e-3), 2048
    for start, g, steps in ((0.0, 1.0, 2000), (1.0, 0.0, 3000)):
        exact = g**2 + (start - g**2) * 0.999**steps
        grads = jnp.full(n, g)
        slot = store(adam, {"nu": "bfloat16"})
        found = np.asarray(_nu(slot, grads, start, steps).values, float)
        assert abs(found.mean() - exact) < 5 * found.std() / n**0.5 + 1e-4
        nearest = store(adam, {"nu": rounded("bfloat16", stochastic=False)})
        stuck = np.asarray(_nu(nearest, grads[:1], start, steps), float)
        assert stuck == {0.0: 0.25, 1.0: 1.0}[start]


@pytest.mark.parametrize("code", ["dynamic", "companded", "float8_e4m3fn", "float8_e5m2"])
def test_second_moments_do_not_become_zero(code):
    """What is far below the largest of its block is rounded up: else its step would be a giant."""
    g = jnp.full((2, 64), 1e-7).at[:, 0].set(1.0)
    tx = store(gradtx.adam(1.0), {"nu": blockwise(code, min_size=0)})
    _, state = tx.update(g, tx.init(g), g)
    assert (decoded(state["scale_by_adam"].nu) > 0).all()
    updates, _ = tx.update(g * 0, state, g)
    assert jnp.abs(updates).max() < 1


# Any transformation -------------------------------------------------------------------------------

PARAMS = {"bias": spread_out(1, (3,)), "kernel": spread_out(2, (4, 96)), "scale": jnp.ones(())}
GRADS = jax.tree.map(lambda p: jnp.sin(10 * p), PARAMS)


@pytest.mark.parametrize("slots", ["bfloat16", "int8", "companded", "float8_e5m2"])
def test_updates_are_those_of_the_decoded_state(slots):
    """A step is a step of the plain optimizer from the numbers that the codes stand for."""
    adam = gradtx.adamw(1e-2)
    format = slots if slots == "bfloat16" else eight_bits(code=slots.replace("int8", "dynamic"))
    tx = store(adam, {"mu": format, "nu": format})
    state = tx.init(PARAMS)
    for _ in range(3):
        plain = map_slots(lambda path, slot, _: gradtx.wrappers.store._decoded(slot), state)
        expected, wide = adam.update(GRADS, plain, PARAMS)
        updates, new = tx.update(GRADS, state, PARAMS)
        assert_close(updates, expected)  # the compiler may round the two programs differently
        assert avals(new) == avals(state)
        # What is kept is one of the two neighbours of the exact slot, of every entry.
        exact, found = wide["scale_by_adam"].mu, new["scale_by_adam"].mu
        found = gradtx.wrappers.store._decoded(found)
        gap = {"bfloat16": 2**-8, "int8": 0.15, "companded": 1.0, "float8_e5m2": 2**-2}[slots]
        for x, y in zip(jax.tree.leaves(exact), jax.tree.leaves(found), strict=True):
            assert (jnp.abs(x - y) <= gap * jnp.abs(x) + 5e-3 * jnp.abs(x).max()).all()
        state = new


def test_nothing_to_store_changes_nothing():
    """Where all arrays are small, state and steps are those of the plain optimizer."""
    tx = store(gradtx.adam(1e-2), {"mu": "int8"})
    updates, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    expected, plain = gradtx.adam(1e-2).update(GRADS, gradtx.adam(1e-2).init(PARAMS), PARAMS)
    assert_same(updates, expected)
    assert_same(jax.tree.leaves(state), jax.tree.leaves(plain))


def test_what_is_left_as_it_is():
    """Scalars, empty, complex and small arrays stay plain, in an 8-bit slot as in a narrow one."""
    params = {
        "complex": jnp.ones((4, 64), complex),
        "empty": jnp.zeros((0, 3)),
        "large": jnp.ones((4, 64)),
        "number": jnp.ones(()),
        "small": jnp.ones(32),
    }
    state = store(gradtx.adam(1.0), {"mu": blockwise(min_size=64), "nu": "bfloat16"}).init(params)
    mu, nu = state["scale_by_adam"].mu, state["scale_by_adam"].nu
    assert {k for k, x in mu.codes.items() if x.dtype == jnp.int8} == {"large"}
    assert {k for k, x in mu.scales.items() if x is not None} == {"large"}
    narrow = {k for k, x in nu.values.items() if x.dtype == jnp.bfloat16}
    assert narrow == {"large", "small", "complex"}  # |g|^2 is real


OTHERS = {
    "joint": (lambda: gradtx.prodigy(1.0), {"nu": eight_bits(), "mu": "bfloat16"}),
    "global": (lambda: gradtx.dog(1.0), {"x0": "bfloat16"}),
    "mechanic": (lambda: gradtx.mechanic(gradtx.adam(1.0)), {"x0": "bfloat16", "nu": "float16"}),
    "difference": (lambda: gradtx.rmsprop(1e-3, centered=True), {"nu": eight_bits()}),
    "partition": (
        lambda: gradtx.partition({"kernel": gradtx.lion(1e-3), "*": gradtx.adam(1e-3)}),
        {"kernel/scale_by_lion/mu": eight_bits(), "nu": "bfloat16"},
    ),
    "inside": (
        lambda: gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(1e-3)),
        {"mu": "float8_e4m3fn"},
    ),
    "Optax": (lambda: optax.adam(1e-3), {"mu": "bfloat16", "nu": eight_bits()}),
    "Optax, no count": (lambda: optax.scale_by_rms(), {"nu": eight_bits()}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_any_transformation(name):
    """Rules, rules that decide together, wrappers, other libraries: stable states, finite steps."""
    make, formats = OTHERS[name]
    tx = store(make(), formats)
    state = tx.init(PARAMS)
    with jax.numpy_dtype_promotion("standard"):  # Optax is not written for strict promotion

        def body(carry, _):
            params, state = carry
            updates, state = tx.update(GRADS, state, params)
            return (gradtx.apply_updates(params, updates), state), None

        (params, new), _ = jax.lax.scan(body, (PARAMS, state), length=4)
    assert avals(new) == avals(state)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(params))
    assert any((x != y).any() for x, y in zip(*map(jax.tree.leaves, (params, PARAMS)), strict=True))


class Averages(NamedTuple):
    average: Any


class averaged(gradtx.GradientTransformation):
    """A wrapper's way of keeping a tree that no rule runs and that `eval_params` returns."""

    def init(self, params):
        return Averages(params)

    def update(self, updates, state, params=None, **extra):
        return updates, Averages(jax.tree.map(lambda a, p: (a + p) / 2, state.average, params))

    def eval_params(self, state, params):
        return state.average


def test_states_that_no_rule_runs():
    """They are decoded before and encoded after, and for `eval_params`."""
    params = {"w": jnp.linspace(0.0, 1.0, 300).reshape(3, 100)}
    tx = store(averaged(), {"average": eight_bits()})
    state = tx.init(params)
    assert isinstance(state.average, Stored)
    _, state = tx.update(params, state, jax.tree.map(jnp.zeros_like, params))
    expected = params["w"] / 2
    np.testing.assert_allclose(tx.eval_params(state, params)["w"], expected, atol=5e-3)


def test_nothing_is_paid_where_nothing_is_stored():
    """The program of a plain optimizer has no bits, and no salts as arguments."""
    tx = gradtx.adam(1e-3)
    program = str(jax.make_jaxpr(tx.update)(GRADS, tx.init(PARAMS), PARAMS))
    assert "u32" not in program
    tx = store(gradtx.adam(1e-3), {"nu": "bfloat16"})
    assert "u32" in str(jax.make_jaxpr(tx.update)(GRADS, tx.init(PARAMS), PARAMS))


def test_equal_shapes_are_traced_once():
    """The salt of a path is an argument: ten layers are one function."""
    tx = store(gradtx.adam(1e-3), {"nu": eight_bits()})
    params = {f"layer{i}": jnp.ones((2, 64)) for i in range(10)}
    program = str(jax.make_jaxpr(tx.update)(params, tx.init(params), params))
    assert len(re.findall("name=one_array", program)) == 10
    assert len(re.findall("= clamp|= floor", program)) <= 40  # not ten times as many


# Memory and places --------------------------------------------------------------------------------


def test_memory_of_adam_in_eight_bits():
    """At most 2.3 bytes a parameter in each code, from shapes alone; the arrays agree."""
    shapes = {
        "embedding": jax.ShapeDtypeStruct((5000, 96), jnp.float32),
        "convolution": jax.ShapeDtypeStruct((3, 3, 64, 48), jnp.float32),
        "bias": jax.ShapeDtypeStruct((96,), jnp.float32),
        "kernel": jax.ShapeDtypeStruct((96, 1000), jnp.bfloat16),
    }
    n = sum(x.size for x in jax.tree.leaves(shapes))
    plain = gradtx.adam(1e-3).memory(shapes)
    assert plain["scale_by_adam/mu"] == plain["scale_by_adam/nu"] == 4 * n
    assert plain["in all"] == 8 * n + 4
    for code in ("dynamic", "companded", "float8_e4m3fn"):
        tx = store(gradtx.adam(1e-3), {"mu": code, "nu": code})
        found = tx.memory(shapes)
        assert set(found) == set(plain)
        assert found["in all"] == sum(v for k, v in found.items() if k != "in all") <= 2.3 * n
    state = tx.init(shapes)
    assert sum(x.nbytes for x in jax.tree.leaves(state)) == found["in all"]


@pytest.mark.parametrize("spec", [("x",), (None, "x")], ids=str)
def test_codes_lie_as_the_parameters(spec):
    """New codes lie as the parameter does, stay there, and are those of one device.

    No array is collected on its way: blocks are within rows, and shards hold whole blocks.
    """
    place = NamedSharding(Mesh(np.array(jax.devices()), "x"), PartitionSpec(*spec))
    p = spread_out(3, (16, 512))
    tx = store(gradtx.adam(1e-2), {"mu": eight_bits(block=64), "nu": eight_bits(block=64)})
    sharded = jax.device_put(p, place)
    state = tx.init(sharded)
    step = jax.jit(tx.step)
    for _ in range(2):
        for slot in state["scale_by_adam"][1:]:
            for part in slot:
                assert part.sharding.is_equivalent_to(place, 2)
        program = step.lower(sharded, state, sharded).compile().as_text()
        assert "all-gather" not in program
        assert "all-to-all" not in program
        sharded, state = step(jnp.sin(sharded), state, sharded)
    alone, plain = p, tx.init(p)
    for _ in range(2):
        alone, plain = tx.step(jnp.sin(alone), plain, alone)
    codes = zip(state["scale_by_adam"].nu.codes, plain["scale_by_adam"].nu.codes, strict=True)
    assert max(int(jnp.abs(x.astype(int) - y.astype(int)).max()) for x, y in codes) <= 1


# Other libraries ----------------------------------------------------------------------------------


def test_flax_nnx_keeps_small_and_large_arrays_apart():
    """`nnx.Optimizer` walks states in its own way: codes of some arrays and others as they are."""
    tx = store(gradtx.adamw(0.1), {"mu": blockwise(min_size=6), "nu": "bfloat16"})
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    state = tx.init(params)

    @nnx.jit
    def train(model, optimizer):
        optimizer.update(model, nnx.grad(lambda m: (m(jnp.ones((4, 2))) ** 2).sum())(model))

    for _ in range(2):
        grads = nnx.to_pure_dict(nnx.grad(lambda m: (m(jnp.ones((4, 2))) ** 2).sum())(model))
        params, state = tx.step(grads, state, params)
        train(model, optimizer)
    found = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    for name in params:
        np.testing.assert_allclose(found[name], params[name], rtol=1e-4)


def test_flax_serialization():
    """Bytes of a state with codes restore every bit."""
    tx = store(gradtx.adam(0.1), {"mu": blockwise(min_size=6), "nu": "bfloat16"})
    _, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    back = flax.serialization.from_bytes(tx.init(PARAMS), flax.serialization.to_bytes(state))
    assert_same(back, state)


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "mentions"),
    [
        ("store(adam(1.0), {'muu': 'int8'}).init(params)", ("'muu'", "'mu'", "'nu'")),
        ("store(adam(1.0), {'mu': 'int8', 'x/nu': 'int8'}).init(params)", ("'x/nu'",)),
        ("store(sgd(1.0), {'mu': 'int8'}).init(params)", ("'mu'", "none")),
        ("store(adam(1.0), {'mu': 'int7'})", ("'int7'", "'bfloat16'", "'int8'")),
        ("store(adam(1.0), {'mu': jnp.int32})", ("int32", "'float8_e5m2'")),
        ("store(adam(1.0), {'mu': 3})", ("3", "'bfloat16'")),
        ("store(adam(1.0), 'int8')", ("'int8'", "dict")),
        ("blockwise('int8')", ("'int8'", "'dynamic'")),
        ("blockwise(block=0)", ("block", "0")),
        ("blockwise(min_size=-1)", ("min_size", "-1")),
        ("rounded('float8_e5m2')", ("'float8_e5m2'", "'bfloat16'")),
    ],
)
def test_errors(call, mentions):
    """Unknown slots and formats are refused with what there is."""
    with pytest.raises((TypeError, ValueError)) as raised:
        eval(call, {**vars(gradtx), "jnp": jnp, "params": PARAMS})
    assert_three_parts(raised.value, *mentions)


def test_a_gradient_of_another_shape():
    """The message shows the shapes of what is stored too."""
    tx = store(gradtx.adam(1.0), {"mu": eight_bits(), "nu": "bfloat16"})
    state = tx.init(PARAMS)
    wrong = {**GRADS, "kernel": jnp.ones((96, 4))}
    with pytest.raises(ValueError, match="kernel") as raised:
        tx.update(wrong, state, PARAMS)
    assert_three_parts(raised.value, "Dynamic[4, 96]", "[96, 4]")


def test_formats_may_be_dtypes():
    """`jnp.bfloat16` says the same as its name; what is printed can be typed."""
    tx = store(gradtx.adam(1e-3), {"mu": jnp.bfloat16, "nu": jnp.float8_e5m2})
    assert tx == store(gradtx.adam(1e-3), {"mu": "bfloat16", "nu": "float8_e5m2"})
    assert eval(repr(tx), vars(gradtx).copy()) == tx


def test_store_gives_updates_of_another_library_back_as_they_came() -> None:
    tx = gradtx.store(optax.scale_by_adam(), {"nu": "bfloat16"})
    g = jnp.ones(4, jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):
        u, _ = tx.update(g, tx.init(g), g)
    assert u.dtype == g.dtype
