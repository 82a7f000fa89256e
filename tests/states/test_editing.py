"""Parts of a state: read, set, begun anew; and its shapes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import counting_traces, refused

import gradtx as gx

from .models import assert_bits, model, trained

# Select and assign -------------------------------------------------------------------------------


def test_select_reads_by_path() -> None:
    _, state = trained(gx.adamw(0.1))
    found = gx.select(state, "*/mu/dense/kernel")
    assert list(found) == ["scale_by_adam/mu/dense/kernel"]
    assert_bits(
        found["scale_by_adam/mu/dense/kernel"], state["scale_by_adam"].mu["dense"]["kernel"]
    )
    assert len(gx.select(state, "*/nu/*")) == 3
    assert gx.select(state, "count") == {"count": state["count"]}


def test_assign_sets_arrays_trees_and_numbers() -> None:
    params, state = trained(gx.adamw(0.1))
    ones = jax.tree.map(jnp.ones_like, params)
    new = gx.assign(
        state, {"*/nu": ones, "*/mu/scale": 0.1, "*/mu/dense": 0.0, "count": np.int64(100)}
    )
    assert_bits(new["scale_by_adam"].nu, ones)
    assert_bits(new["scale_by_adam"].mu["scale"], jnp.float32(0.1))
    assert float(jnp.abs(new["scale_by_adam"].mu["dense"]["kernel"]).max()) == 0
    assert new["count"].dtype == jnp.int32
    assert int(new["count"]) == 100
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert int(state["count"]) == 3


def test_what_was_selected_is_assigned() -> None:
    _, state = trained(gx.adamw(0.1))
    _, other = trained(gx.adamw(0.2), 5)
    assert_bits(gx.assign(state, gx.select(other, "*")), other)


def test_assign_keeps_dtype_place_and_runs_under_jit() -> None:
    mesh = jax.make_mesh((8,), ("x",))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    tx = gx.store(gx.sgd(0.1, momentum=0.9), {"trace": "bfloat16"})
    state = tx.init({"w": jax.device_put(jnp.ones(8), place)})
    new = gx.assign(state, {"*/trace": {"w": np.arange(8.0)}})
    trace = new["scale_by_momentum"].trace["w"]
    assert trace.dtype == jnp.bfloat16
    assert trace.sharding.is_equivalent_to(place, 1)
    again = jax.jit(lambda s: gx.assign(s, {"*/trace/w": 1.0}))(state)
    assert_bits(again["scale_by_momentum"].trace["w"], jnp.ones(8, jnp.bfloat16))


REFUSED: dict[str, tuple[Any, str]] = {
    "no such path": ({"*/nux": 0.0}, "no path fits '*/nux'"),
    "another shape": ({"*/nu/scale": jnp.ones(3)}, "is (3,) given, () in the state"),
    "another kind": ({"count": jnp.ones((), jnp.complex64)}, "complex given, integer in the state"),
    "a tree with less": ({"*/nu": {"scale": jnp.ones(())}}, "has nothing for"),
    "a tree with more": ({"*/mu/dense": {**model()["dense"], "gain": 1.0}}, "'gain'"),
    "a float as a count": ({"count": jnp.ones(())}, "floating given, integer in the state"),
    "half a step": ({"count": 2.5}, "2.5"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_assign_refuses(what: str) -> None:
    _, state = trained(gx.adamw(0.1))
    values, seen = REFUSED[what]
    assert seen in refused(lambda: gx.assign(state, values), "assign")


def test_select_refuses_what_is_not_there() -> None:
    _, state = trained(gx.adamw(0.1))
    refused(lambda: gx.select(state, "scale_by_adan/*"), "select", "scale_by_adan/*")


# Reset -------------------------------------------------------------------------------------------


def test_reset_begins_arrays_anew() -> None:
    tx = gx.adamw(0.1)
    params, state = trained(tx)
    new = gx.reset(tx, state, params, "dense/*")
    before, after = state["scale_by_adam"], new["scale_by_adam"]
    for slot in ("mu", "nu"):
        assert_bits(getattr(after, slot)["scale"], getattr(before, slot)["scale"])
        assert not np.any(getattr(after, slot)["dense"]["kernel"])
    assert int(new["count"]) == 3


def test_reset_of_some_slots() -> None:
    tx = gx.adan(0.1)
    params, state = trained(tx)
    new = gx.reset(tx, state, params, slots="mu delta")["scale_by_adan"]
    assert not np.any(new.mu["scale"])
    assert not np.any(new.delta["scale"])
    assert_bits(new.nu, state["scale_by_adan"].nu)


def test_reset_is_that_of_each_optimizer() -> None:
    """Where a rule starts from the parameters, so does what begins anew."""
    tx = gx.store(gx.chain(gx.scale_by_dog(1.0)), {})
    params, state = trained(tx)
    new = gx.reset(tx, state, params, "scale", slots="x0")
    kept = new["scale_by_dog"].x0
    assert_bits(kept["scale"], params["scale"])
    assert_bits(kept["dense"], state["scale_by_dog"].x0["dense"])


def test_reset_in_groups_formats_and_jit() -> None:
    stored = gx.store(gx.adam(0.1), {"nu": gx.blockwise(min_size=0)})
    tx = gx.partition({"*/bias": gx.sgd(0.1, momentum=0.9), "*": stored})
    params, state = trained(tx)
    new = jax.jit(lambda s, p: gx.reset(tx, s, p, ["*/kernel", "*/bias"]))(state, params)
    fresh = tx.init(params)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    got, was = (gx.state_dict(tx, s, params) for s in (new, fresh))
    for name in ("scale_by_adam/nu/dense/kernel#dynamic", "scale_by_momentum/trace/dense/bias"):
        assert_bits(got[name], was[name])
    assert np.any(got["scale_by_adam/mu/scale"])


def test_reset_refuses_what_fits_nothing() -> None:
    tx = gx.adamw(0.1)
    params, state = trained(tx)
    refused(lambda: gx.reset(tx, state, params, "embed/*"), "reset", "embed/*")
    refused(lambda: gx.reset(tx, state, params, slots="mu trace"), "reset", "trace")


OTHERS: dict[str, Any] = {
    "another optimizer's": lambda tx, params: gx.lion(0.1).init(params),
    "the parameters": lambda tx, params: params,
    "None": lambda tx, params: None,
    "a part of it": lambda tx, params: tx.init(params)["scale_by_adam"],
    "more around": lambda tx, params: gx.ema(tx).init(params),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_state_of_another_is_refused(what: str) -> None:
    tx, params = gx.adamw(0.1), model()
    state = OTHERS[what](tx, params)
    refused(lambda: gx.state_dict(tx, state, params), "state_dict", "the state has no place for")
    refused(lambda: gx.reset(tx, state, params), "reset", "the state has no place for")


def test_a_rule_refuses_the_state_of_another() -> None:
    state = gx.scale_by_lion().init(model())
    refused(lambda: gx.state_dict(gx.scale_by_adam(), state, model()), "scale_by_adam()")


def test_parameters_of_another_model_are_refused() -> None:
    tx, state = gx.adamw(0.1), gx.adamw(0.1).init(model())
    refused(lambda: gx.state_dict(tx, state, {"w": jnp.ones(3)}), "'w'", "dense/kernel")


# Shapes, and what a loaded state is good for -----------------------------------------------------


@pytest.mark.parametrize("placed", [False, True])
def test_abstract_state_is_that_of_init(placed: bool) -> None:
    mesh = jax.make_mesh((2, 4), ("x", "y"))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x", "y"))
    params = {"w": jnp.ones((8, 16))}
    params = jax.device_put(params, place) if placed else params
    tx = gx.chain(gx.adafactor(0.1), gx.scale_by_adam())
    expected = tx.init(params)
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding if placed else None),
        params,
    )
    for found in (gx.abstract_state(tx, params), gx.abstract_state(tx, shapes)):
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert (x.shape, x.dtype) == (y.shape, y.dtype)
            assert not placed or x.sharding.is_equivalent_to(y.sharding, y.ndim)


def test_a_loaded_state_is_not_compiled_for_again() -> None:
    tx = gx.ema(gx.adamw(0.1))
    params, state = trained(tx)
    step, traces = counting_traces(lambda g, s, p: tx.step(g, s, p))
    step(model(5), state, params)
    back, _ = gx.load_state(tx, gx.state_dict(tx, state, params), params)
    sizes = step._cache_size()
    step(model(5), back, params)
    assert len(traces) == 1
    assert step._cache_size() == sizes
    either = jax.lax.cond(True, lambda: state, lambda: back)
    assert_bits(either, state)


def test_a_loaded_state_shares_no_memory() -> None:
    """Neither with NumPy arrays nor with JAX arrays that it came from."""
    tx, params = gx.sgd(0.1, momentum=0.9), {"w": jnp.ones(64)}
    flat = gx.state_dict(tx, tx.init(params), params)
    host = {k: np.array(x) if k != "#schema" else x for k, x in flat.items()}
    from_host, from_jax = (gx.load_state(tx, f, params)[0] for f in (host, flat))
    host["scale_by_momentum/trace/w"][:] = 7.0
    assert float(from_host["scale_by_momentum"].trace["w"][0]) == 0
    jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)(from_jax)
    assert float(flat["scale_by_momentum/trace/w"][0]) == 0


def test_shapes_are_enough_to_load() -> None:
    tx = gx.adamw(0.1)
    params, state = trained(tx)
    shapes = jax.eval_shape(lambda: params)
    assert_bits(gx.load_state(tx, gx.state_dict(tx, state, params), shapes)[0], state)


def test_leaves_of_all_kinds_survive() -> None:
    """Empty subtrees, None, zero-size arrays, integers; complex and scalar arrays."""
    params = {
        "none": None,
        "empty": {},
        "list": [],
        "zero": jnp.zeros((0, 3)),
        "whole": jnp.arange(3),
        "complex": jnp.ones(2, jnp.complex64),
        "one": jnp.ones(()),
    }
    tx = gx.adamw(0.1)
    state = tx.init(params)
    back, report = gx.load_state(tx, gx.state_dict(tx, state, params), params)
    assert_bits(back, state)
    assert "scale_by_adam/mu/zero" in report.loaded
    bare = jnp.ones(4)
    flat = gx.state_dict(tx, tx.init(bare), bare)
    assert "scale_by_adam/mu" in flat
    assert_bits(gx.load_state(tx, flat, bare)[0], tx.init(bare))


def test_saved_and_loaded_under_jit_and_vmap() -> None:
    """Of a stack of optimizers every array has the axis of the stack; without a schema."""
    params = model()
    txs = jax.vmap(gx.adamw)(jnp.asarray([0.1, 0.2]))
    states = jax.vmap(lambda tx: tx.init(params))(txs)
    flat = jax.jit(jax.vmap(lambda tx, s: gx.state_dict(tx, s, params)))(txs, states)
    assert flat["scale_by_adam/mu/dense/bias"].shape == (2, 6)
    assert "#schema" not in flat
    assert_bits(jax.vmap(lambda tx, f: gx.load_state(tx, f, params)[0])(txs, flat), states)


def test_random_keys_are_saved_as_their_data() -> None:
    tx, params = gx.inject_hyperparams(gx.add_noise(0.1, 0.5, key=jax.random.key(3))), model()
    state = tx.init(params)
    flat = gx.state_dict(tx, state, params)
    assert flat["inject_hyperparams/hyperparams/key"].dtype == jnp.uint32
    back, report = gx.load_state(tx, flat, params)
    keys = [jax.random.key_data(s.hyperparams["key"]) for s in (state, back)]
    assert_bits(*keys)
    assert back.hyperparams["key"].dtype == state.hyperparams["key"].dtype
    assert report.fresh == ()
