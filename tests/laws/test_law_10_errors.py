"""Law 10 for what is no row: constructors, forgotten calls, `apply_updates`, Optax's states."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
import pytest

import gradtx
from gradtx.testing.laws.errors import refuses_state

from .cases import arrays, assert_three_parts, evidence, extras, over_few


def _refused(tx, grads, state, params, kinds=(TypeError, ValueError)):
    """The error that an update raises when it is only traced."""
    more = extras(tx, params, grads)
    with pytest.raises(kinds) as raised:
        jax.eval_shape(lambda g, s, p: tx.update(g, s, p, **more), grads, state, params)
    return raised.value


@over_few
def test_state_of_optax(row):
    """A state of Optax's is refused with what it is and what was expected."""
    if row.name != "identity":  # it hands on whatever it gets
        params = arrays(0)
        for state in (optax.adam(1e-3).init(params), optax.sgd(1e-3, momentum=0.9).init(params)):
            refuses_state(evidence(row), state)


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
