"""Muon beside `optax.contrib.muon`, with five of Jordan's steps each: `python -m benchmarks.muon`.

24 matrices of 512 x 512 and 24 of 512 x 2048; on two cores a step takes seconds.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import optax

import gradtx as gx
from benchmarks import measure


def matrices(scale: int) -> dict[str, Any]:
    n = 512 // scale
    keys = jax.random.split(jax.random.key(0), 48)
    square = {f"square{i}": 0.1 * jax.random.normal(keys[i], (n, n)) for i in range(24)}
    wide = {f"wide{i}": 0.1 * jax.random.normal(keys[24 + i], (n, 4 * n)) for i in range(24)}
    return {**square, **wide, "bias": jnp.ones(n)}


def pair(**how: Any) -> tuple[Any, Any]:
    polar = gx.newton_schulz("jordan", **how)
    named = {"square*": "io", "wide*": "io"}
    ours = gx.muon(1e-3, named, weight_decay=0.0, scale="original", polar=polar)
    return ours, optax.contrib.muon(1e-3)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.muon", description=__doc__)
    parser.add_argument("--scale", type=int, default=1, help="divides the sides of the matrices")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    params = matrices(options.scale)
    lowering, compiling = measure.building(pair(), params, options.rounds)
    rows = {"trace + lower": lowering, "compile": compiling}
    for form in ("auto", "plain"):
        step = measure.stepping(pair(form=form), params, options.rounds, 1)
        rows[f"step, {form} form"] = step
    print(f"gradtx / Optax {optax.__version__}, JAX {jax.__version__}, {jax.devices()[0]}")
    for name, r in rows.items():
        times = f"{r.ours * 1e3:9.1f} ms {r.theirs * 1e3:9.1f} ms"
        print(f"{name:<20}{times}   {r.median:.2f} [{r.low:.2f}, {r.high:.2f}]")


if __name__ == "__main__":
    main()
