"""What a hyperparameter may be: what is refused, what is a real number, what stays whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws.cases import refused
from moved import first

import gradtx
from gradtx.schedules.base import Schedule

NAN = float("nan")
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


def test_ascent_by_a_negative_learning_rate() -> None:
    """Every optimizer takes one, rprop alone refuses a size below zero."""
    for make in (gradtx.sgd, gradtx.adam, gradtx.lion, gradtx.fromage, gradtx.adafactor):
        up, _ = first(make(-0.1))
        assert (up > 0).all()
    refused(lambda: gradtx.rprop(-0.1), "learning_rate", "-0.1")


def test_schedules_are_not_taken_for_masks() -> None:
    """A schedule of one's own is a value, whatever it is called with."""

    class halving(Schedule):
        def __call__(self, count: Any) -> Any:
            return 0.5**count

    assert gradtx.sgd(halving()).hyperparameters(count=1)["learning_rate"] == 0.5


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
