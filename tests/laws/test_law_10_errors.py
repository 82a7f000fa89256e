"""Law 10: errors say what was called, what was seen, what to do, and come at trace time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

from .cases import (
    arrays,
    assert_three_parts,
    avals,
    build,
    extras,
    hyperparameter_paths,
    hyperparameters,
    needs,
    over_rows,
    update,
)


def _refused(tx, grads, state, params, kinds=(TypeError, ValueError)):
    """The error that an update raises when it is only traced."""
    more = extras(tx, params, grads)
    with pytest.raises(kinds) as raised:
        jax.eval_shape(lambda g, s, p: tx.update(g, s, p, **more), grads, state, params)
    return raised.value


def _looks_at_nothing(tx):
    """`identity` hands on whatever it gets, so there is nothing that it could refuse."""
    return isinstance(tx, gradtx.identity)


def _name(tx):
    return type(tx).__name__


@over_rows
def test_gradients_of_another_tree(row):
    """A missing or a surplus array is named by its path."""
    tx, params = build(row), arrays(0)
    state = tx.init(params)
    if _looks_at_nothing(tx):
        assert tx.update(params, state, {"other": 1.0})[0] is params
        return
    missing = {"dense": {"kernel": params["dense"]["kernel"]}, "scale": params["scale"]}
    surplus = {**params, "more": params["scale"]}
    assert_three_parts(_refused(tx, missing, state, params), "'dense/bias'", "different trees")
    assert_three_parts(_refused(tx, surplus, state, params), "'more'", "different trees")
    listed = [params["scale"]]
    assert_three_parts(_refused(tx, listed, state, params), "different trees")


@over_rows
def test_shapes_that_would_broadcast(row):
    """A gradient of another shape is refused, with its path and both shapes."""
    tx, params = build(row), arrays(0)
    state = tx.init(params)
    for shape in ((1, 3), (3,), (), (4, 1), (2, 4, 3)):
        kernel = jnp.ones(shape)
        grads = {**params, "dense": {**params["dense"], "kernel": kernel}}
        if _looks_at_nothing(tx):
            with pytest.raises(ValueError, match="dense/kernel"):
                jax.eval_shape(lambda p, g: tx.step(g, state, p), params, grads)
            continue
        error = _refused(tx, grads, state, params)
        assert_three_parts(error, "'dense/kernel'", str(list(shape)), "[4, 3]")


@over_rows
def test_state_of_other_shapes(row):
    """A state made from another model is refused where an array of it does not fit."""
    tx, params = build(row), arrays(0)
    other = jax.tree.map(lambda p: jnp.ones((1, *p.shape)), params)
    state = tx.init(other)
    if avals(state) == avals(tx.init(params)):
        update(tx, params, state, params)  # it remembers no array: any model will do
        return
    error = _refused(tx, params, state, params)
    assert_three_parts(error, "dense/", "[1, ")


@over_rows
def test_state_of_another_optimizer(row):
    """A state of another kind is refused with what it is and what was expected."""
    tx, params = build(row), arrays(0)
    strangers = [
        gradtx.chain(gradtx.clip(1.0), gradtx.scale_by_momentum(), gradtx.scale(1.0)).init(params),
        optax.adam(1e-3).init(params),
        optax.sgd(1e-3, momentum=0.9).init(params),
        {},
        None,
        3,
        params,
    ]
    if _looks_at_nothing(tx):
        return
    for state in strangers:
        error = _refused(tx, params, state, params, TypeError)
        # The state of these is that of their inside.
        inside = isinstance(tx, gradtx.masked | gradtx.offload | gradtx.store)
        owner = tx.inner if inside else tx
        assert_three_parts(error, _name(owner), "state", "init")


@over_rows
def test_missing_parameters(row):
    """What needs the parameters asks for them; what does not runs without, to the same end."""
    tx, params = build(row), arrays(0)
    state = tx.init(params)
    more = extras(tx, params, params)

    def without(g):
        return tx.update(g, state, **more)

    if "params" in needs(tx):
        with pytest.raises(ValueError, match="parameters are missing") as raised:
            jax.eval_shape(without, params)
        assert_three_parts(raised.value, "Pass them")
    else:
        with_them = jax.eval_shape(lambda g: update(tx, g, state, params), params)
        assert jax.eval_shape(without, params) == with_them


@over_rows
def test_strings_as_hyperparameters(row):
    """A string in the place of any number is refused when the object is made."""
    tx = build(row)
    for path in hyperparameter_paths(tx):
        with pytest.raises(TypeError) as raised:
            tx.replace({path: "0.1"})
        assert_three_parts(raised.value, path.split(".")[-1], "'0.1'")


@over_rows
def test_hyperparameters_with_axes(row):
    """An array of numbers is refused with its shape, before anything is computed with it."""
    tx, params = build(row), arrays(0)
    state = jax.eval_shape(tx.init, params)
    for path in hyperparameter_paths(tx):
        for value in (jnp.full(3, 0.1), np.full((1,), 0.1), jnp.full((4, 3), 0.1)):
            broad = tx.replace({path: value})
            error = _refused(broad, params, state, params)
            assert_three_parts(error, path.split(".")[-1], str(value.shape), "vmap")


@over_rows
def test_hyperparameters_that_are_trees_of_another_model(row):
    """A tree of numbers that does not fit the parameters is refused with its paths."""
    tx, params = build(row), arrays(0)
    state = jax.eval_shape(tx.init, params)
    for path, number in hyperparameters(tx).items():
        wrong = tx.replace({path: {"dense": number, "elsewhere": number}})
        error = _refused(wrong, params, state, params)
        assert_three_parts(error, path.split(".")[-1], "elsewhere")


@over_rows
def test_patterns_without_an_array(row):
    """`by_path` as a hyperparameter: unused patterns and arrays without one are listed by init."""
    tx, params = build(row), arrays(0)
    for path, x in hyperparameters(tx).items():
        for table, mention in (
            ({"*/bais": x, "*": x}, "*/bais"),
            ({"*/bias": x}, "no entry for"),
        ):
            wrong = tx.replace({path: gradtx.by_path(table)})
            with pytest.raises(ValueError, match="by_path") as raised:
                update(wrong, params, wrong.init(params), params)
            # A number that all arrays share is refused as such, and the table with it.
            shared = "all arrays share one number" in str(raised.value)
            assert_three_parts(raised.value, "by_path({" if shared else mention)


@over_rows
def test_unknown_hyperparameters(row):
    """`replace` names the nearest when there is no such hyperparameter."""
    with pytest.raises(ValueError, match="there is no 'lerning_rate'") as raised:
        build(row).replace(lerning_rate=0.1)
    assert str(build(row)) in str(raised.value)


@over_rows
def test_floating_gradient_of_an_integer_parameter(row):
    """Parameters that are not moved take no gradient: the path and both dtypes are named."""
    tx = build(row)
    params, grads = {"i": jnp.ones(3, jnp.int32)}, {"i": jnp.ones(3)}
    state = tx.init(params)
    if _looks_at_nothing(tx):
        assert (gradtx.apply_updates(params, grads)["i"] == params["i"]).all()
        return
    assert_three_parts(_refused(tx, grads, state, params), "'i'", "float32", "int32")


IMPOSSIBLE = {
    "adam(1e-3, b1=1.0)": ("b1", 1.0),
    "adam(1e-3, b1=-0.1)": ("b1", -0.1),
    "adam(1e-3, b2=1.5)": ("b2", 1.5),
    "adam(1e-3, eps=-1e-8)": ("eps", -1e-8),
    "adam(1e-3, eps_root=-1.0)": ("eps_root", -1.0),
    "adamw(1e-3, b2=float('nan'))": ("b2", float("nan")),
    "adamw(1e-3, b1={'dense': 0.9, 'scale': 1.2})": ("b1", 1.2),
    "adamw(1e-3, b1=by_path({'*': 1.2}))": ("b1", 1.2),
    "sgd(0.1, momentum=1.1)": ("decay", 1.1),
    "sgd(0.1, momentum=-0.5)": ("decay", -0.5),
    "adagrad(0.1, initial_accumulator_value=-1.0)": ("initial_accumulator_value", -1.0),
    "adagrad(0.1, eps=0.0)": ("eps", 0.0),
    "rmsprop(0.1, decay=1.0)": ("decay", 1.0),
    "rmsprop(0.1, eps=0.0)": ("eps", 0.0),
    "rmsprop(0.1, centered=True, decay=2.0)": ("decay", 2.0),
    "rmsprop(0.1, initial_scale=-1.0)": ("initial_scale", -1.0),
    "adadelta(rho=1.0)": ("rho", 1.0),
    "adadelta(eps=0)": ("eps", 0),
    "clip(0.0)": ("max_delta", 0.0),
    "clip(-1)": ("max_delta", -1),
    "clip_by_norm(-1.0)": ("max_norm", -1.0),
    "clip_by_global_norm(0)": ("max_norm", 0),
    "clip_by_global_norm(float('nan'))": ("max_norm", float("nan")),
    "add_noise(-0.1)": ("eta", -0.1),
    "add_noise(0.1, gamma=-1.0)": ("gamma", -1.0),
}


@pytest.mark.parametrize("call", IMPOSSIBLE)
def test_impossible_hyperparameters(call):
    """Numbers outside their interval are refused by the constructor, with name, value, interval."""
    name, value = IMPOSSIBLE[call]
    with pytest.raises(ValueError, match="Pass a number in") as raised:
        eval(call, vars(gradtx).copy())
    assert_three_parts(raised.value, name, repr(value))


def test_impossible_hyperparameters_are_refused_by_replace():
    """Editing checks as making does."""
    with pytest.raises(ValueError, match=r"b1 is 1\.0"):
        gradtx.adam(1e-3).replace(b1=1.0)


def test_traced_hyperparameters_are_not_judged():
    """Values that only exist at run time cost nothing: they are never looked at."""
    made = jax.jit(lambda b1: jax.tree.leaves(gradtx.adam(1e-3, b1=b1)))(2.0)
    assert 2.0 in [float(x) for x in made]


@pytest.mark.parametrize(
    ("make", "called"),
    [
        (lambda: gradtx.chain(gradtx.adam), "chain"),
        (lambda: gradtx.chain(gradtx.clip(1.0), gradtx.scale_by_adam), "chain"),
        (lambda: gradtx.chain(last=gradtx.adam), "chain"),
        (lambda: gradtx.chain(optax.adam), "chain"),
        (lambda: gradtx.partition({"*": gradtx.adam}), "partition"),
        (lambda: gradtx.masked(gradtx.adam, True), "masked"),
    ],
)
def test_forgotten_call(make, called):
    """The function that makes an optimizer in the place of one: the message says to call it."""
    with pytest.raises(TypeError, match="is not a gradient transformation") as raised:
        make()
    assert_three_parts(raised.value, called, "Call it: ")


@pytest.mark.parametrize("wrong", [None, 3, "adam", {}, [gradtx.scale(1.0)], (1, 2)], ids=repr)
def test_what_is_no_transformation(wrong):
    """Anything else in a chain is refused as well."""
    with pytest.raises(TypeError, match="is not a gradient transformation") as raised:
        gradtx.chain(wrong)
    assert_three_parts(raised.value, "chain", repr(wrong), "adam(1e-3)")


def test_updates_that_do_not_fit_the_parameters():
    """`apply_updates` refuses other trees and other shapes with the paths."""
    params = arrays(0)
    with pytest.raises(ValueError, match="different trees") as raised:
        gradtx.apply_updates(params, {"scale": params["scale"]})
    assert_three_parts(raised.value, "apply_updates", "'dense")
    short = {**params, "dense": {**params["dense"], "kernel": jnp.ones(3)}}
    with pytest.raises(ValueError, match="shape") as raised:
        gradtx.apply_updates(params, short)
    assert_three_parts(raised.value, "apply_updates", "'dense/kernel'", "(4, 3)", "(3,)")


def test_errors_cost_nothing_at_run_time():
    """A compiled update has no assertion, callback or branch in it."""
    tx, params = gradtx.adamw(1e-3), arrays(0)
    lowered = jax.jit(tx.update).lower(params, tx.init(params), params).as_text()
    for costly in ("custom_call", "stablehlo.case", "stablehlo.if", "callback"):
        assert costly not in lowered


def test_the_message_of_a_long_chain_names_the_optimizer():
    """What was called is shown as it would be typed."""
    tx, params = gradtx.adamw(1e-3), arrays(0)
    error = _refused(tx, params, gradtx.sgd(0.1).init(params), params, TypeError)
    assert "chain(" in str(error)
    assert "scale_by_adam()" in str(error)
