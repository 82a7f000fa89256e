"""Schedules: values by formula, and every number of theirs traced, swept and differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference.schedules import SCHEDULES

import gradtx

COUNTS = np.arange(0, 50)


def leaves_of(schedule: Any) -> list[float]:
    return [float(x) for x in jax.tree.leaves(schedule)]


over_schedules = pytest.mark.parametrize("name", SCHEDULES)


@over_schedules
def test_values(name: str, x64: None) -> None:
    """Every value of a whole run and beyond it is that of the formula, as a float scalar."""
    schedule, formula = SCHEDULES[name]
    values = jax.jit(jax.vmap(schedule))(jnp.asarray(COUNTS, jnp.int32))
    assert values.dtype == jnp.float64
    expected = [formula(c, *leaves_of(schedule)) for c in COUNTS.tolist()]
    np.testing.assert_allclose(values, expected, rtol=1e-13)
    assert schedule(3).shape == ()
    assert float(schedule(3)) == pytest.approx(expected[3], rel=1e-13)


@over_schedules
def test_every_number_can_be_swept(name: str) -> None:
    """A stack of schedules, lengths and boundaries included, under vmap equals the loop."""
    schedule, _ = SCHEDULES[name]
    leaves, treedef = jax.tree.flatten(schedule)
    factors = [1.0, 0.8, 1.25]
    stacked = treedef.unflatten(
        [jnp.asarray([x * f for f in factors], jnp.float32) for x in leaves]
    )
    counts = jnp.asarray(COUNTS, jnp.int32)
    swept = jax.jit(jax.vmap(jax.vmap(lambda s, c: s(c), (None, 0)), (0, None)))(stacked, counts)
    for row, f in zip(swept, factors, strict=True):
        one = treedef.unflatten([x * f for x in leaves])
        np.testing.assert_allclose(row, jax.vmap(one)(counts), rtol=3e-6, atol=1e-7)


@over_schedules
def test_every_number_can_be_differentiated(name: str, x64: None) -> None:
    """Derivatives are finite at every count, and off the kinks those of the formula."""
    schedule, formula = SCHEDULES[name]
    leaves, treedef = jax.tree.flatten(schedule)
    derivatives = jax.jit(jax.vmap(jax.grad(lambda xs, c: treedef.unflatten(xs)(c)), (None, 0)))(
        [jnp.asarray(x, jnp.float64) for x in leaves], jnp.asarray(COUNTS, jnp.int32)
    )
    for i, x in enumerate(leaves):
        assert np.isfinite(derivatives[i]).all(), f"leaf {i}"
        h = 1e-5 * max(abs(x), 0.1)
        for c in COUNTS.tolist():
            at = [formula(c, *leaves[:i], x + d, *leaves[i + 1 :]) for d in (-h, h)]
            expected = (at[1] - at[0]) / (2 * h)
            assert float(derivatives[i][c]) == pytest.approx(expected, rel=1e-6, abs=1e-8), (i, c)


@over_schedules
def test_equality_hash_and_repr(name: str) -> None:
    """What is printed makes an equal schedule; another number makes another one."""
    schedule, _ = SCHEDULES[name]
    again = eval(repr(schedule), dict(vars(gradtx)))
    assert again == schedule
    assert hash(again) == hash(schedule)
    leaves, treedef = jax.tree.flatten(schedule)
    for i, x in enumerate(leaves):
        assert treedef.unflatten([*leaves[:i], x + 1, *leaves[i + 1 :]]) != schedule
    assert treedef.unflatten(leaves) == schedule


def test_static_choices_are_part_of_equality() -> None:
    """Two decays of one name but of another shape, and numbers of another type, are not equal."""
    lengths = (1.0, 2, 10, 5)
    assert gradtx.wsd_schedule(*lengths) != gradtx.wsd_schedule(*lengths, decay="linear")
    assert gradtx.constant_schedule(1) == gradtx.constant_schedule(1.0)
    one, two = gradtx.constant_schedule(1.0), gradtx.constant_schedule(2.0)
    assert one + two != one - two
    assert one - two != two - one


# Edges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("traced", [False, True])
def test_no_steps_at_all(traced: bool) -> None:
    """A length of zero is a jump: the end is reached at once, with a traced zero too."""

    def at(make: Callable[[Any], Any], *counts: int) -> list[float]:
        def evaluate(zero: Any) -> Any:
            return jnp.stack([make(zero)(c) for c in counts])

        return np.asarray((jax.jit(evaluate) if traced else evaluate)(0)).tolist()

    assert at(lambda n: gradtx.linear_schedule(1.0, 0.25, n), 0, 1) == [0.25, 0.25]
    assert at(lambda n: gradtx.linear_schedule(1.0, 0.25, n, 2), 1, 2) == [1.0, 0.25]
    assert at(lambda n: gradtx.polynomial_schedule(1.0, 0.25, 2.0, n), 0, 1) == [0.25, 0.25]
    assert at(lambda n: gradtx.cosine_decay_schedule(1.0, n, 0.25), 0, 1) == [0.25, 0.25]
    assert at(lambda n: gradtx.inverse_sqrt_schedule(1.0, n), 0, 3) == [1.0, 0.5]
    assert at(lambda n: gradtx.warmup_cosine_decay_schedule(0.0, 1.0, n, 8, 0.5), 0, 4, 8) == (
        [1.0, 0.75, 0.5]
    )
    assert at(lambda n: gradtx.warmup_cosine_decay_schedule(0.0, 1.0, n, n, 0.5), 0, 4) == [
        0.5,
        0.5,
    ]
    wsd_schedule = gradtx.wsd_schedule
    assert at(lambda n: wsd_schedule(1.0, n, 4, 2, decay="linear"), 0, 2, 3, 4) == [1, 1, 0.5, 0]
    assert at(lambda n: wsd_schedule(1.0, 2, 4, n), 0, 1, 2, 3, 4, 5) == [0, 0.5, 1, 1, 0, 0]


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


@pytest.mark.parametrize("traced", [False, True])
def test_ends_are_exact(traced: bool) -> None:
    """The first and the last value are the numbers given, not almost; and so it stays."""
    start, end, big = 0.1, 0.3, 2**31 - 1
    cases = [
        (gradtx.linear_schedule(start, end, 7), start, end),
        (gradtx.polynomial_schedule(start, end, 3.0, 7), start, end),
        (gradtx.cosine_decay_schedule(start, 7, 0.0), start, 0.0),
        (gradtx.warmup_cosine_decay_schedule(start, 0.7, 3, 7, end), start, end),
        *(
            (gradtx.wsd_schedule(0.7, 3, 7, 2, start, end, decay), start, end)
            for decay in ("linear", "1-sqrt", "cosine")
        ),
    ]
    for schedule, first, last in cases:
        call = jax.jit(lambda s, c: s(c)) if traced else lambda s, c: s(c)
        assert call(schedule, 0) == np.float32(first), schedule
        for count in (7, 8, big):
            assert call(schedule, count) == np.float32(last), schedule


def test_the_peak_is_reached_when_the_warm_up_is_over() -> None:
    """With `warmup_steps` w the update that sees count w is the first one at the peak."""
    for schedule in (
        gradtx.warmup_cosine_decay_schedule(0.0, 0.7, 3, 9),
        gradtx.wsd_schedule(0.7, 3, 9, 2),
    ):
        values = [float(schedule(c)) for c in range(9)]
        assert int(np.argmax(values)) == 3
        assert values[3] == float(np.float32(0.7))
        assert values[0] == 0.0


def test_jumps_act_at_their_boundary() -> None:
    """The update that sees the boundary is the first one after it."""
    piecewise = gradtx.piecewise_constant_schedule(1.0, {3: 0.5, 5: 0.5})
    assert [float(piecewise(c)) for c in range(7)] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    joined = gradtx.join_schedules([1.0, gradtx.linear_schedule(0.0, 4.0, 4)], [3])
    assert [float(joined(c)) for c in range(9)] == [1, 1, 1, 0, 1, 2, 3, 4, 4]
    step = gradtx.step_schedule(1.0, 2, 0.5)
    assert [float(step(c)) for c in range(5)] == [1, 1, 0.5, 0.5, 0.25]


def test_boundaries_of_a_piecewise_schedule_in_any_order() -> None:
    """The scales commute, so the order in which they are given does not matter."""
    one = gradtx.piecewise_constant_schedule(1.0, {3: 0.5, 5: 0.25})
    other = gradtx.piecewise_constant_schedule(1.0, ([5, 3], [0.25, 0.5]))
    assert [float(one(c)) for c in range(7)] == [float(other(c)) for c in range(7)]


def test_join_takes_functions() -> None:
    """A bare function is a schedule; each one's count begins at zero."""
    joined = gradtx.join_schedules([lambda c: c * 1.0, lambda c: 10.0 + c], [3])
    assert [float(joined(c)) for c in range(5)] == [0, 1, 2, 10, 11]


def test_a_schedule_before_its_turn_does_no_harm() -> None:
    """A later part of a join that is undefined at negative counts leaves derivatives finite."""

    def value(rate: Any) -> Any:
        def later(count: Any) -> Any:
            return rate * jnp.sqrt(jnp.asarray(count, jnp.float32) + 1)

        return gradtx.join_schedules([rate, later], [5])(0)

    assert float(jax.grad(value)(2.0)) == 1.0


def test_the_first_update_sees_zero() -> None:
    """Update number n is made with the schedule at n - 1, in a jitted loop as in Python."""
    schedule = gradtx.linear_schedule(1.0, 5.0, 4)
    tx = gradtx.sgd(schedule)
    state = tx.init(jnp.zeros(()))
    seen = []
    for _ in range(6):
        u, state = tx.update(jnp.ones(()), state)
        seen.append(-float(u))
    assert seen == [1, 2, 3, 4, 5, 5]
    scanned = jax.lax.scan(lambda s, g: tx.update(g, s)[::-1], tx.init(jnp.zeros(())), jnp.ones(6))[
        1
    ]
    assert (-scanned).tolist() == seen


def test_a_schedule_does_not_widen(x64: None) -> None:
    """Its float64 value with x64 on changes the dtype of no float32 update."""
    tx = gradtx.adam(gradtx.cosine_decay_schedule(0.1, 10), b1=gradtx.linear_schedule(0.9, 0.8, 5))
    g = jnp.ones(3, jnp.float32)
    u, state = tx.update(g, tx.init(g))
    assert u.dtype == jnp.float32
    assert all(x.dtype in (jnp.float32, jnp.int32) for x in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gradtx.cosine_decay_schedule(1.0, -1), "decay_steps is -1"),
        (lambda: gradtx.exponential_decay(1.0, 0, 0.5), "transition_steps is 0"),
        (lambda: gradtx.wsd_schedule(1.0, 5, 8, 4), "longer than the run"),
        (lambda: gradtx.warmup_cosine_decay_schedule(0.0, 1.0, 5, 4), "longer than the run"),
        (lambda: gradtx.wsd_schedule(1.0, 1, 8, 4, decay="sqrt"), "'linear', '1-sqrt', 'cosine'"),
        (lambda: gradtx.join_schedules([1.0, 2.0], []), "0 boundaries"),
        (lambda: gradtx.piecewise_constant_schedule(1.0, ([1, 2], [0.5])), "1 scales"),
    ],
)
def test_impossible_numbers_are_refused(make: Callable[[], Any], message: str) -> None:
    """Numbers that no run can have are refused by name at construction."""
    with pytest.raises(ValueError, match=message):
        make()


# Optax -------------------------------------------------------------------------------------------

WITH_OPTAX = {
    "constant": (gradtx.constant_schedule(0.3), optax.constant_schedule(0.3)),
    **{
        f"{name} {arguments}": (getattr(gradtx, name)(*arguments), getattr(optax, name)(*arguments))
        for name, arguments in (
            ("linear_schedule", (0.1, 0.7, 20)),
            ("linear_schedule", (0.1, 0.7, 20, 5)),
            ("polynomial_schedule", (0.9, 0.1, 2.5, 30, 3)),
            ("cosine_decay_schedule", (0.4, 33, 0.1, 1.5)),
            ("exponential_decay", (0.5, 9, 0.7)),
            ("exponential_decay", (0.5, 9, 0.7, 3, True, 0.2)),
            ("exponential_decay", (0.5, 9, 1.7, 3, False, 2.0)),
            ("piecewise_constant_schedule", (0.5, {10: 0.3, 25: 0.2})),
            ("warmup_cosine_decay_schedule", (0.1, 0.9, 7, 33, 0.05, 1.5)),
        )
    },
    "join_schedules": (
        gradtx.join_schedules(
            [gradtx.linear_schedule(0.1, 0.7, 9), gradtx.exponential_decay(0.7, 5, 0.5)], [12]
        ),
        optax.join_schedules(
            [optax.linear_schedule(0.1, 0.7, 9), optax.exponential_decay(0.7, 5, 0.5)], [12]
        ),
    ),
}


@pytest.mark.parametrize("name", WITH_OPTAX)
def test_optax(name: str, x64: None) -> None:
    """Those that Optax has too, with the same arguments, have the same values."""
    ours, theirs = WITH_OPTAX[name]
    counts = jnp.asarray(COUNTS, jnp.float64)
    with jax.numpy_dtype_promotion("standard"):
        expected = [float(theirs(c)) for c in counts]
    np.testing.assert_allclose(jax.vmap(ours)(counts), expected, rtol=1e-12)


def test_optax_never_ends_a_line_without_steps() -> None:
    """With no steps Optax stays at the first value for ever; we are at the last one."""
    assert optax.linear_schedule(1.0, 0.25, 0)(10) == 1.0
    assert gradtx.linear_schedule(1.0, 0.25, 0)(10) == 0.25
