"""The sides of a matrix: which takes its turn when, what one costs, and two ways to a root."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from steps import normal, states, steps

import gradtx
from gradtx import Axes
from gradtx.optimizers.sides import ROOTS, inverse_root

# Turns ------------------------------------------------------------------------------------------


def changes(state: Any) -> np.ndarray:
    """At which steps after the first the basis of a side changed."""
    changed = np.asarray(jnp.any(state[1:] != state[:-1], axis=(-2, -1)))
    return changed.reshape(len(changed), -1)


BASES = {"soap": "left_basis", "splus": "left_basis", "shampoo": "left_root", "kron": "left"}


@pytest.mark.parametrize("name", BASES)
def test_matrices_take_turns(name: str) -> None:
    """With one step in four for each, four of eight matrices never share one with a neighbour."""
    make = {"kron": partial(gradtx.scale_by_kron, learn=0.25)}.get(
        name, partial(getattr(gradtx, f"scale_by_{name}"), every=4)
    )
    p = {"list": [normal(i, 2, 3) for i in range(4)], "stack": normal(9, 4, 2, 3)}
    axes = {"list": Axes("io"), "stack": Axes("bio")}
    times = jnp.arange(1.0, 18.0)
    gs = jax.tree.map(lambda x: jnp.sin(x[None] + times.reshape(-1, *[1] * x.ndim)), p)
    counts = {}
    for stagger in (True, False):
        slot = getattr(states(make(stagger=stagger, axes=axes), gs, p)[1], BASES[name])
        changed = [changes(x) for x in (*slot["list"], slot["stack"])]
        # Two rounds, after the first in which what begins at once is not told apart.
        counts[stagger] = np.concatenate(changed, axis=1).sum(axis=1)[8:]
    assert set(counts[False]) == {0, 8}
    assert counts[True].sum() == counts[False].sum()
    if name == "kron":  # spread by the golden section: within one of even
        assert counts[True].max() <= 4
    else:
        assert set(counts[True]) == {2}


def test_only_matrices_take_turns() -> None:
    """Arrays that go elsewhere, and leaves that nobody moves, leave no turn empty."""
    p = {i: {"a": jnp.ones(3), "b": jnp.arange(2), "w": normal(i, 2, 3)} for i in range(4)}
    gs = jax.tree.map(lambda x: jnp.stack([jnp.roll(x, t) * (t + 1) for t in range(10)]), p)
    slots = states(gradtx.soap(0.1, matrices="*/w", every=4), gs, p)[1]["matrices"]["scale_by_soap"]
    changed = [changes(x) for x in jax.tree.leaves(slots.left_basis)]
    assert np.concatenate(changed, axis=1).sum(axis=1).tolist() == [1] * 9


def test_turns_do_not_change_what_arrays_of_one_shape_compile_to() -> None:
    """Forty matrices of two shapes trace the method twice, whatever their turn is."""
    traced: list[Any] = []
    plain = gradtx.scale_by_soap.update_leaf

    def counting(self: Any, g: Any, *rest: Any) -> Any:
        traced.append(g.shape)
        return plain(self, g, *rest)

    params = {i: {"up": jnp.ones((2, 7)), "down": jnp.ones((7, 2))} for i in range(20)}
    tx = gradtx.scale_by_soap()
    state = jax.eval_shape(tx.init, params)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradtx.scale_by_soap, "update_leaf", counting)
        jax.make_jaxpr(tx.update)(params, state)
    assert sorted(traced) == [(2, 7), (7, 2)]


# Sides that are left alone ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["soap", "splus", "shampoo", "kl_shampoo", "psgd_kron"])
def test_sides_that_are_left_alone_cost_nothing(name: str) -> None:
    """One side of a long matrix, and none above the limit; what the moments cost is the rest."""
    p = {"w": jnp.zeros((30, 7))}
    sizes = {}
    for key, hyper in {"short": {"sides": "shorter"}, "limit": {"max_dim": 10}}.items():
        state = getattr(gradtx, name)(0.1, matrices="w", **hyper).init(p)
        sizes[key] = sum(x.size for x in jax.tree.leaves(state))
    assert sizes["short"] < 2 * 210 + 2 * 49 + 40
    diagonals = 2 * 30 if "shampoo" in name else 0  # of the averages, and of their roots
    assert sizes["limit"] == sizes["short"] + diagonals


# Roots ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [1 / 2, 1 / 4])
def test_roots_by_products(exponent: float, x64: None) -> None:
    """Newton's iteration and eigenvectors give the same, for matrices of any size, and zeros."""
    turn = np.linalg.qr(np.random.default_rng(20).normal(size=(12, 12)))[0]
    a = jnp.asarray((turn * np.geomspace(1e-8, 1, 12)) @ turn.T)
    sizes = jnp.asarray([1e-200, 1.0, 1e200, 0.0])[:, None, None]
    for matrices in (a, sizes * a[None]):
        exact = inverse_root(matrices, exponent, 1e-300)
        found = inverse_root(matrices, exponent, 1e-300, "newton")
        size = jnp.abs(exact).max((-2, -1), keepdims=True)
        np.testing.assert_allclose(found / size, exact / size, atol=1e-7)
    a = a + 1e-4 * jnp.eye(12)
    narrow = inverse_root(a.astype(jnp.float32), exponent, 1e-12, "newton")
    rounding = 12 * 2.0**-23 * jnp.abs(a).max()
    exact = inverse_root(a + rounding * jnp.eye(12), exponent, 1e-12)
    np.testing.assert_allclose(narrow, exact, atol=1e-3 * float(jnp.abs(exact).max()))


@pytest.mark.parametrize("link", [gradtx.scale_by_shampoo, gradtx.scale_by_kl_shampoo])
def test_shampoo_by_products(link: Callable[..., Any], x64: None) -> None:
    """Either way to a root gives the same steps, of stacks too, with their derivative."""
    gs = normal(21, 5, 2, 4, 3)

    def last(g: Any, roots: str) -> Any:
        tx = link(roots=roots, eps=1e-3, every=2, axes=Axes("bio"))
        return steps(tx, gs.at[4].set(g), gs[0])[-1]

    np.testing.assert_allclose(last(gs[4], "newton"), last(gs[4], "eigh"), rtol=1e-8)
    along = [jax.jvp(partial(last, roots=roots), (gs[4],), (gs[3],))[1] for roots in ROOTS]
    np.testing.assert_allclose(*along, rtol=1e-8, atol=1e-12)
    pulled = jax.grad(lambda g: jnp.sum(last(g, "newton") * gs[0]))(gs[4])
    assert float(jnp.abs(pulled).max()) > 1e-3
