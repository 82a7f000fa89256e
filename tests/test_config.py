"""Optimizers as plain data: what is written is read again, and faults are named with their path."""

from __future__ import annotations

import importlib
import json
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from laws.cases import ROWS, build, refused

import gradtx as gx

FUNCTIONS = {
    name: value
    for module in ("matrices", "wrappers", "links", "optimizers")
    for name, value in vars(importlib.import_module(f"gradtx.catalogue.{module}")).items()
    if isinstance(value, types.FunctionType) and value.__module__.startswith("gradtx.catalogue")
}


def through_json(config: Any) -> Any:
    return json.loads(json.dumps(config, allow_nan=False))


def through_yaml(config: Any) -> Any:
    """As the library writes by default: keys sorted."""
    return yaml.safe_load(yaml.safe_dump(config))


def test_every_row_comes_back() -> None:
    for name, row in ROWS.items():
        tx = build(row)
        config = gx.to_config(tx, FUNCTIONS)
        for trip in (through_json, through_yaml):
            assert gx.from_config(trip(config), FUNCTIONS) == tx, name


WARM = gx.warmup_cosine_decay_schedule(0.0, 1e-3, 10, 100)
COMPOSED = {
    "a sum of schedules": gx.adamw(WARM * 0.5 + 1.0),
    "a join": gx.adam(gx.join_schedules([0.1, gx.linear_schedule(1.0, 0.0, 10)], [5])),
    "kept within": gx.adam(gx.linear_schedule(1.0, 0.0, 10).clip(0.1)),
    "a table of steps": gx.sgd(gx.piecewise_constant_schedule(1.0, {10: 0.1, 20: 0.5})),
    "patterns in order": gx.adamw(0.1, weight_decay=gx.by_path({"*/bias": 0.0, "*": 0.1})),
    "one pattern": gx.adam(gx.by_path({"*": 0.1})),
    "groups": gx.partition({"*/bias": gx.sgd(0.1), "*": gx.freeze()}),
    "labels that are no text": gx.partition(
        {True: gx.adam(0.1), False: gx.sgd(0.1)}, labels={"a": True, "b": False}
    ),
    "named parts": gx.chain(gx.clip(1.0), adam=gx.adam(0.1)),
    "a tree": gx.adam({"w": 0.1, "b": {"adam": 0.2}}),
    "a tree with the name of a call": gx.adam({"adam": 0.1}),
    "a tree of lists and tuples": gx.adam([0.1, (0.2, {"x": 0.3})]),
    "a mask": gx.masked(gx.adam(0.1), {"w": True, "b": [False, True]}),
    "arrays": gx.adam(jnp.asarray([0.1, 0.2])),
    "a narrow array": gx.adam(jnp.asarray(0.1, jnp.bfloat16)),
    "numbers of NumPy": gx.adam(np.float32(0.1), b1=np.float64(0.9)),
    "values along an axis": gx.projection_box(0.0, upper=gx.along([1.0, 2.0], 0)),
    "formats": gx.store(gx.adam(0.1), {"mu": gx.rounded(), "nu": gx.blockwise(block=64)}),
    "axes": gx.muon(0.1, matrices={"qkv": gx.Axes("io", 3), "stack": "bio", "b": None}),
    "an infinite number": gx.clip(float("inf")),
    "nested": gx.ema(gx.accumulate(gx.apply_if_finite(gx.adam(0.1), 5), 4), 0.99),
    "a long schedule": gx.adam(gx.linear_schedule(1.0, 0.0, 10**12)),
    "a search": gx.lbfgs(memory_size=5),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_compositions_come_back(name: str) -> None:
    tx = COMPOSED[name]
    config = gx.to_config(tx)
    for trip in (through_json, through_yaml):
        assert gx.from_config(trip(config)) == tx


def test_schedules_come_back() -> None:
    assert gx.from_config(through_json(gx.to_config(WARM))) == WARM


SAME: list[tuple[Any, Any]] = [
    ("adamw(1e-3, b2=0.95)", gx.adamw(1e-3, b2=0.95)),
    ("ema(adam(1e-3), 0.99)", gx.ema(gx.adam(1e-3), 0.99)),
    (
        "adam(cosine_decay_schedule(1.0, 10) * 0.1)",
        gx.adam(gx.cosine_decay_schedule(1.0, 10) * 0.1),
    ),
    ({"adamw": 1e-3}, gx.adamw(1e-3)),
    ({"adamw": [1e-3, 0.8]}, gx.adamw(1e-3, 0.8)),
    ({"adamw": {"learning_rate": "1e-3", "b2": ".95"}}, gx.adamw(1e-3, b2=0.95)),
    ({"sgd": {"learning_rate": "0.1", "nesterov": True, "momentum": 0.9}}, gx.sgd(0.1, 0.9, True)),
    (
        {"adam": {"learning_rate": "linear_schedule(1.0, 0.0, 10)"}},
        gx.adam(gx.linear_schedule(1.0, 0.0, 10)),
    ),
    (
        {"chain": ["clip_by_global_norm(1.0)", {"adamw": 1e-3}]},
        gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(1e-3)),
    ),
    ({"ema": {"adam": 1e-3}}, gx.ema(gx.adam(1e-3))),
    ({"ema": {"inner": {"adam": 1e-3}, "decay": 0.9}}, gx.ema(gx.adam(1e-3), 0.9)),
    (
        {"partition": {"*/bias": {"sgd": 0.1}, "*": "adam(1e-3)"}},
        gx.partition({"*/bias": gx.sgd(0.1), "*": gx.adam(1e-3)}),
    ),
    ({"store": [{"adam": 1e-3}, {"nu": "int8"}]}, gx.store(gx.adam(1e-3), {"nu": "int8"})),
    (
        {"muon": {"learning_rate": 0.1, "matrices": {"*/kernel": "io", "*": None}}},
        gx.muon(0.1, matrices={"*/kernel": "io", "*": None}),
    ),
    ({"adamw": {"learning_rate": 0.1, "mask": "*/kernel"}}, gx.adamw(0.1, mask="*/kernel")),
    (
        {"chain": {"clip": {"clip": 1.0}, "adam": {"adam": 0.1}}},
        gx.chain(clip=gx.clip(1.0), adam=gx.adam(0.1)),
    ),
    ({"identity": None}, gx.identity()),
]


@pytest.mark.parametrize(("config", "tx"), SAME, ids=lambda x: str(x)[:40])
def test_what_one_writes(config: Any, tx: Any) -> None:
    assert gx.from_config(config) == tx


WRONG: dict[str, tuple[Any, list[str]]] = {
    "an unknown argument": (
        {"chain": [{"clip": 1.0}, {"adamw": {"learning_rate": 1e-3, "b22": 1}}]},
        ["chain[1].adamw", "'b22'", "b2"],
    ),
    "a misspelt argument alone": ({"adamw": {"learnig_rate": 1e-3}}, ["adamw", "learning_rate"]),
    "an unknown name": ({"adamww": 1e-3}, ["'adamww'", "adamw"]),
    "an unknown name inside": ({"ema": {"adan2": 1}}, ["ema", "'adan2'", "adan"]),
    "what is refused": ({"chain": [{"clip": -1.0}]}, ["chain[0].clip", "max_delta"]),
    "no number": ({"adamw": {"learning_rate": "fast"}}, ["adamw", "'fast'"]),
    "too many": ({"scale": [1, 2]}, ["scale", "2"]),
    "no expression": ("adamw(1e-3", ["'adamw(1e-3'"]),
    "code": ("adamw(__import__('os').getpid())", ["no", "getpid"]),
    "a lambda": ("adam(lambda count: 0.1)", ["value must be plain"]),
    "an object": ({"adamw": {"learning_rate": object()}}, ["adamw.learning_rate", "object"]),
    "no call": ({"adam": 0.1, "clip": 1.0}, ["the config is"]),
    "nothing": (None, ["the config is None"]),
    "a number": (3, ["the config is 3"]),
    "an unknown reference": ({"adam": {"learning_rate": {"ref": "mine"}}}, ["'mine'"]),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_with_its_path(what: str) -> None:
    config, seen = WRONG[what]
    with pytest.raises((TypeError, ValueError), match="from_config") as raised:
        gx.from_config(config)
    assert all(text in str(raised.value) for text in seen), raised.value


def falling(count: Any) -> Any:
    return 1 / (1.0 + count)


def test_functions_need_a_name() -> None:
    tx = gx.chain(gx.clip(1.0), gx.adam(falling))
    path = "chain[2].scale_by_learning_rate.learning_rate"
    assert path in refused(lambda: gx.to_config(tx), "to_config")
    names = {"falling": falling}
    config = through_json(gx.to_config(tx, names))
    assert gx.from_config(config, names) == tx


def test_rules_of_ones_own_need_a_name() -> None:
    class halve(gx.Rule):
        factor: gx.HyperField = 0.5

        def update_leaf(self, g: Any, slots: Any, p: Any, step: Any) -> Any:
            return self.factor * g, slots

    tx = gx.chain(halve(0.25), gx.sgd(0.1))
    assert "halve" in refused(lambda: gx.to_config(tx), "to_config")
    config = through_json(gx.to_config(tx, {"halve": halve}))
    assert gx.from_config(config, {"halve": halve}) == tx
    assert gx.from_config({"halve": 0.25}, {"halve": halve}) == halve(0.25)


def test_a_forgotten_call_is_named() -> None:
    for wrong in (gx.adam, 3, "adam", {"adam": 1e-3}):
        refused(lambda wrong=wrong: gx.to_config(wrong), "to_config")


def test_what_has_no_data_is_refused() -> None:
    key = gx.add_noise(0.1, 0.5, key=jax.random.key(0))
    assert "seed" in refused(lambda: gx.to_config(key), "add_noise.key")
    optax = pytest.importorskip("optax")
    refused(lambda: gx.to_config(gx.chain(optax.adam(0.1))), "to_config")

    @jax.jit
    def traced(tx: Any) -> Any:
        refused(lambda: gx.to_config(tx), "traced")
        return 0

    traced(gx.adam(0.1))
