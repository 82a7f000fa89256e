"""Law 6: structure follows None, bool and static fields, never the value of a number."""

from __future__ import annotations

import inspect
import re

import jax
import pytest

from .cases import (
    arrays,
    avals,
    build,
    over_rows,
    update,
    with_floats,
)


def _run(tx, grads, params):
    state = tx.init(params)
    return state, update(tx, grads, state, params)


@over_rows
@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_state_does_not_depend_on_a_number(row, value):
    """Each number in turn, and all together: tree, shapes, dtypes stay, and so does the program."""
    tx, params, grads = build(row), arrays(0), arrays(1)
    expected = avals(jax.eval_shape(lambda *a: _run(tx, *a), grads, params))
    program = _program(tx, grads, params)
    leaves, treedef = jax.tree.flatten(tx)
    others = [with_floats(lambda _: value, tx)]
    for index, leaf in enumerate(leaves):
        if type(leaf) is float:
            others.append(treedef.unflatten([*leaves[:index], value, *leaves[index + 1 :]]))
    for other in others:
        assert avals(jax.eval_shape(lambda *a, o=other: _run(o, *a), grads, params)) == expected
    assert _program(others[0], grads, params) == program


def _program(tx, grads, params):
    """What an update computes, numbers left out."""

    state = jax.eval_shape(tx.init, params)
    program = str(jax.make_jaxpr(lambda *a: update(tx, *a))(grads, state, params))
    numbers = r"-?(\d+\.\d*|\d+(?=e))(e[-+]?\d+)?|-?\binf\b"
    return re.sub(numbers, "number", " ".join(program.split()))


@over_rows
def test_numbers_may_be_traced(row):
    """With every number traced nothing can look at a value: init and update run all the same."""
    tx, params, grads = build(row), arrays(0), arrays(1)
    expected = avals(jax.eval_shape(lambda *a: _run(tx, *a), grads, params))
    assert avals(jax.eval_shape(_run, tx, grads, params)) == expected


@over_rows
def test_constructors_look_at_no_number(row):
    """Made with traced arguments, or with zero, a transformation has the structure it always has.

    A constructor that leaves out a part `if weight_decay` would fail or differ.
    """
    made = (lambda **more: row.make(row.learning_rate, **more)) if row.learning_rate else row.make
    parameters = inspect.signature(row.make).parameters
    numbers = [name for name, p in parameters.items() if type(p.default) is float]
    if row.learning_rate:
        numbers = [name for name in numbers if name != "learning_rate"]
    structure = jax.tree.structure(build(row))
    shaped = jax.eval_shape(lambda numbers: made(**numbers), dict.fromkeys(numbers, 0.5))
    assert jax.tree.structure(shaped) == structure
    if row.learning_rate:
        shaped = jax.eval_shape(row.make, 0.5)
        assert jax.tree.structure(shaped) == structure
        assert jax.tree.structure(row.make(0.0)) == structure
    for name in numbers:
        try:
            zero = made(**{name: 0.0})
        except ValueError as error:  # refused: zero is impossible for it
            assert name in str(error)  # noqa: PT017
        else:
            assert jax.tree.structure(zero) == structure
