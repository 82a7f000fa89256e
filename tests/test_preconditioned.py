"""SOAP, SPlus, Shampoo, KL-Shampoo and PSGD: layouts, stacks, invariances, identities."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import some
from reference import error, run, trajectory
from reference.matrix import passing
from reference.preconditioned import (
    kl_shampoo_direction,
    kron_direction,
    shampoo_direction,
    soap_direction,
    splus_direction,
)
from stacked import assert_stack_is_list
from steps import normal, states, steps

import gradtx
from gradtx import Axes, catalogue

EXACT = 1e-12
LINKS: dict[str, Callable[..., Any]] = {
    "soap": partial(gradtx.scale_by_soap, every=2),
    "splus": partial(gradtx.scale_by_splus, every=2),
    # In a direction without a gradient so far a root multiplies rounding: eps is above it.
    "shampoo": partial(gradtx.scale_by_shampoo, every=2, eps=1e-3),
    "shampoo in blocks": partial(gradtx.scale_by_shampoo, every=2, eps=1e-3, block_size=2),
    "kl_shampoo": partial(gradtx.scale_by_kl_shampoo, every=2),
    "kron": partial(gradtx.scale_by_kron, learn=0.5),
    "kron with a diagonal": partial(gradtx.scale_by_kron, learn=0.7, sides="shorter"),
}
over_links = pytest.mark.parametrize("name", LINKS)


# Arguments -------------------------------------------------------------------------------------

VARIANTS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "soap": (
        "soap",
        soap_direction,
        {"b1": 0.8, "b2": 0.9, "eps": 1e-3, "shampoo_beta": 0.7, "every": 3},
    ),
    "soap every step": ("soap", soap_direction, {"every": 1}),
    "soap of the shorter side": ("soap", soap_direction, {"sides": "shorter", "every": 2}),
    "soap of inputs": ("soap", soap_direction, {"sides": "inputs", "every": 2}),
    "soap of outputs": ("soap", soap_direction, {"sides": "outputs", "every": 2}),
    "soap of short sides": ("soap", soap_direction, {"max_dim": 2, "every": 2}),
    "splus": ("splus", splus_direction, {"b1": 0.5, "b2": 0.9, "every": 3}),
    "splus of inputs": ("splus", splus_direction, {"sides": "inputs"}),
    **{
        f"shampoo grafted to {graft}": (
            "shampoo",
            shampoo_direction,
            {"graft": graft, "b2": b2, "eps": 1e-2, "every": 4},
        )
        for graft, b2 in (
            (None, 1.0),
            ("sgd", 0.9),
            ("adagrad", 1.0),
            ("rmsprop", 0.9),
            ("adam", 1.0),
        )
    },
    "shampoo one-sided": ("shampoo", shampoo_direction, {"sides": "inputs", "eps": 1e-2}),
    "shampoo of another power": ("shampoo", shampoo_direction, {"exponent": 0.5, "eps": 1e-2}),
    "shampoo in blocks": (
        "shampoo",
        shampoo_direction,
        {"block_size": 2, "b2": 0.9, "eps": 1e-2, "every": 3},
    ),
    "shampoo with diagonals": (
        "shampoo",
        shampoo_direction,
        {"max_dim": 2, "b2": 0.9, "eps": 1e-2, "every": 3},
    ),
    "kl_shampoo with diagonals": ("kl_shampoo", kl_shampoo_direction, {"max_dim": 2, "every": 3}),
    "kl_shampoo": ("kl_shampoo", kl_shampoo_direction, {"b1": 0.5, "b2": 0.8, "every": 3}),
    "kl_shampoo one-sided": ("kl_shampoo", kl_shampoo_direction, {"sides": "outputs"}),
    "kron": (
        "kron",
        kron_direction,
        {"b1": 0.5, "precond_lr": 0.3, "learn": 0.4, "clip": 0.8, "damping": 0.1},
    ),
    "kron with a diagonal": ("kron", kron_direction, {"sides": "inputs"}),
    "kron of diagonals": ("kron", kron_direction, {"max_dim": 1}),
}


def test_arguments(x64: None) -> None:
    """Every variant of every link agrees with its reference, all in one compiled scan."""
    builders: dict[str, Any] = {
        name: partial(catalogue.links[f"scale_by_{link}"].make, **hyper)
        for name, (link, _, hyper) in VARIANTS.items()
    }
    found = run(builders, jnp.dtype("float64"), dict.fromkeys(builders, -0.01))
    errors = {
        name: error(found[name], trajectory(passing(formula), along=-0.01, **hyper))
        for name, (_, formula, hyper) in VARIANTS.items()
    }
    assert not {name: e for name, e in errors.items() if not e < EXACT}


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (lambda: gradtx.scale_by_soap(shampoo_beta=1.0), "shampoo_beta is 1.0"),
        (lambda: gradtx.scale_by_soap(every=0), "every is 0"),
        (lambda: gradtx.scale_by_splus(sides="left"), "sides is 'left'"),
        (lambda: gradtx.scale_by_shampoo(graft="lamb"), "graft is 'lamb'"),
        (lambda: gradtx.scale_by_shampoo(block_size=0), "block_size is 0"),
        (lambda: gradtx.scale_by_shampoo(roots="qr"), "roots is 'qr'"),
        (lambda: gradtx.scale_by_shampoo(exponent=0.5, roots="newton"), 'roots is "newton"'),
        (lambda: gradtx.scale_by_kl_shampoo(eps=0.0), "eps is 0.0"),
        (lambda: gradtx.scale_by_kron(learn=1.5), "learn is 1.5"),
    ],
)
def test_arguments_that_are_refused(make: Callable[[], Any], seen: str) -> None:
    with pytest.raises(ValueError, match=seen):
        make()


# Layouts and stacks -----------------------------------------------------------------------------


@over_links
def test_transposed_arrays_get_the_transposed_update(name: str, x64: None) -> None:
    """Kernels (in, out) and (out, in) move alike, by what their axes are said to be."""
    gs = normal(0, 4, 3, 4)
    u = steps(LINKS[name](axes=Axes("io")), gs, gs[0])
    other = steps(LINKS[name](axes=Axes("oi")), gs.mT, gs[0].T)
    np.testing.assert_allclose(u, other.mT, rtol=1e-10, atol=1e-12)


@over_links
@pytest.mark.parametrize("stagger", some([True, False], [True]))
def test_a_stack_is_its_layers(name: str, stagger: bool, x64: None) -> None:
    """One array of three layers does as the list of them; layers at rest are among them."""
    assert_stack_is_list(lambda axes: LINKS[name](stagger=stagger, axes=axes), "io", seed=4)


@over_links
def test_heads_are_matrices(name: str, x64: None) -> None:
    """Parts side by side, an axis of their own and a stack of stacks are the same matrices."""
    gs = normal(2, 4, 2, 3, 2, 4)  # steps, layers, in, heads, size
    u = steps(LINKS[name](axes=Axes("bibo")), gs, gs[0])
    flat = gs.reshape(4, 2, 3, 8)
    other = steps(LINKS[name](axes=Axes("bio", 2)), flat, flat[0])
    np.testing.assert_allclose(u.reshape(flat.shape), other, rtol=1e-9, atol=1e-11)


# Invariances and identities --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["soap", "splus", "shampoo", "kl_shampoo"])
def test_orthogonal_equivariance(name: str, x64: None) -> None:
    """U(Q G P) = Q U(G) P: the basis of inputs and outputs does not matter.

    A graft other than "sgd" counts entries, and PSGD's factors are triangular in the axes that they
    are given: both follow the basis on their way.
    """
    gs = normal(4, 5, 3, 4)
    q, p = (jnp.linalg.qr(normal(seed, n, n))[0] for seed, n in ((5, 3), (6, 4)))
    tx = LINKS[name](graft="sgd") if name == "shampoo" else LINKS[name]()
    u, turned = steps(tx, gs, gs[0]), steps(tx, q @ gs @ p, gs[0])
    assert float(jnp.abs(u[1:]).max()) > 0.01
    np.testing.assert_allclose(turned, q @ u @ p, atol=1e-9)


@pytest.mark.parametrize("name", ["soap", "splus", "kl_shampoo"])
def test_scale_invariance(name: str, x64: None) -> None:
    """A gradient a thousand times as large gives the same update: eps is far below it."""
    gs = normal(7, 5, 3, 4)
    u, other = (steps(LINKS[name](), size * gs, gs[0]) for size in (1, 1e3))
    np.testing.assert_allclose(u, other, rtol=1e-4, atol=1e-6)


def test_soap_without_a_side_is_adam(x64: None) -> None:
    """With dims above the limit Q = I: Adam on the gradients after the first, which moves nothing.

    SOAP's eps stands beside the uncorrected root, so it is small here.
    """
    gs = normal(8, 6, 3, 4)
    u = steps(gradtx.scale_by_soap(0.9, b2=0.99, eps=1e-30, max_dim=2), gs, gs[0])
    adam = steps(gradtx.scale_by_adam(0.9, 0.99, 1e-30), gs[1:], gs[0])
    assert not u[0].any()
    np.testing.assert_allclose(u[1:], adam, rtol=1e-12)


def test_a_new_basis_changes_no_momentum(x64: None) -> None:
    """Turned back, mu is the plain average of the gradients after the first, through refreshes."""
    gs = normal(10, 6, 3, 4)
    slots = states(gradtx.scale_by_soap(0.9, every=2), gs, gs[0])[1]
    mu = slots.left_basis @ slots.mu @ slots.right_basis.mT
    plain = jnp.zeros((3, 4))
    for t in range(1, 6):
        plain = 0.9 * plain + 0.1 * gs[t]
        np.testing.assert_allclose(mu[t], plain, rtol=1e-11, atol=1e-13)
    for basis in (slots.left_basis, slots.right_basis):
        n = basis.shape[-1]
        gram = np.asarray(basis.mT @ basis)
        np.testing.assert_allclose(gram, np.broadcast_to(np.eye(n), gram.shape), atol=1e-12)


def test_power_steps_find_the_eigenvectors(x64: None) -> None:
    """With constant gradients QR steps end at the eigenvectors of L, the largest first."""
    g = jnp.diag(jnp.asarray([1.0, 3.0, 2.0])) @ jnp.linalg.qr(normal(11, 3, 3))[0]
    g = jnp.linalg.qr(normal(12, 3, 3))[0] @ g
    gs = jnp.concatenate([normal(13, 1, 3, 3), jnp.broadcast_to(g, (300, 3, 3))])
    slots = states(gradtx.scale_by_soap(every=1, shampoo_beta=0.5), gs, g)[1]
    q = slots.left_basis[-1]
    np.testing.assert_allclose(q.T @ g @ g.T @ q, np.diag([9.0, 4.0, 1.0]), atol=1e-9)


def factor(g: Any) -> np.ndarray:
    u, _, v = np.linalg.svd(np.asarray(g), full_matrices=False)
    return u @ v


def test_shampoo_without_memory_is_the_orthogonal_factor(x64: None) -> None:
    """(G G^T)^-1/4 G (G^T G)^-1/4 = U V^T at full rank (2409.20325); SPlus begins with it too."""
    g = normal(14, 3, 4)
    tx = gradtx.scale_by_shampoo(0.0, b2=0.0, eps=1e-30, graft=None, every=1)
    np.testing.assert_allclose(steps(tx, g[None], g)[0], factor(g), rtol=1e-9, atol=1e-11)
    u = steps(gradtx.scale_by_splus(), g[None], g)[0]
    np.testing.assert_allclose(u, 2 / 7 * factor(g), rtol=1e-9, atol=1e-11)


def test_shampoo_on_vectors_is_full_matrix_adagrad(x64: None) -> None:
    """A vector has one side: (sum of g g^T + eps)^-1/2 g, the first Adagrad of Duchi+ 2011."""
    gs = normal(15, 5, 3)
    tx = gradtx.scale_by_shampoo(0.0, b2=1.0, eps=1e-4, graft=None, every=1, axes=Axes("i"))
    u = steps(tx, gs, gs[0])
    for t in range(5):
        values, vectors = np.linalg.eigh(np.asarray(gs[: t + 1].T @ gs[: t + 1]))
        root = vectors * (np.maximum(values, 0) + 1e-4) ** -0.5 @ vectors.T
        np.testing.assert_allclose(u[t], root @ gs[t], rtol=1e-9)


def test_a_graft_lends_its_length(x64: None) -> None:
    """The norm of every block is that of Adam's block; the direction is Shampoo's."""
    gs = normal(16, 4, 4, 4)
    tx = partial(gradtx.scale_by_shampoo, 0.9, b2=0.99, eps=1e-3, every=1, block_size=2)
    u, plain = (steps(tx(graft=graft), gs, gs[0]) for graft in ("adam", None))
    adam = steps(gradtx.scale_by_adam(0.9, 0.99), gs, gs[0])

    def blocks(x: Any) -> Any:
        return x.reshape(4, 2, 2, 2, 2).swapaxes(2, 3).reshape(4, 4, 4)

    u, plain, adam = blocks(u), blocks(plain), blocks(adam)
    size = partial(jnp.linalg.norm, axis=-1, keepdims=True)
    np.testing.assert_allclose(size(u), size(adam), rtol=1e-12)
    np.testing.assert_allclose(u / size(u), plain / size(plain), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["kl_shampoo", "kron"])
def test_gradients_become_white(name: str, x64: None) -> None:
    """The covariance L (x) R of matrix normal gradients becomes that of the identity."""
    left, right = jnp.diag(jnp.asarray([4.0, 1.0])), jnp.diag(jnp.asarray([1.0, 0.1, 3.0]))
    q = jnp.linalg.qr(normal(17, 2, 2))[0]
    left = q @ left @ q.T
    gs = left @ normal(18, 4000, 2, 3) @ right
    make = {
        "kl_shampoo": partial(gradtx.scale_by_kl_shampoo, 0.0, b2=0.995, every=20),
        "kron": partial(gradtx.scale_by_kron, 0.0, precond_lr=0.05, clip=1e9, learn=1.0),
    }[name]
    u = np.asarray(steps(make(), gs, gs[0]))[1000:].reshape(-1, 6)
    plain = np.asarray(gs[1000:]).reshape(-1, 6)
    found, before = (np.linalg.eigvalsh(x.T @ x / len(x)) for x in (u, plain))
    assert before.max() / before.min() > 1000
    # Of the estimates of 3000 gradients, and of factors that forget.
    assert 0.7 < found.min() <= found.max() < 1.4


# Zeros -----------------------------------------------------------------------------------------


@over_links
def test_matrices_of_zeros(name: str) -> None:
    """Zero gradients give zeros, finite for ever, with derivatives; others may come after them."""
    tx, zeros = LINKS[name](), jnp.zeros((2, 3), jnp.float16)
    gs = jnp.concatenate([jnp.zeros((3, 2, 3)), jnp.ones((1, 2, 3)), jnp.zeros((200, 2, 3))])
    u, slots = states(tx, gs.astype(jnp.float16), zeros)
    assert not u[:3].any()
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((u, slots)))

    def total(tx: Any, gs: jax.Array) -> jax.Array:
        return jnp.sum(steps(tx, gs, gs[0])[-1])

    # Zeros, and a matrix whose singular values are equal: the derivative of eigenvectors has poles.
    slopes = jax.jit(jax.grad(total, (0, 1), allow_int=True))
    for g in (jnp.zeros((2, 2)), jnp.eye(2), jnp.ones((2, 2))):
        for x in jax.tree.leaves(slopes(tx, jnp.broadcast_to(g, (3, 2, 2)))):
            assert x.dtype == jax.dtypes.float0 or jnp.isfinite(x).all()


@over_links
def test_momentum_has_its_derivative(name: str, x64: None) -> None:
    """What is not the preconditioner is differentiated: u follows the last gradient."""
    gs = normal(19, 3, 2, 3)
    if name == "splus":
        return  # signs have none

    def last(g: Any) -> Any:
        return jnp.sum(steps(LINKS[name](), gs.at[2].set(g), gs[0])[-1] * gs[0])

    assert float(jnp.abs(jax.jit(jax.grad(last))(gs[2])).max()) > 1e-3
