"""Values along axes of one array: a rate for every layer of a stack, frozen rows, bounds."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import ROWS, assert_close, build, some, update

import gradtx as gx
from gradtx import along, by_path
from gradtx.catalogue import Row
from gradtx.struct import fields_below

RATES = (0.1, 0.01, 0.3)
SHAPE = (3, 4)


def model(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> dict[str, jax.Array]:
    return {"stack": jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)}


def two_steps(tx: Any, shape: tuple[int, ...] = SHAPE) -> Any:
    """The parameters after two steps, and the state."""
    params = model(0, shape)
    state = tx.init(params)
    for seed in (1, 2):
        updates, state = update(tx, model(seed, shape), state, params)
        params = gx.apply_updates(params, updates)
    return params["stack"], state


def by_rows(make: Callable[[float], Any], shape: tuple[int, ...] = SHAPE) -> jax.Array:
    """What each row is when all have its number."""
    return jnp.stack([two_steps(make(x), shape)[0][i] for i, x in enumerate(RATES)])


MAKERS: dict[str, Callable[[Any], Any]] = {
    "sgd": gx.sgd,
    "adamw": lambda x: gx.adamw(x, weight_decay=0.1),
    "decay": lambda x: gx.adamw(0.1, weight_decay=x),
    "b1": lambda x: gx.adam(0.1, b1=x),
    "lion": gx.lion,
    "schedule": lambda x: gx.sgd(gx.cosine_decay_schedule(x, 7)),
    "sum of schedules": lambda x: gx.sgd(gx.linear_schedule(x, 0.0, 9) + 0.5),
    "length": lambda x: gx.sgd(gx.linear_schedule(0.1, 0.0, x)),
    "by_path": lambda x: gx.sgd(by_path({"st*": x})),
    "clip": lambda x: gx.clip(x),
    "muon": lambda x: gx.muon(x, matrices={"stack": "io"}),
    "wrapped": lambda x: gx.ema(gx.accumulate(gx.adam(x), 1), 0.9),
    "injected": lambda x: gx.inject_hyperparams(gx.adam(x)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_each_row_moves_by_its_number(name):
    """As if it were an array of its own, with the number as the hyperparameter of all."""
    make = MAKERS[name]
    assert_close(two_steps(make(along(RATES, 0)))[0], by_rows(make))
    assert_close(two_steps(make(along(jnp.asarray(RATES), -2)))[0], by_rows(make))


def test_axes_are_named_and_never_guessed():
    """Of a square array the second axis is meant where it is named; several in any order."""
    square, tx = (3, 3), gx.sgd(along(RATES, 1))
    columns = jax.tree.map(jnp.transpose, two_steps(gx.sgd(along(RATES, 0)), square)[0])
    moved = two_steps(tx, square)[0] - model(0, square)["stack"]
    g = model(1, square)["stack"] + model(2, square)["stack"]
    assert_close(moved, -g * jnp.asarray(RATES)[None, :])
    assert not np.allclose(columns, two_steps(tx, square)[0])
    table = np.arange(12.0).reshape(4, 3)
    moved = two_steps(gx.sgd(along(table, (1, 0))))[0] - model()["stack"]
    assert_close(moved, -(model(1)["stack"] + model(2)["stack"]) * table.T)


def test_bounds_for_every_entry():
    low, high = np.full(SHAPE, -0.1), np.linspace(0, 0.2, 12).reshape(SHAPE)
    box = gx.chain(
        gx.sgd(10.0), gx.projection_box(lower=along(low, (0, 1)), upper=along(high, (0, 1)))
    )
    params, _ = two_steps(box)
    assert bool((params >= low - 1e-6).all() and (params <= high + 1e-6).all())


def test_a_stack_of_optimizers_is_told_apart():
    """Under vmap each has its own values; without, it is refused."""
    rates = jnp.asarray([RATES, RATES[::-1]])
    stack = jax.vmap(lambda x: gx.adam(along(x, 0)))(rates)
    found = jax.vmap(lambda tx: two_steps(tx)[0])(stack)
    for i in range(2):
        assert_close(found[i], two_steps(gx.adam(along(rates[i], 0)))[0])
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        two_steps(stack)
    sweep = jax.vmap(lambda scale: two_steps(gx.sgd(along(scale * jnp.asarray(RATES), 0)))[0])
    assert_close(sweep(jnp.asarray([1.0, 2.0]))[0], by_rows(gx.sgd))


def test_it_is_data():
    """Printed, compared, edited without a new trace, saved, logged and differentiated."""
    tx = gx.sgd(along(RATES, 0))
    assert "along([0.1, 0.01, 0.3], axis=0)" in repr(tx)
    assert pickle.loads(pickle.dumps(tx)) == tx != gx.sgd(along(RATES, 1))
    assert tx.hyperparameters()["learning_rate"] == list(RATES)
    traces = 0

    @jax.jit
    def step(tx: Any, params: Any) -> Any:
        nonlocal traces
        traces += 1
        return tx.step(params, tx.init(params), params)[0]

    step(tx, model())
    other = step(tx.replace(learning_rate=along([0.0, 1.0, 0.0], 0)), model())["stack"]
    assert traces == 1
    assert_close(other[0], model()["stack"][0])
    assert_close(other[1], 0 * other[1])

    def loss(tx: Any) -> Any:
        return jnp.sum(two_steps(tx)[0])

    slopes = jax.tree.leaves(jax.grad(loss)(tx))[0]
    assert_close(slopes, -jnp.sum(model(1)["stack"] + model(2)["stack"], axis=1))


def test_the_values_are_in_the_state():
    tx = gx.inject_hyperparams(gx.adam(along(RATES, 0)))
    params = model()
    state = tx.init(params)
    assert_close(state.hyperparams["learning_rate"], jnp.asarray(RATES))
    state.hyperparams["learning_rate"] = jnp.zeros(3)
    updates, state = tx.update(model(1), state, params)
    assert not updates["stack"].any()
    assert_close(gx.hyperparams(state)["learning_rate"], jnp.zeros(3))


ROWS_MOVED = along([True, False, True], 0)


@pytest.mark.parametrize("inner", [gx.adamw(0.1), gx.schedule_free_sgd(0.1), gx.ema(gx.sgd(0.1))])
@pytest.mark.parametrize("mask", [ROWS_MOVED, {"stack": ROWS_MOVED}, lambda path, x: ROWS_MOVED])
def test_rows_outside_of_a_mask_stay_bit_for_bit(inner, mask):
    """Whatever their gradients are; the others move as they would without a mask."""
    tx, params, alone = gx.masked(inner, mask), model(), inner
    state, other, there = tx.init(params), params, alone.init(params)
    moved = params
    for seed in (1, 2):
        bad = model(seed)["stack"].at[1].set(jnp.nan)
        moved, state = jax.jit(tx.step)({"stack": bad}, state, moved)
        other, there = alone.step({"stack": bad.at[1].set(0)}, there, other)
    for seen, free in (
        (moved, other),
        (tx.eval_params(state, moved), alone.eval_params(there, other)),
    ):
        np.testing.assert_array_equal(seen["stack"][1], params["stack"][1])
        assert_close(seen["stack"][0::2], free["stack"][0::2])


def test_other_rows_pass_or_are_frozen():
    g = model(1)
    freeze = gx.freeze({"stack": ROWS_MOVED})
    kept = freeze.update(g, freeze.init(g))[0]["stack"]
    np.testing.assert_array_equal(kept[1], g["stack"][1])
    assert not kept[0::2].any()
    passed = gx.masked(gx.scale(2.0), ROWS_MOVED, outside="pass")
    u = passed.update(g, passed.init(g))[0]["stack"]
    np.testing.assert_array_equal(u, g["stack"] * jnp.asarray([[2.0], [1.0], [2.0]]))


def test_decay_of_some_rows():
    """A decay mask along an axis is a decay with values along it."""
    masked = two_steps(gx.adamw(0.1, weight_decay=0.5, mask=ROWS_MOVED))[0]
    assert_close(masked, two_steps(gx.adamw(0.1, weight_decay=along([0.5, 0, 0.5], 0)))[0])


def test_it_is_described(capsys):
    gx.masked(gx.sgd(0.1), ROWS_MOVED).describe(model())
    assert "outside the mask" in capsys.readouterr().out


def test_a_stack_of_matrices_with_a_number_for_each():
    """Where a rule sees matrices, what is stacked may have values of its own."""
    shape, axes = (3, 4, 5), gx.Axes("bio")

    def make(x: Any) -> Any:
        return gx.scale_by_muon(beta=x, axes=axes)

    assert_close(two_steps(make(along(RATES, 0)), shape)[0], by_rows(make, shape))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "no axis of the array": (lambda: two_steps(gx.sgd(along(RATES, 2))), "3 values for axis 2"),
    "other size": (lambda: two_steps(gx.sgd(along(RATES, 1))), "'stack' has shape \\[3, 4\\]"),
    "one axis twice": (lambda: two_steps(gx.sgd(along(np.ones((3, 3)), (0, -2)))), "3 x 3 values"),
    "joint": (lambda: two_steps(gx.clip_by_global_norm(along(RATES, 0))), "all arrays share one"),
    "wrapper": (lambda: two_steps(gx.ema(gx.sgd(0.1), along(RATES, 0))), "'stack'|share one"),
    "matrix": (lambda: two_steps(gx.scale_by_muon(beta=along(RATES, 0))), "'stack' is one whole"),
    "period": (lambda: gx.every(gx.sgd(0.1), along([1, 2, 3], 0)), "every|whole"),
    "outside": (lambda: gx.adam(0.1, b1=along([0.5, 1.5], 0)), r"\[0, 1\)"),
    "nan": (lambda: gx.sgd(along([0.5, np.nan], 0)), "nan"),
    "rank": (lambda: along(RATES, (0, 1)), r"shape \[3\]"),
    "no rank": (lambda: along(1.0, 0), r"shape \[\]"),
    "no array": (lambda: along("rates", 0), "'rates'"),
    "ragged": (lambda: along([[1.0], [1.0, 2.0]], 0), "values are"),
    "no axes": (lambda: along(RATES, 0.5), "axis is 0.5"),
    "twice": (lambda: along(np.ones((3, 3)), (0, 0)), "axis is"),
    "schedules": (
        lambda: two_steps(gx.sgd(gx.linear_schedule(along(RATES, 0), along(RATES, 1), 9))),
        "along other axes",
    ),
    "flags for numbers": (lambda: two_steps(gx.sgd(ROWS_MOVED)), "learning_rate"),
    "numbers for flags": (lambda: two_steps(gx.masked(gx.sgd(1.0), along(RATES, 0))), "mask"),
    "size of a mask": (lambda: two_steps(gx.masked(gx.sgd(1.0), along([True], 0))), "1 values"),
    "labels": (lambda: two_steps(gx.partition({"a": gx.sgd(1.0)}, ROWS_MOVED)), "no entry"),
    "labels of a mask": (
        lambda: gx.partition({True: gx.sgd(1.0), False: gx.freeze()}, ROWS_MOVED).init(model()),
        "'stack' is along.*as a whole",
    ),
    "one entry for a mask": (
        lambda: two_steps(gx.sgd(by_path({True: 1.0}, ROWS_MOVED))),
        "no entry for 'stack'",
    ),
    "per array": (lambda: two_steps(gx.scale_by_warmed_nadam(along(RATES, 0))), "one number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    make, told = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=told):
        make()


def numbers(row: Row) -> list[str]:
    """The paths of the real numbers of a row."""
    return [
        ".".join(path)
        for path, x, static in fields_below(build(row))
        if type(x) is float and not static
    ]


LAW_ROWS = [name for name, row in ROWS.items() if isinstance(build(row), gx.Rule) and numbers(row)]


@pytest.mark.parametrize("name", some(LAW_ROWS, ["scale_by_adam", "scale_by_warmed_nadam", "clip"]))
def test_every_rule_takes_rows_or_refuses(name):
    """Of a square array: each row or column as with its number, or an error that says why."""
    tx, square = build(ROWS[name]), (3, 3)
    for path in numbers(ROWS[name]):
        number = dict(map(_named, fields_below(tx)))[path]
        values = np.array([number, number, 0.9 * number + 0.01 * (number == 0)])
        rows = np.stack([two_steps(tx.replace({path: float(x)}), square)[0] for x in values])
        for axis in (0, 1):
            wanted = np.stack([rows[i].take(i, axis=axis) for i in range(3)], axis=axis)
            said, found = "", wanted
            try:
                found, _ = two_steps(tx.replace({path: along(values, axis)}), square)
            except ValueError as error:
                said = str(error)
            assert said == "" or "one number" in said
            assert_close(found, wanted)


def _named(field: tuple[tuple[str, ...], Any, bool]) -> tuple[str, Any]:
    path, value, _ = field
    return ".".join(path), value
