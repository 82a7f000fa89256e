"""What is drawn belongs to the place of a part, the array and the step; no seed is narrowed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import assert_same

import gradtx as gx

P = {"w": jnp.zeros((40, 50))}


def noise(tx: Any, params: Any = P, steps: int = 1, **more: Any) -> Any:
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(params, state, params, **more)
    return updates


def test_two_parts_of_an_optimizer_draw_different_numbers() -> None:
    """Two equal links add twice the variance, not four times."""
    one = gx.add_noise(1.0, 0.0)
    variance = float(jnp.var(noise(gx.chain(one, one))["w"]))
    assert 1.8 < variance < 2.2
    groups = gx.partition({"a": one, "b": one})
    found = noise(groups, {"a": jnp.zeros(100), "b": jnp.zeros(100)})
    assert (found["a"] != found["b"]).all()
    inside = gx.chain(one, gx.ema(one))
    assert 1.8 < float(jnp.var(noise(inside)["w"])) < 2.2


def test_private_noise_is_not_that_of_add_noise() -> None:
    """A public default or another link must not give it away."""
    private = gx.differentially_private_aggregate(1.0, 1.0, key=0, per_example=False)
    assert (noise(private)["w"] != noise(gx.add_noise(1.0, 0.0))["w"]).all()
    with pytest.raises(TypeError, match="key"):
        gx.differentially_private_aggregate(1.0, 1.0)  # pyright: ignore[reportCallIssue]


SEEDED = {
    "add_noise": lambda seed: gx.add_noise(1.0, key=seed),
    "private": lambda seed: gx.differentially_private_aggregate(
        1.0, 1.0, key=seed, per_example=False
    ),
    "kron": lambda seed: gx.scale_by_kron(seed=seed, learn=1.0),
    "apollo": lambda seed: gx.scale_by_apollo(seed=seed, rank=2),
    "rounding": lambda seed: gx.stochastic_rounding(gx.sgd(0.1), key=seed),
}
SEEDS = (0, 16777216, 16777217, 2**31, 2**40, 2**40 + 1, -1, jax.random.key(7))


@pytest.mark.parametrize("name", SEEDED)
def test_every_seed_counts(name: str) -> None:
    """Seeds that are one float32, or that int32 has not, give results of their own."""
    narrow = name == "rounding"
    params = {
        "w": jnp.linspace(0.5, 1.5, 2000, dtype="bfloat16" if narrow else None).reshape(40, 50)
    }
    found = [np.asarray(noise(SEEDED[name](s), params, steps=2)["w"], float) for s in SEEDS]
    for i, x in enumerate(found):
        assert np.isfinite(x).all()
        assert all((x != y).any() for y in found[:i]), SEEDS[i]


def test_an_integer_and_its_key_are_the_same() -> None:
    expected = noise(gx.add_noise(1.0, key=jax.random.key(3)))["w"]
    np.testing.assert_array_equal(noise(gx.add_noise(1.0, key=3))["w"], expected)
    np.testing.assert_array_equal(noise(gx.add_noise(1.0, key=np.int64(3)))["w"], expected)


@pytest.mark.parametrize("seed", [0.0, "a", None, True, 2**64, jnp.float32(1)])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="key is"):
        gx.add_noise(1.0, key=seed)


def test_members_of_a_stack_have_seeds_of_their_own() -> None:
    stack = jax.vmap(lambda seed: gx.add_noise(1.0, key=seed))(jnp.arange(3))
    found = jax.vmap(lambda tx: noise(tx)["w"])(stack)
    for i in range(3):
        np.testing.assert_array_equal(found[i], noise(gx.add_noise(1.0, key=i))["w"])


def test_paths_that_read_alike_are_different_arrays() -> None:
    """`{"a/b": x}` and `{"a": {"b": y}}` draw numbers of their own."""
    params = {"a/b": jnp.zeros(9), "a": {"b": jnp.zeros(9)}}
    found = noise(gx.add_noise(1.0), params)
    assert (found["a/b"] != found["a"]["b"]).all()


def test_draws_do_not_depend_on_the_precision() -> None:
    """The methods that sketch with random matrices are one method in float32 and float64."""
    with jax.enable_x64(True):
        g = np.random.default_rng(0).normal(size=(12, 8))
        for tx in (gx.scale_by_kron(learn=1.0), gx.scale_by_apollo(rank=2), gx.scale_by_dion()):
            results = []
            for dtype in ("float32", "float64"):
                params = {"w": jnp.asarray(g, dtype)}
                results.append(noise(tx, params, steps=2)["w"])
            np.testing.assert_allclose(*results, rtol=1e-3, atol=1e-4)


def test_noise_depends_on_path_step_and_key_alone():
    """Other arrays and their order do not matter; path, step and key do."""
    tx, zero = gx.add_noise(1.0), jnp.zeros(4)
    one, _ = tx.update({"a": zero, "b": zero}, tx.init({"a": zero, "b": zero}))
    more = {"A": zero, "a": zero, "b": zero}
    two, state = tx.update(more, tx.init(more))
    assert_same(one, {"a": two["a"], "b": two["b"]})
    assert (one["a"] != one["b"]).all()
    later, _ = tx.update(more, state)
    assert (later["a"] != two["a"]).all()
    for key in (1, jax.random.key(1)):
        other = tx.replace(key=key)
        assert (other.update(more, other.init(more))[0]["a"] != two["a"]).all()


def test_noise_of_a_stack():
    """Each member of a stack draws by its own key."""
    keys = jax.random.split(jax.random.key(0), 3)
    drawn = jax.vmap(
        lambda key: gx.add_noise(1.0, key=key).update(
            jnp.zeros(5), gx.add_noise(1.0).init(jnp.zeros(5))
        )[0]
    )(keys)
    assert len(np.unique(drawn)) == 15


def test_add_noise_is_standard_normal() -> None:
    """The numbers behind the noise are standard normal, new for every array and step."""
    tx = gx.add_noise(1.0, gamma=0.0)
    gs = {"a": jnp.zeros(20_000), "b": jnp.zeros(20_000)}
    first, state = tx.update(gs, tx.init(gs))
    second, _ = tx.update(gs, state)
    drawn = np.stack([first["a"], first["b"], second["a"], second["b"]])
    # Five standard errors of 20,000 numbers or more.
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.04
    assert np.abs(drawn.mean(axis=1)).max() < 0.04
    assert np.abs(drawn.var(axis=1) - 1).max() < 0.05
    assert np.abs(np.mean(drawn**4, axis=1) - 3).max() < 0.4
