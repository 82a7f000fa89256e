"""What a user meets first: constructors, arguments, names, messages; each refused or answered."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from laws.cases import arrays, assert_same, assert_three_parts

import gradtx
from gradtx.interop import COUNTERPARTS, to_optax
from gradtx.schedules.base import Schedule

NAN = float("nan")


def refused(make: Callable[[], Any], *mentions: str) -> str:
    """The message, in three parts, with which a call is refused."""
    with pytest.raises((TypeError, ValueError)) as raised:
        make()
    assert_three_parts(raised.value, *mentions)
    return str(raised.value)


# What a hyperparameter may be --------------------------------------------------------------------

IMPOSSIBLE: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "complex": (lambda: gradtx.scale(1j), ("step_size", "1j", "real")),
    "complex array": (lambda: gradtx.adam(jnp.complex64(1)), ("learning_rate", "real")),
    "complex in a tree": (lambda: gradtx.scale({"a": 1.0, "b": np.complex64(1)}), ("step_size",)),
    "complex by path": (lambda: gradtx.scale(gradtx.by_path({"*": 2j})), ("step_size", "2j")),
    "complex in a schedule": (lambda: gradtx.constant_schedule(1j), ("value", "1j")),
    "nan": (lambda: gradtx.adam(NAN), ("learning_rate", "nan")),
    "nan of NumPy": (lambda: gradtx.scale(np.float32("nan")), ("step_size", "nan")),
    "nan by path": (lambda: gradtx.scale(gradtx.by_path({"*": NAN})), ("step_size", "nan")),
    "nan in a schedule": (lambda: gradtx.linear_schedule(NAN, 0.0, 3), ("init_value", "nan")),
    "string by path": (lambda: gradtx.scale(gradtx.by_path({"*": "1"})), ("step_size", "'1'")),
    "NumPy scalar": (lambda: gradtx.adam(1e-3, b1=np.float32(1.5)), ("b1", "1.5", "[0, 1)")),
    "NumPy array": (lambda: gradtx.adam(1e-3, b1=np.array(1.5)), ("b1", "1.5", "[0, 1)")),
    "decay": (lambda: gradtx.adamw(1e-3, weight_decay=-1.0), ("weight_decay", "-1.0")),
    "masked decay": (lambda: gradtx.lamb(1e-3, weight_decay=-1.0, mask="*"), ("weight_decay",)),
    "decay of adamp": (lambda: gradtx.adamp(1e-3, weight_decay=-1.0), ("weight_decay",)),
    "rprop": (lambda: gradtx.rprop(1e-3, min_step_size=1.0, max_step_size=0.1), ("1.0", "0.1")),
    "eta_minus": (lambda: gradtx.rprop(1e-3, eta_minus=1.5), ("eta_minus", "1.5")),
    "no number": (lambda: gradtx.adam(iter([1.0])), ("learning_rate", "iterator")),
    "parameters": (
        lambda: gradtx.adam({"w": jnp.ones((4, 3)), "b": jnp.ones(3)}, 1e-3),
        ("learning_rate", "[4, 3]", "tx.init(params)"),
    ),
    "no argument": (lambda: gradtx.adam(lambda: 1e-3), ("learning_rate", "lambda count")),
    "two arguments": (lambda: gradtx.adam(1e-3, b1=lambda a, b: a), ("b1", "lambda count")),
    "a class": (lambda: gradtx.adam(gradtx.cosine_decay_schedule), ("learning_rate", "Call it")),
    "two tables": (
        lambda: gradtx.adamw(1e-3, weight_decay=gradtx.by_path({"*": 0.1}), mask="*/kernel"),
        ("by_path", "table"),
    ),
    "table in a table": (
        lambda: gradtx.by_path({"*": gradtx.by_path({"*": 0.1})}),
        ("'*'", "one table"),
    ),
    "run": (
        lambda: gradtx.warmup_cosine_decay_schedule(0.0, 1.0, np.int32(5), np.int32(3)),
        ("longer than the run",),
    ),
    "linear": (lambda: gradtx.linear_schedule(1.0, 0.0, -5), ("transition_steps", "-5")),
    "begin": (lambda: gradtx.linear_schedule(1.0, 0.0, 5, -5), ("transition_begin", "-5")),
    "power": (lambda: gradtx.polynomial_schedule(1.0, 0.0, -1, 5), ("power", "-1")),
    "exponential": (lambda: gradtx.exponential_decay(1.0, 5, 0.5, -1), ("transition_begin",)),
    "boundary": (lambda: gradtx.piecewise_constant_schedule(1.0, {-1: 0.1}), ("-1",)),
    "factor": (lambda: gradtx.piecewise_constant_schedule(1.0, {1: -0.1}), ("-0.1",)),
    "join": (lambda: gradtx.join_schedules([1.0, 2.0], [-1]), ("boundaries", "-1")),
    "falling": (lambda: gradtx.join_schedules([1.0, 2.0, 3.0], [5, 4]), ("rising",)),
    "no schedule": (lambda: gradtx.join_schedules([1.0, "2"], [5]), ("'2'",)),
    "None": (lambda: gradtx.join_schedules([1.0, None], [5]), ("None",)),
    "clip": (lambda: gradtx.constant_schedule(1.0).clip(2.0, 1.0), ("min", "max")),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_arguments(name: str) -> None:
    """What cannot be meant is refused where it is typed, with its name and value."""
    make, mentions = IMPOSSIBLE[name]
    refused(make, *mentions)


def test_what_chooses_code_can_be_hashed() -> None:
    """An array in a static field would fail inside JAX, far from where it was given."""
    refused(lambda: gradtx.masked(gradtx.scale(1.0), np.ones(2)), "mask", "hashed")


@pytest.mark.parametrize("at", [0, 1, 7])
def test_no_steps_is_the_end_at_once(at: int) -> None:
    """A length of zero: the end value from the first count on, for every schedule with an end."""
    for schedule, end in (
        (gradtx.linear_schedule(1.0, 0.25, 0), 0.25),
        (gradtx.polynomial_schedule(1.0, 0.25, 2.0, 0), 0.25),
        (gradtx.cosine_decay_schedule(1.0, 0, 0.25), 0.25),
        (gradtx.warmup_cosine_decay_schedule(0.0, 1.0, 0, 0, 0.25), 0.25),
        (gradtx.wsd_schedule(1.0, 0, 0, 0, end_value=0.25), 0.25),
        (gradtx.warmup_schedule(0.25, 0), 0.25),
        (gradtx.cosine_onecycle_schedule(0, 1.0, div_factor=2.0, final_div_factor=2.0), 0.25),
        (gradtx.linear_onecycle_schedule(0, 1.0, div_factor=2.0, final_div_factor=2.0), 0.25),
    ):
        assert float(schedule(at)) == pytest.approx(end), schedule


def test_ascent_by_a_negative_learning_rate() -> None:
    """Every optimizer takes one, rprop alone refuses a size below zero."""
    for make in (gradtx.sgd, gradtx.adam, gradtx.lion, gradtx.fromage, gradtx.adafactor):
        up, _ = _first(make(-0.1))
        assert (up > 0).all()
    refused(lambda: gradtx.rprop(-0.1), "learning_rate", "-0.1")


def _first(tx: Any, params: Any = None, **extra: Any) -> Any:
    params = jnp.ones(3) if params is None else params
    return tx.update(params, tx.init(params), params, **extra)


# Real and whole numbers --------------------------------------------------------------------------


def test_integers_that_mean_reals_are_floats() -> None:
    """One trace and one derivative for `sgd(1)` and `sgd(1.0)`, in trees and tables too."""
    assert gradtx.sgd(1) == gradtx.sgd(1.0)
    tree = gradtx.sgd({"a": 1, "b": gradtx.by_path({"*": 2})})
    assert {type(x) for x in jax.tree.leaves(tree)} == {float}
    whole = gradtx.chain(
        gradtx.add_noise(1, key=2**40),
        gradtx.scale(gradtx.linear_schedule(1, 0, 10)),
        gradtx.every(2, gradtx.scale(gradtx.join_schedules([1, 2], [5]))),
    )
    ints = [x for x in jax.tree.leaves(whole) if isinstance(x, int)]
    assert sorted(ints) == [0, 2, 5, 10]


def test_gradient_of_an_optimizer_with_whole_numbers() -> None:
    """With `allow_int=True`, as documented; the others have derivatives."""
    params = jnp.ones(3)

    def loss(tx: Any) -> Any:
        state = tx.init(params)
        p, _ = tx.step(params, state, params)
        return p.sum()

    slope = jax.grad(loss, allow_int=True)(gradtx.lookahead(gradtx.sgd(1), sync_period=5))
    assert float(slope.inner.parts["scale_by_learning_rate"].learning_rate) == -3.0
    assert slope.sync_period.dtype == jax.dtypes.float0
    jax.grad(loss)(gradtx.chain(gradtx.clip(1), gradtx.sgd(1)))


# Equality ----------------------------------------------------------------------------------------


def test_restored_optimizers_are_the_same_static_argument() -> None:
    """Copied and unpickled optimizers with arrays, NumPy numbers and keys hit one cache entry."""
    tx = gradtx.chain(
        gradtx.add_noise(1.0, key=jax.random.key(0)),
        gradtx.adam(jnp.float32(1e-3), np.float64(0.9), eps=np.array(1e-8)),
    )
    traces = []

    def run(tx: Any, x: Any) -> Any:
        traces.append(None)
        return x

    jitted = jax.jit(run, static_argnums=0)
    others = [tx, copy.deepcopy(tx), jax.tree.map(lambda x: x, tx)]
    others += [tx.replace({"add_noise.key": jax.random.key(0)})]
    for other in others:
        assert other == tx
        assert hash(other) == hash(tx)
        jitted(other, 1.0)
    jitted(tx.replace(eps=np.array(1e-7)), 1.0)
    assert len(traces) == 2
    plain = gradtx.adam(jnp.float32(1e-3), np.float64(0.9))
    assert pickle.loads(pickle.dumps(plain)) == plain


# Masks and labels --------------------------------------------------------------------------------

TWO = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
MASKS: dict[str, Any] = {
    "pattern": "*/kernel",
    "of path and array": lambda path, x: path.endswith("kernel"),
    "of the tree": lambda params: jax.tree.map(lambda x: x.ndim == 2, params),
    "of the tree, with a default": lambda params, n=2: jax.tree.map(lambda x: x.ndim == n, params),
    "tree": {"dense": {"kernel": True, "bias": False}},
}


@pytest.mark.parametrize("mask", MASKS)
def test_masks_are_one_thing_everywhere(mask: str) -> None:
    """Every form of a mask in every place that takes one."""
    flags = MASKS[mask]
    for make in (
        lambda m: gradtx.adamw(1.0, weight_decay=0.5, mask=m),
        lambda m: gradtx.lion(1.0, weight_decay=0.5, mask=m),
        lambda m: gradtx.lamb(1.0, weight_decay=0.5, mask=m),
        lambda m: gradtx.lars(1.0, weight_decay=0.5, weight_decay_mask=m),
        lambda m: gradtx.masked(gradtx.scale(2.0), m),
        lambda m: gradtx.freeze(m),
    ):
        updates, _ = _first(make(flags), TWO)
        wanted, _ = _first(make(MASKS["tree"]), TWO)
        assert_same(updates, wanted)
    told = gradtx.adamw(1e-3, weight_decay=0.5, mask=flags).routes(TWO)
    assert ["weight_decay=0.5" in route.by for route in told] == [False, True]


def test_labels_of_the_whole_tree() -> None:
    """Optax's form of a label function, in `partition` and `by_path`."""

    def label(params: Any) -> Any:
        return jax.tree.map(lambda x: "matrix" if x.ndim == 2 else "rest", params)

    tx = gradtx.partition({"matrix": gradtx.scale(2.0), "rest": gradtx.freeze()}, label)
    table = gradtx.scale(gradtx.by_path({"matrix": 2.0, "rest": 0.0}, label))
    assert_same(_first(tx, TWO)[0], _first(table, TWO)[0])


def test_masks_that_say_nothing() -> None:
    """No bool, or a function that fails: named with the path."""
    refused(lambda: _first(gradtx.masked(gradtx.scale(1.0), lambda p, x: 1), TWO), "bias", "bool")

    def wrong(path: str, x: Any) -> bool:
        raise AssertionError

    refused(lambda: _first(gradtx.masked(gradtx.scale(1.0), wrong), TWO), "bias", "AssertionError")
    refused(lambda: _first(gradtx.masked(gradtx.scale(1.0), lambda p: p["x"]), TWO), "KeyError")
    model = {"w": jnp.ones(2), "activation": jax.nn.relu}
    tx = gradtx.masked(gradtx.scale(2.0), lambda path, x: x.ndim == 1)
    assert jax.tree.leaves(tx.init(model))


# Arguments of update -----------------------------------------------------------------------------


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
    assert _first(gradtx.chain(own(), gradtx.scale(1.0)), factor=2.0)[0].tolist() == [2.0] * 3


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


# Names -------------------------------------------------------------------------------------------


def test_names_of_other_libraries() -> None:
    """Every one is answered; none of them exists here; those that are named exist."""
    for name in COUNTERPARTS:
        assert not hasattr(gradtx, name), name
        with pytest.raises(AttributeError, match="counterpart"):
            getattr(gradtx, name)
    for name in ("MultiSteps", "multi_transform", "set_to_zero", "trace", "AdamW", "SGD"):
        ours = COUNTERPARTS[name].split(":")[0]
        assert hasattr(gradtx, ours), name
    with pytest.raises(AttributeError, match="Did you mean adamw"):
        _ = gradtx.adamww
    with pytest.raises(AttributeError, match="no 'nothing_like_it'"):
        _ = gradtx.nothing_like_it


def test_names_of_optax_and_pytorch_are_known() -> None:
    """All transformations of Optax and optimizers of PyTorch exist or are answered."""
    public = [
        name
        for name in dir(optax)
        if getattr(getattr(optax, name), "__module__", "").startswith("optax.transforms")
        and name.islower()
    ]
    assert len(public) > 20
    unknown = [n for n in public if not hasattr(gradtx, n) and n not in COUNTERPARTS]
    assert not unknown


@pytest.mark.parametrize(
    ("make", "meant"),
    [
        (lambda: gradtx.adam(lr=1e-3), "learning_rate?"),
        (lambda: gradtx.adam(1e-3, beta1=0.9), "b1?"),
        (lambda: gradtx.adam(1e-3, betas=(0.9, 0.99)), "b1 and b2?"),
        (lambda: gradtx.scale_by_adam(epsilon=1e-8), "eps?"),
        (lambda: gradtx.adamw(1e-3, wd=0.1), "weight_decay?"),
        (lambda: gradtx.adamw(1e-3, weight_deacy=0.1), "weight_decay?"),
        (lambda: gradtx.cosine_decay_schedule(1.0, decay_step=3), "decay_steps?"),
    ],
)
def test_arguments_of_other_libraries(make: Callable[[], Any], meant: str) -> None:
    """Functions and classes alike say which argument was meant."""
    refused(make, f"Did you mean {meant}")


def test_assignment_points_to_replace() -> None:
    """`tx.learning_rate = 1` says how to have another one."""
    with pytest.raises(AttributeError, match=r"tx.replace\(learning_rate=...\)"):
        gradtx.adam(1e-3).learning_rate = 1  # pyright: ignore


def test_tables_of_another_kind() -> None:
    """A list for a dict, keys of several types."""
    refused(lambda: gradtx.partition([gradtx.adam(1e-3)]), "partition", "list")
    refused(lambda: gradtx.muon(1e-3, matrices=["w"]), "muon", "list")
    refused(lambda: gradtx.by_path([1.0]), "by_path", "list")
    refused(lambda: gradtx.partition({1: gradtx.adam(1.0), "a": gradtx.sgd(1.0)}), "int, str")


# Messages ----------------------------------------------------------------------------------------


def test_messages_show_what_was_typed() -> None:
    """Numbers, not tracers, also where the call was compiled."""
    tx, params = gradtx.adamw(3e-4, b1=0.8), arrays(0)
    said = refused(lambda: tx.update(params, gradtx.sgd(0.1).init(params), params), "b1=0.8")
    assert "float32[]" not in said
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
        refused(lambda: gradtx.muon(1e-3, "w").init({"w": three}), "'w'", "letter for each axis"),
        refused(lambda: adam.update({"a": 1.0}, adam.init({"a": None}), {"a": 1.0}), "tx.init"),
    }
    assert len({text.rsplit(". ", 1)[-1] for text in said}) >= 4


def test_containers_of_another_kind() -> None:
    """The same paths in a tuple and in a list: both kinds are named with their place."""
    tx = gradtx.adam(1e-3)
    params = {"a": [jnp.ones(2), jnp.ones(3)]}
    grads = {"a": (jnp.ones(2), jnp.ones(3))}
    refused(lambda: tx.update(grads, tx.init(params), params), "'a'", "tuple", "list")


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


# Editing, logging, showing -----------------------------------------------------------------------


def test_a_part_of_a_chain_can_be_replaced() -> None:
    """By path and by keyword; a part named after its class gets the new one's name."""
    lion = gradtx.chain(gradtx.scale_by_lion(), gradtx.scale_by_learning_rate(1e-3))
    adam = gradtx.adam(1e-3)
    assert adam.replace({"scale_by_adam": gradtx.scale_by_lion()}) == lion
    assert adam.replace(scale_by_adam=gradtx.scale_by_lion()) == lion
    named = gradtx.chain(mine=gradtx.scale(1.0)).replace(mine=optax.scale(2.0))
    assert list(named.parts) == ["mine"]
    assert isinstance(named.parts["mine"], gradtx.GradientTransformation)
    inside = gradtx.ema(gradtx.partition({"*/bias": adam, "*": adam}))
    edited = inside.replace({"*/bias.scale_by_adam": gradtx.scale_by_lion()})
    assert edited.inner.transforms["*/bias"] == lion
    refused(lambda: adam.replace(scale_by_adam=3), "chain", "3")


def test_hyperparameters_for_loggers() -> None:
    """Python numbers under keys that stay when a wrapper is added."""
    schedule = gradtx.linear_schedule(1.0, 0.0, 10)
    tx = gradtx.adamw(schedule, b2=np.float32(0.5), weight_decay=jnp.float32(0.25))
    plain = tx.hyperparameters(5)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["scale_by_learning_rate.learning_rate"] == 0.5
    assert plain["scale_by_adam.b2"] == 0.5
    assert plain["add_decayed_weights.weight_decay"] == 0.25
    wrapped = gradtx.ema(gradtx.lookahead(tx))
    found = wrapped.hyperparameters(5)
    assert plain.items() <= found.items()
    twice = gradtx.ema(gradtx.ema(tx, 0.5), 0.25).hyperparameters()
    assert (twice["decay"], twice["inner.decay"]) == (0.25, 0.5)
    for path, value in found.items():
        if path != "scale_by_learning_rate.learning_rate":
            assert wrapped.replace({path: value}).hyperparameters(5) == found


def test_pretty_printers_show_what_is_inside() -> None:
    """Treescope, which Flax brings, shows tables and trees and no addresses."""
    treescope = pytest.importorskip("treescope")
    tx = gradtx.adamw(1e-3, mask={"a": True})
    shown = treescope.render_to_text(tx)
    assert " at 0x" not in shown
    assert "b1=0.9" in shown


# Other libraries ---------------------------------------------------------------------------------


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


def test_to_optax_is_opaque() -> None:
    """Compared, hashed, pickled, and held by a Flax optimizer although it has array leaves."""
    tx = gradtx.adam(jnp.float32(1e-3))
    ours = to_optax(tx)
    assert isinstance(ours, optax.GradientTransformationExtraArgs)
    assert ours == to_optax(copy.deepcopy(tx))
    assert hash(ours) == hash(to_optax(tx))
    assert pickle.loads(pickle.dumps(ours)) == ours
    assert not any(isinstance(x, jax.Array) for x in jax.tree.leaves(ours))
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, ours, wrt=nnx.Param)
    before = jnp.array(model.kernel[...])
    optimizer.update(model, nnx.grad(lambda m: m(jnp.ones((1, 2))).sum())(model))
    assert (model.kernel[...] != before).all()


def test_schedules_are_not_taken_for_masks() -> None:
    """A schedule of one's own is a value, whatever it is called with."""

    class halving(Schedule):
        def __call__(self, count: Any) -> Any:
            return 0.5**count

    assert gradtx.sgd(halving()).hyperparameters(1)["scale_by_learning_rate.learning_rate"] == 0.5
