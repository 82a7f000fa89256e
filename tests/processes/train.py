"""Data-parallel ZeRO-1 training by several processes, each with two devices of its own.

    python train.py NUMBER INDEX PORT FOLDER METHOD STEPS [DIES_AT]

It goes on from the checkpoint in FOLDER if there is one, and writes one after every two steps; the
last process dies without a word before step DIES_AT.
"""

from __future__ import annotations

import os
import pathlib
import signal
import sys
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
)

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradtx as gx

SHAPES = {"embed": (16, 8), "a": (8, 16), "b": (16, 8), "c": (8, 16), "d": (16, 8), "bias": (8,)}
METHODS = {
    "adamw": lambda: gx.adamw(gx.cosine_decay_schedule(0.02, 20)),
    "muon": lambda: gx.distribute(gx.muon(0.02, matrices={"[abcd]": "io"}), "data"),
}


def start(number: int, index: int, port: str) -> None:
    """Joins the other processes; nobody waits for one that is gone for more than ten seconds."""
    if number == 1:
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        f"127.0.0.1:{port}",
        number,
        index,
        initialization_timeout=60,
        heartbeat_timeout_seconds=10,
    )


def fresh() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {k: random.normal(size=s).astype(np.float32) * 0.3 for k, s in SHAPES.items()}


def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    """The batch of all processes, of which each takes its part."""
    random = np.random.default_rng(100 + step)
    return random.normal(size=(32, 16)).astype(np.float32), random.normal(size=(32, 8)).astype(
        np.float32
    )


def loss(params: Any, x: Any, y: Any) -> Any:
    h = x @ params["embed"]
    for first, then in (("a", "b"), ("c", "d")):
        h = h + jnp.tanh(h @ params[first]) @ params[then]
    return jnp.mean((h + params["bias"] - y) ** 2)


def whole(tree: Any) -> Any:
    return jax.tree.map(lambda x: multihost_utils.process_allgather(x, tiled=True), tree)


def save(file: pathlib.Path, step: int, tx: Any, state: Any, params: Any) -> None:
    """Everything in one file, by the first process, which is there whole or not at all."""
    flat = gx.state_dict(tx, state, params)
    schema = flat.pop("#schema")
    arrays = whole({"state": flat, "params": params})
    if jax.process_index() == 0:
        named = {f"{part}:{name}": x for part, xs in arrays.items() for name, x in xs.items()}
        parts = file.with_suffix(".part.npz")
        np.savez(parts, step=step, schema=schema, **named)
        parts.replace(file)


def restored(file: pathlib.Path) -> tuple[int, Any, Any]:
    with np.load(file) as found:
        flat = {name[6:]: found[name] for name in found.files if name.startswith("state:")}
        params = {name[7:]: found[name] for name in found.files if name.startswith("params:")}
        return int(found["step"]), {**flat, "#schema": str(found["schema"])}, params


def again(tx: Any, state: Any, params: Any, shardings: Any) -> None:
    """From arrays that lie on the devices of several processes, as `migrate` takes them."""
    flat = gx.state_dict(tx, state, params)
    moved, _ = gx.load_state(tx, flat, params, shardings=shardings.tree)
    gx.sharding.verify(moved, shardings)
    usual, _ = gx.migrate(tx, state, gx.ema(tx), params)
    for x, y in zip(*map(jax.tree.leaves, whole((state, moved))), strict=True):
        np.testing.assert_array_equal(x, y)
    whole(usual)


def main() -> None:
    number, index = int(sys.argv[1]), int(sys.argv[2])
    file, method, steps = pathlib.Path(sys.argv[4]) / "state.npz", sys.argv[5], int(sys.argv[6])
    dies_at = int(sys.argv[7]) if len(sys.argv) > 7 else None
    start(number, index, sys.argv[3])
    assert jax.device_count() == 2 * number
    mesh = jax.make_mesh((2 * number,), ("data",), axis_types=(AxisType.Auto,))
    tx = METHODS[method]()

    def put(x: np.ndarray, *spec: Any) -> jax.Array:
        place = NamedSharding(mesh, P(*spec))
        return jax.make_array_from_callback(x.shape, place, lambda part: x[part])

    with jax.set_mesh(mesh):
        first, flat, values = restored(file) if file.exists() else (0, None, fresh())
        params = jax.tree.map(put, values)
        shardings = gx.state_shardings(tx, params)
        if flat is None:
            state = jax.jit(tx.init, out_shardings=shardings.tree)(params)
        else:
            state, report = gx.load_state(tx, flat, params, shardings=shardings.tree)
            assert not [*report.fresh, *report.unused, *report.converted], report
        gx.sharding.verify(state, shardings)
        both = gx.sharding.zero_step(tx, jax.value_and_grad(loss), shardings)
        step = jax.jit(both, donate_argnums=(0, 1))
        for k in range(first, steps):
            if k == dies_at and index == number - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            params, state, value = step(params, state, *(put(x, "data") for x in batch(k)))
            if k % 2:
                save(file, k + 1, tx, state, params)
        gx.sharding.verify(state, shardings)
        again(tx, state, params, shardings)
    print(f"from {first} to {steps}: {float(value):.6f}, {shardings.bytes_per_device} bytes")


main()
