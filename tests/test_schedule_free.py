"""Schedule-free and primal averaging: the official recursion, Optax beside it, identities."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import STEPS, error
from reference.average import followed, gpa, plain, rms, schedule_free, trained, warmed
from reference.formula import each

import gradtx

EXACT = 1e-12
FAULTY_OPTAX = optax.__version__ == "0.2.8"


def moving(count: int) -> float:
    """From 0.5 to 0.9 in the 100 steps."""
    return 0.5 + 0.4 * min(count / STEPS, 1)


MOVING = gradtx.linear_schedule(0.5, 0.9, STEPS)


SGD, ADAMW = each(schedule_free(plain)), each(schedule_free(rms))
RUNS: dict[str, tuple[Callable[[], Any], Any, dict[str, Any]]] = {
    "sgd": (lambda: gradtx.schedule_free_sgd(0.3), SGD, {"learning_rate": 0.3}),
    "sgd warmed": (
        lambda: gradtx.schedule_free_sgd(0.3, 30, weight_decay=0.1, r=0.5),
        SGD,
        {"learning_rate": warmed(0.3, 30), "weight_decay": 0.1, "r": 0.5},
    ),
    "adamw warmed": (
        lambda: gradtx.schedule_free_adamw(0.03, 20, 0.95, 0.99, 1e-3, 0.1, 1.5),
        ADAMW,
        {
            "learning_rate": warmed(0.03, 20),
            "b1": 0.95,
            "b2": 0.99,
            "eps": 1e-3,
            "weight_decay": 0.1,
            "weight_lr_power": 1.5,
        },
    ),
    "from zero": (  # the first weight is zero
        lambda: gradtx.schedule_free(gradtx.sgd(gradtx.linear_schedule(0.0, 1.0, STEPS))),
        SGD,
        {"learning_rate": lambda count: 0.01 * count},
    ),
    "refined": (
        lambda: gradtx.schedule_free(gradtx.sgd(0.3), b1=0.95, window=50.0),
        SGD,
        {"learning_rate": 0.3, "b1": 0.95, "window": 50.0},
    ),
    "weights of their own": (
        lambda: gradtx.schedule_free(
            gradtx.sgd(0.3), weight_learning_rate=gradtx.linear_schedule(1.0, 101.0, 100)
        ),
        SGD,
        {"learning_rate": 0.3, "r": 2.0, "weight_lr_power": 0.0},
    ),
    "gpa": (lambda: gradtx.gpa(gradtx.sgd(0.3)), each(gpa), {"learning_rate": 0.3}),
    "gpa with a moving b1": (
        lambda: gradtx.gpa(gradtx.sgd(0.3), 0.9, b1=MOVING),
        each(gpa),
        {
            "learning_rate": 0.3,
            "decay": 0.9,
            "b1": moving,
            "b1_next": lambda count: moving(count + 1),
        },
    ),
}
ADAM = gradtx.adam(0.05)
SAME: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "nothing of x in y": (lambda: gradtx.schedule_free(ADAM, b1=0.0), lambda: ADAM),
    "c = 1": (lambda: gradtx.schedule_free(ADAM, window=1e9), lambda: ADAM),
    "x is z": (lambda: gradtx.gpa(ADAM, decay=0.0), lambda: ADAM),
    "the window of the momentum": (
        lambda: gradtx.schedule_free(ADAM, b1=0.8, window=1 / (1 - 0.8)),
        lambda: gradtx.schedule_free(ADAM, b1=0.8),
    ),
    "the rate said twice": (
        lambda: gradtx.schedule_free(gradtx.sgd(MOVING), weight_learning_rate=MOVING),
        lambda: gradtx.schedule_free(gradtx.sgd(MOVING)),
    ),
}


@functools.cache
def runs() -> dict[str, Any]:
    pairs = {f"{n} {i}": m for n, makes in SAME.items() for i, m in enumerate(makes)}
    return trained({**{name: make for name, (make, _, _) in RUNS.items()}, **pairs})


@pytest.mark.parametrize("name", RUNS)
def test_the_recursion_of_the_paper(name: str, x64: None) -> None:
    """y, which is trained, and x, which is evaluated, for 100 steps."""
    _, reference, hyper = RUNS[name]
    assert error(runs()[name], followed(reference, **hyper)) < EXACT


@pytest.mark.parametrize("name", SAME)
def test_identities(name: str, x64: None) -> None:
    """Parameters and what is evaluated are the same."""
    one, other = (runs()[f"{name} {i}"] for i in range(2))
    assert error(one, other) < EXACT


# Optax -----------------------------------------------------------------------------------------


def of_optax(tx: Any, steps: int = 20) -> tuple[Any, Any]:
    """Parameters and evaluated ones after some steps of Optax on a small problem, and of ours."""
    ours = isinstance(tx, gradtx.GradientTransformation)
    p = jnp.asarray([0.5, -1.0, 2.0])
    with jax.numpy_dtype_promotion("standard"):
        state = tx.init(p)
        for t in range(steps):
            updates, state = tx.update(jnp.sin(p) + 0.3 * jnp.cos(3.0 * t + p), state, p)
            p = optax.apply_updates(p, updates)
        if ours:
            return p, tx.eval_params(state, p)
        return p, optax.contrib.schedule_free_eval_params(state, p)


def test_optax_agrees_without_warm_up(x64: None) -> None:
    """The same to the last digits: both ready-made optimizers, and the wrapper around SGD."""
    c = optax.contrib
    for ours, theirs in (
        (gradtx.schedule_free_sgd(0.3), c.schedule_free_sgd(0.3)),
        (
            gradtx.schedule_free_adamw(0.1, b1=0.8, weight_decay=0.1),
            c.schedule_free_adamw(0.1, b1=0.8, weight_decay=0.1),
        ),
        (
            gradtx.schedule_free(gradtx.sgd(0.2), weight_learning_rate=0.2, b1=0.7),
            c.schedule_free(optax.sgd(0.2), 0.2, 0.7),
        ),
    ):
        for found, expected in zip(of_optax(ours), of_optax(theirs), strict=True):
            np.testing.assert_allclose(found, expected, rtol=EXACT)


def test_e12_weights_follow_the_learning_rate_of_the_step(x64: None) -> None:
    """In a warm-up a weight has the rate of its own step; Optax's has that of the next.

    With rates of (t - 1) / 4 x is the mean of the iterates weighed by the squares of these.
    """
    rate = gradtx.linear_schedule(0.0, 1.0, 4)
    p = jnp.asarray([1.0, -2.0])
    tx, g = gradtx.schedule_free(gradtx.sgd(rate)), jnp.ones(2)
    state, ps = tx.init(p), p
    for _ in range(4):
        ps, state = tx.step(g, state, ps)
    rates = np.array([0, 0.25, 0.5, 0.75])
    z = 1 - np.cumsum(rates)
    expected = np.sum(rates**2 * z) / np.sum(rates**2)
    assert float(tx.eval_params(state, ps)[0]) == pytest.approx(expected, rel=EXACT)
    theirs = optax.contrib.schedule_free(
        optax.sgd(optax.linear_schedule(0.0, 1.0, 4)), optax.linear_schedule(0.0, 1.0, 4)
    )
    if FAULTY_OPTAX:
        found, x = of_optax(theirs, 4)
        ours, our_x = of_optax(gradtx.schedule_free(gradtx.sgd(rate)), 4)
        assert jnp.abs(found - ours).max() > 0.02
        assert jnp.abs(x - our_x).max() > 0.02


def test_e6_weights_of_narrow_parameters_add_up() -> None:
    """After 2000 steps of bfloat16 the sum of weights is that of 2000, and x moves by 1 / 2000."""
    p = jnp.ones(2, jnp.bfloat16)

    def after(tx: Any, steps: int = 2000) -> Any:
        def step(carry: Any, _: Any) -> Any:
            return tx.update(jnp.zeros_like(p), carry, p)[1], None

        return jax.jit(lambda: jax.lax.scan(step, tx.init(p), length=steps)[0])()

    state = after(gradtx.schedule_free_sgd(0.5))
    assert state.own.weight_sum.dtype == state.own.peak.dtype == state.own.z.dtype == jnp.float32
    assert float(state.own.weight_sum) == 2000 * 0.25
    if FAULTY_OPTAX:
        with jax.numpy_dtype_promotion("standard"):
            assert float(after(optax.contrib.schedule_free_sgd(0.5)).weight_sum) < 0.2 * 500


# The learning rate of the weights -----------------------------------------------------------------


def test_the_learning_rate_is_written_once() -> None:
    """Editing the rate of what is wrapped edits what the weights follow."""
    tx = gradtx.schedule_free_sgd(0.1).replace(learning_rate=gradtx.linear_schedule(0.0, 1.0, 4))
    p = jnp.zeros(2)
    state = tx.init(p)
    for _ in range(3):
        _, state = tx.update(jnp.ones(2), state, p)
    assert float(state.own.peak) == 0.5
    assert float(state.own.weight_sum) == 0.25**2 + 0.5**2


@pytest.mark.parametrize(
    ("inner", "number"),
    [
        (gradtx.chain(gradtx.scale_by_adam(), gradtx.scale(-0.1)), 0),
        (optax.sgd(0.1), 0),
        (gradtx.partition({"a": gradtx.sgd(0.1), "*": gradtx.sgd(0.2)}), 2),
    ],
    ids=["none", "foreign", "two"],
)
def test_without_one_learning_rate_it_is_asked_for(inner: Any, number: int) -> None:
    """With it given all of them are fine."""
    with pytest.raises(ValueError, match=f"there are {number} learning rates"):
        gradtx.schedule_free(inner)
    tx = gradtx.schedule_free(inner, weight_learning_rate=0.1)
    p = {"a": jnp.ones(2), "b": jnp.ones(2)}
    shown = tx.eval_params(*reversed(tx.step(p, tx.init(p), p)))
    np.testing.assert_allclose(shown["a"], 0.9, rtol=1e-6)


def test_x_survives_a_stop_at_one_step() -> None:
    """Where y, z and x are one, x is that to the last bit: no digit is lost by dividing by b1."""
    tx, p = gradtx.schedule_free_sgd(0.3, b1=0.7), jnp.asarray([0.1, 0.2, 0.3])
    state = tx.init(p)
    p, state = tx.step(jnp.zeros(3), state, p)
    np.testing.assert_array_equal(tx.eval_params(state, p), p)
