"""Muon beside `optax.contrib.muon`, and how even the steps of methods with turns are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gradtx as gx
from benchmarks import measure
from benchmarks.measure import Ratio


def matrices(n: int) -> dict[str, Any]:
    """24 matrices of n x n and 24 of n x 4n."""
    keys = jax.random.split(jax.random.key(0), 48)
    square = {f"square{i}": 0.1 * jax.random.normal(keys[i], (n, n)) for i in range(24)}
    wide = {f"wide{i}": 0.1 * jax.random.normal(keys[24 + i], (n, 4 * n)) for i in range(24)}
    return {**square, **wide, "bias": jnp.ones(n)}


def pair(**how: Any) -> tuple[Any, Any]:
    """Both with five of Jordan's steps."""
    polar = gx.newton_schulz("jordan", **how)
    named = {"square*": "io", "wide*": "io"}
    ours = gx.muon(1e-3, matrices=named, weight_decay=0.0, scale="original", polar=polar)
    return ours, optax.contrib.muon(1e-3)


def rows(quick: bool) -> Iterator[tuple[str, str, str, Ratio]]:
    """`(optimizer, what is measured, on what, ratio)`, as they are ready."""
    n = 64 if quick else 512
    params, where = matrices(n), f"24 x {n} x {n}, 24 x {n} x {4 * n}"
    lowering, compiling = measure.building(pair(), params, 5)
    yield "muon", "trace + lower", where, lowering
    yield "muon", "compile", where, compiling
    yield "muon", "step", where, measure.stepping(pair(), params, 5, 1)
    yield "muon, plain form", "step", where, measure.stepping(pair(form="plain"), params, 5, 1)


def turns(quick: bool) -> Iterator[tuple[str, float, float]]:
    """`(what, median step, slowest step)` in seconds, of the ten steps from refresh to refresh.

    A step's time is its median over the cycles, so that what else runs does not count.
    """
    n, cycles = (64 if quick else 128), (5 if quick else 21)
    for method in (gx.soap, gx.shampoo):
        for stagger in (True, False):
            tx = method(1e-3, matrices="w*", every=10, stagger=stagger)
            times = _cycle(tx, {f"w{i}": jnp.full((n, n), 0.1) for i in range(24)}, 10, cycles)
            name = f"{method.__name__}, {'staggered' if stagger else 'all at once'}"
            yield f"{name}, 24 x {n} x {n}", float(np.median(times)), float(times.max())


def _cycle(tx: Any, params: Any, every: int, cycles: int) -> Any:
    random = np.random.default_rng(0)
    grads = [
        jax.tree.map(lambda p: jnp.asarray(random.normal(size=p.shape), p.dtype), params)
        for _ in range(3)
    ]
    step = jax.jit(measure.whole_step(tx), donate_argnums=(0, 1))
    state, times = tx.init(params), []
    for i in range(every * (cycles + 1)):
        start = time.perf_counter()
        params, state = jax.block_until_ready(step(params, state, grads[i % 3]))
        times.append(time.perf_counter() - start)
    return np.median(np.reshape(times[every:], (cycles, every)), axis=0)
