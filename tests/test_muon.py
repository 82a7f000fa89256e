"""Muon and its kin: variants, layouts, stacks, invariances, faults of others."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from laws.cases import some
from reference import each, error, run, trajectory
from reference.matrix import (
    adago_direction,
    adamuon_direction,
    dion_direction,
    lmo_direction,
    muon_direction,
    normuon_direction,
    passing,
    scion,
)
from stacked import assert_stack_is_list, iterations_traced
from steps import normal, steps

import gradtx
from gradtx import Axes, catalogue, exact_polar, newton_schulz

FAULTY_OPTAX = optax.__version__ == "0.2.8"
EXACT = 1e-12

LINKS: dict[str, Callable[..., Any]] = {
    "muon": gradtx.scale_by_muon,
    "normuon": gradtx.scale_by_normuon,
    "adamuon": gradtx.scale_by_adamuon,
    "adago": gradtx.scale_by_adago,
    "dion": gradtx.scale_by_dion,
    "lmo": gradtx.scale_by_lmo,
    "columns": partial(gradtx.scale_by_lmo, norm="columns"),
    "sign": partial(gradtx.scale_by_lmo, norm="sign"),
}
over_links = pytest.mark.parametrize("name", LINKS)


# Arguments -------------------------------------------------------------------------------------

JORDAN = newton_schulz("jordan")
VARIANTS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    **{
        f"muon {momentum} {'ahead' if nesterov else 'plain'} {scale}": (
            "scale_by_muon",
            muon_direction,
            {"momentum": momentum, "nesterov": nesterov, "scale": scale, "beta": 0.9},
        )
        for momentum, nesterov, scale in (
            ("lerp", False, None),
            ("lerp", True, "original"),
            ("trace", True, "spectral"),
            ("trace", False, "match_rms_adamw"),
            ("corrected", True, "rms"),
            ("corrected", False, "nuclear"),
        )
    },
    "muon of jordan": (
        "scale_by_muon",
        muon_direction,
        {"polar": JORDAN, "scale": "original", "rms": 0.5},
    ),
    "muon exact": ("scale_by_muon", muon_direction, {"polar": exact_polar(), "rms": 0.5}),
    "normuon": (
        "scale_by_normuon",
        normuon_direction,
        {"scale": "original", "b2": 0.8, "eps": 0.1},
    ),
    "adamuon": (
        "scale_by_adamuon",
        adamuon_direction,
        {"signed": False, "b2": 0.8, "eps": 0.1},
    ),
    "adago": ("scale_by_adago", adago_direction, {"gamma": 0.7, "floor": 0.3, "beta": 0.8}),
    "columns": ("scale_by_lmo", lmo_direction, {"norm": "columns", "radius": 0.05}),
    "sign": ("scale_by_lmo", lmo_direction, {"norm": "sign", "radius": 0.05, "decay": 0.5}),
}


def test_arguments(x64: None) -> None:
    """Every variant of every link agrees with its reference, all in one compiled scan."""
    # The reference has arrays that are no matrices: rows of the catalogue let them pass.
    builders: dict[str, Any] = {
        name: partial(catalogue.links[link].make, **hyper) if link != "scale_by_lmo" else lmo(hyper)
        for name, (link, _, hyper) in VARIANTS.items()
    }
    builders["dion of rank one"] = partial(
        catalogue.links["scale_by_dion"].make, rank_fraction=0.4, beta=0.8
    )
    builders["scion constrained"] = partial(
        catalogue.optimizers["scion"].make, 2e-3, radius=2.0, constrained=True
    )
    references = {k: trajectory(passing(f), along=-0.005, **h) for k, (_, f, h) in VARIANTS.items()}
    references["dion of rank one"] = trajectory(
        passing(dion_direction), along=-0.005, rank=1, beta=0.8
    )
    references["scion constrained"] = trajectory(
        each(scion), learning_rate=2e-3, radius=2.0, constrained=True
    )
    along = dict.fromkeys(builders, -0.005) | {"scion constrained": 1.0}
    found = run(builders, jnp.dtype("float64"), along)
    errors = {name: error(found[name], references[name]) for name in builders}
    assert max(errors.values()) < EXACT, errors


def lmo(hyper: dict[str, Any]) -> Any:
    """Over the same arrays; the row of the catalogue has a radius of its own."""
    axes = gradtx.by_path({"weight": Axes("io")})
    return lambda: gradtx.masked(gradtx.scale_by_lmo(axes=axes, **hyper), "weight", outside="pass")


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (lambda: gradtx.scale_by_muon(beta=1.0), "beta is 1.0"),
        (lambda: gradtx.scale_by_muon(momentum="ema"), "momentum is 'ema'"),
        (lambda: gradtx.scale_by_muon(scale="wide"), "scale is 'wide'"),
        (lambda: gradtx.scale_by_normuon(scale="nuclear"), "scale is 'nuclear'"),
        (lambda: gradtx.scale_by_dion(rank_fraction=0.0), "rank_fraction is 0.0"),
        (lambda: gradtx.scale_by_lmo(norm="rows"), "norm is 'rows'"),
    ],
)
def test_arguments_that_are_refused(make: Callable[[], Any], seen: str) -> None:
    with pytest.raises(ValueError, match=seen):
        make()


# Layouts and stacks ----------------------------------------------------------------------------


@over_links
def test_transposed_arrays_get_the_transposed_update(name: str, x64: None) -> None:
    """Kernels (in, out) and (out, in) move alike, by what their axes are said to be."""
    gs = normal(0, 3, 4, 6)
    u = steps(LINKS[name](axes=Axes("io")), gs, gs[0])
    other = steps(LINKS[name](axes=Axes("oi")), gs.mT, gs[0].T)
    np.testing.assert_allclose(u, other.mT, rtol=1e-10, atol=1e-12)


@over_links
@pytest.mark.parametrize("letters", some(["io", "oi", "iio"], {"oi", "iio"}))
def test_a_stack_is_its_layers(name: str, letters: str, x64: None) -> None:
    """One array of three layers does as the list of them, in every layout."""
    assert_stack_is_list(lambda axes: LINKS[name](axes=axes), letters, seed=len(letters))


SPLITS: dict[str, tuple[Axes, Callable[[Any], list[Any]], Axes]] = {
    # The axes of an array, its parts by hand, the axes of these.
    "fused qkv": (Axes("io", 3), lambda x: jnp.split(x, 3, axis=1), Axes("io")),
    "fused qkv of torch": (
        Axes("oi", 2),
        lambda x: jnp.split(x, 2, axis=0),
        Axes("oi"),
    ),
    "heads of an output projection": (
        Axes("io", 1, 2),
        lambda x: jnp.split(x, 2, axis=0),
        Axes("io"),
    ),
    "grouped queries": (
        Axes("io", (6, 3, 3)),
        lambda x: jnp.split(x, [6, 9], axis=1),
        Axes("io"),
    ),
}


PAIRS = list(itertools.product(LINKS, SPLITS))


@pytest.mark.parametrize(
    ("name", "split"),
    some(PAIRS, [pair for pair in PAIRS if pair[0] == "muon" or pair[1] == "fused qkv"]),
)
def test_fused_matrices_are_single_ones(name: str, split: str, x64: None) -> None:
    """Parts side by side, equal ones or not, get the updates that they would get alone."""
    axes, parts, alone = SPLITS[split]
    gs = normal(1, 3, 4, 12)
    together = LINKS[name](axes=axes)
    if split == "grouped queries" and name in ("normuon", "dion", "adago"):
        with pytest.raises(ValueError, match="Split into heads"):
            together.init(gs[0])
        return
    u = steps(together, gs, gs[0])
    each_g, each_p = [jnp.stack(x) for x in zip(*map(parts, gs), strict=True)], parts(gs[0])
    single = steps(LINKS[name](axes=alone), each_g, each_p)
    for t in range(3):
        for found, expected in zip(parts(u[t]), single, strict=True):
            np.testing.assert_allclose(found, expected[t], rtol=1e-10, atol=1e-12)


def test_heads_and_convolutions(x64: None) -> None:
    """An axis of heads is a stack; the window of a convolution belongs to its inputs."""
    gs = normal(2, 2, 4, 3, 2)  # steps, in, heads, size
    u = steps(gradtx.scale_by_muon(axes=Axes("ibo")), gs, gs[0])
    flat = steps(gradtx.scale_by_muon(axes=Axes("io", 3)), gs.reshape(2, 4, 6), gs[0].reshape(4, 6))
    np.testing.assert_allclose(u.reshape(2, 4, 6), flat, rtol=1e-10, atol=1e-12)
    gs = normal(3, 2, 2, 2, 3, 5)
    u = steps(gradtx.scale_by_muon(axes=Axes("iiio")), gs, gs[0])
    flat = steps(gradtx.scale_by_muon(), gs.reshape(2, 12, 5), gs[0].reshape(12, 5))
    np.testing.assert_allclose(u.reshape(2, 12, 5), flat, rtol=1e-10, atol=1e-12)


def test_equal_shapes_are_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty layers of two shapes trace the iteration twice."""
    assert iterations_traced(monkeypatch) == [(11, 13), (13, 17)]


# Invariances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["muon", "adago", "lmo", "nuclear"])
def test_orthogonal_equivariance(name: str, x64: None) -> None:
    """U(Q G P) = Q U(G) P: the basis of inputs and outputs does not matter. Adam's does."""
    gs = normal(4, 3, 4, 6)
    q, p = (jnp.linalg.qr(normal(seed, n, n))[0] for seed, n in ((5, 4), (6, 6)))
    link = LINKS.get(name, partial(gradtx.scale_by_muon, scale="nuclear"))
    for tx, equivariant in ((link(), True), (gradtx.scale_by_adam(), False)):
        u, turned = steps(tx, gs, gs[0]), steps(tx, q @ gs @ p, gs[0])
        difference = float(jnp.abs(turned - q @ u @ p).max())
        assert (difference < 1e-10) == equivariant


@pytest.mark.parametrize("name", ["muon", "adamuon", "lmo", "columns", "sign"])
def test_scale_invariance(name: str, x64: None) -> None:
    """A gradient a thousand times as large gives the same update: eps is far below it."""
    gs = normal(7, 3, 4, 6)
    u, other = (steps(LINKS[name](), size * gs, gs[0]) for size in (1, 1e3))
    np.testing.assert_allclose(u, other, rtol=1e-4, atol=1e-6)


def test_exact_muon_is_shampoo_without_memory(x64: None) -> None:
    """(G G^T)^-1/4 G (G^T G)^-1/4 is the orthogonal factor of G (2409.20325)."""
    g = np.asarray(normal(8, 4, 4))
    tx = gradtx.scale_by_muon(beta=0.0, scale=None, polar=exact_polar())
    u, _ = tx.update(jnp.asarray(g), tx.init(jnp.asarray(g)))

    def root(a: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(a)
        return (vectors * values**-0.25) @ vectors.T

    np.testing.assert_allclose(u, root(g @ g.T) @ g @ root(g.T @ g), rtol=1e-8, atol=1e-10)


def test_full_rank_dion_becomes_exact_muon(x64: None) -> None:
    """With a constant gradient power iteration finds its singular vectors."""
    g = normal(9, 5, 3)
    gs = jnp.broadcast_to(g, (60, 5, 3))
    dion = steps(gradtx.scale_by_dion(), gs, g)[-1]
    muon = steps(gradtx.scale_by_muon(scale="spectral", polar=exact_polar()), gs[:1], g)[-1]
    np.testing.assert_allclose(dion, muon, atol=1e-6)


def test_dion_leaves_out_what_it_does_not_forget(x64: None) -> None:
    """Rank one takes one direction at a time; what is left out stays in the momentum."""
    g = normal(10, 4, 3)
    tx = gradtx.scale_by_dion(rank_fraction=0.3)
    u, state = tx.update(g, tx.init(g))
    assert np.linalg.matrix_rank(np.asarray(u)) == 1
    assert np.linalg.norm(u) == pytest.approx(np.sqrt(3 / 4))
    # mu = g - 0.05 R P^T, and u is R P^T at length sqrt(3 / 4).
    along = u / np.sqrt(3 / 4)
    np.testing.assert_allclose(state.mu, g - 0.05 * np.sum(g * along) * along, atol=1e-12)


def test_constrained_scion_ends_on_the_ball(x64: None) -> None:
    """Frank and Wolfe: with a constant gradient the parameters go to minus the farthest point."""
    p = {"w": normal(11, 3, 4), "b": normal(12, 3)}
    g = {"w": normal(13, 3, 4), "b": normal(14, 3)}
    tx = gradtx.scion(
        0.2, matrices="w", radius=2.0, rest_radius=0.5, constrained=True, polar=exact_polar()
    )

    def step(carry: Any, _: Any) -> Any:
        return tx.step(g, carry[1], carry[0]), None

    (p, _), _ = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), length=150))(p)
    values = jnp.linalg.svd(p["w"], compute_uv=False)
    np.testing.assert_allclose(values, np.full(3, 2 * np.sqrt(4 / 3)), rtol=1e-10)
    np.testing.assert_allclose(p["b"], -0.5 * jnp.sign(g["b"]), rtol=1e-10)


@over_links
def test_matrices_of_zeros(name: str) -> None:
    """Zero gradients give zeros, finite for ever, and derivatives that are finite."""
    tx, zeros = LINKS[name](), jnp.zeros((2, 3), jnp.float16)

    def total(tx: Any, g: jax.Array) -> jax.Array:
        u, state = tx.update(g, tx.init(g), g)
        return jnp.sum(u) + jnp.sum(tx.update(g, state, g)[0])

    assert not steps(tx, jnp.stack([zeros] * 3), zeros).any()
    slopes = jax.jit(jax.grad(total, (0, 1)))(tx, zeros.astype(jnp.float32))
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(slopes))


def test_arithmetic_changes_no_dtype() -> None:
    """With products in bfloat16 the momentum stays in float32, and the step is near."""
    p = normal(15, 4, 6).astype(jnp.float32)
    wide = gradtx.scale_by_muon(polar=newton_schulz("jordan"))
    narrow = wide.replace(arithmetic="bfloat16")
    (u, _), (v, state) = (tx.update(p, tx.init(p)) for tx in (wide, narrow))
    assert state.mu.dtype == v.dtype == jnp.float32
    assert 1e-6 < float(jnp.abs(u - v).max()) < 0.1


# Faults of others --------------------------------------------------------------------------------


def test_e10_the_rest_gets_adam_and_stacks_are_matrices() -> None:
    """E10: no look-ahead is inherited by the rest, and a stack that is named does not go there."""
    params = {"w": normal(16, 2, 3, 4).astype(jnp.float32), "b": jnp.asarray([1.0, -2.0])}
    second = jax.tree.map(lambda x: 0.5 - x, params)
    tx, adam = gradtx.muon(0.1, matrices={"w": "bio"}), gradtx.adam(0.1, b2=0.95)
    state, alone = tx.init(params), adam.init(params["b"])
    for g in (params, second):
        u, state = tx.update(g, state, params)
        b, alone = adam.update(g["b"], alone)
        np.testing.assert_allclose(u["b"], b, rtol=1e-6)
    assert "mu" in state["matrices"]["scale_by_muon"]._fields
    assert state["matrices"]["scale_by_muon"].mu["w"].shape == (2, 3, 4)
    if not FAULTY_OPTAX:
        return
    with pytest.raises(ValueError, match="Unknown"):
        optax.contrib.muon(0.1, ns_coeffs="muon")
    other = optax.contrib.muon(0.1)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        start = other.init(params)
        u, _ = other.update(params, start, params)
    assert not np.allclose(u["b"], -0.1 * np.sign(params["b"]), rtol=0.02)  # NAdam
    assert isinstance(start.inner_states["muon"].inner_state[0].mu["w"], optax.MaskedNode)


def test_optax_has_the_corrected_form(x64: None) -> None:
    """Its link is ours with bias-corrected momentum, Jordan's polynomials and no scale."""
    gs = normal(17, 5, 4, 6)
    ours = gradtx.scale_by_muon(
        momentum="corrected", scale=None, polar=newton_schulz("jordan", eps=1e-8)
    )
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = steps(optax.contrib.scale_by_muon(), gs, gs[0])
    np.testing.assert_allclose(steps(ours, gs, gs[0]), theirs, rtol=1e-9, atol=1e-10)


def test_e20_momentum_is_what_its_name_says(x64: None) -> None:
    """E20: PyTorch's documentation has a sum, its code an average. Both are here, by name.

    They differ by the factor 1 - beta in the state and by nothing in the direction.
    """
    gs = normal(18, 3, 4, 6)
    weight = torch.nn.Parameter(torch.zeros(4, 6))
    peer = torch.optim.Muon([weight], momentum=0.9)
    states, updates = {}, {}
    for momentum in ("lerp", "trace"):
        tx = gradtx.scale_by_muon(beta=0.9, momentum=momentum, polar=newton_schulz(eps=0.0))
        state = tx.init(gs[0])
        for g in gs:
            updates[momentum], state = tx.update(g, state)
        states[momentum] = state.mu
    for g in gs:
        weight.grad = torch.tensor(np.asarray(g), dtype=torch.float32)
        peer.step()
    buffer = peer.state[weight]["momentum_buffer"].numpy()
    np.testing.assert_allclose(buffer, states["lerp"], rtol=1e-5)
    np.testing.assert_allclose(states["lerp"], 0.1 * states["trace"], rtol=1e-12)
    np.testing.assert_allclose(updates["lerp"], updates["trace"], rtol=1e-9, atol=1e-12)
