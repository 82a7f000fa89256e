"""What cannot be right is refused, early and by name; messages say what differs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import ROWS, build

import gradtx as gx
from gradtx import catalogue

NAN = float("nan")
P = {"w": jnp.ones(3), "b": jnp.ones(2)}


def first(tx: Any, params: Any = P, **extra: Any) -> Any:
    return tx.update(params, tx.init(params), params, **extra)[0]


def refused(call: Callable[[], Any], *words: str) -> str:
    """The message of an error that is one of ours: in three parts, and with these words."""
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    message = str(error.value)
    for word in words:
        assert word in message, message
    assert len(message) <= 2500, len(message)
    assert "Traceback" not in message
    assert "NoneType" not in message, message
    return message


# Numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [NAN, np.float32(NAN), 1j, "0.1"], ids=str)
@pytest.mark.parametrize("name", catalogue.optimizers)
def test_a_rate_that_is_no_real_number(name: str, rate: Any) -> None:
    """For every optimizer: NaN, complex numbers, strings; in a table and in a tree too."""
    for given in (rate, gx.by_path({"*": rate}), {"w": rate, "b": 0.1}):
        refused(lambda given=given: catalogue.optimizers[name].make(learning_rate=given))


@pytest.mark.parametrize("name", ["sgd", "adam", "lion", "muon", "dog", "prodigy", "soap"])
def test_a_rate_that_is_none(name: str) -> None:
    """Where a number is needed, None is none: refused with the name of the argument."""
    refused(lambda: catalogue.optimizers[name].make(learning_rate=None), "learning_rate")


@pytest.mark.parametrize(
    "make",
    [
        lambda: gx.scale(None),  # pyright: ignore[reportArgumentType]
        lambda: gx.constant_schedule(None),  # pyright: ignore[reportArgumentType]
        lambda: gx.linear_schedule(None, 0.0, 10),  # pyright: ignore[reportArgumentType]
        lambda: gx.adam(0.1, b1=None),  # pyright: ignore[reportArgumentType]
        lambda: gx.clip_by_global_norm(None),  # pyright: ignore[reportArgumentType]
        lambda: gx.adamw(0.1, weight_decay=None),  # pyright: ignore[reportArgumentType]
    ],
)
def test_none_where_a_number_is_needed(make: Callable[[], Any]) -> None:
    refused(make)


@pytest.mark.parametrize("rate", [True, np.True_, {"w": True, "b": 0.1}, gx.by_path({"*": True})])
def test_a_rate_that_is_a_bool(rate: Any) -> None:
    refused(lambda: gx.sgd(rate), "learning_rate", "True")


def test_none_in_a_table() -> None:
    """By `init`, which knows the table; where None has a meaning it stays one."""
    for tx in (gx.sgd(gx.by_path({"*": None})), gx.adamw(0.1, weight_decay=None, mask="w")):  # pyright: ignore
        refused(lambda tx=tx: tx.init(P), "is None")
    assert gx.lars(0.1, trust_ratio_mask="w").init(P)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion", "adafactor", "muon"])
def test_an_infinite_rate(name: str) -> None:
    """It makes NaN of the first zero gradient."""
    inf = float("inf")
    for rate in (inf, -inf, np.float32(inf), {"w": inf, "b": 0.1}, gx.by_path({"*": inf})):
        refused(lambda rate=rate: catalogue.optimizers[name].make(learning_rate=rate), "inf")


@pytest.mark.parametrize(
    "make",
    [
        gx.clip,
        gx.clip_by_global_norm,
        gx.clip_by_block_rms,
        lambda limit: gx.projection_box(-limit, upper=limit),
        lambda limit: gx.clip_by_global_norm(gx.join_schedules([limit, 1.0], [10])),
    ],
)
def test_a_limit_may_be_infinite(make: Callable[[Any], Any]) -> None:
    """Where infinity has a meaning, it stays one."""
    np.testing.assert_array_equal(first(make(float("inf")))["w"], P["w"])


DECAYED = [
    name
    for name, row in (catalogue.optimizers | catalogue.links).items()
    if "weight_decay" in inspect.signature(row.make).parameters
]


@pytest.mark.parametrize("decay", [-1.0, NAN, float("inf"), 1j], ids=str)
@pytest.mark.parametrize("name", DECAYED)
def test_a_decay_that_is_none(name: str, decay: Any) -> None:
    """Negative, infinite, NaN or complex."""
    row = (catalogue.optimizers | catalogue.links)[name]
    rate = {} if row.learning_rate is None else {"learning_rate": 0.1}
    refused(lambda: row.make(**rate, weight_decay=decay), "weight_decay")


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: gx.scale(NAN), "step_size"),
        (lambda: gx.scale(1j), "step_size"),
        (lambda: gx.rprop(0.1, min_step_size=1.0, max_step_size=0.1), "min_step_size"),
        (lambda: gx.rprop(0.1, eta_minus=1.5), "eta_minus"),
        (lambda: gx.rprop(0.1, eta_plus=0.5), "eta_plus"),
        (lambda: gx.linear_schedule(1.0, 0.0, -5), "transition_steps"),
        (lambda: gx.linear_schedule(1.0, 0.0, 5, -5), "transition_begin"),
        (lambda: gx.linear_schedule(1.0, 0.0, NAN), "transition_steps"),
        (lambda: gx.linear_schedule(NAN, 0.0, 5), "init_value"),
        (lambda: gx.polynomial_schedule(1.0, 0.0, -2.0, 5), "power"),
        (lambda: gx.polynomial_schedule(1.0, 0.0, 2.0, -1), "transition_steps"),
        (lambda: gx.cosine_decay_schedule(1.0, -1), "decay_steps"),
        (lambda: gx.exponential_decay(1.0, 0, 0.5), "transition_steps"),
        (lambda: gx.piecewise_constant_schedule(1.0, {-5: 0.1}), "-5"),
        (lambda: gx.piecewise_constant_schedule(1.0, {5: -0.1}), "-0.1"),
        (lambda: gx.join_schedules([1.0, 2.0, 3.0], [5, 3]), "rising"),
        (lambda: gx.join_schedules([1.0, 2.0], [-5]), "-5"),
        (lambda: gx.join_schedules([1.0, "a"], [5]), "'a'"),  # pyright: ignore
        (lambda: gx.join_schedules([1.0, None], [5]), "None"),  # pyright: ignore
        (lambda: gx.sgd(lambda: 1.0), "count"),  # pyright: ignore
        (lambda: gx.sgd(lambda count, more: 1.0), "count"),  # pyright: ignore
        (lambda: gx.join_schedules([lambda: 1.0, 1.0], [5]), "count"),  # pyright: ignore
    ],
)
def test_impossible_numbers(make: Callable[[], Any], word: str) -> None:
    if word == "None":
        with pytest.raises(TypeError, match="None"):
            make()
        return
    refused(make, word)


@pytest.mark.parametrize(
    "schedule", [lambda count: "a", lambda count: None, lambda count: 1j], ids=["str", "None", "1j"]
)
def test_a_schedule_that_gives_no_number(schedule: Any) -> None:
    """Refused by the name of the hyperparameter, with what the function returned."""
    tx = gx.sgd(schedule)
    message = refused(lambda: tx.init(P), "<lambda> returns as learning_rate")
    refused(lambda: tx.update(P, gx.sgd(0.1).init(P)), "<lambda> returns as learning_rate")
    refused(lambda: gx.ema(gx.sgd(1.0), schedule).init(P), "<lambda> returns as decay")
    for raw in ("operand", "must be", "interpreting"):
        assert raw not in message


# Masks -------------------------------------------------------------------------------------------

NO_BOOLS: dict[str, Any] = {
    "one": {"w": 1.0, "b": 0.0},
    "integers": {"w": 1, "b": 0},
    "strings": {"w": "yes", "b": "no"},
    "a half": {"w": 0.5, "b": True},
    "function": lambda path, x: 1.0,
    "function of the tree": lambda tree: jax.tree.map(lambda _: 1.0, tree),
}
MASKED: dict[str, Callable[[Any], Any]] = {
    "masked": lambda mask: gx.masked(gx.sgd(1.0), mask),
    "freeze": lambda mask: gx.freeze(mask),
    "adamw": lambda mask: gx.adamw(1.0, mask=mask),
    "lion": lambda mask: gx.lion(1.0, mask=mask),
    "lamb": lambda mask: gx.lamb(1.0, mask=mask),
    "lars": lambda mask: gx.lars(1.0, weight_decay_mask=mask),
}


@pytest.mark.parametrize("mask", NO_BOOLS)
@pytest.mark.parametrize("name", MASKED)
def test_a_mask_that_is_no_bool(name: str, mask: str) -> None:
    """In all masks alike, by the path."""
    message = refused(lambda: first(MASKED[name](NO_BOOLS[mask])), "bool", "the mask at")
    assert "entries" not in message


# Leaves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name in ROWS if name not in ("identity", "freeze", "stateless")]
)
def test_a_string_among_the_parameters(name: str) -> None:
    """By its path, for every row."""
    tx = build(ROWS[name])
    refused(lambda: tx.init({"w": jnp.ones((2, 2)), "name": "model"}), "name")


ODD = {
    "text": "a",
    "texts": np.asarray(["a", "b"]),
    "objects": np.asarray(["a", "b"], object),
    "times": np.asarray([1, 2], "m8[s]"),
    "type": int,
}
PLACES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "init": lambda tx, state, odd: tx.init(odd),
    "update": lambda tx, state, odd: tx.update(odd, state, P),
    "step": lambda tx, state, odd: tx.step(odd, state, P),
    "params": lambda tx, state, odd: tx.update(P, state, odd),
    "eval_params": lambda tx, state, odd: tx.eval_params(state, odd),
    "under jit": lambda tx, state, odd: jax.jit(lambda p: tx.update({**odd, "w": p}, state, P))(
        P["w"]
    ),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "tx", [gx.adam(0.1), gx.masked(gx.adam(0.1), "w"), gx.ema(gx.sgd(1.0))], ids=str
)
def test_what_holds_no_numbers(tx: Any, place: str, odd: str) -> None:
    """Texts, and arrays of texts, objects or times: by path, wherever they come in."""
    state = tx.init(P)
    message = refused(lambda: PLACES[place](tx, state, {**P, "b": ODD[odd]}), "at 'b'")
    assert "interpreting" not in message


def test_no_numbers_in_apply_updates() -> None:
    refused(lambda: gx.apply_updates(P, {**P, "b": np.asarray(["a"])}), "at 'b'", "apply_updates")


def test_what_comes_through() -> None:
    """Functions, `None`, integers, keys and the gradients of integers are no mistake."""
    params = {**P, "f": jnp.tanh, "n": None, "i": jnp.arange(2), "k": jax.random.key(0), "o": True}
    grads = {**P, "f": None, "n": None, "i": np.zeros(2, jax.dtypes.float0), "k": None, "o": None}
    new, _ = gx.adam(0.1).step(grads, gx.adam(0.1).init(params), params)
    assert new["f"] is jnp.tanh


# Messages ----------------------------------------------------------------------------------------

MANY = {f"layer_{i}": {"k": jnp.ones(2), "b": jnp.ones(2)} for i in range(300)}


def like(value: Any) -> Any:
    return jax.tree.map(lambda _: value, MANY)


LONG: dict[str, Callable[[], Any]] = {
    "labels without an entry": lambda: gx.partition({"x": gx.sgd(1.0)}, like("y")).init(MANY),
    "labels without an array": lambda: gx.partition(
        {"x": gx.sgd(1.0)}, {**like("x"), "more": "x"}
    ).init(MANY),
    "state of another": lambda: gx.adam(0.1).update(MANY, gx.adam(0.1).init(P), MANY),
    "mask": lambda: gx.masked(gx.sgd(1.0), {**like(True), "more": True}).init(MANY),
    "rates": lambda: gx.sgd({**like(0.1), "more": 0.1}).init(MANY),
    "patterns": lambda: first(gx.sgd(gx.by_path({f"layer_{i}/k": 0.1 for i in range(300)})), MANY),
    "parts": lambda: gx.partition({f"layer_{i}/k": gx.adam(0.1) for i in range(300)}).init(MANY),
    "state of parts": lambda: gx.partition(
        {f"layer_{i}/*": gx.adam(0.1) for i in range(300)}
    ).update(MANY, gx.adam(0.1).init(MANY), MANY),
    "shapes": lambda: gx.adamw(0.1, mask=like(True)).update(
        {**MANY, "layer_0": P}, gx.adamw(0.1, mask=like(True)).init(MANY), MANY
    ),
    "under jit": lambda: jax.jit(lambda lr: gx.partition({"x": gx.adam(lr)}, like("y")).init(MANY))(
        0.1
    ),
}


@pytest.mark.parametrize("name", LONG)
def test_messages_are_short(name: str) -> None:
    """At most 2,500 characters for any tree; they list some paths and how many more there are."""
    message = refused(LONG[name])
    assert "Tracer" not in message


IDLE: dict[str, Callable[[], Any]] = {
    "masked": lambda: gx.masked(gx.sgd(1.0), "*/baised"),
    "freeze": lambda: gx.freeze("*/baised"),
    "decay": lambda: gx.adamw(0.1, mask="*/baised"),
    "trust": lambda: gx.lars(0.1, trust_ratio_mask="*/baised"),
    "table": lambda: gx.sgd(gx.by_path({"*/baised": 0.0, "*": 0.1})),
    "mask in a table": lambda: gx.masked(gx.sgd(1.0), gx.by_path({"*/baised": False, "*": True})),
    "labels in a table": lambda: gx.partition(
        {"x": gx.sgd(1.0), "y": gx.sgd(1.0)}, gx.by_path({"*/baised": "x", "*/k": "x", "*": "y"})
    ),
    "part": lambda: gx.partition({"*/baised": gx.freeze(), "*": gx.sgd(1.0)}),
    "monitor": lambda: gx.monitor(gx.sgd(1.0), ("*/baised",)),
    "inside": lambda: gx.ema(gx.chain(gx.masked(gx.sgd(1.0), "*/baised"), gx.scale(1.0))),
    "inside a part": lambda: gx.partition({"*": gx.adamw(0.1, mask="*/baised")}),
}


@pytest.mark.parametrize("name", IDLE)
def test_a_pattern_that_fits_no_array(name: str) -> None:
    """Masks as tables and parts: refused by `init`, which lists arrays and knows what was meant."""
    params = {"dense": {"bias": jnp.ones(2), "k": jnp.ones((2, 2))}, "more": jnp.ones(2)}
    tx = IDLE[name]()
    for given in (params, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)):
        refused(lambda given=given: tx.init(given), "'dense/bias'", "Did you mean '*/bias'?")
    jax.tree.map(lambda x: x, tx.init({}))  # of an empty tree nothing is known


def test_a_label_is_no_pattern() -> None:
    """For an entry whose label nobody gives there is no pattern to be meant."""
    tx = gx.partition({"x": gx.sgd(1.0), "ww": gx.sgd(1.0)}, lambda path, _: "x")
    assert "Did you mean" not in refused(lambda: tx.init(P), "'ww'", "Mend the entry")


def test_a_catch_all_that_catches_nothing() -> None:
    """An entry without an array is refused unless it is `optional`; a late label is none."""
    table = {"w": gx.sgd(1.0), "b": gx.sgd(0.1), "*": gx.freeze()}
    for tx in (gx.partition(table), gx.sgd(gx.by_path({"w": 1.0, "b": 0.1, "*": 0.0}))):
        assert "Leave it out" in refused(lambda tx=tx: tx.init(P), "'*'", "'w'")
    assert gx.partition(table, optional=("*",)).init(P) is not None
    assert gx.masked(gx.sgd(1.0), gx.by_path({"w": True, "b": False, "*": False})).init(P)


@pytest.mark.parametrize("other", [list, tuple])
def test_trees_of_other_containers(other: Any) -> None:
    """A tuple for a list: both are named, and what to do."""
    params = [jnp.ones(2), jnp.ones(3)] if other is tuple else (jnp.ones(2), jnp.ones(3))
    tx = gx.adam(0.1)
    message = refused(lambda: tx.update(other(params), tx.init(params), params), "list", "tuple")
    assert "one kind" in message


def test_a_leaf_fits_no_tree() -> None:
    """One array as the gradient of a dict of parameters, and beside a state of a dict."""
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    for tx in (
        gx.adam(0.1),
        gx.ema(gx.sgd(1.0)),
        gx.clip_by_global_norm(1.0),
        gx.muon(0.1, matrices="w"),
    ):
        for call in (tx.update, tx.step):
            refused(lambda tx=tx, call=call: call(jnp.ones(3), tx.init(params), params), "dict")
    tx = gx.adam(0.1)
    refused(lambda: tx.update({"w": jnp.ones(3)}, tx.init(jnp.ones(3)), {"w": jnp.ones(3)}), "w")


@pytest.mark.parametrize("decay", [gx.by_path({"*": 0.1}), {"w": 0.1, "b": 0.2}], ids=str)
def test_a_mask_beside_decays_that_differ(decay: Any) -> None:
    for make in (gx.adamw, gx.lion, gx.lamb, gx.nadamw, gx.adan):
        refused(lambda make=make: make(0.1, weight_decay=decay, mask="w"), "mask")


def test_errors_print_the_optimizer_as_it_was_typed() -> None:
    tx = gx.mechanic(gx.sgd(1.0))
    shapes = {"w": jax.ShapeDtypeStruct((2,), jnp.float32)}
    with pytest.raises(ValueError, match=r"mechanic\(chain\("):
        tx.init(shapes)
    assert repr(tx).startswith("mechanic(chain(")


AROUND = [tx for tx in map(build, ROWS.values()) if getattr(tx, "after", None) is not None]


@pytest.mark.parametrize("tx", AROUND, ids=lambda tx: type(tx).__name__)
def test_the_rule_behind_a_wrapper_prints_as_the_wrapper(tx: Any) -> None:
    """So that its errors name what was typed, with what is inside."""
    assert repr(tx.rule) == repr(tx)
