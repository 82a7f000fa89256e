"""Named arrays through the formats in which they are kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import orbax.checkpoint
import pytest
from flax import serialization
from safetensors import safe_open
from safetensors.flax import load_file, save_file

import gradtx as gx

from .models import assert_bits, model, said, trained

Flat = dict[str, Any]


def safetensors(flat: Flat, path: Path) -> Flat:
    """The schema is in the metadata of the file."""
    arrays = {name: x for name, x in flat.items() if name != "#schema"}
    save_file(arrays, path / "state.safetensors", {"#schema": flat["#schema"]})
    with safe_open(path / "state.safetensors", "flax") as file:
        return {**load_file(path / "state.safetensors"), **file.metadata()}


@functools.cache
def checkpointer() -> Any:
    """One for all: each that is closed leaves its loop behind."""
    return orbax.checkpoint.PyTreeCheckpointer()


def orbax_(flat: Flat, path: Path) -> Flat:
    checkpointer().save(path / "state", flat)
    return checkpointer().restore(path / "state")


def msgpack_of_flax(flat: Flat, path: Path) -> Flat:
    (path / "state").write_bytes(serialization.msgpack_serialize(jax.device_get(flat)))
    return serialization.msgpack_restore((path / "state").read_bytes())


def npz(flat: Flat, path: Path) -> Flat:
    """The schema comes back as an array of text."""
    np.savez(path / "state.npz", **jax.device_get(flat))
    return dict(np.load(path / "state.npz"))


FORMATS: dict[str, Callable[[Flat, Path], Flat]] = {
    f.__name__.strip("_"): f for f in (safetensors, orbax_, msgpack_of_flax, npz)
}
KEPT = {
    "adamw": lambda: gx.adamw(gx.cosine_decay_schedule(0.1, 10)),
    "adafactor": lambda: gx.adafactor(0.1),
    "store": lambda: gx.store(
        gx.adam(0.1), {"mu": gx.blockwise("companded", min_size=0), "nu": gx.blockwise(min_size=0)}
    ),
    "groups": lambda: gx.partition(
        {"*/bias": gx.prodigy(1.0), "*": gx.muon(0.1, matrices="*/kernel")}
    ),
    "accumulate": lambda: gx.ema(gx.accumulate(gx.adam(0.1), 4)),
    "injected": lambda: gx.inject_hyperparams(gx.chain(gx.add_noise(0.1, 0.5, key=1), gx.sgd(0.1))),
    "search": gx.lbfgs,
}


@functools.cache
def run(name: str) -> Any:
    tx = KEPT[name]()
    if name == "search":
        return tx, model(), tx.init(model())
    return tx, *trained(tx)


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("how", FORMATS)
def test_what_was_saved_is_loaded(how: str, name: str, tmp_path: Path) -> None:
    tx, params, state = run(name)
    flat = FORMATS[how](gx.state_dict(tx, state, params), tmp_path)
    back, report = gx.load_state(tx, flat, params)
    assert_bits(back, state)
    assert said(report) == {}


def test_bfloat16_in_safetensors(tmp_path: Path) -> None:
    tx = gx.store(gx.adam(0.1), {"mu": "bfloat16", "nu": gx.rounded(stochastic=True)})
    params, state = trained(tx)
    flat = safetensors(gx.state_dict(tx, state, params), tmp_path)
    assert_bits(gx.load_state(tx, flat, params)[0], state)


def test_orbax_restores_into_the_abstract_state(tmp_path: Path) -> None:
    """The state itself, without names, onto a mesh: the target is made of shapes alone."""
    mesh = jax.make_mesh((2, 4), ("x", "y"))
    spec = jax.sharding.PartitionSpec("x", "y")
    here = jax.device_put(jnp.ones((8, 16)), jax.sharding.NamedSharding(mesh, spec))
    tx, params = gx.adamw(0.1), {"w": here}
    _, state = tx.step(params, tx.init(params), params)
    checkpointer().save(tmp_path / "state", state)
    shapes = {"w": jax.ShapeDtypeStruct(here.shape, here.dtype, sharding=here.sharding)}
    target = gx.abstract_state(tx, shapes)
    args = orbax.checkpoint.checkpoint_utils.construct_restore_args(target)
    back = checkpointer().restore(tmp_path / "state", item=target, restore_args=args)
    assert_bits(back, state)
    assert back["scale_by_adam"].mu["w"].sharding.is_equivalent_to(here.sharding, 2)


def test_bytes_are_those_of_messages() -> None:
    """Flax's bytes are msgpack, which any language reads."""
    tx, params, state = run("adamw")
    flat = gx.state_dict(tx, state, params)
    data = serialization.msgpack_serialize(jax.device_get(flat))
    assert set(msgpack.unpackb(data, strict_map_key=False)) == set(flat)
