"""Every array by itself: counts of its own."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import assert_close

import gradtx as gx

PARAMS = {"a": jnp.ones(2), "b": [jnp.ones(3), jnp.full(4, 2.0)], "n": jnp.arange(2)}


def after(tx: Any, missing: list[tuple[str, ...]]) -> tuple[Any, Any]:
    """Parameters and state after steps in which some arrays have no gradient."""
    params, state = PARAMS, tx.init(PARAMS)
    for step, names in enumerate(missing):
        flat, treedef = jax.tree_util.tree_flatten_with_path(params)
        grads = treedef.unflatten(
            None if gx.tree.path_string(path) in names else jnp.sin(x + step) for path, x in flat
        )
        grads["n"] = None
        params, state = jax.jit(tx.step)(grads, state, params)
    return params, state


RATE = gx.linear_schedule(0.1, 0.0, 10)
INNER = {
    "adam": gx.adam(RATE),
    "chain": gx.chain(gx.clip(0.3), gx.adamw(gx.by_path({"*": 0.2}))),
    "masked": gx.masked(gx.adam(RATE), "b/*"),
    "ema": gx.ema(gx.adam(RATE), 0.9),
    "accumulate": gx.accumulate(gx.adam(RATE), 2),
    "skip": gx.apply_if_finite(gx.adam(RATE), 5),
    "adopt": gx.scale_by_adopt(),
}


@pytest.mark.parametrize("name", INNER)
def test_an_array_that_joins_late_is_a_fresh_one(name: str) -> None:
    """After two steps without a gradient: as if these had not been."""
    tx = gx.separately(INNER[name])
    late, state = after(tx, [("b/1",), ("b/1",), (), ()])
    p, own = {"b": [None, PARAMS["b"][1]]}, INNER[name].init({"b": [None, PARAMS["b"][1]]})
    for step in (2, 3):
        p, own = INNER[name].step({"b": [None, jnp.sin(p["b"][1] + step)]}, own, p)
    assert_close(late["b"][1], p["b"][1])
    assert_close(tx.eval_params(state, late)["b"][1], INNER[name].eval_params(own, p)["b"][1])


@pytest.mark.parametrize("name", INNER)
def test_together_it_changes_nothing(name: str) -> None:
    """Where all arrays have gradients from the first step on."""
    assert_close(after(gx.separately(INNER[name]), [()] * 3)[0], after(INNER[name], [()] * 3)[0])


def test_patterns_are_those_of_the_whole() -> None:
    """Each is used by some array, which is asked of all arrays together."""
    tx = gx.adam(gx.by_path({"a": 0.1, "*": 0.2}))
    assert_close(after(gx.separately(tx), [()] * 3)[0], after(tx, [()] * 3)[0])
    with pytest.raises(ValueError, match="'z'"):
        gx.separately(gx.adam(gx.by_path({"z": 0.1, "*": 0.2}))).init(PARAMS)


def test_norms_are_of_one_array() -> None:
    tx = gx.separately(gx.clip_by_global_norm(1.0))
    grads = {"a": jnp.full(2, 3.0), "b": [jnp.full(3, 5.0), jnp.full(4, 7.0)], "n": None}
    u, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    for x in (u["a"], *u["b"]):
        np.testing.assert_allclose(np.linalg.norm(x), 1.0, rtol=1e-6)


def test_the_state_is_by_path() -> None:
    _, state = after(gx.separately(gx.adam(0.1)), [("a",), ("a", "b/0"), ()])
    counts = {path: int(own["count"]) for path, own in state["arrays"].items()}
    assert counts == {"a": 1, "b/0": 2, "b/1": 3}
    assert int(gx.separately(gx.adam(0.1)).count(state)) == 3


class by_weight(gx.Rule):
    """Multiplies by weights."""

    needs: ClassVar[tuple[str, ...]] = ("weights",)
    trees: ClassVar[tuple[str, ...]] = ("weights",)

    def update_leaf(self, g: Any, slots: Any, p: Any, step: gx.Step) -> Any:
        return g * step.extra["weights"], slots


def test_trees_of_arguments_are_split() -> None:
    params = {name: PARAMS[name] for name in "ab"}
    tx, weights = gx.separately(by_weight()), {"a": 2.0, "b": [3.0, 4.0]}
    u, _ = tx.update(params, tx.init(params), params, weights=weights)
    assert (float(u["a"][0]), float(u["b"][0][0]), float(u["b"][1][0])) == (2.0, 3.0, 8.0)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda tx, s: tx.update({"z": jnp.ones(2)}, s, {"z": jnp.ones(2)}), "'z'"),
        (lambda tx, s: tx.update(PARAMS, gx.adam(0.1).init(PARAMS), PARAMS), "'arrays'"),
        (lambda tx, s: tx.init({"0": jnp.ones(1), 0: jnp.ones(1)}), "Comparator raised|path '0'"),
        (lambda tx, s: tx.eval_params(s, {"z": jnp.ones(2)}), "'z'"),
    ],
)
def test_what_is_refused(call: Any, told: str) -> None:
    tx = gx.separately(gx.adam(0.1))
    with pytest.raises((TypeError, ValueError), match=told):
        call(tx, tx.init(PARAMS))
