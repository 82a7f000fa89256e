"""An optimizer is data: what is printed can be typed, numbers are leaves, JAX sees through."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from laws.cases import arrays, assert_same, assert_three_parts, build, over_rows

import gradtx
from gradtx.catalogue import matrices
from gradtx.catalogue.links import all_halved, halved
from gradtx.catalogue.wrappers import are_long, at_even_steps
from gradtx.struct import Static, Struct, Table, static, within


class point(Struct):
    """A struct of the tests."""

    x: Any = within("[0, 1)")
    y: Any = 2.0
    label: Any = static(default="a")


NAMES = {**vars(matrices), **vars(gradtx)}
NAMES |= {"point": point, "Table": Table, "at_even_steps": at_even_steps}
NAMES |= {"all_halved": all_halved, "halved": halved, "are_long": are_long}


def again(shown):
    """What a printed object is when it is typed."""
    return eval(shown, dict(NAMES))


COMPOSED = {
    "chain": lambda: gradtx.chain(gradtx.clip(1.0), gradtx.adam(1e-3)),
    "repeated": lambda: gradtx.chain(gradtx.scale(1.0), gradtx.scale(2.0), gradtx.scale(3.0)),
    "named": lambda: gradtx.chain(gradtx.clip(1.0), first=gradtx.scale(1.0), last=gradtx.scale(2)),
    "odd name": lambda: gradtx.chain(scale_2=gradtx.scale(1.0), scale=gradtx.scale(2.0)),
    "nested": lambda: gradtx.chain(gradtx.chain(gradtx.clip(1.0)), gradtx.chain(x=gradtx.adam(1))),
    "empty": lambda: gradtx.chain(),
    "partition": lambda: gradtx.partition(
        {"*/bias": gradtx.sgd(0.1, momentum=0.9, nesterov=True), "*": gradtx.adamw(1e-3)}
    ),
    "labels": lambda: gradtx.partition(
        {"a": gradtx.sgd(0.1), "b": gradtx.freeze()}, {"dense": "a", "scale": "b"}
    ),
    "masked": lambda: gradtx.masked(gradtx.adam(0.1), "*/kernel", outside="pass"),
    "mask tree": lambda: gradtx.masked(gradtx.adam(0.1), {"dense": True, "scale": False}),
    "freeze": lambda: gradtx.chain(gradtx.freeze("*/bias"), gradtx.freeze()),
    "by_path": lambda: gradtx.adamw(1e-3, weight_decay=gradtx.by_path({"*/bias": 0.0, "*": 0.1})),
    "tree": lambda: gradtx.adamw({"dense": 1e-3, "scale": [1e-2, (1e-1,)]}),
    "mask": lambda: gradtx.adamw(1e-3, mask={"dense": True, "scale": False}),
    "schedule": lambda: gradtx.adamw(gradtx.warmup_cosine_decay_schedule(0.0, 1e-3, 10, 100)),
    "arithmetic": lambda: gradtx.sgd(
        2 * gradtx.linear_schedule(1.0, 0.0, 10).clip(0.1) + gradtx.constant_schedule(1.0)
    ),
    "joined": lambda: gradtx.sgd(
        gradtx.join_schedules([gradtx.linear_schedule(0, 1, 5), gradtx.constant_schedule(1.0)], [5])
    ),
    "piecewise": lambda: gradtx.sgd(gradtx.piecewise_constant_schedule(1.0, {10: 0.1, 20: 0.1})),
    "numbers": lambda: gradtx.chain(gradtx.clip(float("inf")), gradtx.scale(-0.0), gradtx.scale(1)),
}
over_composed = pytest.mark.parametrize("name", COMPOSED)


# Printing --------------------------------------------------------------------------------------


def _assert_is_its_print(tx):
    back = again(repr(tx))
    assert back == tx
    assert hash(back) == hash(tx)
    assert repr(back) == repr(tx)
    assert jax.tree.structure(back) == jax.tree.structure(tx)


@over_rows
def test_rows_are_what_they_print(row):
    """eval(repr(tx)) == tx, with the same hash and structure."""
    _assert_is_its_print(build(row))


@over_composed
def test_compositions_are_what_they_print(name):
    """The same for chains, partitions, masks, tables, trees and schedules."""
    _assert_is_its_print(COMPOSED[name]())


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
)
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_numbers_are_what_they_print(rate, nesterov, seed):
    """Any float, flag or integer comes back exactly."""
    parts = (
        gradtx.scale(rate),
        gradtx.scale_by_momentum(0.5, nesterov),
        gradtx.add_noise(0, 0, seed),
    )
    tx = gradtx.chain(*parts)
    assert again(repr(tx)) == tx


def test_defaults_are_left_out():
    """What is printed is what one would type."""
    assert repr(gradtx.scale_by_adam()) == "scale_by_adam()"
    assert repr(gradtx.scale_by_adam(b1=0.9, b2=0.99)) == "scale_by_adam(b2=0.99)"
    assert repr(gradtx.scale(1.0)) == "scale(1.0)"
    assert repr(gradtx.sgd(0.1)) == "chain(scale_by_learning_rate(0.1))"
    assert repr(gradtx.clip(1)) == "clip(1.0)"  # real numbers are floats
    assert repr(gradtx.scale_by_momentum(nesterov=True)) == "scale_by_momentum(nesterov=True)"


def test_functions_print_by_name():
    """A bare function as a schedule shows its name, tracers and arrays their shape or values."""

    def halving(count):
        return 0.5**count

    assert "halving" in repr(gradtx.sgd(halving))
    assert "Array([1., 2.])" in repr(gradtx.scale(jnp.array([1.0, 2.0])))
    shown = []
    jax.jit(lambda x: shown.append(repr(gradtx.scale(x))) or x)(1.0)
    assert shown == ["scale(float32[])"]


# Treescope asks JAX for names that some releases deprecate.
@pytest.mark.filterwarnings("ignore:jax:DeprecationWarning")
def test_pretty_printers_show_what_is_inside() -> None:
    """Treescope, which Flax brings, shows tables and trees and no addresses."""
    treescope = pytest.importorskip("treescope")
    tx = gradtx.adamw(1e-3, mask={"a": True})
    shown = treescope.render_to_text(tx)
    assert " at 0x" not in shown
    assert "b1=0.9" in shown


# A pytree --------------------------------------------------------------------------------------


@over_rows
def test_every_number_is_a_leaf_with_a_path(row):
    """The paths of the leaves are names of fields and parts, no two the same."""
    tx = build(row)
    flat, _ = jax.tree_util.tree_flatten_with_path(tx)
    paths = [jax.tree_util.keystr(path) for path, _ in flat]
    assert len(set(paths)) == len(paths)
    assert all(isinstance(leaf, int | float) for _, leaf in flat)
    assert not any("<flat index" in path for path in paths)


def test_paths_of_leaves():
    """`parts['scale_by_adam'].b1` is where it says."""
    flat, _ = jax.tree_util.tree_flatten_with_path(gradtx.adam(1e-3))
    paths = {jax.tree_util.keystr(path): leaf for path, leaf in flat}
    assert paths[".parts['scale_by_adam'].b1"] == 0.9
    assert paths[".parts['scale_by_learning_rate'].learning_rate"] == 1e-3


@over_rows
def test_objects_are_frozen(row):
    """No field can be assigned or deleted."""
    tx = build(row)
    for name in (*(f.name for f in dataclasses.fields(tx)), "new"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(tx, name, 1.0)


def test_constructors_keep_plain_numbers():
    """Python numbers stay what they are: no array is made of them."""
    leaves = jax.tree.leaves(gradtx.chain(gradtx.add_noise(1, key=3), gradtx.adamw(1e-3)))
    assert {type(leaf) for leaf in leaves} == {int, float}


def test_rebuilding_runs_no_constructor():
    """JAX rebuilds with whatever leaves it likes; the constructor judges what people type."""
    tx = gradtx.scale_by_adam()
    for leaf in (object(), None, "text", -1.0):
        rebuilt = jax.tree.map(lambda _, x=leaf: x, tx)
        assert rebuilt.b1 is leaf
    with pytest.raises(ValueError, match="b1 is"):
        gradtx.scale_by_adam(b1=-1.0)


def test_static_fields_are_no_leaves():
    """They choose code: in the structure, not among the leaves."""
    one, other = point(0.1, label="a"), point(0.1, label="b")
    assert jax.tree.leaves(one) == jax.tree.leaves(other) == [0.1, 2.0]
    assert jax.tree.structure(one) != jax.tree.structure(other)


def test_static_trees_become_hashable():
    """Label and mask trees of dicts, lists and callable modules can be static."""
    for tree in ({"a": "x", "b": ["y", True]}, [1, {"c": None}]):
        one, other = point(0.1, label=tree), point(0.1, label=copy.deepcopy(tree))
        assert hash(one) == hash(other)
        assert one == other
        assert again(repr(one)) == one
        assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(TypeError) as raised:
        point(0.1, label={"a": jnp.ones(2)})
    assert_three_parts(raised.value)


def test_static_trees_are_never_called():
    """A mask that is an Equinox module, and so callable, is a tree of flags."""
    model = eqx.nn.MLP(2, 2, 3, 1, key=jax.random.key(0))
    params = eqx.filter(model, eqx.is_inexact_array)
    mask = jax.tree.map(lambda x: x.ndim == 2, params)
    assert callable(mask)
    tx = gradtx.masked(gradtx.scale(2.0), mask)
    updates, _ = tx.update(params, tx.init(params), params)
    assert_same(updates.layers[0].weight, 2 * params.layers[0].weight)
    assert not updates.layers[0].bias.any()
    assert hash(tx) == hash(gradtx.masked(gradtx.scale(2.0), jax.tree.map(lambda x: x, mask)))


def test_tables_keep_their_order():
    """A table is a mapping whose order and keys survive JAX, pickle and copies."""
    table = Table({"z": 1.0, "a": 2.0, "m/*": point(0.1)})
    for back in (
        jax.tree.map(lambda x: x, table),
        pickle.loads(pickle.dumps(table)),
        copy.deepcopy(table),
        again(f"Table({table!r})"),
    ):
        assert list(back) == ["z", "a", "m/*"]
        assert back == table
        assert hash(back) == hash(table)
    assert table != Table({"a": 2.0, "z": 1.0, "m/*": point(0.1)})
    assert dict(table) == {"z": 1.0, "a": 2.0, "m/*": point(0.1)}
    with pytest.raises(KeyError):
        table["b"]


def test_functions_are_wrapped():
    """A bare function in the place of a number is static, equal to itself, and callable."""

    def half(count):
        return 0.5

    tx = gradtx.sgd(half)
    assert jax.tree.leaves(tx) == []
    assert tx == gradtx.sgd(half)
    assert tx != gradtx.sgd(lambda count: 0.5)
    assert isinstance(tx.parts["scale_by_learning_rate"].learning_rate, Static)


# Data ------------------------------------------------------------------------------------------


def test_gradient_of_an_optimizer_is_an_optimizer():
    """Differentiating with respect to an optimizer gives one with derivatives as numbers."""
    params, grads = arrays(0), arrays(1)

    def loss(tx):
        updates, _ = tx.update(grads, tx.init(params), params)
        return gradtx.tree.sum_squares(gradtx.apply_updates(params, updates))

    slope = jax.grad(loss)(gradtx.adamw(1e-2))
    assert isinstance(slope, gradtx.chain)
    exact = slope.parts["scale_by_learning_rate"].learning_rate
    h = 1e-3
    about = (loss(gradtx.adamw(1e-2 + h)) - loss(gradtx.adamw(1e-2 - h))) / (2 * h)
    np.testing.assert_allclose(exact, about, rtol=1e-2)


def test_a_stack_of_optimizers_is_an_optimizer():
    """Optimizers stack, unstack and print like any tree of arrays."""
    stack = jax.tree.map(lambda *xs: jnp.stack(xs), *map(gradtx.adam, (0.1, 0.2)))
    assert isinstance(stack, gradtx.chain)
    assert "Array([0.1, 0.2])" in repr(stack)
    second = jax.tree.map(lambda x: x[1], stack)
    assert float(second.parts["scale_by_learning_rate"].learning_rate) == np.float32(0.2)
    updates = jax.vmap(lambda tx: tx.update(1.0, tx.init(1.0))[0])(stack)
    np.testing.assert_allclose(updates, [-0.1, -0.2], rtol=1e-5)
