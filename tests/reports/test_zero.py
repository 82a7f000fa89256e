"""Every row with its state shared out over the devices of a mesh: ZeRO-1."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from laws.cases import ROWS, build, compilations, over, step

import gradtx as gx
from reports import test_meshes

QUICK = ("adamw", "adafactor", "muon", "store_int8", "ema", "accumulate")
SIDE = 32  # of a square kernel, whose first gradient has all directions that a basis has
# The sign of a number that is only rounding turns one of all directions, u v' of two unit vectors.
BY_SIGN = {"splus": 0.1, "scale_by_splus": 0.1}


def values(seed: int) -> Any:
    random = np.random.default_rng(seed)
    shapes = {"dense": {"kernel": (SIDE, SIDE), "bias": (SIDE,)}, "s": ()}
    draw = lambda shape: random.normal(size=shape).astype(np.float32)  # noqa: E731
    return jax.tree.map(draw, shapes, is_leaf=lambda x: isinstance(x, tuple))


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
    for x, y, p in zip(*map(jax.tree.leaves, (params, alone, start)), strict=True):
        x, y, p = map(np.asarray, (x, y, p))
        least = BY_SIGN.get(row.name, 2e-3) * np.abs(y - p).max()
        np.testing.assert_allclose(x - p, y - p, rtol=2e-3, atol=least)


def test_adam_is_divided_by_both_axes() -> None:
    """Two slots of each array; what lies along its only axis already is on two devices each."""
    params = on_a_mesh(values(0))
    shardings = gx.state_shardings(gx.adam(0.1), params)
    assert shardings.bytes == 2 * 4 * (SIDE**2 + SIDE + 1) + 4
    assert shardings.bytes_per_device == 2 * 4 * (SIDE**2 // 8 + SIDE // 4 + 1) + 4


def test_factored_slots_and_bases() -> None:
    """Arrays of other shapes than their parameter's lie along axes of their own."""
    params = on_a_mesh(test_meshes.values(0))  # a kernel of 64 x 32
    soap = gx.state_shardings(gx.soap(0.1, matrices={"dense/kernel": "io"}), params)
    where = {row.slot: row.sharding.spec for row in soap.rows}
    assert where["scale_by_soap/left_basis/dense/kernel"] == P("data")
    assert where["scale_by_soap/right_basis/dense/kernel"] == P("data")
    assert where["scale_by_soap/mu/dense/kernel"] == P("data", "model")
