"""Matrices shared out over the devices of a mesh: the numbers of one device, and who does what."""

from __future__ import annotations

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from laws.cases import refused

import gradtx as gx

SHAPES = {
    **{f"layer{i}": {"q": (8, 16), "bias": (16,)} for i in range(6)},
    "stack": (5, 8, 16),
    "alone": (8, 24),
}
MATRICES = {"stack": "bio", "*/bias": None, "*": "io"}
EQUAL, DEVICES = 11, 8  # matrices of 8 x 16, and devices; one of 8 x 24 is alone

METHODS = {
    "muon": gx.muon,
    "normuon": gx.normuon,
    "adamuon": gx.adamuon,
    "adago": gx.adago,
    "scion": gx.scion,
    "dion": gx.dion,
    "soap": functools.partial(gx.soap, every=3),
    "splus": functools.partial(gx.splus, every=3),
    "shampoo": functools.partial(gx.shampoo, every=3),
    "kl_shampoo": functools.partial(gx.kl_shampoo, every=3),
    "psgd_kron": gx.psgd_kron,
    "galore": functools.partial(gx.galore, every=3, rank=4),
}
# How many arrays of a matrix go back from its owners: bases, roots and factors of both sides.
BACK = {"dion": 2, "soap": 4, "splus": 2, "shampoo": 2, "kl_shampoo": 2, "psgd_kron": 2}
QUICK = {"muon", "soap"}
KINDS = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
WORDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")

each = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in METHODS]
)
kinds = pytest.mark.parametrize("kind", KINDS)


def numbers(seed: int) -> Any:
    random = np.random.default_rng(seed)
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    return jax.tree.map(
        lambda s: random.normal(size=s).astype(np.float32), SHAPES, is_leaf=is_shape
    )


def made(name: str) -> Any:
    return METHODS[name](0.01, matrices=MATRICES)


@functools.cache
def mesh_of(kind: str) -> Any:
    return jax.make_mesh((DEVICES,), ("data",), axis_types=(KINDS[kind],))


def on(mesh: Any, tree: Any, spec: Any = ()) -> Any:
    def put(x: Any) -> Any:
        own = PartitionSpec(*[None] * (x.ndim - 2), *spec) if x.ndim > 1 else PartitionSpec()
        return jax.device_put(x, NamedSharding(mesh, own))

    return jax.tree.map(put, tree)


@functools.cache
def alone(name: str) -> Any:
    """Parameters after some steps on one device."""
    tx = made(name)
    params = jax.device_put(numbers(0))
    state = tx.init(params)
    for seed in range(1, 5):
        params, state = tx.step(jax.device_put(numbers(seed)), state, params)
    return jax.device_get(params)


def run(tx: Any, mesh: Any, spec: Any = ()) -> tuple[Any, Any, Any]:
    """Parameters after the same steps on a mesh, the compiled step, and the state."""
    params = on(mesh, numbers(0), spec)
    state = tx.init(params)
    step = jax.jit(lambda g, s, p: tx.step(g, s, p))
    compiled = step.lower(params, state, params).compile()
    for seed in range(1, 5):
        params, state = compiled(on(mesh, numbers(seed), spec), state, params)
    return params, compiled.as_text(), state


def collectives(text: str) -> dict[str, int]:
    """How often each is in a compiled program."""
    found = {word: len(re.findall(rf"{word}(?:-start)?\(", text)) for word in WORDS}
    return {word: number for word, number in found.items() if number}


def assert_alike(found: Any, expected: Any) -> None:
    start = numbers(0)
    for x, y, p in zip(*map(jax.tree.leaves, (found, expected, start)), strict=True):
        moved = np.abs(y - p).max()
        np.testing.assert_allclose(np.asarray(x), y, rtol=0, atol=3e-5 * moved)


@each
@kinds
def test_replicated_matrices(kind: str, name: str) -> None:
    """The numbers of one device, with one way back and no other communication."""
    tx, mesh = gx.distribute(made(name), "data"), mesh_of(kind)
    with jax.set_mesh(mesh):
        params, text, _ = run(tx, mesh)
    assert_alike(params, alone(name))
    back = BACK.get(name, 1)
    # Explicit axes say of whose turn it is that it is on all devices.
    assert collectives(text) in ({"all-gather": back}, {"all-gather": back + 1})
    assert kind == "explicit" or collectives(text) == {"all-gather": back}


@kinds
@pytest.mark.parametrize("spec", [("data",), (None, "data")], ids=["rows", "columns"])
def test_sharded_matrices_go_to_their_owners_and_back(kind: str, spec: Any) -> None:
    """One move in and one out, and each array lies as before."""
    tx, mesh = gx.distribute(made("muon"), "data"), mesh_of(kind)
    with jax.set_mesh(mesh):
        params, text, state = run(tx, mesh, spec)
    assert_alike(params, alone("muon"))
    found = collectives(text)
    # The matrix that is alone is left to the compiler.
    assert found.pop("all-to-all") == 2
    for tree in (params, state["matrices"]["scale_by_muon"].mu):
        own = NamedSharding(mesh, PartitionSpec(None, *spec))
        assert tree["stack"].sharding.is_equivalent_to(own, 3)


@each
def test_no_device_works_on_more_than_its_share(name: str) -> None:
    """Counted from the program: the length of the stack that a device has, times the rounds."""
    tx = gx.distribute(made(name), "data", mesh=mesh_of("auto"))
    params = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, numbers(0)))
    state = jax.eval_shape(tx.init, params)
    program = jax.make_jaxpr(lambda g, s, p: tx.update(g, s, p))(params, state, params)
    shares = list(at_owners(program.jaxpr, 1))
    assert shares
    assert all(share == -(-EQUAL // DEVICES) for share in shares), shares


def at_owners(program: Any, rounds: int) -> Any:
    """For what runs on every device by itself: its stack, times how often it runs."""
    for equation in program.eqns:
        if equation.primitive.name == "shard_map":
            inside = equation.params["jaxpr"]
            yield rounds * max(x.aval.shape[0] for x in inside.invars if x.aval.shape)
            continue
        again = equation.params["length"] if equation.primitive.name == "scan" else 1
        for value in equation.params.values():
            for one in value if isinstance(value, list | tuple) else [value]:
                inner = getattr(one, "jaxpr", one)
                if hasattr(inner, "eqns"):
                    yield from at_owners(inner, rounds * again)


def test_two_axes_own_together() -> None:
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    tx = gx.distribute(made("muon"), ("data", "model"), mesh=mesh)
    params, text, _ = run(tx, mesh)
    assert_alike(params, alone("muon"))
    assert collectives(text) == {"all-gather": 1}
    assert {(one.of, one.each) for one in tx.shared(params)} == {(EQUAL, 2), (1, 1)}


def test_numbers_do_not_depend_on_how_many_own() -> None:
    found = []
    for size in (1, 2, 8):
        mesh = jax.make_mesh(
            (size,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:size]
        )
        params, *_ = run(gx.distribute(made("muon"), mesh=mesh), mesh)
        found.append(jax.device_get(params))
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, found[0], other)


def test_describe_says_who_works_on_what(capsys: pytest.CaptureFixture[str]) -> None:
    tx = gx.distribute(made("muon"), mesh=mesh_of("auto"))
    tx.describe(jax.eval_shape(lambda: jax.tree.map(jnp.asarray, numbers(0))))
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "5 of 11 matrices 8 x 16, 2 to each of 8 devices" in lines["stack"]
    assert "too few to share" in lines["alone"]
    # 5 steps of 4 k^2 l + 2 k^3 for k = 8, l = 16, of two matrices, about.
    work = float(re.findall(r"([0-9.]+) kflops a device", lines["stack"])[0]) * 1e3
    assert 0.8 < work / (2 * 5 * (4 * 8 * 8 * 16 + 2 * 8**3)) < 1.2


def test_without_a_mesh_one_is_asked_for() -> None:
    params = jax.device_put(numbers(0))
    tx = gx.distribute(made("muon"), "data")
    assert "jax.set_mesh" in refused(
        lambda: tx.update(params, tx.init(params), params), "distribute"
    )
    other = gx.distribute(made("muon"), "model", mesh=mesh_of("auto"))
    assert "'data'" in refused(lambda: other.update(params, other.init(params), params))


def test_methods_without_matrices_are_left_as_they_are() -> None:
    params = jax.device_put(numbers(0))
    tx = gx.adamw(0.1)
    shared = gx.distribute(tx, mesh=mesh_of("auto"))
    one, other = (t.update(params, t.init(params), params) for t in (tx, shared))
    jax.tree.map(np.testing.assert_array_equal, one, other)
