"""State shared out over the devices of a mesh: where each slot lies, and the step of training."""

from __future__ import annotations

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec as P
from laws.cases import compilations, refused

import gradtx as gx

KINDS = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
SHAPES = {
    "embed": {"table": (24, 16)},
    "up": {"kernel": (16, 32), "bias": (32,)},
    "down": {"kernel": (32, 16), "odd": (3,)},
}
MATRICES = {"*/kernel": "io"}
WORDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


def tree_of(make: Any) -> Any:
    return jax.tree.map(make, SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def shapes(dtype: Any = jnp.float32) -> Any:
    return tree_of(lambda shape: jax.ShapeDtypeStruct(shape, dtype))


def mesh_of(kind: str = "auto", *names: str) -> Any:
    size = {1: (8,), 2: (4, 2)}[len(names) or 1]
    return jax.make_mesh(size, names or ("data",), axis_types=(KINDS[kind],) * len(size))


def far(size: int) -> AbstractMesh:
    """A mesh of devices that are not here."""
    return AbstractMesh((size,), ("data",), axis_types=(AxisType.Auto,))


def specs(found: gx.sharding.StateShardings) -> dict[str, Any]:
    return {row.slot: row.sharding.spec for row in found.rows}


# Where arrays lie ---------------------------------------------------------------------------------


def test_largest_axis_that_is_divided() -> None:
    found = gx.state_shardings(gx.adamw(0.1), shapes(), mesh=far(8))
    where = specs(found)
    assert where["scale_by_adam/mu/embed/table"] == P("data")
    assert where["scale_by_adam/nu/up/kernel"] == P(None, "data")
    assert where["scale_by_adam/nu/down/odd"] == P()
    why = {row.slot: row.why for row in found.rows}
    assert why["scale_by_adam/nu/down/odd"] == "no free axis is a multiple of 8"
    assert why["chain/count"] == "a scalar"
    shared = 24 * 16 + 16 * 32 + 32 + 32 * 16
    assert found.bytes_per_device == 2 * 4 * (shared // 8 + 3) + 4
    assert found.updates["up"]["kernel"].spec == P(None, "data")
    assert found.params["up"]["kernel"].spec == P()


def test_own_sharding_of_a_parameter_stays() -> None:
    mesh = AbstractMesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

    def one(*spec: Any, shape: Any = (16, 32)) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(*spec)))

    params = {"a": one(None, "model"), "b": one("data"), "c": one(("data", "model"))}
    params["d"] = one("model", shape=(32,))
    found = gx.state_shardings(gx.sgd(0.1, 0.9), params)
    where = specs(found)
    slot = "scale_by_momentum/trace/"
    assert where[f"{slot}a"] == P("data", "model")
    assert where[f"{slot}b"] == P("data")
    assert where[f"{slot}c"] == P(("data", "model"))
    assert where[f"{slot}d"] == P("model")
    assert {row.why for row in found.rows if row.slot.endswith(("/b", "/c"))} == {
        "it lies over 'data' already"
    }
    both = gx.state_shardings(gx.sgd(0.1, 0.9), params, zero=("data", "model"))
    assert specs(both)[f"{slot}a"] == P("data", "model")
    assert specs(both)[f"{slot}b"] == P("data", "model")
    none = gx.state_shardings(gx.sgd(0.1, 0.9), params, zero=None)
    assert specs(none)[f"{slot}a"] == P(None, "model")


def test_axes_of_a_mesh_one_by_one() -> None:
    """Where no axis is a multiple of all of them together."""
    mesh = AbstractMesh((4, 8), ("node", "data"), axis_types=(AxisType.Auto,) * 2)
    params = {
        "both": jax.ShapeDtypeStruct((12, 40), jnp.float32),
        "one": jax.ShapeDtypeStruct((3, 20), jnp.float32),
        "together": jax.ShapeDtypeStruct((64,), jnp.float32),
    }
    found = gx.state_shardings(gx.sgd(0.1, 0.9), params, zero=("node", "data"), mesh=mesh)
    where = {slot.rsplit("/")[-1]: spec for slot, spec in specs(found).items()}
    assert where["both"] == P("node", "data")
    assert where["one"] == P(None, "node")
    assert where["together"] == P(("node", "data"))
    each = 12 * 40 // 32 + 3 * 20 // 4 + 64 // 32
    assert found.bytes_per_device == 4 * each + 4


def test_rules_of_parameters_and_of_slots() -> None:
    rules = {"*/mu/up/kernel": P("data"), "embed/*": P(None, "data"), "up/bias": P()}
    found = gx.state_shardings(gx.adam(0.1), shapes(), rules=rules, mesh=far(8))
    where = specs(found)
    assert where["scale_by_adam/mu/embed/table"] == P(None, "data")
    assert where["scale_by_adam/nu/embed/table"] == P(None, "data")
    assert where["scale_by_adam/mu/up/kernel"] == P("data")
    assert where["scale_by_adam/nu/up/kernel"] == P(None, "data")
    assert where["scale_by_adam/mu/up/bias"] == P()
    assert found.updates["embed"]["table"].spec == P(None, "data")
    assert [r.why for r in found.rows if "mu/embed" in r.slot] == ["rule 'embed/*'"]


def test_states_of_optax_and_compressed_ones() -> None:
    found = specs(gx.state_shardings(optax.adam(0.1), shapes(), mesh=far(8)))
    sharded = [slot for slot, spec in found.items() if spec == P(None, "data")]
    assert len(sharded) == 2
    assert all(slot.endswith("up/kernel") for slot in sharded)
    stored = gx.store(gx.adam(0.1), {"mu": "int8"})
    params = {"w": jax.ShapeDtypeStruct((64, 128), jnp.float32), **shapes()}
    where = specs(gx.state_shardings(stored, params, mesh=far(8)))
    assert where["scale_by_adam/mu/w#codes"] == P(None, "data")
    assert "data" in where["scale_by_adam/mu/w#scales"]
    assert where["scale_by_adam/mu/up/kernel"] == P(None, "data")  # too small to be compressed


def test_printed_table() -> None:
    found = gx.state_shardings(gx.adam(0.1), shapes(), mesh=far(8))
    lines = repr(found).splitlines()
    assert lines[0].split() == ["slot", "type", "over", "bytes", "a", "device", "why"]
    row = next(line for line in lines if line.startswith("scale_by_adam/mu/up/kernel"))
    assert "float32[16, 32]  1: data" in row
    assert "256" in row
    assert lines[-1].startswith(f"{found.bytes_per_device:,} bytes on each of 8 devices, of")
    entries = sum(x.size for x in jax.tree.leaves(shapes()))
    assert found.moved == pytest.approx(2 * 4 * entries * 7 / 8, abs=len(found.rows))


def test_refusals() -> None:
    call = functools.partial(gx.state_shardings, gx.adam(0.1), shapes())
    refused(call, "no mesh", "jax.set_mesh")
    refused(lambda: call(zero="x", mesh=far(8)), "['x']")
    refused(lambda: call(mesh=far(8), rules={"up/bias": P("x")}), "'up/bias'", "['x']")
    refused(lambda: call(mesh=far(8), rules={"*/odd": P("data")}), "down/odd", "[3]")
    refused(lambda: call(mesh=far(8), rules={"up/bais": P("data")}), "up/bais", "up/bias")
    one = gx.state_shardings(gx.adam(0.1), shapes(), zero=None, mesh=far(8))
    refused(lambda: gx.sharding.zero_step(gx.adam(0.1), lambda p: p, one), "zero")


# Whether they do ----------------------------------------------------------------------------------


def test_verify_names_what_is_whole() -> None:
    tx, mesh = gx.adam(0.1), mesh_of()
    params = jax.device_put(numbers(0), NamedSharding(mesh, P()))
    shardings = gx.state_shardings(tx, params)
    whole = tx.init(params)
    message = refused(lambda: gx.sharding.verify(whole, shardings), "whole on every device")
    assert "scale_by_adam/mu/embed/table" in message
    state = jax.device_put(whole, shardings.tree)
    gx.sharding.verify(state, shardings)
    nu = jax.device_put(state["scale_by_adam"].nu, NamedSharding(mesh, P()))
    mixed = {**state, "scale_by_adam": state["scale_by_adam"]._replace(nu=nu)}
    message = refused(lambda: gx.sharding.verify(mixed, shardings), "nu/up/kernel")
    assert "mu/" not in message
    elsewhere = jax.device_put(
        state["scale_by_adam"].nu["up"]["kernel"], NamedSharding(mesh, P("data"))
    )
    nu = {
        **state["scale_by_adam"].nu,
        "up": {**state["scale_by_adam"].nu["up"], "kernel": elsewhere},
    }
    mixed = {**state, "scale_by_adam": state["scale_by_adam"]._replace(nu=nu)}
    refused(lambda: gx.sharding.verify(mixed, shardings), "elsewhere than asked", "nu/up/kernel")
    refused(lambda: gx.sharding.verify(gx.sgd(0.1).init(params), shardings), "structure")
    refused(lambda: jax.jit(lambda s: gx.sharding.verify(s, shardings))(state), "traced", "jit")


def test_a_state_is_loaded_where_it_is_asked_to_lie() -> None:
    tx, mesh = gx.adam(0.1), mesh_of()
    params = jax.device_put(numbers(0), NamedSharding(mesh, P()))
    _, state = tx.step(params, tx.init(params), params)
    shardings = gx.state_shardings(tx, params)
    flat = gx.state_dict(tx, state, params)
    for source in (flat, jax.device_get(flat)):
        loaded, _ = gx.load_state(tx, source, params, shardings=shardings.tree)
        gx.sharding.verify(loaded, shardings)
        jax.tree.map(np.testing.assert_array_equal, loaded, state)
    partly = {name: x for name, x in flat.items() if "/nu/" not in name}
    loaded, report = gx.load_state(tx, partly, params, missing="fresh", shardings=shardings.tree)
    gx.sharding.verify(loaded, shardings)
    assert len(report.fresh) == 5
    other = gx.state_shardings(gx.sgd(0.1), params).tree
    refused(lambda: gx.load_state(tx, flat, params, shardings=other), "structure")


# The step -----------------------------------------------------------------------------------------


def numbers(seed: int) -> Any:
    random = np.random.default_rng(seed)
    return tree_of(lambda shape: random.normal(size=shape).astype(np.float32) * 0.3)


def batch(seed: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    ids = random.integers(0, 24, size=(32, 5)).astype(np.int32)
    return ids, random.normal(size=(32, 16)).astype(np.float32)


def loss(params: Any, ids: Any, y: Any) -> Any:
    x = jax.nn.one_hot(ids, 24, dtype=jnp.float32).mean(axis=1) @ params["embed"]["table"]
    hidden = jnp.tanh(x @ params["up"]["kernel"] + params["up"]["bias"][None, :])
    out = hidden @ params["down"]["kernel"] * jnp.sum(params["down"]["odd"])
    return jnp.mean((out - y) ** 2)


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
    step = jax.jit(gx.sharding.zero_step(tx, jax.value_and_grad(loss), shardings))
    text = step.lower(params, state, *batch(1)).compile().as_text()
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


@pytest.mark.parametrize("name", OTHERS)
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


def test_muon_distributed() -> None:
    """Matrices go to their owners; no device ever iterates on one that is another's."""
    mesh = mesh_of()
    plain = gx.muon(0.01, matrices={"*/kernel": "io", "embed/table": "io"})
    tx = gx.distribute(plain, mesh=mesh)
    params, _, text, programs = sharded(tx, mesh)
    assert_alike(params, alone(plain)[0])
    assert programs == 1
    assert len(collectives(text)["reduce-scatter"]) == 4


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
