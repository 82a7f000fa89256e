"""Mistakes that strict pyright refuses: each line has its error, or `test_types` fails."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax  # pyright: ignore[reportMissingTypeStubs]
from untyped import array

import gradtx as gx

adam = gx.adam(1e-3)

# No hyperparameters
text: str = input()
gx.adam("1e-3")  # pyright: ignore[reportArgumentType]
gx.adam(text)  # pyright: ignore[reportArgumentType]
gx.adam(None)  # pyright: ignore[reportArgumentType]
gx.adam(1e-3, b1=["0.9"])  # pyright: ignore[reportArgumentType]
gx.adam({"w": "1e-3"})  # pyright: ignore[reportArgumentType]
gx.adam({"w": [1e-3, text]})  # pyright: ignore[reportArgumentType]
gx.adam(object())  # pyright: ignore[reportArgumentType]
gx.adam(gx.adam)  # pyright: ignore[reportArgumentType]
gx.adam(adam)  # pyright: ignore[reportArgumentType]
gx.adam(gx.linear_schedule)  # pyright: ignore[reportArgumentType]
gx.adam(lambda: 1e-3)  # pyright: ignore[reportArgumentType]
gx.adam()  # pyright: ignore[reportCallIssue]
gx.adam(lr=1e-3)  # pyright: ignore[reportCallIssue]
gx.scale_by_adam("0.9")  # pyright: ignore[reportArgumentType]
gx.scale_by_adam(b1=None)  # pyright: ignore[reportArgumentType]
gx.scale_by_learning_rate(text)  # pyright: ignore[reportArgumentType]
gx.clip_by_global_norm({"w": text})  # pyright: ignore[reportArgumentType]
gx.ema(adam, "0.99")  # pyright: ignore[reportArgumentType]
gx.linear_schedule("1e-3", 0.0, 100)  # pyright: ignore[reportArgumentType]
gx.scale_by_muon(axes="io")  # pyright: ignore[reportArgumentType]
rate: gx.Hyper = "1e-3"  # pyright: ignore[reportAssignmentType]

# No transformations
gx.chain(gx.adam)  # pyright: ignore[reportArgumentType]
gx.chain(gx.clip(1.0), gx.scale_by_adam)  # pyright: ignore[reportArgumentType]
gx.chain(last=gx.adam)  # pyright: ignore[reportArgumentType]
gx.chain(optax.adam)  # pyright: ignore[reportArgumentType]
gx.chain(1e-3)  # pyright: ignore[reportArgumentType]
gx.chain([adam])  # pyright: ignore[reportArgumentType]
gx.accumulate(4, adam)  # pyright: ignore[reportArgumentType]
gx.accumulate(gx.adam, 4)  # pyright: ignore[reportArgumentType]
gx.accumulate(adam, "4")  # pyright: ignore[reportArgumentType]
gx.accumulate(adam, 4.0)  # pyright: ignore[reportArgumentType]
gx.accumulate(adam)  # pyright: ignore[reportCallIssue]
gx.ema(0.99, adam)  # pyright: ignore[reportArgumentType]
gx.ema(gx.scale_by_adam, 0.99)  # pyright: ignore[reportArgumentType]
gx.masked("w", adam)  # pyright: ignore[reportArgumentType]
gx.outer(adam, gx.sgd)  # pyright: ignore[reportArgumentType]
gx.partition({"*": gx.adam})  # pyright: ignore[reportArgumentType]
gx.partition({"*": 1e-3})  # pyright: ignore[reportArgumentType]
gx.partition([adam])  # pyright: ignore[reportArgumentType]
gx.muon(1e-3, matrices="*", auxiliary=gx.adam)  # pyright: ignore[reportArgumentType]
gx.interop.from_optax(gx.adam)  # pyright: ignore[reportArgumentType]

# No masks or labels
gx.adamw(1e-3, mask=0.5)  # pyright: ignore[reportArgumentType]
gx.adamw(1e-3, mask={"w": 0.5})  # pyright: ignore[reportArgumentType]
gx.adamw(1e-3, mask=array())  # pyright: ignore[reportArgumentType]
gx.masked(adam, lambda: True)  # pyright: ignore[reportArgumentType]

# Data does not change, and a step keeps the type of the parameters
adam.learning_rate = 1e-2  # pyright: ignore[reportAttributeAccessIssue]


class Other(NamedTuple):
    w: jax.Array


params = {"w": array()}
other: Other
other, state = adam.step(params, adam.init(params), params)  # pyright: ignore[reportAssignmentType]
other = gx.apply_updates(params, params)  # pyright: ignore[reportAssignmentType]
adam.step(params, state)  # pyright: ignore[reportCallIssue]
gx.by_path("*")  # pyright: ignore[reportArgumentType]


class no_leaf(gx.Rule):
    rate: gx.HyperField = 0.1


no_leaf()  # pyright: ignore[reportAbstractUsage]


class wrong(gx.Rule):
    b1: gx.HyperField = 0.9

    def update_leaf(self, g: jax.Array, slots: Any, p: Any, step: gx.Step) -> tuple[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return "u", slots


wrong("0.9")  # pyright: ignore[reportArgumentType]

# Schedules are of numbers
gx.linear_schedule(1e-3, 0.0, 100) * "2"  # pyright: ignore[reportOperatorIssue]
gx.join_schedules(["1e-3", 0.1], [10])  # pyright: ignore[reportArgumentType]
gx.warmup_schedule(adam, 10)  # pyright: ignore[reportArgumentType]
gx.piecewise_constant_schedule(0.1, 100)  # pyright: ignore[reportArgumentType]
gx.newton_schulz(3)  # pyright: ignore[reportArgumentType]
gx.scale_by_muon(polar=gx.exact_polar)  # pyright: ignore[reportArgumentType]
gx.conditionally_transform(adam, True)  # pyright: ignore[reportArgumentType]
