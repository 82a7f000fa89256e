"""Any mesh: every call under explicit meshes, and inside of `shard_map`.

What JAX refuses of a sharding it refuses when it traces, so shapes serve for all rows; compiled
steps run a row of each kind of state.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from laws.cases import OF_OTHER_SHAPES, ROWS, build, compilations, step, update

import gradtx as gx


def every_row(over: Any) -> Any:
    """A test for each row and each of `over`, of which the last shards the most.

    Rows whose slots all have the shape of their parameter run at that one alone: these lie like it
    anywhere. `make test-all` has the rest.
    """
    *_, last = over

    def one(name: str, place: str) -> Any:
        marks = [] if name in OF_OTHER_SHAPES or place == last else [pytest.mark.slow]
        return pytest.param(ROWS[name], place, id=f"{name}-{place}", marks=marks)

    found = [one(name, place) for name in ROWS for place in over]
    return pytest.mark.parametrize(("row", "place"), found)


@functools.cache
def mesh(kind: AxisType, *names: str) -> Any:
    """Four devices, along one axis or two."""
    shape = (4,) if len(names) == 1 else (2, 2)
    return jax.make_mesh(shape, names, axis_types=(kind,) * len(names), devices=jax.devices()[:4])


LAYOUTS = {
    "rows": (("x",), P("x")),
    "columns": (("x",), P(None, "x")),
    "replicated": (("x",), P()),
    "both": (("x", "y"), P("x", "y")),
}


def placed(kind: AxisType, layout: str, make: Any = jax.ShapeDtypeStruct) -> tuple[Any, Any]:
    """A mesh, and the parameters of a small model on it."""
    names, spec = LAYOUTS[layout]
    on = mesh(kind, *names)

    def one(shape: tuple[int, ...], spec: Any) -> Any:
        return make(shape, jnp.float32, sharding=NamedSharding(on, spec))

    last = P(spec[1]) if len(spec) > 1 else P()
    return on, {
        "dense": {"kernel": one((64, 32), spec), "bias": one((32,), last)},
        "s": one((), P()),
    }


def spec(x: Any) -> tuple[Any, ...]:
    """The axes of the mesh along those of an array, without the last that are none."""
    found = tuple(getattr(x.sharding, "spec", None) or ())
    while found and found[-1] is None:
        found = found[:-1]
    return found


def stays(before: Any, after: Any) -> None:
    """Every array lies as before: the next step is the same program."""
    flat = jax.tree_util.tree_leaves_with_path(before)
    for (path, x), y in zip(flat, jax.tree.leaves(after), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        assert spec(x) == spec(y), jax.tree_util.keystr(path)


@every_row(LAYOUTS)
def test_explicit_meshes(row: Any, place: str) -> None:
    """Rows, columns or both sharded: nothing is refused, and state and updates lie as before."""
    tx = build(row)
    on, params = placed(AxisType.Explicit, place)
    with jax.set_mesh(on):
        state = jax.eval_shape(tx.init, params)
        flat = jax.tree_util.tree_leaves_with_path(params)
        ends = [(str(path)[1:], p) for path, p in flat]
        for path, slot in jax.tree_util.tree_leaves_with_path(state):
            owner = [p for end, p in ends if str(path).endswith(end) and p.ndim]
            same = all(spec(p) == spec(slot) for p in owner if p.shape == slot.shape)
            assert same, jax.tree_util.keystr(path)
        call = functools.partial(jax.eval_shape, lambda g, s, p: update(tx, g, s, p))
        stays((params, state), call(params, state, params))

        def both(p: Any, s: Any, g: Any) -> Any:
            return step(tx, g, s, p)

        stays(params, jax.eval_shape(tx.eval_params, state, params))

        def many(p: Any, g: Any) -> Any:  # `init` inside: shapes know nothing of host memory
            start = (p, tx.init(p))
            return jax.lax.scan(lambda c, _: (both(*c, g), None), start, length=3)[0]

        stays((params, state), jax.eval_shape(many, params, params))


@every_row(["Auto", "Explicit"])
def test_manual_axes(row: Any, place: str) -> None:
    """Inside `shard_map` every shard is a problem of its own: init, three steps, evaluation."""
    tx = build(row)

    def alone(p: Any, g: Any) -> Any:
        p, g = jax.tree.map(lambda x: x[0], (p, g))
        carry = (p, tx.init(p))
        p, s = jax.lax.scan(lambda c, _: (step(tx, g, c[1], c[0]), None), carry, length=3)[0]
        return jax.tree.map(lambda x: x[None], tx.eval_params(s, p))

    on = mesh(AxisType[place], "x")

    def stack(*shape: int) -> Any:
        where = NamedSharding(on, P("x"))
        return jax.ShapeDtypeStruct((4, *shape), jnp.float32, sharding=where)

    params = {"dense": {"kernel": stack(8, 6), "bias": stack(6)}, "s": stack()}
    with jax.set_mesh(on):
        mapped = jax.shard_map(alone, in_specs=P("x"), out_specs=P("x"))
        jaxpr = jax.make_jaxpr(mapped)(params, params)
    for name in ("psum", "all_gather", "ppermute", "all_to_all"):
        assert f" {name}" not in str(jaxpr), name


# Compiled -----------------------------------------------------------------------------------------

REPRESENTATIVES = "adam adafactor sm3 muon soap shampoo galore dion scale_by_kron ema accumulate"
REPRESENTATIVES += " apply_if_finite clip_by_global_norm prodigy normuon adam_mini store_int8"


def values(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    shapes = {"dense": {"kernel": (64, 32), "bias": (32,)}, "s": ()}
    draw = lambda shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return jax.tree.map(draw, shapes, is_leaf=lambda x: isinstance(x, tuple))


def trained(tx: Any, put: Any) -> tuple[Any, int]:
    """Where three donated steps lead, and how many programs they are."""
    params = put(values(0))
    state = tx.init(params)
    train = jax.jit(lambda p, s, g: step(tx, g, s, p), donate_argnums=(0, 1))
    grads = [put(values(k)) for k in (1, 2, 3)]
    with compilations() as programs:
        for g in grads:
            params, state = train(params, state, g)
    return jax.device_get(params), len(programs)


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto], ids=["explicit", "auto"])
@pytest.mark.parametrize("name", REPRESENTATIVES.split())
def test_steps_on_a_mesh_are_those_of_one_device(name: str, kind: AxisType) -> None:
    """One compilation for three steps, and the parameters up to rounding."""
    tx = build(ROWS[name])
    alone, _ = trained(tx, jax.device_put)
    on, shapes = placed(kind, "both")
    where = jax.tree.map(lambda x: x.sharding, shapes)
    with jax.set_mesh(on):
        found, programs = trained(tx, lambda tree: jax.device_put(tree, where))
    assert programs == 1
    if name == "soap":  # the directions that its first gradient lacks are what rounding makes them
        return
    start = values(0)
    for x, y, p in zip(*map(jax.tree.leaves, (found, alone, start)), strict=True):
        np.testing.assert_allclose(x - p, y - p, rtol=2e-3, atol=2e-3 * np.abs(y - p).max())


def test_without_a_mesh_in_scope() -> None:
    """Arrays of an explicit mesh bring it along: un-jitted calls need no `set_mesh`."""
    _, shapes = placed(AxisType.Explicit, "rows")
    where = jax.tree.map(lambda x: x.sharding, shapes)
    params, grads = jax.device_put((values(0), values(1)), (where, where))
    tx = gx.adamw(0.1)
    state = tx.init(params)
    new, state = tx.step(grads, state, params)
    stays(params, new)
    assert spec(state["scale_by_adam"].mu["dense"]["kernel"]) == ("x",)
