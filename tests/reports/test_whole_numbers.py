"""Counts are whole numbers: periods of methods and wrappers at late counts.

Schedules are in `tests/test_whole_numbers.py`, all but those of one cycle, which are here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx

LATE = [2**24 + 1, 30_000_003, 2_000_000_011, 2**31 - 20]

# When the slot changes, after `count` updates, one step in `every`.
TURNS: dict[str, tuple[Callable[..., Any], str, int]] = {
    "galore": (gx.scale_by_galore, "basis", 0),
    "soap": (gx.scale_by_soap, "left_basis", 0),
    "splus": (gx.scale_by_splus, "left_basis", 0),
    "shampoo": (gx.scale_by_shampoo, "left_root", 1),
    "kl_shampoo": (gx.scale_by_kl_shampoo, "left_root", 0),
}


@pytest.mark.parametrize("start", [1000, *LATE])
@pytest.mark.parametrize("name", TURNS)
def test_turns_of_matrices(name: str, start: int) -> None:
    """A new basis or root where the count is a multiple of `every`, and nowhere else."""
    make, slot, off = TURNS[name]
    every, rng = 7, np.random.default_rng(0)
    tx = make(every=every, stagger=False, axes=gx.Axes("io"))
    p = jnp.asarray(rng.normal(size=(4, 5)), jnp.float32)
    state = tx.init(p)
    for _ in range(2 * every):  # so that there are averages
        _, state = tx.update(jnp.asarray(rng.normal(size=(4, 5)), jnp.float32), state, p)
    state, found, expected = state._replace(count=jnp.int32(start)), [], []
    for count in range(start, start + 2 * every):
        before = np.asarray(getattr(state, slot))
        _, state = tx.update(jnp.asarray(rng.normal(size=(4, 5)), jnp.float32), state, p)
        found.append(not np.array_equal(before, np.asarray(getattr(state, slot))))
        expected.append((count + off) % every == 0)
    assert found == expected


@pytest.mark.parametrize("start", LATE)
@pytest.mark.parametrize(
    "make",
    [
        lambda: gx.every(7, gx.sgd(1.0)),
        lambda: gx.sam(gx.sgd(1.0), rho=0.0, sync_period=7),
        lambda: gx.lookahead(gx.sgd(1.0), 7, 0.0),
        lambda: gx.outer(gx.sgd(1.0), gx.sgd(0.0), every=7),
    ],
    ids=["every", "sam", "lookahead", "outer"],
)
def test_periods_of_wrappers(make: Any, start: int) -> None:
    """The step of the 7th, 14th ... update is another than those between."""
    tx, g = make(), jnp.ones(2)
    p = jnp.zeros(2)
    _, state = tx.update(g, tx.init(p), p)
    state, p = state._replace(count=jnp.int32(start)), jnp.zeros(2)
    sizes = []
    for _ in range(14):
        u, state = tx.update(g, state, p)
        p = p + u
        sizes.append(float(u[0]))
    due = [(start + k + 1) % 7 == 0 for k in range(14)]
    usual = next(x for x, d in zip(sizes, due, strict=True) if not d)
    assert [x != usual for x in sizes] == due


def test_a_ring_of_norms_goes_round() -> None:
    """After 2^24 norms four of ten, then four of one: the percentile is that of ones."""
    tx = gx.clip_by_percentile(50.0, window=4)
    p = jnp.ones(1)
    _, state = tx.update(p, tx.init(p), p)
    state = state._replace(norms=jnp.full(4, 10.0), seen=jnp.float32(2**24 + 4))
    for _ in range(4):
        _, state = tx.update(p, state, p)
    assert np.asarray(state.norms).tolist() == [1.0, 1.0, 1.0, 1.0]


ONE_CYCLE = {
    "cosine": lambda n: gx.cosine_onecycle_schedule(n, 1.0, 0.25, 25.0, 1e4),
    "linear": lambda n: gx.linear_onecycle_schedule(n, 1.0, 0.25, 0.75, 25.0, 1e4),
}


def one_cycle(name: str, n: int, c: int) -> float:
    low, end = 1 / 25, 1 / 25 / 1e4
    first, second = n // 4, 3 * n // 4
    c = min(c, n)
    if name == "cosine":
        if c < first:
            return low + (1 - low) * (1 - np.cos(np.pi * (c / first))) / 2
        return end + (1 - end) * (1 + np.cos(np.pi * ((c - first) / (n - first)))) / 2
    if c < first:
        return low + (1 - low) * (c / first)
    if c < second:
        return 1 + (low - 1) * ((c - first) / (second - first))
    return low + (end - low) * ((c - second) / (n - second))


@pytest.mark.parametrize("name", ONE_CYCLE)
def test_one_cycle_at_late_counts(name: str) -> None:
    """A run of 2^31 - 8 steps, around its boundaries and at random, in a sweep too."""
    n, rng = 2**31 - 8, np.random.default_rng(0)
    near = [b + d for b in (0, n // 4, 3 * n // 4, n) for d in (-3, -1, 0, 1, 3)]
    counts = sorted(c for c in [*near, *rng.integers(0, n, 40).tolist()] if 0 <= c < 2**31)
    expected = np.array([one_cycle(name, n, c) for c in counts])
    at = jnp.asarray(counts, jnp.int32)
    found = np.asarray(jax.vmap(ONE_CYCLE[name](n))(at), np.float64)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-11)
    found = jax.jit(lambda n: jax.vmap(ONE_CYCLE[name](n))(at))(jnp.int32(n))
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-11)
