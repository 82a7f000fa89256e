"""One leaf that stacks layers beside the list of its layers; many layers of few shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx import Axes


def assert_stack_is_list(make: Callable[[Any], Any], letters: str, seed: int) -> None:
    """`make(axes)` on [layers, ...] with a letter b in front does as `make` on the list does.

    The layers differ in size by orders of magnitude, and two of three steps have a layer at rest.
    """
    layers, random = 3, np.random.default_rng(seed)
    # Two shapes only, whatever the seed: each is compiled for.
    shape = (layers, *((3, 3, 3, 3) if seed % 4 == 0 else (2, 4, 3, 2))[: len(letters)])
    sizes = (10.0 ** random.integers(-2, 3, size=layers)).reshape(-1, *[1] * len(letters))
    together, alone = make(Axes("b" + letters)), make(Axes(letters))
    p = random.normal(size=shape) * sizes
    ps = list(p)
    state, states = together.init(p), alone.init(ps)
    for step in range(3):
        g = random.normal(size=shape) / sizes
        if step < 2:
            g[step] = 0
        u, state = together.update(g, state, p)
        us, states = alone.update(list(g), states, ps)
        u, us = jax.device_get((u, us))
        for found, expected in zip(u, us, strict=True):
            scale = float(np.abs(expected).max())
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12 * scale)
        p, ps = p + u, [x + y for x, y in zip(ps, us, strict=True)]


def iterations_traced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes for which Muon's iteration is traced, of twenty layers with two matrices each."""
    traced, plain = [], gradtx.newton_schulz._iterated

    def counting(self: Any, x: jax.Array) -> jax.Array:
        traced.append(x.shape)
        return plain(self, x)

    monkeypatch.setattr(gradtx.newton_schulz, "_iterated", counting)
    params = {i: {"up": jnp.ones((11, 13)), "down": jnp.ones((13, 17))} for i in range(20)}
    tx = gradtx.muon(0.1, matrices="*/*")
    state = jax.eval_shape(tx.init, params)
    jax.make_jaxpr(tx.update)(params, state, params)
    return sorted(traced)
