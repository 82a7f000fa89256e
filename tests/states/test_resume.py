"""A run of 1000 steps that is stopped, saved and resumed under another plan."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import gradtx as gx

STEPS = 1000
IN, OUT = 8, 16


@functools.cache
def data() -> Any:
    random = np.random.default_rng(0)
    x, true = random.normal(size=(64, IN)), random.normal(size=(IN, OUT))
    y = np.tanh(x @ true) + 0.1 * random.normal(size=(64, OUT))
    return x.astype(np.float32), y.astype(np.float32)


def start() -> Any:
    return {"kernel": jnp.full((IN, OUT), 0.1), "bias": jnp.zeros(OUT)}


def loss(params: Any) -> jax.Array:
    x, y = data()
    return jnp.mean(jnp.square(jnp.tanh(x @ params["kernel"] + params["bias"][None]) - y))


@functools.partial(jax.jit, static_argnames="length")
def run(tx: Any, params: Any, state: Any, length: int) -> Any:
    def step(carry: Any, _: None) -> Any:
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        params, state = tx.step(grads, state, params, value=value)
        return (params, state), None

    return jax.lax.scan(step, (params, state), length=length)[0]


def schedule(peak: float) -> Any:
    return gx.warmup_cosine_decay_schedule(0.0, peak, 50, STEPS)


FAMILIES = {
    "momentum": lambda: gx.sgd(schedule(0.1), momentum=0.9),
    "adamw": lambda: gx.adamw(schedule(0.01)),
    "lion": lambda: gx.lion(schedule(0.001)),
    "adafactor": lambda: gx.adafactor(schedule(0.01)),
    "muon": lambda: gx.muon(schedule(0.01), matrices="kernel"),
    "soap": lambda: gx.soap(schedule(0.01), matrices="kernel"),
    "schedule_free": lambda: gx.schedule_free_adamw(0.01),
    "prodigy": lambda: gx.prodigy(schedule(1.0)),
    "adagrad": lambda: gx.adagrad(schedule(0.1)),
    "ema": lambda: gx.ema(gx.radam(schedule(0.01))),
}
QUICK = {"adamw"}
each = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in FAMILIES],
)


def on_a_mesh(params: Any) -> Any:
    mesh = jax.make_mesh((2, 4), ("x", "y"))
    specs = {"kernel": PartitionSpec("x", "y"), "bias": PartitionSpec("y")}
    return {k: jax.device_put(p, NamedSharding(mesh, specs[k])) for k, p in params.items()}


@functools.cache
def stopped(name: str) -> Any:
    """The run until a random step, what there was then, saved; and where the whole run ends.

    Last, how far from there it ends where every number was off by its last digit.
    """
    tx = FAMILIES[name]()
    at = int(np.random.default_rng(sum(map(ord, name))).integers(100, 900))
    params, state = run(tx, start(), tx.init(start()), at)
    flat = jax.device_get(gx.state_dict(tx, state, params))
    ends = [
        tx.eval_params(after, end)
        for end, after in (
            run(tx, params, state, STEPS - at),
            run(tx, nudged(params), nudged(state), STEPS - at),
        )
    ]
    room = {key: np.abs(np.asarray(x - ends[1][key])).max() for key, x in ends[0].items()}
    return tx, at, jax.device_get(params), flat, ends[0], room


def nudged(tree: Any) -> Any:
    """The numbers with half of them one digit larger."""

    def nudge(x: Any) -> Any:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        up = np.nextafter(np.asarray(x), np.float32(np.inf))
        odd = np.arange(x.size).reshape(x.shape) % 2 == 1
        return jnp.where(odd, up, x)

    return jax.tree.map(nudge, tree)


@each
def test_onto_a_mesh_with_a_clip_in_front(name: str) -> None:
    """It ends where the run that was not stopped does."""
    tx, at, params, flat, expected, room = stopped(name)
    clipped = gx.chain(gx.clip_by_global_norm(1e6), tx)
    params = on_a_mesh(params)
    state, report = gx.load_state(clipped, flat, params, unused="report", missing="fresh")
    assert not (set(report.fresh) | set(report.unused) | set(report.reshaped)), report
    end, after = run(clipped, params, state, STEPS - at)
    found = clipped.eval_params(after, end)
    for key, x in expected.items():
        moved = np.abs(np.asarray(x - start()[key])).max()
        np.testing.assert_allclose(found[key], x, rtol=0, atol=1e-5 * moved + 10 * room[key])


@each
def test_into_other_slots(name: str) -> None:
    """The first step differs by what the format cannot tell; the end is as good."""
    tx, at, params, flat, expected, _ = stopped(name)
    params = jax.device_put(params)
    wanted = [s for s in ("trace", "mu") if any(f"/{s}/" in key for key in flat)]
    if not wanted:
        wanted = [
            next(s for s in ("nu", "sum_of_squares", "v") if any(f"/{s}/" in k for k in flat))
        ]
    narrow = gx.store(tx, dict.fromkeys(wanted, "bfloat16"))
    state, report = gx.load_state(narrow, flat, params)
    assert set(report.converted) >= {k for k in flat if f"/{wanted[0]}/kernel" in k}
    same, _ = gx.load_state(tx, flat, params)
    coarse = {k: x.astype(jnp.bfloat16) if k in report.converted else x for k, x in flat.items()}
    rounded, _ = gx.load_state(tx, coarse, params)
    one, other, off = (
        run(t, params, s, 1)[0] for t, s in ((narrow, state), (tx, same), (tx, rounded))
    )
    for key, p in params.items():
        step = np.abs(np.asarray(other[key] - p)).max()
        quantization = np.abs(np.asarray(off[key] - other[key])).max()
        # Rounded twice: what is loaded, and what the step makes of it.
        assert np.abs(np.asarray(one[key] - other[key])).max() <= 3 * quantization + 1e-5 * step
    end, after = run(narrow, params, state, STEPS - at)
    found = float(loss(narrow.eval_params(after, end)))
    assert found <= 1.02 * float(loss(expected))
