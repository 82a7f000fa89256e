"""Where a call comes in: arguments of `update` that are wanted, unwanted or mistaken."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from laws.cases import arrays, assert_same, refused
from moved import first

import gradtx


def test_extra_arguments_that_nobody_wants_change_nothing() -> None:
    """Neither the last bit nor the speed, be they functions, strings or trees."""
    tx, params = gradtx.adamw(1e-3), arrays(0)
    state = tx.init(params)
    plain = tx.update(params, state, params)
    given = {"anything": {"b": 1, "a": print}, "mode": "train", "value_fn": lambda p: 0.0}
    assert_same(tx.update(params, state, params, **given), plain)
    assert_same(tx.step(params, state, params, **given), tx.step(params, state, params))

    def seconds(**extra: Any) -> float:
        start = time.perf_counter()
        for _ in range(10):
            jax.block_until_ready(tx.update(params, state, params, **extra))
        return time.perf_counter() - start

    assert min(seconds(**given) for _ in range(5)) < 3 * min(seconds() for _ in range(5))


def test_who_wants_extra_arguments() -> None:
    """A part that needs one, anywhere inside, gets it; a foreign or unknown one gets all."""
    inner = gradtx.polyak_sgd()
    wrapped = gradtx.partition({"*": gradtx.ema(gradtx.chain(gradtx.clip(1.0), inner))})
    assert gradtx.adamw(1e-3).wanted_extras <= {"params"}
    assert "value" in wrapped.wanted_extras
    assert "weight" in gradtx.accumulate(gradtx.adam(1e-3), 2).wanted_extras
    assert gradtx.chain(optax.scale(1.0)).wanted_extras == frozenset()
    assert gradtx.chain(optax.with_extra_args_support(optax.scale(1.0))).wanted_extras is None
    asked = gradtx.conditionally_transform(gradtx.scale(1.0), lambda n, **e: True, True)
    assert asked.wanted_extras is None
    assert wrapped.replace(scale_by_polyak=gradtx.scale(1.0)).wanted_extras <= {"params"}

    class own(gradtx.GradientTransformation):
        def init(self, params: Any) -> Any:
            return ()

        def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            return jax.tree.map(lambda g: g * extra["factor"], updates), state

    assert own().wanted_extras is None
    assert first(gradtx.chain(own(), gradtx.scale(1.0)), factor=2.0)[0].tolist() == [2.0] * 3


def test_mappings_among_extra_arguments_keep_their_order() -> None:
    """The first pattern that fits counts, in the compiled call as well."""
    tx = gradtx.qk_clip(100.0, power=1.0)
    params = {"a": {"k": jnp.ones(2)}}
    zeros = jax.tree.map(jnp.zeros_like, params)
    params["b"] = zeros["b"] = {"k": jnp.ones(2)}
    for logits, factor in (
        ({"a/*": 400.0, "*/k": 200.0}, 0.25),
        ({"b/*": 100.0, "*": 200.0}, 0.5),
    ):
        updates, _ = tx.update(zeros, tx.init(params), params, max_logits=logits)
        assert updates["a"]["k"].tolist() == [factor - 1] * 2


def test_gradients_that_are_none() -> None:
    """None, the loss or its function for gradients; nothing advances."""
    params = arrays(0)
    for tx in (gradtx.sgd(0.1), gradtx.adamw(1e-3), gradtx.ema(gradtx.adam(1e-3))):
        state = tx.init(params)
        for call in (tx.update, tx.step):
            for wrong, mentions in (
                (None, ("None", "jax.grad(loss)(params)")),
                (jnp.float32(3), ("float32[]", "loss")),
                (jax.grad(lambda p: 0.0), ("function",)),
            ):
                refused(lambda c=call, g=wrong, s=state: c(g, s, params), *mentions)
    state = gradtx.adam(1e-3).init(params)
    refused(lambda: gradtx.adam(1e-3).update(None, state), "None")
    refused(lambda: gradtx.adam(1e-3).update(jnp.float32(3), state), "state has a tree")


def test_arguments_in_another_order() -> None:
    """Gradients, state, parameters come in this order; parameters and state go out in the other."""
    params = arrays(0)
    for tx in (gradtx.sgd(0.1), gradtx.adamw(1e-3), gradtx.ema(gradtx.adam(1e-3))):
        state = tx.init(params)
        for given in ((params, params, state), (state, params, params)):
            for call in (tx.step, tx.update):
                refused(lambda c=call, g=given: c(*g), "(grads, state, params)")
        with pytest.raises(TypeError):
            jax.jit(tx.step)(params, params, state)


def test_none_in_the_place_of_a_subtree() -> None:
    """No gradient for anything below: such parameters and their state stay as they are."""
    params = {"base": {"w": jnp.ones(3), "b": jnp.ones(2)}, "lora": jnp.ones(2)}
    grads = {"base": None, "lora": jnp.ones(2)}
    whole = {"base": {"w": None, "b": None}, "lora": jnp.ones(2)}
    for tx in (
        gradtx.adamw(1e-3),
        gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.lamb(0.1)),
        gradtx.partition({"lora": gradtx.adam(0.1), "*": gradtx.sgd(0.1)}),
        gradtx.partition({"lora": gradtx.adam(0.1), "*": gradtx.freeze()}),
        gradtx.masked(gradtx.adam(0.1), "lora"),
        gradtx.freeze("base/*"),
    ):
        state = tx.init(params)
        updates, new = tx.update(grads, state, params)
        assert updates["base"] is None
        expected, same_state = tx.update(whole, state, params)
        assert_same(updates["lora"], expected["lora"])
        assert_same(new, same_state)
        moved = gradtx.apply_updates(params, updates)
        assert_same(moved["base"], params["base"])
        assert_same(tx.step(grads, state, params)[0], moved)


def test_integer_updates() -> None:
    """`apply_updates` names the array instead of failing inside JAX."""
    refused(lambda: gradtx.apply_updates({"a": 1.0}, {"a": 1}), "'a'", "int")
    refused(lambda: gradtx.apply_updates({"a": 1.0}, {"a": jnp.int32(1)}), "'a'", "int32")
