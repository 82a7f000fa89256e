"""The training script that `test_kill` kills: it saves every step and goes on from the last one."""

from __future__ import annotations

import hashlib
import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

import gradtx


def optimizer() -> Any:
    """Clipping, a schedule, 8-bit moments rounded at random, bfloat16 parameters with masters."""
    adamw = gradtx.adamw(gradtx.warmup_cosine_decay_schedule(0.0, 0.1, 5, 200), weight_decay=0.1)
    codes = gradtx.blockwise(block=8, stochastic=True, min_size=0)
    inner = gradtx.store(
        gradtx.chain(gradtx.clip_by_global_norm(1.0), adamw), {"mu": codes, "nu": codes}
    )
    return gradtx.master_weights(inner, split=True)


def start(tx: Any) -> Any:
    params = {
        "bias": jnp.zeros(16, jnp.bfloat16),
        "kernel": jnp.linspace(-1, 1, 64).reshape(4, 16).astype(jnp.bfloat16),
    }
    return {"params": params, "state": tx.init(params)}


def trainer(tx: Any) -> Any:
    def loss(params: Any, x: Any) -> Any:
        wide = jax.tree.map(lambda p: p.astype(jnp.float32), params)
        return jnp.mean(jnp.square(jnp.tanh(x @ wide["kernel"] + wide["bias"]) - jnp.sin(x[:, :1])))

    @jax.jit
    def step(at: Any, number: Any) -> Any:
        x = jax.random.normal(jax.random.fold_in(jax.random.key(0), number), (8, 4))
        grads = jax.grad(loss)(at["params"], x)
        params, state = tx.step(grads, at["state"], at["params"])
        return {"params": params, "state": state}

    return step


def digest(at: Any) -> str:
    parts = [np.asarray(x).tobytes() for x in jax.tree.leaves(at)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def train(folder: str, cache: str, until: int | None) -> None:
    """Trains until step `until`, or for ever. Every line of `log` is a step that was begun."""
    logging.disable(logging.WARNING)
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    tx = optimizer()
    at, step = start(tx), trainer(tx)
    log = pathlib.Path(folder, "log")
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    with ocp.CheckpointManager(pathlib.Path(folder, "checkpoints"), options=options) as manager:
        number = manager.latest_step() or 0
        if number:
            at = manager.restore(number, args=ocp.args.StandardRestore(at))
        with log.open("a") as lines:
            print(number, digest(at), "restored", file=lines, flush=True)
            while until is None or number < until:
                at = step(at, number)
                number += 1
                manager.save(number, args=ocp.args.StandardSave(at))
                print(number, digest(at), "computed", file=lines, flush=True)
