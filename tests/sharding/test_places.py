"""State shared out over the devices of a mesh: where each slot lies, and whether it does."""

from __future__ import annotations

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec as P
from laws.cases import refused

import gradtx as gx
from sharding.model import mesh_of, numbers, shapes


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


def test_orbax_restores_what_is_shared_out(tmp_path: pathlib.Path) -> None:
    """Straight to where it is to lie, of another mesh than it was saved on."""
    tx, saver = gx.adam(0.1), orbax.checkpoint.PyTreeCheckpointer()
    params = jax.device_put(numbers(0), NamedSharding(mesh_of(), P()))
    _, state = tx.step(params, tx.init(params), params)
    state = jax.device_put(state, gx.state_shardings(tx, params).tree)
    saver.save(tmp_path / "state", state)
    other = mesh_of("auto", "data", "model")
    target = gx.state_shardings(tx, shapes(), zero=("data", "model"), mesh=other)
    how = orbax.checkpoint.checkpoint_utils.construct_restore_args(target.abstract)
    restored = saver.restore(tmp_path / "state", item=target.abstract, restore_args=how)
    gx.sharding.verify(restored, target)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
