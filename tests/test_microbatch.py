"""A batch in slices: what the whole batch gives, in the memory of one."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from laws.cases import counting_traces, refused

import gradtx as gx

RANDOM = np.random.default_rng(0)
PARAMS = {"w": jnp.asarray(RANDOM.normal(size=(5, 3)), jnp.float32), "b": jnp.zeros(3)}
BATCH = {"x": jnp.asarray(RANDOM.normal(size=(12, 5)), jnp.float32), "y": jnp.ones((12, 3))}


def predicted(params: Any, batch: Any) -> Any:
    return jnp.tanh(batch["x"] @ params["w"] + params["b"][None])


def loss(params: Any, batch: Any) -> Any:
    found = predicted(params, batch)
    return jnp.mean((found - batch["y"]) ** 2), {"found": found, "large": jnp.sum(found > 0)}


FULL = jax.value_and_grad(loss, has_aux=True)
REDUCE = (("mean", {"found": "concat", "large": "sum"}), "mean")


def assert_close(one: Any, other: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-6, atol=2e-7), one, other)


@pytest.mark.parametrize("how", [{"steps": 4}, {"size": 4}, {"size": 5}, {"steps": 1}], ids=str)
def test_equals_the_whole_batch(how: Any) -> None:
    """Values, gradients and what is beside them, also where the last slice is smaller."""
    sliced = gx.microbatch(FULL, reduce=REDUCE, **how)
    assert_close(jax.jit(sliced)(PARAMS, BATCH), FULL(PARAMS, BATCH))


def test_narrow_gradients_are_added_up_wide() -> None:
    """A thousand slices of bfloat16 whose sum in bfloat16 would stand still."""
    ones = jnp.ones((1024, 1), jnp.bfloat16)
    total = gx.microbatch(lambda x: jnp.sum(x), 0, size=1, reduce="sum")(ones)
    assert total.dtype == jnp.bfloat16
    assert float(total) == 1024


def test_is_traced_once() -> None:
    value, traces = counting_traces(lambda p, b: loss(p, b)[0])
    sliced = gx.microbatch(jax.value_and_grad(value), steps=6)
    jax.jit(sliced)(PARAMS, BATCH)
    assert len(traces) == 1


def test_memory_does_not_grow_with_the_batch() -> None:
    """Of gradients that are as large as what all rows together need."""

    def wide(params: Any, batch: Any) -> Any:
        return jnp.mean(jnp.sin(batch["x"] @ jnp.tile(params["w"], (1, 200))))

    def held(steps: int) -> int:
        x = jax.ShapeDtypeStruct((64 * steps, 5), jnp.float32)
        step = jax.jit(gx.microbatch(jax.grad(wide), steps=steps))
        memory: Any = step.lower(PARAMS, {"x": x}).compile().memory_analysis()
        return memory.temp_size_in_bytes

    small, large = held(2), held(16)
    assert large < 1.2 * small + 64 * 16 * 5 * 4


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_rows_stay_on_their_devices(kind: AxisType) -> None:
    """Slices of a batch that is laid over devices take some rows of each: nothing moves."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,), devices=jax.devices()[:4])

    def rows(batch: Any) -> Any:
        return jnp.tanh(batch["x"])

    with jax.set_mesh(mesh):
        x = jax.device_put(RANDOM.normal(size=(24, 5)), NamedSharding(mesh, PartitionSpec("data")))
        program = jax.jit(gx.microbatch(rows, 0, steps=3, reduce="concat"))
        text = program.lower({"x": x}).compile().as_text()
        np.testing.assert_allclose(program({"x": x}), np.tanh(x), rtol=1e-6)
    moves = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    assert not re.findall(rf"(?:{moves})(?:-start)?\(", text)


def test_each_slice_has_a_key_of_its_own() -> None:
    def noise(key: Any, x: Any) -> Any:
        return jax.random.normal(key, x.shape)

    drawn = gx.microbatch(noise, 1, steps=4, reduce="concat", key_argnum=0)(
        jax.random.key(0), jnp.zeros(8)
    )
    assert len(np.unique(drawn)) == 8


def test_other_axes_and_several_arguments() -> None:
    def product(x: Any, scale: Any, y: Any) -> Any:
        return jnp.sum(x * y) * scale

    x, y = (jnp.asarray(RANDOM.normal(size=(3, 8)), jnp.float32) for _ in range(2))
    sliced = gx.microbatch(product, (0, 2), size=2, reduce="sum", axis=1)
    np.testing.assert_allclose(sliced(x, 2.0, y), product(x, 2.0, y), rtol=1e-5)


def test_trains_as_the_whole_batch() -> None:
    tx = gx.adam(0.1)
    ends = []
    for grad in (jax.grad(lambda p, b: loss(p, b)[0]),) * 2:
        params, state = PARAMS, tx.init(PARAMS)
        take = gx.microbatch(grad, steps=3) if ends else grad
        for _ in range(3):
            params, state = tx.step(take(params, BATCH), state, params)
        ends.append(params)
    assert_close(*ends)


REFUSED: dict[str, tuple[Any, str]] = {
    "both": (lambda: gx.microbatch(FULL, size=2, steps=2), "size is 2, steps is 2"),
    "neither": (lambda: gx.microbatch(FULL), "size is None"),
    "no step": (lambda: gx.microbatch(FULL, steps=0), "steps is 0"),
    "an unknown way": (lambda: gx.microbatch(FULL, steps=2, reduce="max"), "'max'"),
    "uneven steps": (lambda: gx.microbatch(FULL, steps=5)(PARAMS, BATCH), "12 rows"),
    "too large": (lambda: gx.microbatch(FULL, size=13)(PARAMS, BATCH), "size is 13"),
    "other rows": (
        lambda: gx.microbatch(FULL, steps=2)(PARAMS, {**BATCH, "y": jnp.ones((6, 3))}),
        "argument 1/y has 6 rows",
    ),
    "no axis": (lambda: gx.microbatch(FULL, steps=2)(PARAMS, {"x": 1.0}), "axis 0"),
    "too few": (lambda: gx.microbatch(FULL, 2, steps=2)(PARAMS, BATCH), "argnums has 2"),
    "a mean of counts": (lambda: gx.microbatch(FULL, steps=2)(PARAMS, BATCH), "int32"),
    "another tree": (
        lambda: gx.microbatch(FULL, steps=2, reduce=("mean", "mean", "mean"))(PARAMS, BATCH),
        "reduce does not fit",
    ),
    "no rows": (
        lambda: gx.microbatch(lambda b: jnp.sum(b), 0, steps=2, reduce="concat")(jnp.ones(4)),
        "slice of 2 rows",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused(what: str) -> None:
    make, seen = REFUSED[what]
    assert seen in refused(make, "microbatch")
