"""What the lift from one array to a tree does for every rule, on rules of a user's own."""

from __future__ import annotations

import importlib
import sys
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.engine import run as engine
from gradtx.testing.count import compilations

P = {"a": jnp.ones(3), "b": jnp.ones((2, 2))}


# What a rule asks for reaches it ---------------------------------------------------------------


class times_value(gx.Rule):
    """Multiplies by the loss, and by a weight where one is given."""

    needs: ClassVar[tuple[str, ...]] = ("value",)
    wants: ClassVar[tuple[str, ...]] = ("weight",)

    def update_leaf(self, g: Any, slots: Any, p: Any, step: gx.Step) -> Any:
        return step.extra["value"] * g * step.extra.get("weight", 1.0), slots


class mean_of_values(gx.JointRule):
    """Multiplies by the mean of the losses so far."""

    class Globals(NamedTuple):
        total: Any

    needs: ClassVar[tuple[str, ...]] = ("value",)

    def decide(self, sums: Any, globals_: Any, t: Any, **extra: Any) -> Any:
        total = globals_.total + extra["value"]
        return self.Globals(total), total / t


class towards(gx.Rule):
    """Adds an estimate that comes as a tree like the gradients, one array for each."""

    needs: ClassVar[tuple[str, ...]] = ("estimate",)
    trees: ClassVar[tuple[str, ...]] = ("estimate",)

    def update_leaf(self, g: Any, slots: Any, p: Any, step: gx.Step) -> Any:
        return g + step.extra["estimate"], slots


WITHIN = {
    "alone": lambda tx: tx,
    "chain": lambda tx: gx.chain(gx.scale(1.0), tx),
    "ema": gx.ema,
    "accumulate": lambda tx: gx.accumulate(tx, 1),
}


@pytest.mark.parametrize("within", WITHIN)
def test_arguments_reach_the_rule_that_asks(within: str) -> None:
    """A needed one, one that is used where it is given, and for a joint decision."""
    tx = WITHIN[within](times_value())
    state = tx.init(P)
    found, _ = tx.update(P, state, P, value=3.0)
    np.testing.assert_allclose(found["a"], 3.0)
    if within != "accumulate":  # whose own weight that is
        found, _ = tx.update(P, state, P, value=3.0, weight=2.0)
        np.testing.assert_allclose(found["a"], 6.0)
    with pytest.raises(ValueError, match=r"'value' is missing\. Pass it"):
        tx.update(P, state, P)
    joint = WITHIN[within](mean_of_values())
    found, state = joint.update(P, joint.init(P), P, value=1.0)
    found, state = joint.update(P, state, P, value=2.0)
    np.testing.assert_allclose(found["b"], 1.5)


def test_an_argument_like_the_gradients_is_split_between_arrays() -> None:
    tx = gx.chain(towards(), gx.scale(2.0))
    estimate = {"a": jnp.arange(3.0), "b": jnp.zeros((2, 2))}
    found, _ = tx.update(P, tx.init(P), P, estimate=estimate)
    np.testing.assert_allclose(found["a"], 2 * (1 + np.arange(3)))


def test_a_joint_rule_that_needs_parameters_is_told_so() -> None:
    tx = gx.scale_by_dog()
    with pytest.raises(ValueError, match="the parameters are missing"):
        tx.update(P, tx.init(P))


@pytest.mark.parametrize(
    "extra", [{"anything": {"a": 1}, "mode": "train"}, {"function": len, "value": 3.0}]
)
def test_arguments_that_nobody_asks_for_change_neither_bits_nor_speed(extra: Any) -> None:
    """They are dropped at the door: the compiled function is the same."""
    tx = gx.adamw(1e-3)
    state = tx.init(P)
    expected = tx.update(P, state, P)
    with compilations() as compiled:
        found = tx.update(P, state, P, **extra)
    assert not compiled
    for x, y in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(x, y)


def test_mappings_among_the_arguments_keep_their_order() -> None:
    """The first pattern counts, compiled outside or not; under jit order has to be kept."""
    params = {"a": {"k": jnp.ones(2), "q": jnp.ones(2)}, "b": {"k": jnp.ones(2)}}
    zero = jax.tree.map(jnp.zeros_like, params)
    tx = gx.qk_clip(power=1.0)
    for logits, factor in (
        ({"a/*": 400.0, "*/k": 200.0}, 0.25),
        ({"*/k": 200.0, "a/*": 400.0}, 0.5),
        ({"a/k": 400.0, "*": 200.0}, 0.25),
    ):
        for disabled in (False, True):
            with jax.disable_jit(disabled):
                found, _ = tx.update(zero, tx.init(params), params, max_logits=logits)
            np.testing.assert_allclose(found["a"]["k"], factor - 1, rtol=1e-6)

    @jax.jit
    def update(logits: Any) -> Any:
        return tx.update(zero, tx.init(params), params, max_logits=logits)[0]["a"]["k"]

    logits = {"a/*": jnp.float32(400.0), "*/k": jnp.float32(200.0)}
    with pytest.raises(ValueError, match=r"under jit, which sorts its keys.*by_path"):
        update(logits)
    np.testing.assert_allclose(update(gx.by_path(logits)), -0.75, rtol=1e-6)


# Batches ---------------------------------------------------------------------------------------


class halves(gx.BatchedRule):
    """Multiplies by `rate`, wrongly in the function that runs on batches if `wrong`."""

    rate: Any
    wrong: bool = gx.static(default=False)

    def before_leaf(self, g: Any, slots: Any, p: Any, step: gx.Step) -> Any:
        return [g], self.rate

    def together(self, x: Any) -> Any:
        return self.doubled(x * self.rate if self.wrong else x)

    def doubled(self, x: Any) -> Any:
        return 2 * x

    def after_leaf(self, results: Any, kept: Any) -> Any:
        return kept * results[0], self.Slots()


@pytest.mark.parametrize("pays", [False, True])
def test_the_function_of_a_batch_sees_no_hyperparameter(pays: bool, monkeypatch: Any) -> None:
    """The arrays of a batch may differ in them: refused, in a batch or not."""
    monkeypatch.setattr(engine, "batching_pays", lambda: pays)
    params, rates = {"a": jnp.ones(2), "b": jnp.ones(2)}, gx.by_path({"a": 2.0, "b": 3.0})
    tx = halves(rates)
    found, _ = tx.update(params, tx.init(params))
    assert (float(found["a"][0]), float(found["b"][0])) == (4.0, 6.0)
    wrong = halves(rates, wrong=True)
    with pytest.raises(TypeError, match=r"uses the hyperparameter 'rate'.*Use it in before_leaf"):
        wrong.update(params, wrong.init(params))


# Cost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shapes_only", [False, True])
def test_init_is_one_program(shapes_only: bool) -> None:
    """Whatever the tree: nine shapes, and parts of a partition, masks and wrappers."""
    size = 31 if shapes_only else 37
    params: Any = {f"a{i}": jnp.ones((i, size)) for i in range(9)}
    if shapes_only:
        params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    txs = (
        gx.adamw(1e-3),
        gx.ema(gx.partition({"a[012]": gx.sgd(0.1, 0.9), "*": gx.adam(1e-3)})),
        gx.store(gx.accumulate(gx.lion(1e-3), 4), {"mu": "bfloat16"}),
    )
    for tx in txs:
        with compilations() as compiled:
            tx.init(params)
        assert len(compiled) == 1


def test_equal_hyperparameters_are_traced_once() -> None:
    """Two values by path on 100 arrays: no more equations than one value has, and a few."""
    params = {f"{i}/{name}": jnp.ones(4) for i in range(50) for name in "wb"}

    def equations(tx: Any) -> int:
        state = jax.eval_shape(tx.init, params)
        return len(jax.make_jaxpr(tx.update)(params, state, params).eqns)

    one = equations(gx.adam(1e-3))
    two = equations(gx.adam(1e-3, b1=gx.by_path({"*/b": 0.8, "*": 0.9})))
    tree = {name: 0.8 if "b" in name else 0.9 for name in params}
    assert two <= one + 20
    assert equations(gx.adam(1e-3, b1=tree)) <= one + 20


def test_parameters_on_several_sets_of_devices_have_their_state_there() -> None:
    one, other = jax.devices()[:2]
    params = {"a": jax.device_put(jnp.ones(3), one), "b": jax.device_put(jnp.ones(3), other)}
    state = gx.adam(1e-3).init(params)
    assert state["scale_by_adam"].mu["a"].devices() == {one}
    assert state["scale_by_adam"].mu["b"].devices() == {other}


# Rules whose module is loaded anew --------------------------------------------------------------


def test_modules_of_rules_can_be_reloaded(tmp_path: Any, monkeypatch: Any) -> None:
    """As `%autoreload` does; states of before and after the change can be exported."""
    (tmp_path / "reloaded_rule.py").write_text(
        "from typing import Any, NamedTuple\nimport gradtx\n"
        "class Slots(NamedTuple):\n    mu: Any\n"
        "class momentum(gradtx.Rule):\n    Slots = Slots\n"
        "    def init_leaf(self, p):\n        return Slots(p)\n"
        "    def update_leaf(self, g, slots, p, t):\n        return g, slots\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("reloaded_rule")
    for _ in range(3):
        tx = module.momentum()
        state = tx.init(jnp.ones(2))
        exported = jax.export.export(jax.jit(lambda s: s))(state)
        assert jax.export.deserialize(exported.serialize()).call(state) is not None
        importlib.reload(module)
    del sys.modules["reloaded_rule"]
