"""Normal numbers, and what a transformation makes of gradients one after the other."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def states(tx: Any, gs: Any, p: Any) -> tuple[Any, Any]:
    """Updates and states after every step, in one compiled scan."""

    @jax.jit
    def all_steps(gs: Any, p: Any) -> Any:
        def step(state: Any, g: Any) -> Any:
            u, state = tx.update(g, state, p)
            return state, (u, state)

        return jax.lax.scan(step, tx.init(p), gs)[1]

    return all_steps(gs, p)


def steps(tx: Any, gs: Any, p: Any) -> Any:
    """The updates for gradients one after the other."""
    return states(tx, gs, p)[0]


def updates(tx: Any, gs: Any) -> np.ndarray:
    """The same for parameters that are zero."""
    return np.asarray(steps(tx, gs, jnp.zeros_like(gs[0])))


def assert_one_trajectory(one: Any, other: Any) -> None:
    """Two ways to write one algorithm give one trajectory, to 1e-12, and go somewhere."""

    @jax.jit
    def trajectories(pair: Any, gs: Any) -> Any:
        def step(carry: Any, g: Any) -> Any:
            new = [tx.step(jnp.sin(p) + g, s, p) for tx, (p, s) in zip(pair, carry, strict=True)]
            return new, [p for p, _ in new]

        return jax.lax.scan(step, [(jnp.ones(4), tx.init(jnp.ones(4))) for tx in pair], gs)[1]

    found, expected = trajectories((one, other), normal(7, 60, 4))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert float(jnp.abs(found[-1] - 1).max()) > 1e-3
