"""Accumulation: one step for many micro-batches, and only one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws.cases import arrays, assert_close, assert_same, build, extras, over, parts

import gradtx
from gradtx import catalogue

K = 4
P = jnp.asarray([1.0, -2.0, 0.5])


def counting(seen: list[int]) -> Any:
    """A transformation of Optax's kind that tells when it really runs."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        jax.debug.callback(lambda: seen.append(1))
        return updates, state

    return optax.GradientTransformation(lambda params: (), update)


def parts_of(whole: Any) -> list[Any]:
    """Micro-batches whose mean is `whole`, exactly."""
    shifts = (-0.5, 0.25, 0.75, -0.5)
    return [jax.tree.map(lambda g, s=s: g + s, whole) for s in shifts]


@over(catalogue.optimizers, {"sgd", "adamw", "muon", "prodigy", "mars", "cocob", "mechanic"})
def test_k_parts_are_one_step_on_the_whole(row: Any) -> None:
    """For every optimizer: the parameters after two cycles are those after two whole steps."""
    tx, params = build(row), arrays(0)
    sixteenths = jax.tree.map(lambda g: jnp.round(16 * g) / 16, arrays(1))
    acc = gradtx.accumulate(tx, K)
    if any(getattr(part, "seed_field", "") for part in parts(tx)):
        tx = gradtx.accumulate(tx, 1, nonfinite="flag")  # what it draws depends on its place
    state, whole_state, whole = acc.init(params), tx.init(params), params
    for sign in (1.0, -0.5):
        grads = jax.tree.map(lambda g, sign=sign: sign * g, sixteenths)
        more = extras(tx, whole, grads)
        for part in parts_of(grads):
            before = params
            params, state = acc.step(part, state, params, **more)
        assert jax.tree.leaves(before)[0] is not None
        whole, whole_state = tx.step(grads, whole_state, whole, **more)
        assert_close(params, whole, rtol=1e-5)
    assert int(state.gradient_step) == 2


def test_e9_inner_runs_once_in_a_cycle() -> None:
    """Eight micro-batches of four are two runs; Optax's MultiSteps runs eight times."""
    seen: list[int] = []
    g = jnp.ones(3)
    tx = gradtx.accumulate(counting(seen), K)
    state = tx.init(g)
    for _ in range(2 * K):
        _, state = tx.update(g, state, g)
    jax.effects_barrier()
    assert len(seen) == 2
    if optax.__version__ == "0.2.8":
        seen.clear()
        multi = optax.MultiSteps(counting(seen), K)
        state = multi.init(g)
        with jax.numpy_dtype_promotion("standard"):
            for _ in range(2 * K):
                _, state = multi.update(g, state, g)
        jax.effects_barrier()
        assert len(seen) == 2 * K


def test_nothing_moves_between_steps() -> None:
    """Updates are zero and the inner state is as it was, until the last part."""
    tx = gradtx.accumulate(gradtx.adam(0.1), 3)
    state = tx.init(P)
    for micro in range(3):
        before = state.inner
        u, state = tx.update(P, state, P)
        if micro < 2:
            assert (u == 0).all()
            assert_same(state.inner, before)
        else:
            assert (u != 0).all()


def test_one_part_costs_and_holds_nothing() -> None:
    """With every=1 the arrays of the state are those of the inner one, and so is the program."""
    inner = gradtx.adam(0.1)
    tx = gradtx.accumulate(inner, 1)
    state = tx.init(P)
    assert len(jax.tree.leaves(state)) == len(jax.tree.leaves(inner.init(P)))  # one count
    ours = jax.jit(tx.update).lower(P, state, P).compile().cost_analysis()
    theirs = jax.jit(inner.update).lower(P, inner.init(P), P).compile().cost_analysis()
    assert ours["flops"] == theirs["flops"]


def test_update_and_step_give_the_same() -> None:
    tx = gradtx.accumulate(gradtx.chain(gradtx.clip_by_global_norm(0.5), gradtx.adamw(0.1)), 2)
    state = other = tx.init(P)
    p = q = P
    for scale in (1.0, -0.3, 0.2, 2.0):
        p, state = tx.step(scale * P, state, p)
        u, other = tx.update(scale * P, other, q)
        q = gradtx.apply_updates(q, u)
        assert_close((p, state), (q, other))


def test_weights_make_a_weighted_mean() -> None:
    """sum(w g) / sum(w), the mean by tokens, and of the losses likewise."""
    tx = gradtx.accumulate(gradtx.sgd(1.0), 2)
    state = tx.init(P)
    _, state = tx.update(P, state, P, weight=3)
    u, state = tx.update(-P, state, P, weight=1)
    np.testing.assert_allclose(u, -0.5 * P, rtol=1e-6)


def test_the_mean_of_losses_is_handed_on() -> None:
    tx = gradtx.accumulate(gradtx.polyak_sgd(max_learning_rate=1e9), 2)
    g = jnp.asarray([2.0])
    state = tx.init(g)
    _, state = tx.update(g, state, g, value=1.0)
    u, state = tx.update(g, state, g, value=3.0)
    np.testing.assert_allclose(u, -2.0 / 4 * g, rtol=1e-6)


def test_the_mean_of_narrow_gradients_is_wide() -> None:
    """256 times 1 and then 256 small ones: in bfloat16 the sum would stay where it is."""
    n = 512
    tx = gradtx.accumulate(gradtx.sgd(1.0), n)
    p = jnp.zeros(1, jnp.bfloat16)
    gs = jnp.concatenate([jnp.ones((256, 1)), jnp.full((256, 1), 2**-7)]).astype(jnp.bfloat16)

    def body(state: Any, g: Any) -> Any:
        u, state = tx.update(g, state, p)
        return state, u

    state, us = jax.jit(lambda: jax.lax.scan(body, tx.init(p), gs))()
    assert state.total.dtype == jnp.float32
    assert us.dtype == jnp.bfloat16
    assert float(state.total[0]) == 256 + 2


def test_schedules_count_real_steps_and_clips_see_the_mean() -> None:
    """A schedule inside is at 0 in the whole first cycle; spikes that cancel are not clipped."""
    rate = gradtx.piecewise_constant_schedule(1.0, ([1], [0.5]))
    tx = gradtx.accumulate(gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.sgd(rate)), 2)
    g = jnp.asarray([0.25])
    state, seen = tx.init(g), []
    for part in (100.0, -99.0, 100.0, -99.0):
        u, state = tx.update(part * g, state, g)
        seen.append(float(u[0]))
    assert seen == pytest.approx([0, -0.125, 0, -0.0625])


def test_a_schedule_of_parts() -> None:
    """The number of parts may grow with the steps: here 1, then 3."""
    tx = gradtx.accumulate(gradtx.sgd(1.0), gradtx.piecewise_constant_schedule(1.0, ([1], [3.0])))
    state, moved = tx.init(P), []
    for _ in range(7):
        u, state = tx.update(P, state, P)
        moved.append(bool((u != 0).all()))
    assert moved == [True, False, False, True, False, False, True]


BAD = jnp.asarray([1.0, jnp.nan, 1.0])


@pytest.mark.parametrize(
    ("what", "expected"), [("drop", 2 * P), ("skip", 0 * P), ("flag", None), (None, None)]
)
def test_parts_that_are_not_finite(what: str | None, expected: Any) -> None:
    """Left out of the mean, or the whole step with them, or let in: as asked for, and counted."""
    tx = gradtx.accumulate(gradtx.sgd(1.0), 2, nonfinite=what)
    state = tx.init(P)
    _, state = tx.update(BAD, state, P)
    u, state = tx.update(-2 * P, state, P)
    if expected is None:
        assert np.isnan(u).any()
    else:
        np.testing.assert_allclose(u, expected, rtol=1e-6)
    if what is not None:
        assert int(state.nonfinite) == 1
    _, state = tx.update(P, state, P)
    u, state = tx.update(P, state, P)
    np.testing.assert_allclose(u, -P, rtol=1e-6)  # the next cycle is sound


def test_noise_scale_is_that_of_the_distribution() -> None:
    """tr(covariance) / |mean|^2 of gradients mean + noise, in units of examples."""
    mean, deviation, examples = jnp.asarray([3.0, 4.0]), 5.0, 8
    tx = gradtx.accumulate(gradtx.sgd(0.0), 4, noise_scale=True, noise_decay=0.99)
    noise = deviation / np.sqrt(examples) * jax.random.normal(jax.random.key(0), (8000, 2))

    def body(state: Any, n: Any) -> Any:
        return tx.update(mean + n, state, mean, weight=examples)[1], None

    state, _ = jax.jit(lambda: jax.lax.scan(body, tx.init(mean), noise))()
    expected = 2 * deviation**2 / 25
    assert float(gradtx.noise_scale(state)) == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("every", [0, -1, 1.5, "2", True])
def test_impossible_numbers_of_parts(every: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="every is"):
        gradtx.accumulate(gradtx.sgd(0.1), every)


def test_noise_is_not_measured_by_one_micro_batch() -> None:
    """A cycle of which only one gradient counts says nothing about their variance."""
    tx = gradtx.accumulate(gradtx.sgd(0.0), 2, noise_scale=True, nonfinite="drop")
    state = tx.init(jnp.zeros(2))
    for g in ([1.0, 0.0], [0.0, 1.0]):
        _, state = tx.update(jnp.array(g), state)
    before = jax.device_get(state.noise)
    for g in ([1.0, 0.0], [jnp.nan, 1.0]):
        _, state = tx.update(jnp.array(g), state)
    np.testing.assert_array_equal(state.noise.variance, before.variance)
    np.testing.assert_array_equal(state.noise.square, before.square)
