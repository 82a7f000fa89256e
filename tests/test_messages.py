"""Messages: they show what was typed, name the array and its shapes, and say what to do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from laws.cases import arrays, refused

import gradtx


def test_messages_show_what_was_typed() -> None:
    """Numbers, not tracers, also where the call was compiled."""
    tx, params = gradtx.adamw(3e-4, b1=0.8), arrays(0)
    said = refused(lambda: tx.update(params, gradtx.sgd(0.1).init(params), params), "b1=0.8")
    assert "float32[]" not in said
    masked = gradtx.masked(tx, {"dense": "yes"})
    assert "float32[]" not in refused(lambda: masked.init(params), "'yes'", "b1=0.8")
    shapes = jax.eval_shape(lambda: params)
    assert "float32[]" not in refused(lambda: gradtx.dog(eps=1e-4).init(shapes), "eps=0.0001")
    assert "0.0003" in said


def test_what_to_do_is_about_this_mistake() -> None:
    """Shapes, a lost memory, wrong axes and a mistake in one's own formula are different things."""

    class wrong(gradtx.Rule):
        def update_leaf(self, g: Any, slots: Any, p: Any, t: Any) -> Any:
            return g + jnp.ones(7), slots

    three, two = jnp.ones(3), jnp.ones(2)
    adam = gradtx.scale_by_adam()
    said = {
        refused(lambda: adam.update(three, adam.init(two), two), "jax.grad(loss)(params)"),
        refused(lambda: adam.update(three, adam.init(two), three), "tx.init(params)"),
        refused(lambda: wrong().update(three, wrong().init(three), three), "update_leaf of wrong"),
        refused(
            lambda: gradtx.muon(1e-3, matrices="w").init({"w": three}),
            "'w'",
            "letter for each axis",
        ),
        refused(lambda: adam.update({"a": 1.0}, adam.init({"a": None}), {"a": 1.0}), "tx.init"),
    }
    assert len({text.rsplit(". ", 1)[-1] for text in said}) >= 4


def test_containers_of_another_kind() -> None:
    """The same paths in a tuple and in a list: both kinds are named with their place."""
    tx = gradtx.adam(1e-3)
    params = {"a": [jnp.ones(2), jnp.ones(3)]}
    grads = {"a": (jnp.ones(2), jnp.ones(3))}
    refused(lambda: tx.update(grads, tx.init(params), params), "'a'", "tuple", "list")


def test_tables_of_another_kind() -> None:
    """A list for a dict, keys of several types."""
    refused(lambda: gradtx.partition([gradtx.adam(1e-3)]), "partition", "list")
    refused(lambda: gradtx.muon(1e-3, matrices=["w"]), "muon", "list")
    refused(lambda: gradtx.by_path([1.0]), "by_path", "list")
    refused(lambda: gradtx.partition({1: gradtx.adam(1.0), "a": gradtx.sgd(1.0)}), "int, str")


def test_a_pattern_behind_another() -> None:
    """A pattern that an earlier one leaves nothing says which one it was."""
    tx = gradtx.partition({"*": gradtx.adam(1e-3), "w": gradtx.sgd(0.1)})
    refused(lambda: tx.init({"w": jnp.ones(2)}), "'*', which comes before it", "List 'w' before")


def test_long_messages_are_shortened() -> None:
    """A label tree of six hundred entries does not fill the screen."""
    labels = {f"layer_{i}": "a" for i in range(600)}
    tx = gradtx.partition({"a": gradtx.adam(1e-3)}, labels)
    said = refused(lambda: tx.init({"other": jnp.ones(2)}))
    assert len(said) < 2000


def test_states_that_are_none() -> None:
    """`None` and a wrong state in `update` and `eval_params`."""
    tx = gradtx.partition({"*": gradtx.adam(1e-3)})
    refused(lambda: tx.update({"a": 1.0}, None, {"a": 1.0}), "the state is None")
    refused(lambda: tx.eval_params(3, {"a": 1.0}), "eval_params(state, params)")
