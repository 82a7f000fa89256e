"""Another transformation, or none, for some arrays: `partition`, `masked` and `freeze`."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import arrays, assert_same, assert_three_parts, avals, refused
from moved import PATHS, factors, first, moved

import gradtx
from gradtx import freeze, masked, partition

# partition --------------------------------------------------------------------------------------

ROUTES = {
    "patterns": lambda a, b: partition({"dense/*": a, "*": b}),
    "predicate": lambda a, b: partition(
        {"a": a, "b": b}, lambda path, x: "a" if path.startswith("dense/") else "b"
    ),
    "by shape": lambda a, b: partition({1: a, 2: b}, lambda path, x: 1 if x.ndim else 2),
    "prefix tree": lambda a, b: partition({"a": a, "b": b}, {"dense": "a", "scale": "b"}),
    "label tree": lambda a, b: partition(
        {"a": a, "b": b}, {"dense": {"bias": "a", "kernel": "a"}, "scale": "b"}
    ),
    "bools": lambda a, b: partition({True: a, False: b}, {"dense": True, "scale": False}),
}


@pytest.mark.parametrize("route", ROUTES)
def test_partition_routes(route):
    """By pattern, predicate, label tree or prefix of one, each array goes to its own."""
    tx = ROUTES[route](gradtx.scale(2.0), gradtx.scale(3.0))
    assert factors(tx) == {"dense/bias": 2.0, "dense/kernel": 2.0, "scale": 3.0}


def test_the_first_pattern_that_fits_counts():
    """Patterns are tried in the order in which they were given."""
    tx = partition({"*/bias": gradtx.scale(2.0), "dense/*": gradtx.scale(3.0), "*": freeze()})
    assert factors(tx) == {"dense/bias": 2.0, "dense/kernel": 3.0, "scale": 0.0}


def test_patterns():
    """`*` crosses slashes, a leading `*/` fits the top as well, `?` and `[]` work."""
    params = {"bias": jnp.ones(()), "a": {"b": [{"bias": jnp.ones(())}, jnp.ones(())]}}
    for pattern, fitting in {
        "*/bias": {"bias", "a/b/0/bias"},
        "a/*": {"a/b/0/bias", "a/b/1"},
        "a/b/?": {"a/b/1"},
        "a/b/[0-9]/bias": {"a/b/0/bias"},
        "bias": {"bias"},
        "*": {"bias", "a/b/0/bias", "a/b/1"},
    }.items():
        found = factors(masked(gradtx.scale(1.0), pattern), params=params)
        assert {path for path, factor in found.items() if factor} == fitting, pattern


def test_partition_state_is_keyed_by_its_entries():
    """Each entry remembers its own arrays only; what is frozen costs nothing."""
    tx = partition({"*/bias": gradtx.adam(1e-3), "*": freeze()})
    state = tx.init(arrays(0))
    assert set(state) == {"count", "gradient_step", "*/bias", "*"}
    assert [x.shape for x in jax.tree.leaves(state["*/bias"]["scale_by_adam"].mu)] == [(3,)]
    assert jax.tree.leaves(state["*"]) == []


def test_frozen_arrays_get_zero_updates():
    """Not None, not the gradient: zeros, so that the tree of updates is whole."""
    updates = moved(partition({"*/bias": gradtx.scale(2.0), "*": freeze()}))
    assert set(updates) == set(PATHS)
    assert not updates["dense/kernel"].any()
    assert updates["dense/bias"].all()


def test_partition_without_an_entry():
    """Arrays that go nowhere are listed by path."""
    with pytest.raises(ValueError, match="no entry for") as raised:
        jax.eval_shape(partition({"dense/*": gradtx.scale(2.0)}).init, arrays(0))
    assert_three_parts(raised.value, "partition(", "'scale'", "'dense/*'")
    wrong = partition({"a": gradtx.scale(2.0)}, {"dense": "a", "scale": "b"})
    with pytest.raises(ValueError, match="no entry for 'scale'"):
        jax.eval_shape(wrong.init, arrays(0))


def test_partition_with_an_unused_entry():
    """A pattern that fits no array, or none that is left, is most often misspelt."""
    for table in (
        {"*/bais": gradtx.scale(2.0), "*": freeze()},
        {"*": gradtx.scale(2.0), "*/bias": freeze()},
    ):
        with pytest.raises(ValueError, match="no array goes to") as raised:
            jax.eval_shape(partition(table).init, arrays(0))
        assert_three_parts(raised.value, "dense/bias")
    wrong = partition({"a": freeze(), "b": freeze()}, lambda path, x: "a")
    with pytest.raises(ValueError, match="no array goes to 'b'"):
        jax.eval_shape(wrong.init, arrays(0))


def test_labels_that_do_not_fit():
    """A label tree of another model is refused with the paths, not by JAX's internals."""
    params = arrays(0)
    for tx in (
        partition({"a": gradtx.scale(1.0)}, {"dense": "a", "other": "a"}),
        masked(gradtx.scale(1.0), {"dense": True, "other": True}),
        gradtx.adamw(1e-3, mask={"dense": True, "other": True}),
    ):
        with pytest.raises((TypeError, ValueError)) as raised:
            jax.eval_shape(lambda p, tx=tx: tx.update(p, tx.init(p), p), params)
        assert_three_parts(raised.value, "other")


def test_state_of_another_partition():
    """A state without the entries is refused with both lists."""
    params = arrays(0)
    tx = partition({"*/bias": gradtx.sgd(0.1), "*": freeze()})
    for state in (partition({"*": gradtx.sgd(0.1)}).init(params), (), gradtx.sgd(0.1).init(params)):
        with pytest.raises(TypeError, match="state") as raised:
            jax.eval_shape(lambda p, s=state: tx.update(p, s, p), params)
        assert_three_parts(raised.value, "partition(", "init")


def test_gradients_of_another_tree():
    """Partition and masks name the arrays that only one of the trees has."""
    params = arrays(0)
    grads = {"dense": params["dense"]}
    for tx in (
        partition({"*/bias": gradtx.sgd(0.1), "*": freeze()}),
        masked(gradtx.scale(1.0), "*/bias"),
        freeze("*/bias"),
    ):
        with pytest.raises(ValueError, match="different trees") as raised:
            jax.eval_shape(lambda g, p, tx=tx: tx.update(g, tx.init(p), p), grads, params)
        assert_three_parts(raised.value, "'scale'")


def test_partition_leaves_other_leaves_alone():
    """None, integers and keys need no entry and keep their place."""
    params = {"p": jnp.ones(2), "none": None, "i": jnp.arange(2), "key": jax.random.key(0)}
    grads = {"p": jnp.ones(2), "none": None, "i": None, "key": None}
    tx = partition({"p": gradtx.scale(2.0)})
    updates, state = tx.update(grads, tx.init(params), params)
    assert_same(updates, {**grads, "p": jnp.full(2, 2.0)})
    assert_same(gradtx.apply_updates(params, updates), {**params, "p": jnp.full(2, 3.0)})
    assert avals(state) == avals(tx.init(params))


def test_partition_without_parameters():
    """Where no part needs the parameters, updates route themselves."""
    tx = partition({"*/bias": gradtx.scale(2.0), "*": freeze()})
    grads = arrays(1)
    state = tx.init(grads)
    assert_same(tx.update(grads, state), tx.update(grads, state, grads))


def test_partition_of_one_bare_array():
    """An array that is the whole tree has the empty path, which "*" fits."""
    tx = partition({"*": gradtx.adamw(1e-3)})
    params = jnp.ones(3)
    updates, _ = tx.update(params, tx.init(params), params)
    assert updates.shape == (3,)
    tx = masked(gradtx.adamw(1e-3), False)
    updates, _ = tx.update(params, tx.init(params), params)
    assert not updates.any()


def test_global_norm_of_a_partition_is_of_its_arrays():
    """What looks at all arrays sees only those that are its own."""
    tx = partition({"*/bias": gradtx.clip_by_global_norm(1.0), "*": gradtx.scale(1.0)})
    updates = moved(tx)
    np.testing.assert_allclose(jnp.linalg.norm(updates["dense/bias"]), 1.0, rtol=1e-6)
    assert (updates["dense/kernel"] == 1).all()


# masked and freeze ------------------------------------------------------------------------------

MASKS = {
    "pattern": "*/bias",
    "predicate": lambda path, x: path.endswith("bias"),
    "shape": lambda path, x: x.shape == (3,),
    "tree": {"dense": {"bias": True, "kernel": False}, "scale": False},
    "NumPy bools": {"dense": {"bias": np.True_, "kernel": np.False_}, "scale": np.False_},
}


@pytest.mark.parametrize("mask", MASKS)
def test_masked(mask):
    """Zero outside the mask unless told to pass; state inside only."""
    tx = masked(gradtx.scale_by_momentum(), MASKS[mask])
    assert factors(tx) == {"dense/bias": 1.0, "dense/kernel": 0.0, "scale": 0.0}
    passing = masked(gradtx.scale(2.0), MASKS[mask], outside="pass")
    assert factors(passing) == {"dense/bias": 2.0, "dense/kernel": 1.0, "scale": 1.0}
    slots = jax.tree.leaves(tx.init(arrays(0)).trace)
    assert [x.shape for x in slots] == [(3,)]


@pytest.mark.parametrize("mask", MASKS)
def test_freeze(mask):
    """Zero inside the mask, as they were outside, without a state."""
    tx = freeze(MASKS[mask])
    assert factors(tx) == {"dense/bias": 0.0, "dense/kernel": 1.0, "scale": 1.0}
    assert jax.tree.leaves(tx.init(arrays(0))) == []


def test_freeze_everything():
    """Without a mask nothing moves, not even along a gradient that is not finite."""
    grads = jax.tree.map(lambda x: x * jnp.nan, arrays(0))
    assert set(factors(freeze(), grads=grads).values()) == {0.0}
    assert set(factors(masked(gradtx.scale(1.0), False), grads=grads).values()) == {0.0}


def test_prefix_masks():
    """A flag for a subtree counts for all of it; one flag counts for everything."""
    tx = masked(gradtx.scale(2.0), {"dense": True, "scale": False})
    assert factors(tx) == {"dense/bias": 2.0, "dense/kernel": 2.0, "scale": 0.0}


def test_outside_is_checked():
    """A misspelt word is refused by the constructor."""
    with pytest.raises(ValueError, match="outside is 'keep'") as raised:
        masked(gradtx.scale(1.0), True, outside="keep")
    assert_three_parts(raised.value, "'zero'", "'pass'")


def test_masks_may_be_modules():
    """Label and mask trees made from an Equinox model are callable and are never called."""
    model = eqx.nn.MLP(2, 2, 3, 1, key=jax.random.key(0))
    params = eqx.filter(model, eqx.is_inexact_array)
    flags = jax.tree.map(lambda x: x.ndim == 2, params)
    labels = jax.tree.map(lambda x: "matrix" if x.ndim == 2 else "vector", params)
    for tx in (
        masked(gradtx.scale(1.0), flags),
        freeze(jax.tree.map(lambda flag: not flag, flags)),
        partition({"matrix": gradtx.scale(1.0), "vector": freeze()}, labels),
    ):
        found = factors(tx, params=params)
        assert {path.split("/")[-1] for path, x in found.items() if x} == {"weight"}
    state = gradtx.adamw(1e-3, mask=flags).init(params)
    assert len(jax.tree.leaves(state["scale_by_adam"].mu)) == 4


# Ways to write a mask ---------------------------------------------------------------------------

TWO = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
FORMS: dict[str, Any] = {
    "pattern": "*/kernel",
    "of path and array": lambda path, x: path.endswith("kernel"),
    "of the tree": lambda params: jax.tree.map(lambda x: x.ndim == 2, params),
    "of the tree, with a default": lambda params, n=2: jax.tree.map(lambda x: x.ndim == n, params),
    "tree": {"dense": {"kernel": True, "bias": False}},
}


@pytest.mark.parametrize("mask", FORMS)
def test_masks_are_one_thing_everywhere(mask: str) -> None:
    """Every form of a mask in every place that takes one."""
    flags = FORMS[mask]
    for make in (
        lambda m: gradtx.adamw(1.0, weight_decay=0.5, mask=m),
        lambda m: gradtx.lion(1.0, weight_decay=0.5, mask=m),
        lambda m: gradtx.lamb(1.0, weight_decay=0.5, mask=m),
        lambda m: gradtx.lars(1.0, weight_decay=0.5, weight_decay_mask=m),
        lambda m: gradtx.masked(gradtx.scale(2.0), m),
        lambda m: gradtx.freeze(m),
    ):
        updates, _ = first(make(flags), TWO)
        wanted, _ = first(make(FORMS["tree"]), TWO)
        assert_same(updates, wanted)
    told = gradtx.adamw(1e-3, weight_decay=0.5, mask=flags).routes(TWO)
    assert ["weight_decay=0.5" in route.by for route in told] == [False, True]


def test_labels_of_the_whole_tree() -> None:
    """Optax's form of a label function, in `partition` and `by_path`."""

    def label(params: Any) -> Any:
        return jax.tree.map(lambda x: "matrix" if x.ndim == 2 else "rest", params)

    tx = gradtx.partition({"matrix": gradtx.scale(2.0), "rest": gradtx.freeze()}, label)
    table = gradtx.scale(gradtx.by_path({"matrix": 2.0, "rest": 0.0}, label))
    assert_same(first(tx, TWO)[0], first(table, TWO)[0])


def test_masks_that_say_nothing() -> None:
    """No bool, or a function that fails: named with the path."""
    refused(lambda: first(gradtx.masked(gradtx.scale(1.0), lambda p, x: 1), TWO), "bias", "bool")

    def wrong(path: str, x: Any) -> bool:
        raise AssertionError

    refused(lambda: first(gradtx.masked(gradtx.scale(1.0), wrong), TWO), "bias", "AssertionError")
    refused(lambda: first(gradtx.masked(gradtx.scale(1.0), lambda p: p["x"]), TWO), "KeyError")
    model = {"w": jnp.ones(2), "activation": jax.nn.relu}
    tx = gradtx.masked(gradtx.scale(2.0), lambda path, x: x.ndim == 1)
    assert jax.tree.leaves(tx.init(model))
