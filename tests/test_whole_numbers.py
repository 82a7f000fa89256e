"""Counts are whole numbers: the phase of every schedule is exact up to the last count, 2^31 - 1."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx

LONG = 1_234_567_891
LATE = 1_000_000_007
BEYOND = 10**10
LAST = 2**31 - 1


def clip(x):
    return min(max(x, 0.0), 1.0)


def fall(left, length):
    """(1 + cos(pi s)) / 2 where `left` steps of a length are to go."""
    return math.sin(math.pi / 2 * clip(left / length)) ** 2


def triangle(c, up, down):
    c %= up + down
    return c / up if c < up else (up + down - c) / down


def restarts(period, longer):
    def formula(c):
        length = period
        while c >= length and longer > 1:
            c, length = c - length, length * longer
        return fall(length - c % length, length)

    return formula


def wsd(shape):
    begin, decay = LONG - LONG // 3, LONG // 3

    def formula(c):
        return (
            c / 10007 if c < 10007 else shape(clip((c - begin) / decay), clip((LONG - c) / decay))
        )

    return formula


def drops(c):
    return (0.5 if c >= LATE else 1.0) * (0.25 if c >= 2 * LATE else 1.0)


# Numerator, denominator, quotient (or reciprocal and product) and sum are each rounded once: 3 ulp.
# What is squared has twice the relative error of its share, and a sine of its own.
LINE, SQUARE = 3, 7
# name: schedule, formula in Python integers, ulp
CASES = {
    "linear": (
        gx.linear_schedule(1.0, 0.0, LONG, LATE),
        lambda c: clip((LATE + LONG - c) / LONG),
        LINE,
    ),
    "linear up": (gx.linear_schedule(0.0, 1.0, LONG, 7), lambda c: clip((c - 7) / LONG), LINE),
    "polynomial": (
        gx.polynomial_schedule(1.0, 0.0, 2.0, LONG, 5),
        lambda c: clip((5 + LONG - c) / LONG) ** 2,
        SQUARE,
    ),
    "cosine": (gx.cosine_decay_schedule(1.0, LONG), lambda c: fall(LONG - c, LONG), SQUARE),
    "exponential": (
        gx.exponential_decay(1.0, LONG // 100, 0.5),
        lambda c: 0.5 ** (c / (LONG // 100)),
        LINE,
    ),
    "stairs": (
        gx.exponential_decay(1.0, 123_457, 0.99951171875, staircase=True),
        lambda c: 0.99951171875 ** (c // 123_457),
        LINE,
    ),
    "steps": (gx.step_schedule(1.0, 20_000_003, 0.5), lambda c: 0.5 ** (c // 20_000_003), LINE),
    "piecewise": (gx.piecewise_constant_schedule(1.0, {LATE: 0.5, 2 * LATE: 0.25}), drops, LINE),
    "cyclic": (gx.cyclic_schedule(0.0, 1.0, 5), lambda c: triangle(c, 5, 5), LINE),
    "uneven cyclic": (gx.cyclic_schedule(0.0, 1.0, 5, 7), lambda c: triangle(c, 5, 7), LINE),
    "long cyclic": (gx.cyclic_schedule(0.0, 1.0, LONG), lambda c: triangle(c, LONG, LONG), LINE),
    "chebyshev": (
        gx.chebyshev_schedule(1.0, 9.0, 7),
        lambda c: 1 / (5 + 4 * math.cos((c % 7 + 0.5) * math.pi / 7)),
        SQUARE,
    ),
    "fractal": (
        gx.chebyshev_schedule(1.0, 9.0, 4, fractal=True),
        lambda c: 1 / (5 + 4 * math.cos(([0, 3, 1, 2][c % 4] + 0.5) * math.pi / 4)),
        SQUARE,
    ),
    "silver": (
        gx.silver_schedule(1.0),
        lambda c: 1 + (1 + 2**0.5) ** (((c + 1) & -(c + 1)).bit_length() - 2),
        LINE,
    ),
    "restarts": (gx.warm_restarts_schedule(1.0, 10), restarts(10, 1), SQUARE),
    "twice as long": (gx.warm_restarts_schedule(1.0, 10, 2), restarts(10, 2), SQUARE),
    "three times": (gx.warm_restarts_schedule(1.0, 7, 3), restarts(7, 3), SQUARE),
    "joined": (
        gx.join_schedules([1.0, gx.cyclic_schedule(0.0, 1.0, 5)], [LATE]),
        lambda c: 1.0 if c < LATE else triangle(c - LATE, 5, 5),
        LINE,
    ),
    "warm-up": (
        gx.warmup_schedule(gx.cyclic_schedule(0.0, 1.0, 5), LATE),
        lambda c: 0.0 if c < LATE else triangle(c - LATE, 5, 5),
        LINE,
    ),
    "warm-up cosine": (
        gx.warmup_cosine_decay_schedule(0.0, 1.0, 1_000_003, LONG),
        lambda c: c / 1_000_003 if c < 1_000_003 else fall(LONG - c, LONG - 1_000_003),
        SQUARE,
    ),
    "wsd linear": (
        gx.wsd_schedule(1.0, 10007, LONG, LONG // 3, decay="linear"),
        wsd(lambda s, left: left),
        LINE,
    ),
    "wsd root": (
        gx.wsd_schedule(1.0, 10007, LONG, LONG // 3),
        wsd(lambda s, left: left / (1 + math.sqrt(s))),
        LINE,
    ),
    "wsd square": (
        gx.wsd_schedule(1.0, 10007, LONG, LONG // 3, decay="square"),
        wsd(lambda s, left: left**2),
        SQUARE,
    ),
    "inverse root": (
        gx.inverse_sqrt_schedule(1.0, 1000),
        lambda c: min((c + 1) / 1000, math.sqrt(1000 / (c + 1))),
        LINE,
    ),
    "inverse time": (
        gx.inverse_time_schedule(1.0, 0.5, 10),
        lambda c: 1 / (1 + 0.5 * c / 10),
        LINE,
    ),
    "beyond linear": (gx.linear_schedule(1.0, 0.0, BEYOND), lambda c: (BEYOND - c) / BEYOND, LINE),
    "beyond cosine": (
        gx.cosine_decay_schedule(1.0, BEYOND),
        lambda c: fall(BEYOND - c, BEYOND),
        SQUARE,
    ),
    "beyond restarts": (
        gx.warm_restarts_schedule(1.0, BEYOND),
        lambda c: fall(BEYOND - c, BEYOND),
        SQUARE,
    ),
    "beyond cyclic": (gx.cyclic_schedule(0.0, 1.0, BEYOND), lambda c: c / BEYOND, LINE),
    "beyond piecewise": (gx.piecewise_constant_schedule(1.0, {BEYOND: 0.5}), lambda c: 1.0, LINE),
    "just beyond": (gx.linear_schedule(1.0, 0.0, 2**31 + 5), lambda c: 1 - c / (2**31 + 5), LINE),
}

AROUND = [0, 5, 7, 10, 10007, 123_457, 20_000_003, 2**24, LATE, 2 * LATE, LONG - LONG // 3, LONG]
AROUND += [LATE + LONG, LATE + 10, 30_000_003, 12 * 10**8, LAST - 7]
AROUND += [10 * (2**k - 1) for k in range(1, 28)] + [7 * (3**k - 1) // 2 for k in range(1, 18)]


def counts():
    near = {c + d for c in AROUND for d in (-2, -1, 0, 1, 2)} | {LAST - 1, LAST}
    far = np.random.default_rng(0).integers(0, LAST, 300).tolist()
    return np.array(sorted(c for c in {*near, *far} if 0 <= c <= LAST))


COUNTS = counts()


@pytest.mark.parametrize("name", CASES)
def test_phases_are_exact(name):
    """At random late counts and around every boundary, passed as data, alone and in a sweep."""
    schedule, formula, ulp = CASES[name]
    expected = np.array([formula(int(c)) for c in COUNTS])
    room = np.maximum(ulp * np.spacing(np.abs(np.float32(expected))).astype(float), 1e-37)

    @jax.jit
    def values(schedule, counts):
        return jax.vmap(schedule)(counts)

    found = np.asarray(values(schedule, jnp.asarray(COUNTS, jnp.int32)), float)
    worst = np.argmax(np.abs(found - expected) / room)
    assert abs(found - expected)[worst] <= room[worst], (
        COUNTS[worst],
        found[worst],
        expected[worst],
    )
    stack = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), schedule)
    swept = jax.jit(jax.vmap(values, (0, None)))(stack, jnp.asarray(COUNTS, jnp.int32))
    assert (np.abs(np.asarray(swept, float) - expected) <= room).all()


def test_lengths_beyond_the_last_count_are_data_like_others():
    """They print, compare, join and train; a negative one is refused by its value."""
    schedule = gx.cosine_decay_schedule(1.0, BEYOND)
    assert repr(schedule) == f"cosine_decay_schedule(1.0, {BEYOND})"
    assert schedule == gx.cosine_decay_schedule(1.0, BEYOND) != gx.cosine_decay_schedule(1.0, 10)
    tx = gx.sgd(gx.join_schedules([schedule, 0.5], [BEYOND]))
    updates, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    np.testing.assert_array_equal(updates, [-1.0, -1.0])
    with pytest.raises(ValueError, match=f"decay_steps is -{BEYOND}"):
        gx.cosine_decay_schedule(1.0, -BEYOND)
    with pytest.raises(ValueError, match="rising order"):
        gx.join_schedules([1.0, 0.5, 0.1], [BEYOND, 10])


def test_functions_in_a_join_count_in_integers():
    """What a user's function gets is an integer, however late it begins."""
    seen = gx.join_schedules([0.0, lambda count: (count % 10).astype(jnp.float32)], [LATE])
    assert float(jax.jit(seen)(LATE + 10**9 + 3)) == 3.0


def test_derivatives_by_lengths():
    """A length that is a float is still differentiated."""
    slope = jax.grad(lambda n: gx.linear_schedule(1.0, 0.0, n)(25))(100.0)
    np.testing.assert_allclose(slope, 25 / 100**2, rtol=1e-6)
    slope = jax.grad(lambda begin: gx.join_schedules([1.0, lambda c: c * 2.0], [begin])(25))(10.0)
    np.testing.assert_allclose(slope, -2.0, rtol=1e-6)
