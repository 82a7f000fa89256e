"""Overflow, underflow, dead units, draws and losses below zero: numbers that stay what they are."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import ALIASES, ROWS, build, leaves, some, step, update

import gradtx as gx
from gradtx import catalogue
from gradtx.tree import is_inexact

# Underflow -------------------------------------------------------------------------------------

WITH_EPS = [
    name
    for name, row in (catalogue.optimizers | catalogue.links).items()
    if "eps" in inspect.signature(row.make).parameters
]


@pytest.mark.parametrize("name", WITH_EPS)
def test_nothing_is_divided_by_a_square_that_underflows(name: str) -> None:
    """Without eps: refused, or finite where |g|^2 is zero in float32 and where g is."""
    row = (catalogue.optimizers | catalogue.links)[name]
    rate = {} if row.learning_rate is None else {"learning_rate": 1.0}
    try:
        tx = row.make(**rate, eps=0.0)
    except ValueError as error:
        assert "eps" in str(error)  # noqa: PT017 - either is right
        return
    g = {"w": jnp.asarray([[1e-25, 0.0], [-1e-30, 1e-20]], jnp.float32)}
    state = tx.init(g)
    for _ in range(2):
        u, state = update(tx, g, state, g)
        assert np.isfinite(u["w"]).all(), u


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-20])
def test_derivatives_are_finite_where_squares_underflow(size: float) -> None:
    tx = gx.scale_by_adam(eps=0.0)
    p = jnp.zeros(2)
    slope = jax.grad(lambda g: tx.update(g, tx.init(p))[0].sum())(jnp.full(2, size))
    assert np.isfinite(slope).all()


# Overflow ----------------------------------------------------------------------------------------


def test_novograd_divides_by_norms_beyond_float32() -> None:
    """In float64: d = |g| at first, so u = g / |g|; the norm is kept, not its square."""
    tx = gx.scale_by_novograd()
    gs = [np.full(3, x) for x in (1e30, 1.0, -2.0)]
    p, d, mu = jnp.zeros(3), 0.0, np.zeros(3)
    state = tx.init(p)
    for k, g in enumerate(gs):
        u, state = tx.update(jnp.asarray(g, jnp.float32), state, p)
        size = np.linalg.norm(g)
        d = size if k == 0 else np.hypot(np.sqrt(0.98) * d, np.sqrt(0.02) * size)
        mu = 0.95 * mu + g / (d + 1e-8)
        np.testing.assert_allclose(u, mu, rtol=1e-5)


def infinite(values: Any) -> list[str]:
    return [path for path, x in leaves(values) if is_inexact(x) and not np.isfinite(x).all()]


@pytest.mark.parametrize(
    "name",
    some(
        [n for n in catalogue.optimizers | catalogue.links | catalogue.wrappers if n in ROWS],
        {*ROWS} - ALIASES,  # whose links are rows
    ),
)
def test_parameters_stay_finite_after_a_large_gradient(name: str) -> None:
    """One gradient of 1e25, whose square is infinite in float32, among usual ones.

    The state is finite too: a square that overflows would be infinite for ever.
    """
    tx = build(ROWS[name])
    rng = np.random.default_rng(0)
    p = {"a": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), p)
    call, state = jax.jit(lambda g, s, p: step(tx, g, s, p)), tx.init(params)
    before = infinite(state)
    for k in range(6):
        size = 1e25 if k == 1 else 1.0
        g = jax.tree.map(lambda x, c=size: jnp.asarray(c * rng.normal(size=x.shape), "float32"), p)
        params, state = call(g, state, params)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(params)), k
    assert infinite(state) == before


def test_an_infinite_gradient_shows() -> None:
    """It is no large one: its entry is NaN, others are not."""
    tx = gx.scale_by_adam()
    u, _ = tx.update(jnp.asarray([jnp.inf, 1.0]), tx.init(jnp.zeros(2)))
    assert np.isnan(u).tolist() == [True, False]


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adabelief", "yogi", "nadam"])
def test_overflow_is_not_for_ever(name: str) -> None:
    """A square that overflows is forgotten as others are: after 20,000 steps the array moves.

    With b2 = 0.999 the square 1e50 decays to 1e41 in that time; kept at the largest float it would
    be 1e38 0.999^20000 = 2e29 at most, so that a step is more than 1e-15.
    """
    make = getattr(gx, name)
    tx = make(1.0)
    params = jnp.ones((2, 2))
    _, state = tx.update(jnp.full((2, 2), 1e25), tx.init(params), params)

    @jax.jit
    def many(state: Any) -> Any:
        def body(s: Any, _: Any) -> Any:
            u, s = tx.update(jnp.ones((2, 2)), s, params)
            return s, jnp.abs(u).max()

        return jax.lax.scan(body, state, length=20000)[1]

    assert float(many(state)[-1]) > 1e-16


# Bases -------------------------------------------------------------------------------------------

BASES = {
    "soap": lambda: gx.soap(3e-3, matrices="w", weight_decay=0.0),
    "splus": lambda: gx.splus(3e-3, matrices="w", weight_decay=0.0),
    "shampoo": lambda: gx.shampoo(3e-3, matrices="w", weight_decay=0.0),
    "kl_shampoo": lambda: gx.kl_shampoo(3e-3, matrices="w", weight_decay=0.0),
    "galore": lambda: gx.galore(3e-3, matrices="w", weight_decay=0.0, rank=4),
    "apollo": lambda: gx.apollo(3e-3, matrices="w", weight_decay=0.0, rank=4),
    "muon": lambda: gx.muon(3e-3, matrices="w", weight_decay=0.0),
    "normuon": lambda: gx.normuon(3e-3, matrices="w", weight_decay=0.0),
    "adamuon": lambda: gx.adamuon(3e-3, matrices="w", weight_decay=0.0),
    "dion": lambda: gx.dion(3e-3, matrices="w", weight_decay=0.0),
}


@pytest.mark.parametrize("scale", [1e-6, 100.0, 1024.0 * 100, 1e10])
@pytest.mark.parametrize("name", BASES)
def test_weights_without_gradients_stay(name: str, scale: float) -> None:
    """A dead column and a dead row, at any scale of the loss, stay for twenty steps.

    Dust in a basis, divided by eps, was a step of 1300 learning rates. (PSGD whitens random probes
    too, so that its matrices mix what is dead with the rest: it is not asked.)
    """
    tx = BASES[name]()
    rng = np.random.default_rng(1)
    start = {"w": jnp.asarray(rng.normal(size=(16, 8)), jnp.float32)}
    params, state = start, tx.init(start)
    call = jax.jit(tx.step)
    for _ in range(20):
        g = scale * rng.normal(size=(16, 8))
        g[:, 3] = 0.0
        g[5] = 0.0
        params, state = call({"w": jnp.asarray(g, jnp.float32)}, state, params)
    moved = np.abs(np.asarray(params["w"] - start["w"]))
    assert np.isfinite(moved).all()
    dead = max(moved[:, 3].max(), moved[5].max())
    assert dead <= 1e-4 * moved.max(), (dead, moved.max())
    assert moved.max() < 20 * 3e-3 * 10


# Draws -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: gx.add_noise(1.0, 0.5, key=3),
        lambda: gx.differentially_private_aggregate(1.0, 1.0, key=3),
    ],
)
def test_noise_is_the_same_in_float32_and_float64(make: Any, x64: None) -> None:
    """One draw for all dtypes: the noise of float64 is that of float32 up to rounding."""
    found = []
    for dtype in (jnp.float32, jnp.float64):
        p, tx = jnp.zeros((4, 5), dtype), make()
        g = p[None] if isinstance(tx, gx.differentially_private_aggregate) else p
        found.append(np.asarray(tx.update(g, tx.init(p), p)[0], np.float64))
    np.testing.assert_allclose(*found, rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gx.dion(0.01, matrices="w"),
        lambda: gx.psgd_kron(0.01, matrices="w"),
        lambda: gx.apollo(0.01, matrices="w", rank=2),
        lambda: gx.galore(0.01, matrices="w", rank=2),
    ],
    ids=["dion", "psgd_kron", "apollo", "galore"],
)
def test_sketches_are_the_same_in_float32_and_float64(make: Any, x64: None) -> None:
    """Five updates of both dtypes differ by rounding."""
    rng = np.random.default_rng(2)
    gs, found = rng.normal(size=(5, 6, 9)).astype(np.float32), []
    for dtype in (jnp.float32, jnp.float64):
        tx, p, us = make(), {"w": jnp.ones((6, 9), dtype)}, []
        state = tx.init(p)
        for g in gs:
            u, state = tx.update({"w": jnp.asarray(g, dtype)}, state, p)
            us.append(np.asarray(u["w"], np.float64))
        found.append(us)
    size = np.abs(found[1]).max()
    np.testing.assert_allclose(*found, rtol=2e-3, atol=2e-3 * size)


# Defaults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["acprop"])
def test_defaults_are_of_use_or_say_so(name: str) -> None:
    """On Rosenbrock's function from (0, 0), where the loss is 1, it stays below 10; or warns."""

    def loss(p: Any) -> Any:
        return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2

    tx, p = getattr(gx, name)(1e-3), jnp.zeros(2)

    @jax.jit
    def run(p: Any) -> Any:
        def body(carry: Any, _: Any) -> Any:
            p, s = carry
            return tx.step(jax.grad(loss)(p), s, p), loss(p)

        return jax.lax.scan(body, (p, tx.init(p)), length=500)[1]

    worst = float(run(p).max())
    assert worst < 10 or "eps" in (getattr(gx, name).__doc__ or "")


def test_pages_speak_of_the_conjugate() -> None:
    """README and the error page, or at least a link of the library, tell of complex gradients."""
    import pathlib

    root = pathlib.Path(gx.__file__).parents[1]
    pages = [root / "README.md", root / "CONTRIBUTING.md", *root.glob("docs/**/*.md")]
    text = " ".join(page.read_text() for page in pages)
    assert "conj" in text or hasattr(gx, "conjugate")


# Losses below zero -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1.0, -1e-3, -1e6, 0.0, 1.0])
def test_plateaus_of_constant_values(value: float) -> None:
    """Factors 1, 1, 0.1, 0.1, 0.01 ... at any level of the loss."""
    tx = gx.reduce_on_plateau(0.1, 2)
    g, state, found = jnp.ones(()), tx.init(jnp.ones(())), []
    for _ in range(6):
        u, state = tx.update(g, state, g, value=jnp.float32(value))
        found.append(float(u))
    np.testing.assert_allclose(found, [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-5)


@pytest.mark.parametrize("shift", [-100.0, 0.0, 100.0])
def test_outliers_of_the_loss_do_not_know_its_level(shift: float) -> None:
    """A loss 10 above its usual is left out, whatever is added to all of them."""
    tx = gx.skip_outliers(gx.sgd(1.0), 3.0, warmup_steps=20, watch="value")
    rng, p = np.random.default_rng(0), jnp.ones(2)
    state = tx.init(p)
    for _ in range(30):
        value = jnp.float32(shift + 0.5 * rng.normal())
        _, state = tx.update(p, state, p, value=value)
    u, _ = tx.update(p, state, p, value=jnp.float32(shift + 10))
    assert np.asarray(u).tolist() == [0.0, 0.0]
    u, _ = tx.update(p, state, p, value=jnp.float32(shift - 0.5))
    assert np.asarray(u).tolist() == [-1.0, -1.0]
