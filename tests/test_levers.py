"""Levers, decays and projections: identities, variants, sets reached."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import PARAMS, error, run, trajectory
from reference.formula import each
from reference.levers import REFERENCES, cautious_adam, floor_by_weight, hyperball, radial_brake

import gradtx
from gradtx import Axes


def normal(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def updated(tx: Any, g: Any, p: Any) -> Any:
    return tx.update(g, tx.init(p), p)[0]


# Arguments -------------------------------------------------------------------------------------

VARIANTS = {
    "cautious": (
        lambda: gradtx.cautious(gradtx.scale_by_adam(0.8, 0.9, 0.1), floor=0.7),
        each(cautious_adam),
        {"floor": 0.7, "b1": 0.8, "b2": 0.9, "eps": 0.1},
        -0.05,
    ),
    "cautious decay": (
        lambda: gradtx.add_cautious_decay(0.7),
        REFERENCES["add_cautious_decay"],
        {"weight_decay": 0.7},
        -0.05,
    ),
    "hyperball": (lambda: gradtx.hyperball(0.05), each(hyperball), {"learning_rate": 0.05}, 1.0),
    "floor": (lambda: gradtx.floor_by_weight(2.0), each(floor_by_weight), {"ratio": 2.0}, -0.05),
    "brake": (lambda: gradtx.radial_brake(0.1), each(radial_brake), {"keep": 0.1}, -0.05),
    **{
        name: (
            lambda name=name: getattr(gradtx, name)(scale=0.6),
            REFERENCES[name],
            {"scale": 0.6},
            -0.05,  # at a vertex a full step would move nothing but a rounding
        )
        for name in ("projection_simplex", "projection_l1_ball", "projection_l2_ball")
    },
    "projection_box": (
        lambda: gradtx.projection_box(-0.2, upper=0.5),
        REFERENCES["projection_box"],
        {"lower": -0.2, "upper": 0.5},
        1.0,
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_arguments(name: str, x64: None) -> None:
    """Other arguments than those of the rows, for a hundred steps."""
    build, reference, hyper, along = VARIANTS[name]
    got = run({name: build}, jnp.dtype("float64"), {name: along})[name]
    assert error(got, trajectory(reference, False, along, **hyper)) < 1e-12


# Cautious --------------------------------------------------------------------------------------


def test_cautious_around_a_parallel_direction_is_the_direction() -> None:
    """Where u is parallel to g nothing is masked."""
    g = {"a": normal(0, 5, 3), "b": normal(1, 4)}
    found = updated(gradtx.cautious(gradtx.scale(0.3)), g, g)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, 0.3 * y, rtol=1e-6), found, g)


def test_cautious_around_a_complete_optimizer() -> None:
    """With `descends` the signs are those of a step down: minus the rate times the direction."""
    p = {"a": normal(0, 5, 3)}
    direction = gradtx.chain(gradtx.cautious(gradtx.scale_by_adam()), gradtx.scale(-0.1))
    complete = gradtx.cautious(gradtx.adam(0.1), descends=True)
    states = [direction.init(p), complete.init(p)]
    for seed in range(1, 5):
        g = {"a": normal(seed, 5, 3)}
        one, states[0] = direction.update(g, states[0], p)
        other, states[1] = complete.update(g, states[1], p)
        np.testing.assert_allclose(one["a"], other["a"], rtol=1e-6)


def test_cautious_masks_what_disagrees() -> None:
    """After the gradient turned, momentum that still points the old way is not used."""
    tx = gradtx.cautious(gradtx.scale_by_momentum(0.9))
    state = tx.init(jnp.zeros(4))
    _, state = tx.update(jnp.ones(4), state)
    u, _ = tx.update(jnp.array([1.0, 1.0, -0.1, -0.1]), state)
    np.testing.assert_allclose(u, [3.8, 3.8, 0, 0], rtol=1e-6)


# Decays ----------------------------------------------------------------------------------------


def test_decays_are_one_for_a_constant_learning_rate() -> None:
    """Corrected is the usual decay, independent the usual one over the learning rate."""
    g, p = normal(0, 5, 3), normal(1, 5, 3)
    usual = updated(gradtx.add_decayed_weights(0.2), g, p)
    for other in (
        gradtx.add_corrected_decay(0.05, peak_learning_rate=0.05, weight_decay=0.2),
        gradtx.add_independent_decay(0.05, weight_decay=0.2 * 0.05),
    ):
        np.testing.assert_allclose(updated(other, g, p), usual, rtol=1e-6)
    np.testing.assert_allclose(updated(gradtx.add_cautious_decay(0.2), p, p), 1.2 * p, rtol=1e-6)
    np.testing.assert_allclose(updated(gradtx.add_cautious_decay(0.2), -p, p), -p)


def test_shrinkage_over_a_schedule() -> None:
    """With zero gradients p shrinks by w lr / peak, and by w lr^2 / peak."""
    rate, peak, w = gradtx.linear_schedule(0.4, 0.0, 4), 0.4, 0.1
    rates = np.array([0.4, 0.3, 0.2, 0.1])
    for link, shrinkage in (
        (gradtx.add_independent_decay(peak, weight_decay=w), w * rates / peak),
        (
            gradtx.add_corrected_decay(rate, peak_learning_rate=peak, weight_decay=w),
            w * rates**2 / peak,
        ),
    ):
        tx, p = gradtx.chain(link, gradtx.scale_by_learning_rate(rate)), jnp.ones(())
        state, seen = tx.init(p), []
        for _ in range(4):
            before = p
            p, state = tx.step(jnp.zeros(()), state, p)
            seen.append(1 - float(p / before))
        np.testing.assert_allclose(seen, shrinkage, atol=1e-6)


def test_decay_to_the_start_from_shapes() -> None:
    """The start is that of the first step, so a state made from shapes knows it too."""
    tx, p = gradtx.add_decay_to_start(0.5), jnp.array([1.0, 2.0])
    state = tx.init(jax.ShapeDtypeStruct((2,), jnp.float32))
    for moved, expected in ((0.0, 0.0), (1.0, 0.5), (-2.0, -1.0)):
        u, state = tx.update(jnp.zeros(2), state, p + moved)
        np.testing.assert_allclose(u, [expected] * 2)


# Norms -----------------------------------------------------------------------------------------


def test_hyperball_keeps_the_norm_for_a_thousand_steps() -> None:
    """To 1e-6, in float32, whatever the gradients."""
    p = normal(0, 16, 8)
    tx, start = gradtx.hyperball(0.05), float(jnp.linalg.norm(p))

    def step(carry: Any, key: Any) -> Any:
        p, state = carry
        g = 0.3 * p + jax.random.normal(key, p.shape)
        p, state = tx.step(g, state, p)
        return (p, state), jnp.linalg.norm(p)

    keys = jax.random.split(jax.random.key(1), 1000)
    _, norms = jax.lax.scan(step, (p, tx.init(p)), keys)
    np.testing.assert_allclose(norms, start, rtol=1e-6)


@pytest.mark.parametrize("rate", [1e-3, 1e-2])
def test_the_relative_step_of_hyperball_is_the_learning_rate(rate: float, x64: None) -> None:
    """To first order, whatever the size of the gradient."""
    p, g = np.array(normal(0, 16, 8), float), np.array(normal(1, 16, 8), float)
    g -= (g * p).sum() / (p * p).sum() * p  # along the sphere
    for size in (1e-6, 1.0, 1e6):
        u = updated(gradtx.hyperball(rate), jnp.asarray(size * g), jnp.asarray(p))
        assert np.linalg.norm(u) / np.linalg.norm(p) == pytest.approx(rate, rel=rate**2)


LEVERS = {
    "hyperball": lambda axes: gradtx.hyperball(0.1, axes=axes),
    "radial_brake": lambda axes: gradtx.radial_brake(axes=axes),
    "floor_by_weight": lambda axes: gradtx.floor_by_weight(2.0, axes=axes),
    "cautious": lambda axes: gradtx.cautious(gradtx.scale_by_adam(), axes=axes),
    "projection_simplex": lambda axes: gradtx.projection_simplex(axes=axes),
    "projection_l1_ball": lambda axes: gradtx.projection_l1_ball(axes=axes),
    "projection_l1_sphere": lambda axes: gradtx.projection_l1_sphere(axes=axes),
    "proximal_group": lambda axes: gradtx.proximal_group(1.0, learning_rate=1.0, axes=axes),
    "proximal_nuclear": lambda axes: gradtx.proximal_nuclear(0.5, learning_rate=1.0, axes=axes),
    "projection_l2_ball": lambda axes: gradtx.projection_l2_ball(axes=axes),
    "projection_l2_sphere": lambda axes: gradtx.projection_l2_sphere(axes=axes),
}


@pytest.mark.parametrize("name", LEVERS)
def test_a_stack_is_a_list(name: str) -> None:
    """Stacked matrices give what a list of matrices gives."""
    g, p = normal(0, 3, 4, 5), normal(1, 3, 4, 5)
    stacked, one = LEVERS[name](Axes("bio")), LEVERS[name](Axes("io"))
    found, state = stacked.update(g, stacked.init(p), p)
    found, _ = stacked.update(p, state, p + found)
    for i in range(3):
        u, state = one.update(g[i], one.init(p[i]), p[i])
        u, _ = one.update(p[i], state, p[i] + u)
        np.testing.assert_allclose(found[i], u, rtol=2e-5, atol=1e-6)


def test_rows_need_axes() -> None:
    """More than two axes are not guessed at."""
    p = jnp.ones((2, 3, 4))
    with pytest.raises(ValueError, match="Give axes"):
        updated(gradtx.floor_by_weight(), p, p)


# Projections -----------------------------------------------------------------------------------

VERTICES = {  # of sets of which every point is a mean of them
    "projection_simplex": (gradtx.projection_simplex(1.5), 1.5 * np.eye(6)),
    "projection_l1_ball": (
        gradtx.projection_l1_ball(1.5),
        1.5 * np.concatenate([np.eye(6), -np.eye(6)]),
    ),
    "projection_linf_ball": (
        gradtx.projection_linf_ball(0.7),
        0.7 * (2.0 * ((np.arange(64)[:, None] >> np.arange(6)) & 1) - 1),
    ),
    "projection_box": (
        gradtx.projection_box(-0.2, upper=0.5),
        0.7 * ((np.arange(64)[:, None] >> np.arange(6)) & 1) - 0.2,
    ),
}
SETS = {
    **{name: tx for name, (tx, _) in VERTICES.items()},
    "keep_params_nonnegative": gradtx.keep_params_nonnegative(),
    "projection_l2_ball": gradtx.projection_l2_ball(0.9),
    "projection_l2_sphere": gradtx.projection_l2_sphere(0.9),
}


@pytest.mark.parametrize("name", VERTICES)
def test_no_point_of_the_set_is_nearer(name: str, x64: None) -> None:
    """(x - P x, v - P x) <= 0 for every vertex v, which only the projection has; P x is inside."""
    tx, vertices = VERTICES[name]
    random = np.random.default_rng(0)
    for size in (0.1, 1.0, 10.0) * 20:
        p, g = random.normal(size=(2, 6)) * size
        reached = p + np.asarray(updated(tx, jnp.asarray(g), jnp.asarray(p)))
        angles = (vertices - reached) @ (p + g - reached)
        assert angles.max() < 1e-12 * max(size, 1) ** 2
        # Inside: no linear function is larger there than at all vertices.
        for direction in random.normal(size=(50, 6)):
            assert direction @ reached <= (vertices @ direction).max() + 1e-12


@pytest.mark.parametrize("name", SETS)
def test_projections_are_idempotent(name: str, x64: None) -> None:
    """In the set nothing moves, and an update that stays in it passes."""
    tx = SETS[name]
    for seed in range(20):
        p, g = normal(seed, 6), normal(seed + 100, 6)
        inside = p + updated(tx, g, p)
        again = updated(tx, jnp.zeros(6), inside)
        np.testing.assert_allclose(again, np.zeros(6), atol=1e-15)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (gradtx.projection_simplex(1.5), lambda x: optax.projections.projection_simplex(x, 1.5)),
        (gradtx.projection_l1_ball(1.5), lambda x: optax.projections.projection_l1_ball(x, 1.5)),
        (gradtx.projection_l2_ball(0.9), lambda x: optax.projections.projection_l2_ball(x, 0.9)),
        (
            gradtx.projection_l2_sphere(0.9),
            lambda x: optax.projections.projection_l2_sphere(x, 0.9),
        ),
        (
            gradtx.projection_linf_ball(0.9),
            lambda x: optax.projections.projection_linf_ball(x, 0.9),
        ),
        (
            gradtx.projection_box(-0.2, upper=0.5),
            lambda x: optax.projections.projection_box(x, -0.2, 0.5),
        ),
        (gradtx.keep_params_nonnegative(), optax.projections.projection_non_negative),
    ],
    ids=lambda x: type(x).__name__,
)
def test_projections_of_optax(ours: Any, theirs: Any, x64: None) -> None:
    """What is reached is what Optax's function makes of the sum."""
    for seed in range(10):
        p, g = normal(seed, 6), normal(seed + 100, 6)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            expected = theirs(p + g)
        np.testing.assert_allclose(p + updated(ours, g, p), expected, atol=1e-12)


def test_nonnegative_parameters_are_never_below_zero() -> None:
    """Not by a rounding: in bfloat16 too, zero is reached exactly."""
    tx = gradtx.chain(gradtx.sgd(0.3), gradtx.keep_params_nonnegative())
    p = jnp.abs(normal(0, 100)).astype(jnp.bfloat16)
    state = tx.init(p)
    for seed in range(1, 20):
        p, state = tx.step(normal(seed, 100).astype(jnp.bfloat16), state, p)
        assert (p >= 0).all()
    assert (p == 0).any()


def test_a_box_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(ValueError, match="above upper"):
        gradtx.projection_box(1.0, upper=-1.0)


def test_the_problem_has_both_arrays() -> None:
    """The variants above ran on a matrix and on a scalar."""
    assert {np.ndim(p) for p in PARAMS[False].values()} == {0, 2}
