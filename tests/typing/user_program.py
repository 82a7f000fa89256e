"""What users write, under strict pyright; `assert_type` says what it makes of it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, assert_type

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax  # pyright: ignore[reportMissingTypeStubs]
from untyped import array, grad, jit, value_and_grad, zeros_like

import gradtx as gx

Model = dict[str, jax.Array]


def loss(params: Model, x: jax.Array) -> jax.Array:
    return jnp.sum((params["w"] * x + params["b"]) ** 2)


# A training loop ---------------------------------------------------------------------------------

params: Model = {"w": array(), "b": array()}
tx = gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(1e-3, weight_decay=0.1, mask="w"))
state = tx.init(params)


@jit
def train(params: Model, state: gx.State, x: jax.Array) -> tuple[Model, gx.State, jax.Array]:
    value, grads = value_and_grad(loss)(params, x)
    params, state = tx.step(grads, state, params, value=value)
    return params, state, value


params, state, value = train(params, state, array())
grads = grad(loss)(params, array())
params, state = tx.step(grads, state, params)
assert_type(params, Model)
updates, state = tx.update(grads, state, params)
params = gx.apply_updates(params, updates)
assert_type(params, Model)
assert_type(tx.eval_params(state, params), Model)
assert_type(gx.apply_updates(params, updates, key=0), Model)
assert_type(tx.count(state), jax.Array)
assert_type(tx.hyperparameters(state), dict[str, Any])
assert_type(tx.hyperparameters(count=0), dict[str, Any])
assert_type(tx.memory(params), dict[str, int])
assert_type(tx.replace(weight_decay=0.0), gx.chain)
mu = state["scale_by_adam"].mu


# Any tree of parameters keeps its type, whoever steps --------------------------------------------


class Pair(NamedTuple):
    w: jax.Array
    b: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    w: jax.Array
    b: jax.Array


class Module(eqx.Module):
    w: jax.Array


adam = gx.adam(1e-3)
pair = Pair(array(), array())
pair, state = adam.step(pair, adam.init(pair), pair)
assert_type(pair, Pair)
layer = Layer(array(), array())
layer, state = gx.identity().step(layer, (), layer)
assert_type(layer, Layer)
module = Module(array())
module, state = adam.step(module, adam.init(module), module)
assert_type(module, Module)
some = gx.accumulate(adam, 4)
module, state = some.step(module, some.init(module), module)
assert_type(module, Module)
some = gx.masked(adam, "w")
module, state = some.step(module, some.init(module), module)
assert_type(module, Module)
some = gx.offload(adam, where="device")
module, state = some.step(module, some.init(module), module)
assert_type(module, Module)
some = gx.partition({"w": adam, "*": gx.freeze()}, optional=("*",))
module, state = some.step(module, some.init(module), module)
assert_type(module, Module)
some = gx.ema(adam)
assert_type(some.eval_params(some.init(module), module), Module)
some = gx.scale_by_adam()
assert_type(some.update(pair, some.init(pair))[0], Pair)


# Hyperparameters ---------------------------------------------------------------------------------


def halving(count: jax.Array) -> jax.Array:
    return jnp.float32(0.5) ** count.astype(jnp.float32)


def late(step: jax.Array, **extra: Any) -> jax.Array:
    return step > 10


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Rates:
    w: gx.Hyper
    b: gx.Hyper


def hyperparameters(rate: gx.Hyper) -> gx.GradientTransformation:
    return gx.chain(gx.scale_by_adam(b1=rate), gx.scale_by_learning_rate(rate))


hyperparameters(0)
hyperparameters(np.float32(1e-3))
hyperparameters(array()[0] / 2)
hyperparameters(gx.linear_schedule(1e-3, 0.0, 100))
hyperparameters(0.1 * gx.linear_schedule(1e-3, 0.0, 100).clip(1e-4))
hyperparameters(halving)
hyperparameters(lambda count: 0.5**count)
hyperparameters(optax.constant_schedule(1e-3))
hyperparameters(gx.by_path({"*/bias": 0.0, "*": halving}))
hyperparameters(gx.by_path({"layers/*": gx.along([1e-3, 1e-4], axis=0), "*": 1e-3}))
hyperparameters(gx.along([[1e-3, 1e-4]], axis=(0, 1)))
hyperparameters({"w": 1e-3, "b": {"inside": [halving, 0.1], "beside": (0.1, array())}})
hyperparameters(gx.prefix_tree(Rates(1e-3, 1e-2)))
some = gx.masked(adam, lambda params: {"w": True, "b": False})
some = gx.masked(adam, lambda path, p: path.endswith("w"))
some = gx.masked(adam, gx.prefix_tree(Rates(1, 0)))
some = gx.masked(adam, {"w": gx.along([True, False], 0), "b": True})
some = gx.partition({"a": adam, "b": gx.freeze()}, {"w": "a", "b": "b"})
some = gx.partition({0: adam, 1: gx.freeze()}, [0, {"b": 1}])
hyperparameters(gx.join_schedules([0.1, halving, gx.constant_schedule(0.1)], [10, 20]) / 2)
hyperparameters(gx.piecewise_constant_schedule(0.1, {100: 0.5, 200: 0.1}))
hyperparameters(gx.piecewise_constant_schedule(0.1, ([100, 200], (0.5, 0.1))))
hyperparameters(gx.warmup_schedule(gx.linear_schedule(1e-3, 0.0, 100), 10) * np.float32(0.5))
rates = {"w": 1e-3, "b": 1e-2}
hyperparameters(rates)
gx.nadam(1e-3, momentum_decay=None)
gx.muon(1e-3, matrices={"*/kernel": gx.Axes("io")}, auxiliary=adam)
gx.scale_by_muon(polar=gx.exact_polar(), axes=gx.by_path({"*": gx.Axes("io")}))
gx.newton_schulz([(3.0, -3.2, 1.2)] * 8)
gx.conditionally_transform(adam, late)


# What holds transformations ----------------------------------------------------------------------

ours_and_theirs = gx.chain(optax.clip_by_global_norm(1.0), gx.scale_by_adam(), last=optax.scale(-1))
assert_type(ours_and_theirs, gx.chain)
gx.partition({"*/bias": optax.sgd(0.1), "*": gx.adam(1e-3)})
wrapped = gx.accumulate(gx.ema(optax.adam(1e-3), 0.99), every=gx.linear_schedule(1, 4, 100))
assert_type(wrapped.inner, gx.GradientTransformation)
gx.accumulate(adam, lambda step: jnp.where(step < 10, 1, 4))
gx.outer(adam, gx.sgd(0.7), every=np.int32(8))
gx.lookahead(gx.interop.from_optax(optax.sgd(0.1)))


class Own(NamedTuple):
    init: Any
    update: Any


gx.chain(Own(adam.init, adam.update))


# A rule of one's own -----------------------------------------------------------------------------


class Slots(NamedTuple):
    mu: jax.Array
    nu: gx.Square


class scale_by_own(gx.Rule):
    """Reads numbers, is given schedules."""

    b1: gx.HyperField = gx.within("[0, 1)", default=0.9)
    floor: gx.OptionalHyperField = None
    sign: bool = gx.static(default=False)

    Slots = Slots

    def init_leaf(self, p: jax.Array) -> Slots:
        return Slots(zeros_like(p), zeros_like(p))

    def shared(self, t: jax.Array) -> jax.Array:
        return 1 - self.b1**t

    def update_leaf(
        self, g: jax.Array, slots: Slots, p: jax.Array, step: gx.Step
    ) -> tuple[jax.Array, Slots]:
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        assert_type(mu, jax.Array)
        u = jnp.sign(mu) if self.sign else mu / step.shared
        return u if self.floor is None else jnp.maximum(u, self.floor), Slots(mu, slots.nu)


own = scale_by_own(b1=gx.linear_schedule(0.8, 0.95, 100), floor=halving, sign=True)
tx = gx.chain(own, gx.scale_by_learning_rate(0.1))
assert_type(tx.step(params, tx.init(params), params)[0], Model)


class twice(gx.GradientTransformation):
    """Hands on the updates, twice as large."""

    def init(self, params: gx.Params) -> gx.State:
        return ()

    def update(
        self, updates: gx.Updates, state: gx.State, params: gx.Params | None = None, **extra: Any
    ) -> tuple[gx.Updates, gx.State]:
        def double(u: jax.Array) -> jax.Array:
            return 2 * u

        return jax.tree.map(double, updates), state


tx = gx.chain(twice(), adam)
params, state = tx.step(params, tx.init(params), params)
assert_type(params, Model)
