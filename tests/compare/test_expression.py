"""Expressions: what they make, what is swept in them, and what is said of those that are wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from gradtx import catalogue
from gradtx.compare import parse
from gradtx.compare.api import run
from gradtx.compare.entrant import SCHEDULES
from gradtx.compare.objects import entrants_of
from gradtx.compare.parse import BadInput
from gradtx.compare.plan import Plan
from gradtx.compare.race import Race

from .conftest import problem

R = 0.25  # the learning rate that is given where one is open


def entrants(*typed: str, sweeps: tuple[str, ...] = ()):
    return parse.entrants(typed, catalogue.optimizers, vars(gx), sweeps)


def own(objects):
    return entrants_of(objects, catalogue.optimizers, vars(gx))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("chain(clip_by_global_norm(1.0), adamw(b2=0.95))",
         lambda: gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(R, b2=0.95))),
        ("ema(adam(), 0.99)", lambda: gx.ema(gx.adam(R), 0.99)),
        ("ema(adam, decay=0.99)", lambda: gx.ema(gx.adam(R), 0.99)),
        ("chain(scale_by_adam(), scale_by_learning_rate())", lambda: gx.adam(R)),
        ("partition({'*/bias': sgd(), '*': adam(0.1)})",
         lambda: gx.partition({"*/bias": gx.sgd(R), "*": gx.adam(0.1)})),
        ("outer(adam(), sgd(), every=4)", lambda: gx.outer(gx.adam(R), gx.sgd(R), every=4)),
        ("chain(dog(), nesterov())", lambda: gx.chain(gx.dog(), gx.sgd(R, 0.9, True))),
        ("ema(dog())", lambda: gx.ema(gx.dog(R))),
        ("mechanic(sgd())", lambda: gx.mechanic(gx.sgd(R))),
        ("mechanic", lambda: catalogue.optimizers["mechanic"].make(R)),
        ("muon(matrices='*/kernel')", lambda: gx.muon(R, matrices="*/kernel")),
        ("adam(b1=1 - exponential_decay(0.1, 2 * 50, 0.5) / 2)",
         lambda: gx.adam(R, b1=1 - gx.exponential_decay(0.1, 100, 0.5) / 2)),
        ("chain(clip(-(-1.0)), sgd(momentum=None))",
         lambda: gx.chain(gx.clip(1.0), gx.sgd(R, None))),
        ("adam(b1=by_path({'*/bias': 0.5, '*': 0.9}))",
         lambda: gx.adam(R, b1=gx.by_path({"*/bias": 0.5, "*": 0.9}))),
        ("sgd(momentum=join_schedules([0.5, 0.9], (10,)))",
         lambda: gx.sgd(R, gx.join_schedules([0.5, 0.9], (10,)))),
    ],
)  # fmt: skip
def test_what_an_expression_makes(typed, meant):
    [found] = entrants(typed)
    assert found.make(R) == meant()


@pytest.mark.parametrize(
    ("typed", "centre", "family"),
    [
        ("ema(sgd(), 0.99)", 0.1, catalogue.optimizers["sgd"].family),
        ("chain(adagrad(), sgd())", 0.03, catalogue.optimizers["adagrad"].family),
        ("chain(adam(0.1), momentum())", 0.03, catalogue.optimizers["momentum"].family),
        ("chain(scale_by_adam(), scale_by_learning_rate())", 0.01, "your own"),
    ],
)
def test_the_sweep_lies_around_the_optimizer_that_is_open(typed, centre, family):
    [found] = entrants(typed)
    assert (found.centre, found.family) == (centre, family)
    assert found.swept


def test_labels_are_the_text_in_its_normal_form():
    found = entrants("ema( adam,decay = .99 ),ema(adam(), decay=0.99)", "adam()")
    assert [e.label for e in found] == ["ema(adam(), decay=0.99)", "adam"]


def test_a_schedule_is_that_of_the_open_learning_rate():
    [found] = entrants("ema(adam(), 0.99)")
    made = found.make(SCHEDULES["cosine"](R, 100))
    assert made == gx.ema(gx.adam(gx.cosine_decay_schedule(R, 100)), 0.99)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("ema(adma(), 0.99)", "Unknown name 'adma'.*adam"),
        ("ema(adam(0.1), 0.99)", r"ema\(adam\(0.1\), 0.99\): no learning rate.*as in adam\(\)"),
        ("clip(1.0)", "no learning rate is left open"),
        ("chain(adam(), clip(max_dleta=1.0))", "no argument 'max_dleta'.*max_delta"),
        ("ema(adam(b1=2.0))", r"^adam\(b1=2.0\): "),
        ("ema(adam(), lambda count: 0.9)", "lambda count: 0.9: a value must be plain"),
        ("ema(adam(), gx.half_life(3))", r"Unknown name 'gx.half_life'"),
        ("ema(adam(), [x for x in y])", "Unknown name|must be plain"),
        ("ema(adam(), 0.9 if 1 else 2)", "must be plain"),
        ("ema(adam(), 2 ** 9)", "must be plain"),
        ("ema(adam(), 'a' * 9)", "'a' \\* 9: only numbers and schedules"),
        ("ema(adam(), 1 / 0)", "1 / 0: "),
        ("ema(*[adam()])", "must be plain"),
        ("partition({**adam()})", r"\*\*.*must be plain"),
        ("partition({[1]: adam()})", "unhashable"),
        ("adam(b1=0.5, b1=0.6)", "b1 is given twice"),
        ("adam(b1=b'x')", "must be plain"),
        ("[adam()]", "Unknown optimizer"),
        ("0.5", "Unknown optimizer"),
        ("by_path({'*': adam()})", "is no optimizer"),
        ("-" * 3000 + "1", "Cannot read"),
        ("ema(" * 300, "Cannot read"),
        *((f"chain(adam(), {name})", f"Unknown name '{name}'")
          for name in ("catalogue", "Wrapper", "static", "metrics", "State", "Hyper", "__doc__")),
    ],
)  # fmt: skip
def test_expressions_that_are_wrong(typed, said):
    with pytest.raises(BadInput, match=said):
        entrants(typed)


@pytest.mark.parametrize(
    ("typed", "sweeps", "labels"),
    [
        ("adam", ["b1=0.8,0.9"], ["adam(b1=0.8)", "adam(b1=0.9)"]),
        ("adam(b1=0.5, eps=1e-6)", ["b1=0.8"], ["adam(b1=0.8, eps=1e-06)"]),
        ("ema(adam(), 0.5)", ["decay=0.9"], ["ema(adam(), 0.9)"]),
        ("ema(adam(), 0.5)", ["b1=0.8,"], ["ema(adam(b1=0.8), 0.5)"]),
        ("chain(clip(1.0), adam())", ["max_delta=2"], ["chain(clip(2), adam())"]),
        ("outer(adam(), adamw(), every=4)", ["b2=.9"],
         ["outer(adam(b2=0.9), adamw(b2=0.9), every=4)"]),
        ("sgd, adam", ["b1=0.8"], ["sgd", "adam(b1=0.8)"]),
        ("adam", ["b1=.8,.9", "b2=.9,.99"],
         ["adam(b1=0.8, b2=0.9)", "adam(b1=0.8, b2=0.99)", "adam(b1=0.9, b2=0.9)",
          "adam(b1=0.9, b2=0.99)"]),
        ("sgd", ["momentum=None,0.9,linear_schedule(0.5, 0.9, 9)"],
         ["sgd(momentum=None)", "sgd(momentum=0.9)", "sgd(momentum=linear_schedule(0.5, 0.9, 9))"]),
    ],
)  # fmt: skip
def test_a_sweep_makes_an_optimizer_for_every_value(typed, sweeps, labels):
    assert [e.label for e in entrants(typed, sweeps=tuple(sweeps))] == labels


def test_swept_values_are_those_of_the_optimizer():
    two = entrants("ema(adam(), 0.99)", sweeps=("b1=0.8,0.7",))
    assert [e.make(R) for e in two] == [gx.ema(gx.adam(R, b1=b1), 0.99) for b1 in (0.8, 0.7)]


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ("b3=0.9", "no optimizer here has 'b3'. Did you mean b2 or b1"),
        ("learning_rate=0.1", "--learning-rates"),
        ("b1", "write NAME=V1,V2"),
        ("b1=", "write NAME=V1,V2"),
        ("=0.9", "write NAME=V1,V2"),
        ("b1=0.9,2.0", r"adam\(b1=2.0\): "),
        ("b1=high", "Unknown name 'high'"),
        ("b1=0.9,)", "Cannot read the values"),
    ],
)
def test_sweeps_that_are_wrong(sweep, said):
    with pytest.raises(BadInput, match=said):
        entrants("adam", sweeps=(sweep,))


def trained(make, rate: float):
    """Some parameters after three steps with a learning rate that may be traced."""

    def run(rate):
        tx, params = make(rate), {"w": jnp.arange(3.0)}
        state = tx.init(params)
        for _ in range(3):
            params, state = tx.step(params, state, params)
        return tx.eval_params(state, params)["w"]

    with jax.numpy_dtype_promotion("standard"):  # which Optax needs
        return jax.jit(run)(rate)


def test_objects_of_python():
    def mine(learning_rate):
        return optax.adam(learning_rate)

    found = own(["ema(adam(), 0.9)", gx.sgd, mine, gx.adam(R)])
    assert [e.label for e in found[:3]] == ["ema(adam(), 0.9)", "sgd", "mine"]
    assert "scale_by_adam" in found[3].label
    assert [e.swept for e in found] == [True, True, True, False]
    assert [e.centre for e in found] == [0.003, 0.1, 0.01, 1.0]
    wanted = trained(gx.adam, R)
    np.testing.assert_allclose(trained(found[2].make, R), wanted, rtol=1e-4)
    np.testing.assert_array_equal(trained(found[3].make, 7.0), wanted)


def test_a_mapping_names_them():
    makes = {"a": "adam(b1=0.8)", "b": lambda rate: gx.ema(gx.sgd(rate), 0.5), "c": optax.sgd(R),
             "d": gx.adam}  # fmt: skip
    found = own(makes)
    assert [e.label for e in found] == list("abcd")
    np.testing.assert_array_equal(trained(found[1].make, R), trained(makes["b"], R))
    np.testing.assert_allclose(trained(found[2].make, 1.0), trained(gx.sgd, R), rtol=1e-6)
    assert found[3].make(R) == gx.adam(R)


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([], "empty list"),
        ({}, "empty mapping"),
        ([3], "3: an optimizer is a name"),
        ({"x": None}, "x: an optimizer is a name"),
        ([lambda rate: gx.adam(rate)], "no short name: give a mapping"),
        ([optax.adam(0.1)], "no short name: give a mapping"),
        ({"x": lambda rate: rate}, "x: .*not a gradient transformation"),
        ({"x": lambda: gx.adam(0.1)}, "x: .*argument"),
        ({"x": "adam, sgd"}, "several optimizers"),
        ([gx.adam(0.1), gx.adam(0.1)], "Two optimizers are called"),
        (["adma"], "adam"),
    ],
)
def test_objects_that_are_none(objects, said):
    with pytest.raises(BadInput, match=said):
        own(objects)


def test_run_takes_them():
    own_ones = {"mine": gx.adam, "fixed": gx.sgd(0.01), "text": "ema(sgd(), 0.5)"}
    with jax.numpy_dtype_promotion("standard"):
        done = run("quadratic", own_ones, learning_rates=[0.01, 0.1], seeds=1)
    found = [(t.optimizer, len(t.rates)) for t in done.results.courses[0].trials]
    assert found == [("mine", 2), ("fixed", 1), ("text", 2)]


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_own_optimizers_run_like_those_of_the_catalogue(schedule, tmp_path):
    small = problem("quadratic")
    found = own({"ours": "adam", "optax": lambda rate: optax.adam(rate), "fixed": optax.adam(R)})
    plan = Plan([small], found, np.array([R], np.float32), schedule, [0], tmp_path)
    race = Race(small, [0], SCHEDULES[schedule])
    with jax.numpy_dtype_promotion("standard"):
        ours, same, fixed = (
            race.run(e, plan.rates_for(small, e), lambda part: None).train_loss for e in found
        )
    assert plan.rates_for(small, found[2]).tolist() == [1.0]
    np.testing.assert_allclose(same, ours, rtol=1e-3, atol=1e-5)
    if schedule == "constant":
        np.testing.assert_allclose(fixed, ours, rtol=1e-3, atol=1e-5)
    else:
        assert not np.allclose(fixed, ours, rtol=1e-3)
