"""What nobody moves comes through every wrapper, `step` and `eval_params` bit for bit."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import assert_finite, extras, some
from test_nesting import MAKERS, around

import gradtx as gx
from gradtx.catalogue import wrappers

HELD = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e38, -1e-45, 3.0], np.float32)
DTYPES = ["float32", "bfloat16"]
INNERS = {
    "partition": lambda tx: gx.partition({"mask": gx.freeze(), "*": tx}),
    "masked": lambda tx: gx.masked(tx, "w"),
    "chain": lambda tx: gx.chain(tx, gx.freeze("mask")),
    "nested": lambda tx: gx.partition({"*": gx.masked(gx.ema(tx), lambda path, _: path == "w")}),
}
MORE = [name for name in wrappers if name.startswith(("store", "master", "skip"))]
# Inside of `flatten` there is one array, of which nobody moves a part.
NAMES = sorted({*MAKERS, *MORE} - {"conditionally_transform", "flatten"})


def bits(x):
    return np.asarray(x).view(np.uint8)


def run(tx, params, take):
    """Six steps; what is held has a gradient, too."""
    state = tx.init(params)
    for i in range(6):
        held = jnp.full_like(params["mask"], 1.0 + i)
        grads = {"mask": held, "w": jnp.full_like(params["w"], 0.5 + i)}
        some = {"mask": jnp.ones_like(params["mask"]), "w": params["w"]}  # of what a loss is made
        params, state = take(tx, grads, state, params, **extras(tx, some, grads))
    return params, state


def updated(tx, grads, state, params, **extra):
    updates, state = tx.update(grads, state, params, **extra)
    return gx.apply_updates(params, updates), state


@pytest.mark.parametrize("inner", some(INNERS, ["partition"]))
@pytest.mark.parametrize("name", NAMES)
def test_wrappers(name, inner):
    """Whatever it holds; and it spoils no number of the others."""
    tx = around(name)(INNERS[inner](gx.adam(0.1)))
    for dtype in DTYPES if inner == "partition" else DTYPES[:1]:
        params = {"mask": jnp.asarray(HELD, dtype), "w": jnp.ones(3, dtype)}
        new, state = run(tx, params, lambda tx, *args, **extra: tx.step(*args, **extra))
        np.testing.assert_array_equal(bits(new["mask"]), bits(params["mask"]))
        evaluated = tx.eval_params(state, new)
        np.testing.assert_array_equal(bits(evaluated["mask"]), bits(params["mask"]))
        assert_finite({"w": new["w"], "evaluated": evaluated["w"]})
        assert not np.array_equal(new["w"], params["w"])


@pytest.mark.parametrize("name", NAMES)
def test_updates_are_zero(name):
    """`update` gives zeros, which change no number but those that the device flushes to zero."""
    tx = around(name)(INNERS["partition"](gx.adam(0.1)))
    held = np.where(np.abs(HELD) < 1e-38, 0, HELD)
    params = {"mask": jnp.asarray(held), "w": jnp.ones(3)}
    new, _ = run(tx, params, updated)
    np.testing.assert_array_equal(new["mask"], held)
    assert_finite(new["w"])


def test_a_frozen_array_counts_in_the_norm_of_what_is_inside():
    """The gradient of a frozen array is a gradient: only the wrapper leaves the array alone."""
    inner = gx.chain(gx.clip_by_global_norm(1.0), gx.masked(gx.sgd(1.0), "w"))
    tx, params = gx.lookahead(inner, 2), {"mask": jnp.zeros(1), "w": jnp.zeros(1)}
    grads = {"mask": jnp.full(1, 3.0), "w": jnp.full(1, 4.0)}
    new, _ = tx.step(grads, tx.init(params), params)
    np.testing.assert_allclose(new["w"], [-0.8], rtol=1e-6)


def test_frozen_is_known_without_numbers():
    """Of which arrays a transformation says so; one that may become a step again is none."""
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    assert gx.adam(1.0).frozen(params) == [False] * 2
    assert gx.partition({"a": gx.freeze(), "*": gx.sgd(1.0)}).frozen(params) == [True, False]
    assert gx.masked(gx.sgd(1.0), "a").frozen(params) == [False, True]
    assert gx.masked(gx.sgd(1.0), "a", outside="pass").frozen(params) == [False] * 2
    assert gx.chain(gx.freeze("a"), gx.adamw(1.0)).frozen(params) == [False] * 2
    assert gx.ema(gx.freeze()).frozen(params) == [True, True]


@pytest.mark.parametrize("name", NAMES)
def test_none_above_several_arrays(name):
    """`None` as the gradient of a subtree beside an array that is frozen."""
    tx = around(name)(gx.partition({"mask": gx.freeze(), "*": gx.adam(0.1)}))
    below = {"a": jnp.ones(2), "b": jnp.ones(2)}
    params = {"mask": jnp.asarray(HELD), "w": jnp.ones(3), "below": below}
    grads = {"mask": jnp.ones(8), "w": jnp.ones(3), "below": None}
    some = {"mask": jnp.ones(8), "w": params["w"], "below": below}
    more = extras(tx, some, {**grads, "below": below})
    state, new = tx.init(params), params
    for _ in range(3):
        new, state = tx.step(grads, state, new, **more)
    np.testing.assert_array_equal(bits(new["mask"]), bits(params["mask"]))
    np.testing.assert_array_equal(new["below"]["a"], below["a"])
    updates, _ = tx.update(grads, state, new, **more)
    assert updates["below"] is None
