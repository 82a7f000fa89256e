"""Searches as parts of other optimizers: what composes, to the same points, and what is refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.testing.compare import three_parts

PARAMS = {"w": np.array([-1.2, 1.0]), "still": np.array([3.0])}


def valley(p: Any) -> Any:
    x = p["w"]
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2 + jnp.sum((p["still"] - 1) ** 2)


def fitted(tx: Any, **more: Any) -> Any:
    return gx.minimize(valley, PARAMS, tx, gtol=1e-6, max_evaluations=200, **more)


@pytest.mark.parametrize(
    "around",
    [
        lambda tx: gx.partition({"still": gx.freeze(), "*": tx}),
        lambda tx: gx.masked(tx, "w"),
        lambda tx: gx.chain(gx.freeze("still"), gx.masked(tx, "w")),
    ],
    ids=["partition", "masked", "chain"],
)
def test_a_search_for_some_arrays(around: Any, x64: None) -> None:
    """While all others stand still: as a search of these alone."""
    tx = around(gx.lbfgs())
    state, p = tx.init(PARAMS), jax.tree.map(jnp.asarray, PARAMS)
    alone, x = gx.lbfgs().init(p["w"]), p["w"]
    for _ in range(25):
        value, g = jax.value_and_grad(valley)(p)
        p, state = tx.step(g, state, p, value=value)
        value, g = jax.value_and_grad(lambda x: valley({"w": x, "still": PARAMS["still"]}))(x)
        x, alone = gx.lbfgs().step(g, alone, x, value=value)
        np.testing.assert_allclose(p["w"], x, rtol=1e-12)
        np.testing.assert_array_equal(p["still"], PARAMS["still"])


def test_wrappers_around_a_search(x64: None) -> None:
    """`monitor`, a clip before it, and hyperparameters in the state: the same points."""
    plain = fitted(gx.lbfgs(), history=60)
    for tx in (
        gx.monitor(gx.lbfgs()),
        gx.chain(gx.clip_by_global_norm(1e9), gx.lbfgs()),
        gx.inject_hyperparams(gx.lbfgs()),
    ):
        found = fitted(tx, history=60)
        assert found.evaluations == plain.evaluations
        np.testing.assert_allclose(found.history, plain.history, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_a_memory_in_few_bits(kind: str) -> None:
    """`store` keeps the pairs of L-BFGS narrow; a search corrects what that costs."""
    tx = gx.lbfgs()
    narrow = gx.store(tx, {"steps": kind, "changes": kind})
    start = np.tile(np.float32([-1.2, 1.0]), 512)

    def long(x: Any) -> Any:
        return jnp.sum(100 * (x[1::2] - x[::2] ** 2) ** 2 + (1 - x[::2]) ** 2)

    found = gx.minimize(long, start, narrow, gtol=1e-3, max_evaluations=400)
    assert found.converged, found
    kept, usual = (sum(x.nbytes for x in jax.tree.leaves(t.init(start))) for t in (narrow, tx))
    assert kept < 0.65 * usual


def test_refusals() -> None:
    """A loss that others change meanwhile is no loss to search on."""
    for call, mention in (
        (lambda: gx.partition({"w": gx.lbfgs(), "*": gx.adam(0.1)}), "'w' is a search"),
        (lambda: gx.partition({"w": gx.lbfgs(), "*": gx.bfgs()}), "fit the parts in turn"),
        (lambda: gx.masked(gx.lbfgs(), "w", outside="pass"), "outside"),
        (lambda: gx.chain(gx.lbfgs(), gx.scale(0.5)), "'wolfe' is a search"),
        (lambda: gx.chain(gx.ema(gx.lbfgs()), gx.clip(1.0)), "Put it last"),
    ):
        with pytest.raises(ValueError, match=mention) as raised:
            call()
        three_parts(raised.value, mention)
