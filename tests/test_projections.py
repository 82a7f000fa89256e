"""Projections as functions of a tree: in the set, nearest, and the same as the links."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws.cases import compilations, refused

import gradtx as gx
from gradtx import projections

SHAPES = {"a": (3,), "b": {"c": (2, 2), "d": ()}}  # eight numbers
ENTRIES = 8
NORMAL = np.random.default_rng(5).normal(size=ENTRIES)


def shaped(x: Any) -> Any:
    """Eight numbers as a tree."""
    x = jnp.asarray(x)
    return {"a": x[:3], "b": {"c": x[3:7].reshape(2, 2), "d": x[7]}}


def row(tree: Any) -> Any:
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


class Set(NamedTuple):
    project: Callable[[Any], Any]  # of a tree
    holds: Callable[[Any], Any]  # what is at most zero in the set, of a vector
    points: Callable[[Any], Any]  # some points of it, from a generator
    optax: Callable[[Any], Any]
    convex: bool = True


def cube(rng: Any, low: Any, high: Any) -> Any:
    """Points and vertices of a box."""
    inside = rng.uniform(low, high, size=(20, ENTRIES))
    return np.concatenate([inside, np.where(rng.random((40, ENTRIES)) < 0.5, low, high)])


def mixtures(rng: Any, signed: bool) -> Any:
    """Points and vertices of the simplex, or of the l1 sphere."""
    points = np.concatenate([rng.dirichlet(np.ones(ENTRIES), size=30), np.eye(ENTRIES)])
    return np.concatenate([points, -points]) if signed else points


def directions(rng: Any) -> Any:
    points = rng.normal(size=(60, ENTRIES))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def on_plane(rng: Any) -> Any:
    points = 3 * rng.normal(size=(60, ENTRIES))
    return points - np.outer(points @ NORMAL - 0.7, NORMAL) / (NORMAL @ NORMAL)


P = optax.projections
SETS = {
    "box": Set(
        lambda x: projections.box(x, -0.2, 0.5),
        lambda x: np.max(np.maximum(x - 0.5, -0.2 - x)),
        lambda rng: cube(rng, -0.2, 0.5),
        lambda x: jax.tree.map(lambda x: P.projection_box(x, -0.2, 0.5), x),
    ),
    "hypercube": Set(
        lambda x: projections.hypercube(x, 1.5),
        lambda x: np.max(np.maximum(x - 1.5, -x)),
        lambda rng: cube(rng, 0, 1.5),
        lambda x: jax.tree.map(lambda x: P.projection_hypercube(x, 1.5), x),
    ),
    "non_negative": Set(
        projections.non_negative,
        lambda x: np.max(-x),
        lambda rng: cube(rng, 0, 4),
        P.projection_non_negative,
    ),
    "linf_ball": Set(
        lambda x: projections.linf_ball(x, 0.7),
        lambda x: np.max(np.abs(x)) - 0.7,
        lambda rng: cube(rng, -0.7, 0.7),
        lambda x: P.projection_linf_ball(x, 0.7),
    ),
    "simplex": Set(
        lambda x: projections.simplex(x, 1.5),
        lambda x: max(np.max(-x), abs(np.sum(x) - 1.5)),
        lambda rng: 1.5 * mixtures(rng, False),
        lambda x: P.projection_simplex(x, 1.5),
    ),
    "l1_ball": Set(
        lambda x: projections.l1_ball(x, 1.5),
        lambda x: np.sum(np.abs(x)) - 1.5,
        lambda rng: 1.5 * mixtures(rng, True),
        lambda x: P.projection_l1_ball(x, 1.5),
    ),
    "l1_sphere": Set(
        lambda x: projections.l1_sphere(x, 1.5),
        lambda x: abs(np.sum(np.abs(x)) - 1.5),
        lambda rng: 1.5 * mixtures(rng, True),
        lambda x: P.projection_l1_sphere(x, 1.5),
        convex=False,
    ),
    "l2_ball": Set(
        lambda x: projections.l2_ball(x, 0.9),
        lambda x: np.linalg.norm(x) - 0.9,
        lambda rng: 0.9 * directions(rng),
        lambda x: P.projection_l2_ball(x, 0.9),
    ),
    "l2_sphere": Set(
        lambda x: projections.l2_sphere(x, 0.9),
        lambda x: abs(np.linalg.norm(x) - 0.9),
        lambda rng: 0.9 * directions(rng),
        lambda x: P.projection_l2_sphere(x, 0.9),
        convex=False,
    ),
    "half_space": Set(
        lambda x: projections.half_space(x, shaped(NORMAL), 0.7),
        lambda x: x @ NORMAL - 0.7,
        lambda rng: on_plane(rng) - rng.random((60, 1)) * NORMAL,
        lambda x: P.projection_halfspace(x, shaped(NORMAL), 0.7),
    ),
    "hyperplane": Set(
        lambda x: projections.hyperplane(x, shaped(NORMAL), 0.7),
        lambda x: abs(x @ NORMAL - 0.7),
        on_plane,
        lambda x: P.projection_hyperplane(x, shaped(NORMAL), 0.7),
    ),
    "vector": Set(
        lambda x: projections.vector(x, shaped(NORMAL)),
        lambda x: np.linalg.norm(x - x @ NORMAL / (NORMAL @ NORMAL) * NORMAL),
        lambda rng: np.outer(rng.normal(size=60), NORMAL),
        lambda x: P.projection_vector(x, shaped(NORMAL)),
    ),
}


def starts(rng: Any) -> Any:
    return np.concatenate([size * rng.normal(size=(8, ENTRIES)) for size in (0.05, 1.0, 10.0)])


@pytest.mark.parametrize("name", SETS)
def test_the_nearest_point_of_the_set(name: str, x64: None) -> None:
    """In the set, and <x - P x, y - P x> <= 0 for every point y of a convex one; of others none is
    nearer. Once there, it stays."""
    rng, one = np.random.default_rng(0), SETS[name]
    project = jax.jit(one.project)
    for x in starts(rng):
        reached = row(project(shaped(x)))
        room = 1e-12 * (1 + np.abs(x).max())
        assert one.holds(reached) < room
        points = one.points(rng)
        assert max(map(one.holds, points)) < 1e-12  # the oracle's own
        if one.convex:
            assert ((points - reached) @ (x - reached)).max() < room * (1 + np.abs(x).max())
        else:
            away = np.linalg.norm(points - x, axis=1)
            assert np.linalg.norm(reached - x) < away.min() + room
        np.testing.assert_allclose(row(project(shaped(reached))), reached, atol=room)


@pytest.mark.parametrize("name", SETS)
def test_optax_has_the_same(name: str, x64: None) -> None:
    """Of a tree as one vector."""
    one = SETS[name]
    theirs, ours = jax.jit(one.optax), jax.jit(one.project)
    for x in starts(np.random.default_rng(1)):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            expected = theirs(shaped(x))
        np.testing.assert_allclose(row(ours(shaped(x))), row(expected), atol=1e-11)


LINKS = {
    "box": gx.projection_box(-0.2, upper=0.5),
    "hypercube": gx.projection_hypercube(1.5),
    "non_negative": gx.keep_params_nonnegative(),
    "linf_ball": gx.projection_linf_ball(0.7),
    "simplex": gx.projection_simplex(1.5),
    "l1_ball": gx.projection_l1_ball(1.5),
    "l1_sphere": gx.projection_l1_sphere(1.5),
    "l2_ball": gx.projection_l2_ball(0.9),
    "l2_sphere": gx.projection_l2_sphere(0.9),
    "half_space": gx.projection_half_space(gx.along(NORMAL, 0), offset=0.7),
    "hyperplane": gx.projection_hyperplane(gx.along(NORMAL, 0), offset=0.7),
}


@pytest.mark.parametrize("name", LINKS)
def test_links_reach_what_functions_find(name: str, x64: None) -> None:
    """For one array; an update that stays in the set passes to the last bit."""
    tx, project = LINKS[name], SETS[name].project
    for k, x in enumerate(starts(np.random.default_rng(2))):
        p = 0.3 * np.random.default_rng(k).normal(size=ENTRIES)
        u, _ = tx.update(jnp.asarray(x - p), tx.init(x), jnp.asarray(p))
        expected = row(project(shaped(p + (x - p))))
        np.testing.assert_allclose(p + u, expected, atol=1e-12)
    flat = jnp.zeros(ENTRIES)
    inside = flat + tx.update(flat, tx.init(flat), flat)[0]
    again, _ = tx.update(flat, tx.init(flat), inside)
    np.testing.assert_allclose(again, flat, atol=1e-15)


MODULI = [name for name in SETS if name not in ("half_space", "hyperplane", "vector")]


@pytest.mark.parametrize("name", MODULI)
def test_complex_arrays_hold_moduli(name: str, x64: None) -> None:
    """The moduli are projected, and the phases stay."""
    project = SETS[name].project
    for x in starts(np.random.default_rng(3))[::3]:
        phases = np.exp(2j * np.pi * np.random.default_rng(0).random(ENTRIES))
        found = row(project(shaped(np.abs(x) * phases)))
        expected = row(project(shaped(np.abs(x))))
        np.testing.assert_allclose(found, expected * phases, atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1, 0])
@pytest.mark.parametrize("one_sided", [True, False])
def test_planes_of_moduli(sign: int, one_sided: bool, x64: None) -> None:
    """Moduli r >= 0 with <a, r> = b or <= b, beside real entries: the nearest by its conditions.

    r - t a where that is positive, else zero, with one t, which for a half-space is not negative.
    """
    rng = np.random.default_rng(0)
    project = projections.half_space if one_sided else projections.hyperplane
    for k in range(30):
        z, x = rng.normal(size=4) + 1j * rng.normal(size=4), rng.normal(size=3)
        a, b = rng.normal(size=4), rng.normal(size=3)
        if sign:  # without real entries it may be that nothing but zero is near
            a = sign * np.abs(a)
        normal = {"z": jnp.asarray(a), "x": jnp.asarray(b)}
        level = float(3 * rng.normal())
        found = jax.tree.map(
            np.asarray, project({"z": jnp.asarray(z), "x": jnp.asarray(x)}, normal, level)
        )
        r = np.abs(found["z"])
        np.testing.assert_allclose(found["z"], r * z / np.abs(z), atol=1e-12)
        t = (x - found["x"]) @ b / (b @ b)
        np.testing.assert_allclose(found["x"], x - t * b, atol=1e-12)
        np.testing.assert_allclose(r, np.maximum(np.abs(z) - t * a, 0), atol=1e-12)
        reached = r @ a + found["x"] @ b
        if one_sided and np.abs(z) @ a + x @ b <= level:
            assert t == 0, k
        else:
            assert reached == pytest.approx(level, abs=1e-10), k
            assert t > 0 or not one_sided


def test_planes_that_no_moduli_reach(x64: None) -> None:
    """Zero is nearest to a negative sum of moduli; a normal of zeros moves nothing."""
    z = jnp.asarray([3 + 4j, 1j])
    np.testing.assert_array_equal(projections.hyperplane(z, 1.0, -2.0), [0, 0])
    np.testing.assert_array_equal(projections.half_space(z, 1.0, -2.0), [0, 0])
    np.testing.assert_array_equal(projections.half_space(z, 0.0, -2.0), z)
    np.testing.assert_array_equal(projections.hyperplane(z, 0.0, 2.0), z)
    np.testing.assert_allclose(projections.hyperplane(z, -1.0, -2.0), [(3 + 4j) * 2 / 5, 0])


def test_a_complex_normal_is_one_of_both_parts(x64: None) -> None:
    rng = np.random.default_rng(0)
    z, a = (rng.normal(size=4) + 1j * rng.normal(size=4) for _ in range(2))

    def pair(z: Any) -> Any:
        return jnp.stack([z.real, z.imag])

    for project in (
        lambda x, a: projections.half_space(x, a, -3.0),
        lambda x, a: projections.hyperplane(x, a, 0.7),
        projections.vector,
    ):
        np.testing.assert_allclose(
            pair(project({"z": jnp.asarray(z)}, {"z": jnp.asarray(a)})["z"]),
            project(pair(jnp.asarray(z)), pair(jnp.asarray(a))),
            rtol=1e-12,
        )
    refused(lambda: projections.hyperplane(jnp.ones(2), jnp.asarray([1j, 1]), 0.0), "real part")


@pytest.mark.parametrize("name", SETS)
def test_other_leaves_and_dtypes(name: str) -> None:
    """bfloat16 is computed with in float32; empty arrays, integers and `None` pass."""
    project = SETS[name].project
    x = np.random.default_rng(0).normal(size=ENTRIES).astype(jnp.bfloat16)
    if name in MODULI:
        tree = {**shaped(x), "n": 3, "none": None, "empty": jnp.zeros((0, 2))}
        found = project(tree)
        assert found["n"] == 3
        assert found["none"] is None
        assert found["empty"].shape == (0, 2)
        assert project({"empty": jnp.zeros((0, 2))})["empty"].shape == (0, 2)
        assert project({}) == {}
        found = {k: found[k] for k in ("a", "b")}
    else:
        found = project(shaped(x))
    wide = project(shaped(x.astype(np.float32)))
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), wide)
    assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(found))
    np.testing.assert_array_equal(row(found), row(narrow))


def test_large_and_small_entries_keep_their_direction() -> None:
    """Norms neither overflow nor underflow."""
    for scale in (1e30, 1e-30):
        x = {"a": jnp.asarray([3 * scale, 4 * scale], jnp.float32)}
        found = projections.l2_sphere(x, 5.0)["a"]
        np.testing.assert_allclose(found, [3, 4], rtol=1e-6)
        plane = projections.hyperplane(x, x, 0.0)["a"]
        np.testing.assert_allclose(plane / scale, [0, 0], atol=1e-6)


def test_numbers_may_be_traced_and_trees_given() -> None:
    x = {"a": jnp.asarray([-2.0, 2.0]), "b": jnp.asarray([3.0])}
    found = jax.jit(projections.l2_ball)(x, 0.5)
    for name in ("simplex", "l1_ball", "l1_sphere", "l2_ball", "l2_sphere", "linf_ball"):
        wide = getattr(projections, name)(x, np.float64(0.5))
        narrow = getattr(projections, name)(x, jnp.bfloat16(0.5))
        jax.tree.map(np.testing.assert_array_equal, wide, narrow)
    np.testing.assert_allclose(row(found), 0.5 * row(x) / np.linalg.norm(row(x)), rtol=1e-6)
    boxed = projections.box(x, {"a": jnp.asarray([-1.0, 0.0]), "b": 4.0}, jnp.inf)
    np.testing.assert_array_equal(row(boxed), [-1, 2, 4])
    slopes = jax.grad(lambda s: sum(map(jnp.sum, projections.l1_ball(x, s).values())))(1.0)
    assert np.isfinite(slopes)
    zero = jax.tree.map(jnp.zeros_like, x)
    for name in ("simplex", "l1_ball", "l1_sphere", "l2_ball", "l2_sphere", "linf_ball"):
        of = getattr(projections, name)
        slopes = jax.grad(lambda x, of=of: jnp.sum(of(x)["a"] * x["a"]))(zero)
        assert np.isfinite(row(slopes)).all()


def test_a_call_is_one_compiled_function() -> None:
    """Of any numbers, and of other trees of the same arrays."""
    x = {"a": jnp.ones(3), "b": {"c": jnp.ones((2, 2))}}
    normal = jnp.ones(())
    for call in (
        lambda x, s: projections.simplex(x, s),
        lambda x, s: projections.hyperplane(x, normal, s),
        lambda x, s: gx.proximal.group(x, s),
        lambda x, s: gx.proximal.nuclear({"w": x["b"]["c"]}, s, axes=gx.Axes("oi")),
    ):
        with compilations() as first:
            call(x, 0.5)
        with compilations() as second:
            call(x, 0.7)
        assert (len(first), len(second)) == (1, 0)


def test_scale_zero_is_one_point() -> None:
    x = {"a": jnp.asarray([-2.0, 0.0, 3.0])}
    for name in ("simplex", "l1_ball", "l1_sphere", "l2_ball", "l2_sphere", "linf_ball"):
        for of in (x, jax.tree.map(jnp.zeros_like, x)):
            np.testing.assert_array_equal(getattr(projections, name)(of, 0.0)["a"], [0, 0, 0])


def test_what_is_refused() -> None:
    x = {"a": jnp.ones(2)}
    refused(lambda: projections.simplex(x, -1.0), "projections.simplex", "scale is -1.0")
    refused(lambda: projections.l2_ball(x, jnp.ones(2)), "scale has shape [2]", "one number")
    refused(lambda: projections.half_space(x, {"b": 1.0}, 0.0), "half_space", "'a'")
    refused(lambda: projections.half_space(x, 1.0, jnp.ones(3)), "offset has shape [3]")


def test_on_explicit_meshes() -> None:
    """What comes out lies as what came in."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    spec = jax.sharding.PartitionSpec("x")
    plain = {"a": jnp.arange(16.0) - 5, "b": jnp.ones(())}
    with jax.set_mesh(mesh):
        x = {**plain, "a": jax.device_put(plain["a"], jax.NamedSharding(mesh, spec))}
        for name in ("simplex", "l1_ball", "l2_sphere", "linf_ball"):
            of = getattr(projections, name)
            found = jax.jit(of)(x)
            assert found["a"].sharding.spec == spec
            np.testing.assert_allclose(row(found), row(of(plain)), rtol=1e-6)


@pytest.mark.parametrize("name", ["l1_ball", "l2_ball", "linf_ball"])
def test_inside_of_a_ball_the_derivative_is_one(name: str) -> None:
    """At zero too, where thresholding bends."""
    of = getattr(projections, name)
    for x in (0.0, 0.25, -0.25):
        assert float(jax.grad(of)(x)) == 1.0
    jacobian = jax.jacobian(of)(jnp.asarray([0.0, 0.5, -0.25]))
    np.testing.assert_array_equal(jacobian, np.eye(3))
