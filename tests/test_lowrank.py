"""GaLore and APOLLO: arguments, layouts, stacks, memory, identities."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import error, run, trajectory
from reference.matrix import passing
from reference.preconditioned import apollo_direction, galore_direction
from stacked import assert_stack_is_list
from steps import normal, steps

import gradtx
from gradtx import Axes, catalogue

LINKS: dict[str, Callable[..., Any]] = {
    "galore": partial(gradtx.scale_by_galore, rank=2, every=2),
    "apollo": partial(gradtx.scale_by_apollo, rank=2, every=2),
    "apollo mini": partial(gradtx.scale_by_apollo, rank=1, per="tensor", scale=128.0),
}
over_links = pytest.mark.parametrize("name", LINKS)
VARIANTS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "galore": (
        "galore",
        galore_direction,
        {"b1": 0.8, "b2": 0.9, "eps": 1e-3, "scale": 0.7, "every": 3},
    ),
    "galore of rank one": ("galore", galore_direction, {"rank": 1, "every": 5}),
    "apollo": (
        "apollo",
        apollo_direction,
        {"b1": 0.8, "b2": 0.9, "eps": 1e-3, "scale": 0.7, "growth": 1.5, "every": 3},
    ),
    "apollo mini": ("apollo", apollo_direction, {"rank": 1, "per": "tensor", "scale": 16.0}),
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
    assert not {name: e for name, e in errors.items() if not e < 1e-12}


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (lambda: gradtx.scale_by_galore(rank=0), "rank is 0"),
        (lambda: gradtx.scale_by_galore(every=0), "every is 0"),
        (lambda: gradtx.scale_by_apollo(per="row"), "per is 'row'"),
        (lambda: gradtx.scale_by_apollo(scale=-1.0), "scale is -1.0"),
    ],
)
def test_arguments_that_are_refused(make: Callable[[], Any], seen: str) -> None:
    with pytest.raises(ValueError, match=seen):
        make()


@over_links
def test_transposed_arrays_get_the_transposed_update(name: str, x64: None) -> None:
    """Kernels (in, out) and (out, in) move alike, by what their axes are said to be."""
    gs = normal(0, 4, 3, 4)
    u = steps(LINKS[name](axes=Axes("io")), gs, gs[0])
    other = steps(LINKS[name](axes=Axes("oi")), gs.mT, gs[0].T)
    np.testing.assert_allclose(u, other.mT, rtol=1e-10, atol=1e-12)


@over_links
@pytest.mark.parametrize("letters", ["io", "oi"])
def test_a_stack_is_its_layers(name: str, letters: str, x64: None) -> None:
    """One array of three layers does as the list of them; layers at rest are among them."""
    assert_stack_is_list(lambda axes: LINKS[name](axes=axes), letters, seed=4)


@over_links
def test_the_memory_is_that_of_the_rank(name: str) -> None:
    """Moments are rank x the longer side, whichever that is: Optax keeps the shorter one."""
    for shape in ((30, 7), (7, 30)):
        state = LINKS[name](rank=2).init(jnp.zeros(shape))
        sizes = [x.size for x in jax.tree.leaves((state.mu, state.nu))]
        assert sizes == [60, 60]


def test_full_rank_galore_is_adam_in_a_rotated_basis(x64: None) -> None:
    """With all directions and one basis: scale P adam(P^T G), here P of the first gradient."""
    gs = normal(1, 6, 3, 4)
    u = steps(gradtx.scale_by_galore(scale=0.5), gs, gs[0])
    basis = jnp.asarray(np.linalg.svd(np.asarray(gs[0]))[0])
    adam = steps(gradtx.scale_by_adam(), basis.T @ gs, gs[0])
    np.testing.assert_allclose(u, 0.5 * basis @ adam, rtol=1e-10, atol=1e-12)


def test_updates_stay_in_the_span_and_the_signs_of_the_old_basis(x64: None) -> None:
    """Two directions at a time. A gradient with the same ones, negated, changes no basis."""
    gs = normal(2, 4, 4, 5)
    u = steps(gradtx.scale_by_galore(rank=2), gs, gs[0])
    assert np.linalg.matrix_rank(np.asarray(u).reshape(4, 4, 5)).tolist() == [2] * 4
    together = np.concatenate(np.asarray(u), axis=1)
    assert np.linalg.matrix_rank(together) == 2
    tx = gradtx.scale_by_galore(rank=2, every=1)
    _, state = tx.update(gs[0], tx.init(gs[0]))
    for factor in (-1.0, 2.0):
        _, again = tx.update(factor * gs[0], state)
        np.testing.assert_allclose(again.basis, state.basis, atol=1e-12)


def test_galore_is_equivariant(x64: None) -> None:
    """U(Q G) = Q U(G) along the shorter side, whose basis the gradient finds."""
    gs, q = normal(3, 5, 3, 4), jnp.linalg.qr(normal(4, 3, 3))[0]
    u, turned = (steps(LINKS["galore"](), x, gs[0]) for x in (gs, q @ gs))
    # The first basis is the same but for its signs, which the moments do not see.
    np.testing.assert_allclose(turned, q @ u, atol=1e-10)


def test_apollo_moves_along_the_gradient(x64: None) -> None:
    """Every channel is the gradient's times a number; Mini has one number for all."""
    gs = normal(5, 4, 3, 5)
    ratio = np.asarray(steps(LINKS["apollo"](), gs, gs[0]) / gs)
    np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones((1, 3, 1)), rtol=1e-10)
    assert np.ptp(ratio, axis=2).min() > 1e-3
    ratio = np.asarray(steps(LINKS["apollo mini"](), gs, gs[0]) / gs)
    np.testing.assert_allclose(ratio, ratio[:, :1, :1] * np.ones((1, 3, 5)), rtol=1e-10)


def test_norms_grow_slowly_but_start_anew_after_zeros(x64: None) -> None:
    """At most 1.01 a step; after an update of zeros there is nothing to measure growth with."""
    gs = jnp.concatenate([normal(6, 5, 2, 3), jnp.zeros((2, 2, 3)), normal(7, 2, 2, 3)])
    sizes = np.linalg.norm(steps(gradtx.scale_by_apollo(), gs, gs[0]), axis=(1, 2))
    assert (sizes[1:5] <= 1.01 * sizes[:4] * (1 + 1e-12)).all()
    assert not sizes[5:7].any()
    assert sizes[7] > 0.1


@over_links
def test_matrices_of_zeros(name: str) -> None:
    """Zero gradients give zeros, finite for ever, with derivatives that are finite."""
    tx, zeros = LINKS[name](), jnp.zeros((2, 3), jnp.float16)
    assert not steps(tx, jnp.stack([zeros] * 3), zeros).any()

    def total(tx: Any, gs: jax.Array) -> jax.Array:
        return jnp.sum(steps(tx, gs, gs[0])[-1])

    slopes = jax.jit(jax.grad(total, (0, 1), allow_int=True))
    for g in (jnp.zeros((2, 2)), jnp.eye(2), jnp.ones((2, 2))):
        for x in jax.tree.leaves(slopes(tx, jnp.broadcast_to(g, (3, 2, 2)))):
            assert x.dtype == jax.dtypes.float0 or jnp.isfinite(x).all()
