"""Whole models, nodes of users, paths as tuples, arrays that nobody moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import some

import gradtx as gx

WRAPPED: dict[str, Callable[[], Any]] = {
    "adam": lambda: gx.adam(0.1),
    "clip": lambda: gx.chain(gx.clip_by_global_norm(1.0), gx.sgd(0.1)),
    "partition": lambda: gx.partition({"*": gx.adam(0.1)}),
    "masked": lambda: gx.masked(gx.adam(0.1), "*"),
    "accumulate": lambda: gx.accumulate(gx.adam(0.1), 2),
    "accumulate_and_look": lambda: gx.accumulate(
        gx.adam(0.1), 2, nonfinite="skip", noise_scale=True
    ),
    "apply_if_finite": lambda: gx.apply_if_finite(gx.adam(0.1), 3),
    "skip_outliers": lambda: gx.skip_outliers(gx.adam(0.1)),
    "dynamic_loss_scale": lambda: gx.dynamic_loss_scale(gx.adam(0.1)),
    "every": lambda: gx.every(2, gx.adam(0.1)),
    "conditionally_mask": lambda: gx.conditionally_mask(gx.adam(0.1), lambda count: count % 2 == 0),
    "ema": lambda: gx.ema(gx.adam(0.1)),
    "polyak_average": lambda: gx.polyak_average(gx.adam(0.1)),
    "lookahead": lambda: gx.lookahead(gx.adam(0.1), 2),
    "lookahead_resetting": lambda: gx.lookahead(gx.adam(0.1), 2, reset_state=True),
    "outer": lambda: gx.diloco(gx.adam(0.1), 2),
    "ema_nesterov": lambda: gx.ema_nesterov(gx.adam(0.1)),
    "schedule_free": lambda: gx.schedule_free(gx.adam(0.1, b1=0.0)),
    "gpa": lambda: gx.gpa(gx.adam(0.1)),
    "sam": lambda: gx.sam(gx.adam(0.1)),
    "kahan": lambda: gx.kahan(gx.adam(0.1)),
    "master_weights": lambda: gx.master_weights(gx.adam(0.1)),
    "stochastic_rounding": lambda: gx.stochastic_rounding(gx.adam(0.1), key=0),
    "inject_hyperparams": lambda: gx.inject_hyperparams(gx.adam(0.1)),
    "monitor": lambda: gx.monitor(gx.adam(0.1)),
    "mechanic": lambda: gx.mechanic(gx.adam(0.1)),
    "store": lambda: gx.store(gx.adam(0.1), {"mu": "bfloat16"}),
    "cautious": lambda: gx.cautious(gx.adam(0.1)),
    "add_noise": lambda: gx.add_noise(1.0, 1.0, key=0),
    "prodigy": lambda: gx.prodigy(),
    "novograd": lambda: gx.novograd(0.1),
}


# One of every kind of wrapper, and of state; the others run in `make test-all`.
OFTEN = (
    "adam", "partition", "accumulate_and_look", "apply_if_finite", "ema", "lookahead",
    "schedule_free", "sam", "master_weights", "stochastic_rounding", "inject_hyperparams",
    "mechanic", "store", "prodigy", "novograd",
)  # fmt: skip
wrapped = pytest.mark.parametrize("name", some(WRAPPED, OFTEN))


@wrapped
def test_unfiltered_models(name: str) -> None:
    """An Equinox model and gradients with functions in them come through all calls."""
    model = eqx.nn.MLP(2, 2, 4, 0, key=jax.random.key(0))
    grads = jax.tree.map(lambda x: jnp.ones_like(x) if eqx.is_inexact_array(x) else x, model)
    tx = WRAPPED[name]()
    state = tx.init(model)
    for _ in range(2):
        _, _ = tx.update(grads, state, model)
        model, state = tx.step(grads, state, model)
    shown = tx.eval_params(state, model)
    assert type(shown) is eqx.nn.MLP
    assert shown(jnp.ones(2)).shape == (2,)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    """A node that insists on arrays, as users write them."""

    w: Any
    b: Any

    def __post_init__(self) -> None:
        for x in (self.w, self.b):
            assert type(x) is object or hasattr(x, "shape"), f"no array: {x!r}"
            assert not hasattr(x, "shape") or len(x.shape) > 0, f"a scalar: {x!r}"


# Slots of one number an array, and trees with None for some, are put into the node of the user.
REFUSED = ("ema", "novograd", "master_weights", "stochastic_rounding")


@wrapped
def test_nodes_that_insist_on_arrays(name: str) -> None:
    """They come through, or are refused by path with what to do."""
    params = {"layer": Layer(jnp.ones((2, 2)), jnp.ones(2)), "scale": jnp.ones(2)}
    tx = WRAPPED[name]()
    if name in REFUSED:
        with pytest.raises(TypeError, match=r"Layer, the node at 'layer', raised Assertion.*JAX"):
            tx.step(params, tx.init(params), params)
        return
    state = tx.init(params)
    for _ in range(2):
        updates, _ = tx.update(params, state, params)
        assert type(updates["layer"]) is Layer
        params, state = tx.step(params, state, params)
    assert type(tx.eval_params(state, params)["layer"]) is Layer


ROUTED: dict[str, Callable[[], Any]] = {
    "partition": lambda: gx.partition({"layer/w": gx.adam(0.1), "*": gx.sgd(0.1)}),
    "partition of freeze": lambda: gx.partition({"layer/w": gx.freeze(), "*": gx.sgd(0.1)}),
    "masked": lambda: gx.masked(gx.adam(0.1), "layer/w"),
    "ema of masked": lambda: gx.ema(gx.masked(gx.adam(0.1), "scale")),
    "muon": lambda: gx.muon(0.1, matrices="layer/w"),
    "by_path": lambda: gx.sgd(gx.by_path({"layer/w": 0.1, "*": 0.2})),
    "mask of a decay": lambda: gx.adamw(0.1, mask="layer/w"),
}


@pytest.mark.parametrize("name", ROUTED)
def test_nodes_whose_arrays_go_to_different_places(name: str) -> None:
    """Where one array of a node is somebody else's, the node would hold None: refused by path."""
    params = {"layer": Layer(jnp.ones((2, 2)), jnp.ones(2)), "scale": jnp.ones(2)}
    tx = ROUTED[name]()
    if name not in ("by_path", "mask of a decay"):
        with pytest.raises(TypeError, match="Layer, the node at 'layer'"):
            tx.init(params)
        return
    state = tx.init(params)
    updates, _ = tx.update(params, state, params)
    assert type(updates["layer"]) is Layer
    params, state = tx.step(params, state, params)
    assert type(tx.eval_params(state, params)["layer"]) is Layer


@jax.tree_util.register_pytree_node_class
class Strict:
    """A node that raises what this library raises too."""

    def __init__(self, w: Any) -> None:
        if w is None:
            raise ValueError("w is None")
        self.w = w

    def tree_flatten(self) -> Any:
        return (self.w,), None

    @classmethod
    def tree_unflatten(cls, _: Any, children: Any) -> Strict:
        return cls(*children)


def test_an_error_that_says_what_is_wrong_is_left_as_it_is() -> None:
    """Beside a node that refuses `None` too."""
    tx, params = gx.adam(0.1), {"layer": Strict(jnp.ones(2))}
    state = tx.init(params)
    with pytest.raises(ValueError, match="the shapes differ"):
        tx.update({"layer": Strict(jnp.ones(3))}, state, params)
    with pytest.raises(TypeError, match="Strict, the node at 'layer', raised ValueError"):
        gx.masked(tx, lambda path, x: False).init(params)


# Numbers among the leaves ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adam", "ema", "lookahead", "accumulate", "partition"])
def test_python_numbers_stay_what_they_are(name: str) -> None:
    """A number without a gradient (None) comes out as the same Python object."""
    tx = WRAPPED[name]()
    params = {"w": jnp.ones(2), "depth": 3, "rate": 0.5, "on": True}
    grads = {"w": jnp.ones(2), "depth": None, "rate": None, "on": None}
    new, state = tx.step(grads, tx.init(params), params)
    shown = tx.eval_params(state, new)
    for tree in (new, shown):
        kinds = {key: type(tree[key]) for key in ("depth", "rate", "on")}
        assert kinds == {"depth": int, "rate": float, "on": bool}


# Paths -------------------------------------------------------------------------------------------

SAME = {"a/b": jnp.zeros(64), "a": {"b": jnp.zeros(64)}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a/b",), ("a", "b")),
        (("a", "b/c"), ("a/b", "c")),
        (("", "a"), ("/a",)),
    ],
)
@pytest.mark.parametrize("make", [lambda: gx.add_noise(1.0, 0.0, key=0)])
def test_paths_that_look_alike_draw_noise_of_their_own(one: Any, other: Any, make: Any) -> None:
    """Paths are tuples of keys: joined by slashes these two would be one."""

    def at(tree: dict[str, Any], keys: Any, value: Any) -> None:
        *above, last = keys
        for key in above:
            tree = tree.setdefault(key, {})
        tree[last] = value

    params: dict[str, Any] = {}
    for keys in (one, other):
        at(params, keys, jnp.zeros(64))
    tx = make()
    u = jax.tree.leaves(tx.update(params, tx.init(params), params)[0])
    assert np.abs(np.corrcoef(np.asarray(u))[0, 1]) < 0.5


def test_keys_of_other_kinds_draw_noise_of_their_own() -> None:
    """A list and a dict with the key "0" are other paths."""
    tx = gx.add_noise(1.0, 0.0, key=0)
    found = [
        jax.tree.leaves(tx.update(tree, tx.init(tree), tree)[0])[0]
        for tree in ([jnp.zeros(64)], {"0": jnp.zeros(64)}, {0: jnp.zeros(64)})
    ]
    assert np.abs(np.corrcoef(np.asarray(found)) - np.eye(3)).max() < 0.5


def test_parts_draw_noise_of_their_own() -> None:
    """Entries of a partition, with the same seed."""
    noise = gx.add_noise(1.0, 0.0, key=0)
    tx, params = gx.partition({"p": noise, "q": noise}), {"p": jnp.zeros(64), "q": jnp.zeros(64)}
    u = tx.update(params, tx.init(params), params)[0]
    assert np.abs(np.corrcoef(u["p"], u["q"])[0, 1]) < 0.5


@pytest.mark.parametrize("pattern", ["blocks/0/w", "blocks/[0]/w", "blocks/?/w"])
def test_patterns(pattern: str) -> None:
    """By paths as messages print them, and by character classes."""
    params = {"blocks": [{"w": jnp.ones(1)}, {"w": jnp.ones(1)}]}
    tx = gx.sgd(gx.by_path({pattern: 0.5, "*": 2.0}) if "?" not in pattern else 0.5)
    u, _ = tx.update(params, tx.init(params), params)
    assert float(u["blocks"][0]["w"][0]) == -0.5


# What nobody moves -------------------------------------------------------------------------------

STRANGE = {
    "minus infinity": np.asarray([0.0, -np.inf, -np.inf], np.float32),
    "nan": np.asarray([np.nan, 1.0, -0.0], np.float32),
    "largest": np.asarray([3.4e38, -3.4e38, 1e-45], np.float32),
    "narrow": np.asarray([3.0, -7.0], jnp.bfloat16),
    "complex": np.asarray([complex(np.inf, np.nan), 1j], np.complex64),
    "integers": np.asarray([1, 2], np.int32),
}


@pytest.mark.slow  # `test_frozen.py` has the kinds
@pytest.mark.parametrize("what", STRANGE)
@pytest.mark.parametrize("frozen", ["freeze", "masked"])
@wrapped
def test_what_nobody_moves_comes_through_bit_for_bit(name: str, frozen: str, what: str) -> None:
    """Frozen inside of every wrapper, whatever it holds; gradients with NaN and without."""
    inside = {
        "freeze": lambda: gx.partition({"mask": gx.freeze(), "*": gx.adam(0.1)}),
        "masked": lambda: gx.masked(gx.adam(0.1), "w"),
    }[frozen]
    outer = WRAPPED[name]()
    if not hasattr(outer, "inner") or name in ("masked", "schedule_free"):
        pytest.skip("no wrapper, or one that asks more of what it wraps")
    if frozen == "freeze" and what == "integers":
        pytest.skip("no optimizer moves integers: an entry for these alone is refused as unused")
    tx = outer.replace(inner=inside()) if "inner" in type(outer)._leaves else outer
    params = {"w": jnp.ones(3), "mask": jnp.asarray(STRANGE[what])}
    before = np.asarray(params["mask"]).tobytes()
    is_whole = params["mask"].dtype == jnp.int32
    state = tx.init(params)
    for k in range(4):
        g = None if is_whole or k == 3 else jnp.full_like(params["mask"], 0.5)
        params, state = tx.step({"w": jnp.ones(3), "mask": g}, state, params)
        shown = tx.eval_params(state, params)
        assert np.asarray(params["mask"]).tobytes() == before
        assert np.asarray(shown["mask"]).tobytes() == before
    assert np.isfinite(params["w"]).all()
