"""Matrices of one shape in one batch, as on accelerators: the same numbers, traced and placed once.

On a CPU nothing is batched, so these tests say that batches pay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from laws.cases import some
from stacked import iterations_traced

import gradtx
from gradtx import Axes, newton_schulz
from gradtx.engine import batches, run as engine

LINKS: dict[str, Callable[..., Any]] = {
    "muon": gradtx.scale_by_muon,
    "nuclear": partial(gradtx.scale_by_muon, scale="nuclear"),
    "normuon": gradtx.scale_by_normuon,
    "adamuon": gradtx.scale_by_adamuon,
    "adago": gradtx.scale_by_adago,
    "lmo": gradtx.scale_by_lmo,
    "sign": partial(gradtx.scale_by_lmo, norm="sign"),
    "two": lambda axes: gradtx.chain(
        gradtx.scale_by_muon(axes=axes), gradtx.scale_by_lmo(axes=axes)
    ),
}
AXES = gradtx.by_path({"stack*": Axes("bio"), "fused": Axes("io", 2), "*": Axes("io")})


@pytest.fixture
def batched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(engine, "batching_pays", lambda: True)
    jax.clear_caches()
    yield
    jax.clear_caches()


def arrays(seed: int) -> dict[str, jax.Array]:
    shapes = {
        **{f"layer{i}": (4, 6) for i in range(3)},
        **{f"down{i}": (6, 4) for i in range(2)},
        **{f"stack{i}": (2, 4, 6) for i in range(2)},
        "fused": (4, 12),
        "alone": (3, 3),
        "empty": (0, 6),
    }
    random = np.random.default_rng(seed)
    found = {name: jnp.asarray(random.normal(size=shape)) for name, shape in shapes.items()}
    return {
        **found,
        **{f"complex{i}": jnp.asarray(random.normal(size=(4, 6)) + 1j) for i in (1, 2)},
    }


def three_steps(tx: Any) -> Any:
    params, seen = arrays(0), []
    state = tx.init(params)
    for seed in (1, 2, 3):
        params, state = tx.step(arrays(seed), state, params)
        seen.append((params, state))
    return seen


@pytest.mark.parametrize("name", some(LINKS, {"muon", "two"}))
def test_batches_change_no_number(name: str, x64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters and states are those that come out one by one, however large a batch may be."""
    clip, links = gradtx.clip_by_global_norm(1.0), gradtx.scale_by_learning_rate(0.1)
    tx = gradtx.chain(clip, gradtx.scale_by_momentum(0.5), LINKS[name](axes=AXES), links)
    jax.clear_caches()
    expected = three_steps(tx)
    monkeypatch.setattr(engine, "batching_pays", lambda: True)
    for most in (2**24, 50):
        monkeypatch.setattr(batches, "LARGEST", most)
        jax.clear_caches()
        found = three_steps(tx)
        jax.clear_caches()
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_products_are_those_of_batches(batched: None) -> None:
    """What is lowered multiplies stacks: of the 20 layers of a shape, and of a shape alone none."""
    params = {f"w{i}": jnp.ones((8, 16)) for i in range(20)} | {"v": jnp.ones((4, 5))}
    tx = gradtx.muon(0.1, matrices="*")
    state = jax.eval_shape(tx.init, params)
    text = jax.jit(tx.update).lower(params, state, params).as_text()
    products = re.findall(r"dot_general.*?: \(tensor<([0-9x]+)xf32>", text)
    assert set(products) == {"20x8x16", "20x8x8", "4x5", "4x4"}


def test_batches_are_even(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is more than the largest batch is shared out, and all come back in their places."""
    sizes: list[int] = []
    xs = [jnp.full((2, 2), i, jnp.float32) for i in range(7)]
    xs.insert(3, jnp.zeros(3))
    monkeypatch.setattr(batches, "LARGEST", 12)
    stack = jnp.stack
    monkeypatch.setattr(jnp, "stack", lambda some: sizes.append(len(some)) or stack(some))
    found = batches.in_batches(lambda _, x: x + 1, xs)
    assert sizes == [3, 3]  # and one alone
    for x, y in zip(xs, found, strict=True):
        np.testing.assert_array_equal(x + 1, y)


def test_equal_shapes_are_traced_once(batched: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty layers of two shapes trace the iteration twice in batches too."""
    assert iterations_traced(monkeypatch) == [(11, 13), (13, 17)]


def test_sharded_axes_stay_sharded(batched: None) -> None:
    """Matrices that lie in columns over devices are multiplied where they lie: none is gathered."""
    mesh = Mesh(np.array(jax.devices()), ("model",))
    columns = NamedSharding(mesh, PartitionSpec(None, "model"))
    params = {f"w{i}": jax.device_put(jnp.ones((8, 64)) * i, columns) for i in range(4)}
    tx = gradtx.muon(0.1, matrices="*", polar=newton_schulz(form="plain"))
    state = tx.init(params)
    compiled = jax.jit(tx.step, donate_argnums=(1, 2)).lower(params, state, params).compile()
    gathered = re.findall(r"= \w+\[([0-9,]+)\]\S* all-gather", compiled.as_text())
    assert not {"4,8,64", "8,64"} & set(gathered)
    params, state = compiled(params, state, jax.tree.map(jnp.array, params))
    assert all(x.sharding.is_equivalent_to(columns, 2) for x in jax.tree.leaves(params))


def test_errors_name_the_array(batched: None) -> None:
    """What goes wrong in a half or between is told as elsewhere: with the path of the array."""
    tx = gradtx.scale_by_muon()
    state = tx.init({"w": jnp.ones((2, 3))})
    with pytest.raises(TypeError, match=r"scale_by_muon.*at 'w' the update is float32\[3, 2\]"):
        tx.update({"w": jnp.ones((3, 2))}, state)
    narrow = gradtx.scale_by_muon(polar=newton_schulz(arithmetic="bfloat16"))
    p = {"w": jnp.ones((2, 3), jnp.complex64)}
    with pytest.raises(ValueError, match=r"scale_by_muon.*at 'w'.*complex matrices have no"):
        narrow.update(p, narrow.init(p))


def test_on_a_cpu_batches_do_not_pay() -> None:
    """As `make bench` measures."""
    assert not batches.batching_pays()
