"""Every row with its state shared out over the devices of a mesh: ZeRO-1."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from laws.cases import ROWS, build, compilations, over, step

import gradtx as gx
from reports.test_meshes import values

QUICK = ("adamw", "adafactor", "muon", "store_int8", "ema", "accumulate")
# What finds its directions where a gradient has none of its own: rounding decides.
BY_ROUNDING = {"soap"}


def on_a_mesh(tree: Any) -> Any:
    """Two by four devices; kernel and bias laid over the second axis."""
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    specs = {"dense": {"kernel": P(None, "model"), "bias": P("model")}, "s": P()}
    return jax.tree.map(lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec)), tree, specs)


def held(tree: Any) -> int:
    """The bytes of a tree on the first device."""
    first = jax.devices()[0]
    shards = (s for x in jax.tree.leaves(tree) for s in x.addressable_shards)
    return sum(s.data.nbytes for s in shards if s.device == first)


@over({name: ROWS[name] for name in ROWS}, QUICK)
def test_state_is_shared_out(row: Any, record_property: Any) -> None:
    """One compilation, state where it was asked to be, and the numbers of one device."""
    tx = build(row)
    alone = jax.device_put(values(0))
    start = params = on_a_mesh(values(0))
    shardings = gx.state_shardings(tx, params)
    state = jax.device_put(tx.init(params), shardings.tree)
    gx.sharding.verify(state, shardings)
    train = jax.jit(
        lambda g, s, p: step(tx, g, s, p), out_shardings=(shardings.params, shardings.tree)
    )
    state_alone, train_alone = tx.init(alone), jax.jit(lambda g, s, p: step(tx, g, s, p))
    with compilations() as programs:
        for k in (1, 2, 3):
            grads = jax.device_put(values(k), shardings.updates)
            params, state = train(grads, state, params)
    assert len(programs) == 1
    gx.sharding.verify(state, shardings)
    plain = [row for row in shardings.rows if row.dtype.name[:3] != "key"]
    if len(plain) == len(shardings.rows):
        assert held(state) == shardings.bytes_per_device
    record_property("bytes a device", shardings.bytes_per_device)
    print(f"{row.name}: {shardings.bytes_per_device:,} bytes a device, of {shardings.bytes:,}")
    for k in (1, 2, 3):
        alone, state_alone = train_alone(jax.device_put(values(k)), state_alone, alone)
    if row.name in BY_ROUNDING:
        return
    for x, y, p in zip(*map(jax.tree.leaves, (params, alone, start)), strict=True):
        x, y, p = map(np.asarray, (x, y, p))
        np.testing.assert_allclose(x - p, y - p, rtol=2e-3, atol=2e-3 * np.abs(y - p).max())


def test_adam_is_divided_by_both_axes() -> None:
    """Two slots of every array, each on one device in eight; counts and the scalar whole."""
    params = on_a_mesh(values(0))
    shardings = gx.state_shardings(gx.adam(0.1), params)
    entries = 64 * 32 + 32
    # The bias, laid over the other axis along its only one, is on two devices.
    assert shardings.bytes == 2 * 4 * (entries + 1) + 4
    assert shardings.bytes_per_device == 2 * 4 * (64 * 32 // 8 + 32 // 4 + 1) + 4


def test_factored_slots_and_bases() -> None:
    """Arrays of other shapes than their parameter's lie along axes of their own."""
    params = on_a_mesh(values(0))
    soap = gx.state_shardings(gx.soap(0.1, matrices={"dense/kernel": "io"}), params)
    where = {row.slot: row.sharding.spec for row in soap.rows}
    assert where["scale_by_soap/left_basis/dense/kernel"] == P("data")  # 64 x 64
    assert where["scale_by_soap/right_basis/dense/kernel"] == P("data")  # 32 x 32
    assert where["scale_by_soap/mu/dense/kernel"] == P("data", "model")
