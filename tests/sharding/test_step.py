"""The step of ZeRO-1: its collective operations, and the numbers of one device."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P
from laws.cases import compilations, refused, some

import gradtx as gx
from sharding.model import KINDS, batch, loss, mesh_of, numbers, shapes

MATRICES = {"*/kernel": "io"}
WORDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


def collectives(text: str) -> dict[str, list[int]]:
    """The largest result of each collective operation of a compiled program, in entries."""
    found: dict[str, list[int]] = {}
    for result, word in re.findall(rf"= (.*?) ({'|'.join(WORDS)})(?:-start)?\(", text):
        sizes = [
            int(np.prod([int(n) for n in s.split(",") if n]))
            for s in re.findall(r"\[([\d,]*)\]", result)
        ]
        found.setdefault(word, []).append(max(sizes))
    return found


def alone(tx: Any, steps: int = 4) -> Any:
    params = jax.device_put(numbers(0))
    state, step = tx.init(params), jax.jit(lambda g, s, p, v: tx.step(g, s, p, value=v))
    for k in range(1, 1 + steps):
        value, grads = jax.value_and_grad(loss)(params, *batch(k))
        params, state = step(grads, state, params, value)
    return jax.device_get(params), float(value)


def sharded(tx: Any, mesh: Any, layout: Any = None, steps: int = 4) -> Any:
    """Parameters, the last loss, the compiled step, and how many programs there were."""
    place = jax.tree.map(lambda _: NamedSharding(mesh, P()), shapes()) if layout is None else layout
    params = jax.device_put(numbers(0), place)
    shardings = gx.state_shardings(tx, params)
    state = jax.jit(tx.init, out_shardings=shardings.tree)(params)
    gx.sharding.verify(state, shardings)
    both = gx.sharding.zero_step(tx, jax.value_and_grad(loss), shardings)
    step = jax.jit(both, donate_argnums=(0, 1))
    compiled = step.lower(params, state, *batch(1)).compile()
    text, memory = compiled.as_text(), compiled.memory_analysis()
    own = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(params))
    assert memory.alias_size_in_bytes == own + shardings.bytes_per_device
    with compilations() as programs:
        for k in range(1, 1 + steps):
            data = jax.device_put(batch(k), NamedSharding(mesh, P("data")))
            params, state, value = step(params, state, *data)
    gx.sharding.verify(state, shardings)
    jax.tree.map(lambda p, s: _require(p.sharding.is_equivalent_to(s, p.ndim)), params, place)
    return jax.device_get(params), float(value), text, len(programs)


def _require(holds: bool) -> None:
    assert holds


def assert_alike(found: Any, expected: Any) -> None:
    for x, y, p in zip(*map(jax.tree.leaves, (found, expected, numbers(0))), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=2e-4 * np.abs(y - p).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_no_gradient_is_whole(kind: str, name: str) -> None:
    """One reduce-scatter and one all-gather for each array; all-reduced is the loss."""
    tx, mesh = getattr(gx, name)(0.01), mesh_of(kind)
    with jax.set_mesh(mesh):
        params, value, text, programs = sharded(tx, mesh)
    expected, other = alone(tx)
    assert_alike(params, expected)
    assert value == pytest.approx(other, rel=1e-5)
    assert programs == 1
    found = collectives(text)
    sizes = [24 * 16, 16 * 32, 32, 32 * 16]
    assert sorted(found.pop("reduce-scatter")) == sorted(n // 8 for n in sizes)
    assert sorted(found.pop("all-gather")) == sorted(sizes)
    # The loss, and the array of three that eight devices cannot share.
    assert max(found.pop("all-reduce")) <= 3
    assert not found


OTHERS = {
    "clip": gx.chain(gx.clip_by_global_norm(0.1), gx.adamw(0.01)),
    "lamb": gx.lamb(0.01),
    "adafactor": gx.adafactor(0.01),
    "store": gx.store(gx.adamw(0.01), {"mu": "int8"}),
    "prodigy": gx.prodigy(1.0),
    "momo": gx.momo(0.1),
    "muon": gx.muon(0.01, matrices=MATRICES),
    "partition": gx.partition({"embed/*": gx.sgd(0.1), "*": gx.adam(0.01)}),
}


@pytest.mark.parametrize("name", some(OTHERS, {"clip", "muon"}))
def test_whatever_looks_at_whole_arrays_sees_whole_arrays(name: str) -> None:
    """Norms, rows and matrices are those of the whole array, not of a share."""
    mesh = mesh_of()
    params, value, text, programs = sharded(OTHERS[name], mesh)
    expected, other = alone(OTHERS[name])
    assert_alike(params, expected)
    assert value == pytest.approx(other, rel=1e-4)
    assert programs == 1
    assert len(collectives(text)["reduce-scatter"]) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_beside_another_axis(kind: str) -> None:
    """Parameters laid over a second axis are never gathered along it for their gradients."""
    mesh = mesh_of(kind, "data", "model")
    given = {"up": {"kernel": P(None, "model"), "bias": P("model")}, "down": {"kernel": P("model")}}
    if kind == "explicit":  # where what is laid over an axis may not be contracted in passing
        given = {"down": {"kernel": P(None, "model")}}
    layout = jax.tree_util.tree_map_with_path(
        lambda path, _: NamedSharding(mesh, given.get(path[0].key, {}).get(path[1].key, P())),
        shapes(),
    )
    tx = gx.adamw(0.01)
    with jax.set_mesh(mesh):
        params, _, text, programs = sharded(tx, mesh, layout)
    assert_alike(params, alone(tx)[0])
    assert programs == 1
    found = collectives(text)
    # Of both kernels, and of the table, each device has a share of its gradient.
    up = 16 * 32 // (8 if kind == "auto" else 4)
    assert sorted(found["reduce-scatter"])[-3:] == sorted([up, 32 * 16 // 8, 24 * 16 // 4])


def test_over_two_axes() -> None:
    """Sixteen rows over all eight devices, what they cannot share over the first axis alone."""
    mesh, tx = mesh_of("auto", "data", "model"), gx.adamw(0.01)
    axes = ("data", "model")
    shardings = gx.state_shardings(tx, shapes(), zero=axes, mesh=mesh)
    params = jax.device_put(numbers(0), shardings.params)
    params["down"]["odd"] = params["down"]["odd"][:2]
    small = gx.state_shardings(tx, params, zero=axes)
    assert small.updates["down"]["odd"].spec == P("model")
    state = jax.device_put(tx.init(params), small.tree)
    step = jax.jit(gx.sharding.zero_step(tx, jax.value_and_grad(loss), small))
    new, state, _ = step(params, state, *batch(1))
    gx.sharding.verify(state, small)
    there = jax.device_put(jax.device_get(params))
    grads = jax.grad(loss)(there, *batch(1))
    expected, _ = tx.step(grads, tx.init(there), there)
    for x, y in zip(*map(jax.tree.leaves, (new, expected)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_go_from_shares_to_their_owners_and_back(kind: str) -> None:
    """Gradients are scattered, matrices go to owners and back, parameters are gathered: no more."""
    mesh, random = mesh_of(kind), np.random.default_rng(0)
    values = {f"layer{i}": random.normal(size=(16, 16)).astype(np.float32) for i in range(8)}
    plain = gx.muon(0.01, matrices={"*": "io"})
    tx = gx.distribute(plain, "data", mesh=mesh)

    def deep(params: Any, x: Any) -> Any:
        for w in params.values():
            x = x + 0.1 * jnp.tanh(x @ w)
        return jnp.mean(x**2)

    x = random.normal(size=(32, 16)).astype(np.float32)
    with jax.set_mesh(mesh):
        params = jax.device_put(values, NamedSharding(mesh, P()))
        shardings = gx.state_shardings(tx, params)
        state = jax.jit(tx.init, out_shardings=shardings.tree)(params)
        step = jax.jit(gx.sharding.zero_step(tx, jax.value_and_grad(deep), shardings))
        text = step.lower(params, state, x).compile().as_text()
        for _ in range(2):
            params, state, _ = step(params, state, x)
        gx.sharding.verify(state, shardings)
    alone, there = jax.device_put(values), plain.init(values)
    for _ in range(2):
        alone, there = plain.step(jax.grad(deep)(alone, x), there, alone)
    for name, y in alone.items():
        np.testing.assert_allclose(params[name], y, rtol=0, atol=2e-5)
    found = collectives(text)
    assert len(found["reduce-scatter"]) == len(found["all-gather"]) == 8
    assert len(found["all-to-all"]) == 2
    assert max(found["all-reduce"]) == 1


def test_values_and_extra_arguments() -> None:
    """Numbers are averaged, integers added up; keys are whole; what else is given goes to `tx`."""
    mesh, tx = mesh_of(), gx.sgd(0.1)
    params = jax.device_put({"w": np.ones(8, np.float32)}, NamedSharding(mesh, P()))

    def both(params: Any, x: Any, key: Any) -> Any:
        def f(params: Any) -> Any:
            return jnp.mean(x @ params["w"]), {"count": jnp.int32(x.shape[0])}

        return jax.value_and_grad(f, has_aux=True)(params)

    shardings = gx.state_shardings(tx, params)
    step = jax.jit(gx.sharding.zero_step(tx, both, shardings))
    x = np.arange(16 * 8, dtype=np.float32).reshape(16, 8)
    new, _, (value, aux) = step(params, tx.init(params), x, jax.random.key(0))
    assert float(value) == pytest.approx(x.sum() / 16)
    assert int(aux["count"]) == 16
    np.testing.assert_allclose(new["w"], 1 - 0.1 * x.mean(0), rtol=1e-5)


def test_parameters_laid_over_the_axis_already() -> None:
    """They are gathered for the gradient, whose shares lie as they do."""
    mesh, tx = mesh_of(), gx.adamw(0.01)
    layout = jax.tree.map(
        lambda p: NamedSharding(mesh, P("data") if p.ndim > 1 and p.shape[0] % 8 == 0 else P()),
        shapes(),
    )
    params, _, text, programs = sharded(tx, mesh, layout)
    assert_alike(params, alone(tx)[0])
    assert programs == 1
    assert len(collectives(text)["reduce-scatter"]) == 4


def test_gradients_are_added_up_in_their_dtype_or_another() -> None:
    mesh, tx = mesh_of(), gx.sgd(1.0)
    params = jax.device_put({"w": jnp.zeros(8, jnp.bfloat16)}, NamedSharding(mesh, P()))
    shardings = gx.state_shardings(tx, params)
    x = jnp.ones((8, 8), jnp.bfloat16)

    def added(**how: Any) -> str:
        both = jax.value_and_grad(lambda params, x: jnp.mean(x @ params["w"]))
        step = jax.jit(gx.sharding.zero_step(tx, both, shardings, **how))
        text = step.lower(params, tx.init(params), x).as_text()
        (dtype,) = re.findall(r"reduce_scatter.*?-> tensor<[\dx]*(\w+)>", text, re.DOTALL)
        return dtype

    assert added() == "bf16"
    assert added(reduce_dtype=jnp.float32) == "f32"


def test_refused_batches_and_states() -> None:
    mesh, tx = mesh_of(), gx.adam(0.1)
    params = jax.device_put(numbers(0), NamedSharding(mesh, P()))
    step = gx.sharding.zero_step(tx, jax.value_and_grad(loss), gx.state_shardings(tx, params))
    ids, y = batch(0)
    refused(lambda: step(params, tx.init(params), ids[:12], y[:12]), "[12, 5]", "8 devices")
    refused(lambda: step(params, gx.sgd(0.1).init(params), ids, y), "structure")
