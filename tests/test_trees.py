"""Trees of users: other containers, whole models, patterns; right, or refused by path."""

from __future__ import annotations

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import FrozenDict
from laws.cases import assert_same, refused
from test_nesting import MAKERS

import gradtx as gx

PLAIN = {"a": {"bias": jnp.ones(3), "kernel": jnp.ones((2, 3))}, "b": [jnp.ones(2), jnp.ones(1)]}
LABELS = {"a": {"bias": "x", "kernel": "y"}, "b": ["x", "y"]}


class Net(nnx.Module):
    """Two arrays, each in a variable of its own."""

    def __init__(self):
        self.a = nnx.Linear(2, 3, rngs=nnx.Rngs(0))


def slots_by_label(labels, params):
    """How many arrays the optimizer of each label remembers."""
    tx = gx.partition({"x": gx.adam(1.0), "y": gx.adam(0.1)}, labels)
    state = jax.eval_shape(tx.init, params)
    return {k: len(jax.tree.leaves(state[k]["scale_by_adam"].mu)) for k in ("x", "y")}


CONTAINERS = {
    "tuple for list": ({"a": LABELS["a"], "b": ("x", "y")}, PLAIN),
    "list for tuple": (LABELS, {"a": PLAIN["a"], "b": tuple(PLAIN["b"])}),
    "FrozenDict labels": (FrozenDict(LABELS), PLAIN),
    "FrozenDict parameters": (LABELS, FrozenDict(PLAIN)),
    "prefix of another kind": (FrozenDict({"a": "x", "b": ("x", "y")}), PLAIN),
    "boxes": (LABELS, jax.tree.map(lambda p: nn.Partitioned(p, names=(None,) * p.ndim), PLAIN)),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_labels_over_other_containers_go_by_path(name):
    """A tuple for a list, FrozenDict for dict, boxes around arrays."""
    labels, params = CONTAINERS[name]
    expected = {"x": 3, "y": 1} if "prefix" in name else {"x": 2, "y": 2}
    assert slots_by_label(labels, params) == expected


def test_states_of_nnx_and_plain_dicts():
    """Labels made on one serve the other; masks and hyperparameters too."""
    state = nnx.state(Net(), nnx.Param)
    plain = nnx.to_pure_dict(state)
    for a, b in ((state, plain), (plain, state)):
        labels = jax.tree.map(lambda x: "x" if np.ndim(x) == 1 else "y", a)
        assert slots_by_label(labels, b) == {"x": 1, "y": 1}
        flags = jax.tree.map(lambda x: np.ndim(x) == 2, a)
        assert gx.masked(gx.adam(1.0), flags).frozen(b) == [True, False]
        rates = jax.tree.map(lambda x: 0.5 if np.ndim(x) == 1 else 0.25, a)
        tx, ones = gx.sgd(rates), jax.tree.map(jnp.ones_like, b)
        updates, _ = tx.update(ones, tx.init(b), b)
        assert sorted(float(u.ravel()[0]) for u in jax.tree.leaves(updates)) == [-0.5, -0.25]


def test_labels_that_do_not_fit_are_told_by_path():
    """The parameters without a label and the labels without a parameter, some of them."""
    missing = {"a": {"bias": "x"}, "b": ["x", "y"]}
    refused(lambda: slots_by_label(missing, PLAIN), "nothing for 'a/kernel'")
    more = {**LABELS, "c": "x"}
    refused(lambda: slots_by_label(more, PLAIN), "no parameter for 'c'")
    big = {f"layer{i}": {"w": jnp.ones(1)} for i in range(600)}
    labels = {f"layer{i}": {"v": "x"} for i in range(600)}
    said = refused(lambda: slots_by_label(labels, big), "'layer0/w'", "and 595 more")
    assert len(said) <= 2500


@pytest.mark.parametrize("name", MAKERS)
def test_whole_models(name):
    """An Equinox model, unfiltered: functions in it come through `step` and `eval_params`."""
    if name == "opaque_sam":
        pytest.skip("it differentiates the loss itself, which has arrays only")
    model = eqx.nn.MLP(2, 1, 4, 0, key=jax.random.key(0))
    grads = jax.tree.map(lambda x: jnp.ones_like(x) if eqx.is_array(x) else None, model)
    tx = MAKERS[name](gx.adam(0.1))
    state = tx.init(model)
    for _ in range(2):
        new, state = tx.step(grads, state, model, value=1.0)
    assert new.activation is model.activation
    assert tx.eval_params(state, new).activation is model.activation
    updates, _ = tx.update(grads, state, model, value=1.0)
    assert jax.tree.leaves(updates.activation) == []


@pytest.mark.parametrize(
    "stranger",
    [object(), int, "abc", b"abc", {1, 2}],
    ids=lambda x: type(x).__name__,
)
def test_what_is_no_array_is_refused(stranger):
    """By its path; functions and `None` pass."""
    refused(lambda: gx.adam(1.0).init({"w": stranger, "v": jnp.ones(2)}), "'w'")
    assert gx.adam(1.0).init({"w": len, "n": None, "v": jnp.ones(2)})


def test_brackets_in_patterns_stand_for_themselves():
    """A path copied from a message is a pattern."""
    params = {"blocks[0]": {"w": jnp.ones(2)}, "blocks[1]": {"w": jnp.ones(2)}, "b0": jnp.ones(1)}
    tx = gx.sgd(gx.by_path({"blocks[0]/w": 1.0, "blocks[?]/w": 2.0, "b[0-9]": 3.0}))
    updates, _ = tx.update(params, tx.init(params))
    expected = {"blocks[0]": {"w": [-1.0] * 2}, "blocks[1]": {"w": [-2.0] * 2}, "b0": [-3.0]}
    assert_same(updates, jax.tree.map(jnp.float32, expected, is_leaf=lambda x: isinstance(x, list)))


def test_a_mask_beside_values_that_differ():
    """Two answers to one question are refused where they are given."""
    for decay in (gx.by_path({"w": 0.1, "*": 0.0}), {"w": 0.1, "v": 0.0}, [0.1, 0.0]):
        refused(lambda decay=decay: gx.adamw(1.0, weight_decay=decay, mask="w"), "mask", "already")


SCHEDULE = gx.linear_schedule(1.0, 0.0, 10)
BEHIND = {
    "a rate": lambda: gx.scale_by_learning_rate(SCHEDULE),
    "a function": lambda: gx.scale(lambda count: 1.0 / (count + 1)),
    "moments": gx.scale_by_adam,
    "an optimizer": lambda: gx.sgd(SCHEDULE),
    "noise": lambda: gx.add_noise(1.0),
    "a part of a partition": lambda: gx.partition({"*": gx.adam(1.0)}),
    "decay in a mask": lambda: gx.masked(gx.scale_by_momentum(), "*"),
}
SKIPPING = {
    "accumulate": lambda tx: gx.accumulate(tx, 4),
    "every": lambda tx: gx.every(2, tx),
    "guard": lambda tx: gx.apply_if_finite(tx, 5),
    "inside": lambda tx: gx.partition({"*": gx.accumulate(tx, 4)}),
}


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("skipping", SKIPPING)
def test_a_clock_behind_what_skips_steps(skipping, behind):
    """Its clock would tick at steps that are none: refused, with the way out."""
    part = SKIPPING[skipping](gx.scale(1.0))
    refused(
        lambda: gx.chain(part, BEHIND[behind]()), "leaves out steps", "Put the whole chain inside"
    )
    assert gx.chain(BEHIND[behind](), part)  # before it all is well


def test_what_has_no_clock_may_stand_behind():
    """Numbers, clips, decays."""
    part = gx.accumulate(gx.adam(SCHEDULE), 4)
    assert gx.chain(
        part, gx.scale(-1.0), gx.clip(1.0), gx.scale_by_learning_rate(0.1), gx.freeze("b")
    )
    assert gx.chain(gx.accumulate(gx.adam(1.0), 1), gx.scale_by_adam())  # skips nothing
