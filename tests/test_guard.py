"""Guards, steps at some counts only, and monitors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws.cases import assert_same, assert_three_parts

import gradtx
from gradtx import catalogue

P = jnp.asarray([1.0, -2.0, 0.5])
BAD = jnp.asarray([1.0, jnp.inf, 1.0])


def states(tx: Any, gs: list[Any], **extra: Any) -> list[Any]:
    """(parameters, state) after each of these gradients, by `step`."""
    found, p, state = [], P, tx.init(P)
    for i, g in enumerate(gs):
        more = {name: values[i] for name, values in extra.items()}
        p, state = tx.step(g, state, p, **more)
        found.append((p, state))
    return found


# What is not finite ---------------------------------------------------------------------------


def test_steps_that_are_not_finite_change_nothing() -> None:
    """Neither parameters nor the inner state; counts say how many there were."""
    tx = gradtx.apply_if_finite(gradtx.adam(0.1), 3)
    (p, first), (q, second), (_, third) = states(tx, [P, BAD, P])
    assert_same((p, first.inner), (q, second.inner))
    assert (int(second.notfinite_count), int(second.total_notfinite)) == (1, 1)
    assert (int(third.notfinite_count), int(third.total_notfinite)) == (0, 1)


def test_too_many_in_a_row_freeze_instead_of_letting_one_in() -> None:
    """Optax lets the NaN in after `max_consecutive_errors`; here the flag goes up for good."""
    tx = gradtx.apply_if_finite(gradtx.adam(0.1), 2)
    found = states(tx, [P, BAD, BAD, BAD, BAD, P])
    assert all(np.isfinite(p).all() for p, _ in found)
    assert [bool(s.frozen) for _, s in found] == [False, False, False, True, True, True]
    assert_same(found[-1][0], found[0][0])  # frozen, also for what is finite
    state = found[-1][1]._replace(frozen=jnp.asarray(False))
    assert (tx.step(P, state, P)[0] != P).all()  # until the flag is taken down
    if optax.__version__ == "0.2.8":
        theirs = optax.apply_if_finite(optax.sgd(0.1), 2)
        other = theirs.init(P)
        for _ in range(4):
            u, other = theirs.update(BAD, other, P)
        assert not np.isfinite(u).all()


def test_zero_nans() -> None:
    tx = gradtx.zero_nans()
    u, _ = tx.update(jnp.asarray([1.0, jnp.nan, jnp.inf]), tx.init(P))
    np.testing.assert_array_equal(u, [1.0, 0.0, jnp.inf])


# Outliers ---------------------------------------------------------------------------


def test_an_outlier_is_left_out_and_changes_no_statistics() -> None:
    tx = gradtx.skip_outliers(gradtx.sgd(0.1), warmup_steps=4)
    usual = [P, 1.1 * P, 0.9 * P, P, 1.05 * P]
    found = states(tx, [*usual, 50 * P, P])
    (p, before), (q, after) = found[4], found[5]
    assert_same(p, q)
    assert int(after.total_skipped) == 1
    assert_same((before.mean, before.deviation), (after.mean, after.deviation))
    assert (found[6][0] != q).all()


def test_outliers_of_the_loss() -> None:
    tx = gradtx.skip_outliers(gradtx.sgd(0.1), warmup_steps=4, watch="value")
    values = [1.0, 1.1, 0.9, 1.0, 1.05, 9.0, jnp.nan]
    found = states(tx, [P] * 7, value=values)
    assert [int(s.total_skipped) for _, s in found] == [0] * 5 + [1, 2]
    with pytest.raises(ValueError, match="'value' is missing"):
        tx.update(P, tx.init(P), P)


def test_patience_ends() -> None:
    """After so many in a row the new usual is taken."""
    tx = gradtx.skip_outliers(gradtx.sgd(0.1), warmup_steps=3, max_consecutive_skips=2)
    found = states(tx, [P, 1.1 * P, 0.9 * P, 50 * P, 50 * P, 50 * P])
    assert [int(s.total_skipped) for _, s in found][-3:] == [1, 2, 2]


# Scale of the loss ---------------------------------------------------------------------------


def test_small_gradients_of_float16_survive() -> None:
    """A gradient of 1e-9 is zero in float16; scaled, it makes the step that it should."""
    tx = gradtx.dynamic_loss_scale(gradtx.sgd(1e6), initial_scale=2.0**20)
    p = jnp.zeros(3, jnp.float16)
    state = tx.init(p)

    def loss(p: Any) -> Any:
        return gradtx.loss_scale(state) * jnp.sum(p.astype(jnp.float32)) * 1e-9

    u, state = tx.update(jax.grad(loss)(p), state, p)
    np.testing.assert_allclose(u, -1e-3, rtol=2e-3)
    assert (jnp.asarray(1e-9, jnp.float16) == 0).all()


def test_the_scale_falls_and_grows() -> None:
    tx = gradtx.dynamic_loss_scale(gradtx.sgd(0.1), initial_scale=8.0, growth_interval=2)
    found = states(tx, [P, P, BAD, P, P, BAD])
    assert [float(s.loss_scale) for _, s in found] == [8, 16, 8, 8, 16, 8]
    assert_same(found[1][0], found[2][0])
    assert int(found[-1][1].total_skipped) == 2


def test_the_scale_is_found_anywhere() -> None:
    inner = gradtx.chain(gradtx.clip(1.0), gradtx.dynamic_loss_scale(gradtx.adam(0.1)))
    tx = gradtx.partition({"*": inner})
    assert float(gradtx.loss_scale(tx.init({"p": P}))) == 2.0**15
    assert float(gradtx.loss_scale(gradtx.adam(0.1).init(P))) == 1.0


# At some steps ---------------------------------------------------------------------------


@pytest.mark.parametrize("otherwise", ["zero", "pass"])
def test_every_third_step(otherwise: str) -> None:
    tx = gradtx.every(3, gradtx.scale(2.0), otherwise=otherwise)
    state, seen = tx.init(P), []
    for _ in range(6):
        u, state = tx.update(P, state, P)
        seen.append(float(u[0]))
    between = 0.0 if otherwise == "zero" else 1.0
    assert seen == [between, between, 2.0] * 2


@pytest.mark.parametrize(("make", "between"), [("transform", 1.0), ("mask", 0.0)])
def test_conditions(make: str, between: float) -> None:
    """At odd counts of steps done; the inner count counts these only."""
    tx = getattr(gradtx, f"conditionally_{make}")(gradtx.scale(2.0), lambda count: count % 2 == 1)
    state, seen = tx.init(P), []
    for _ in range(4):
        u, state = tx.update(P, state, P)
        seen.append(float(u[0]))
    assert seen == [between, 2.0, between, 2.0]
    assert int(state.gradient_step) == 2


def test_a_condition_is_one_bool() -> None:
    tx = gradtx.conditionally_transform(gradtx.scale(2.0), lambda count: count)
    with pytest.raises(TypeError, match="should_transform_fn returned int32"):
        tx.update(P, tx.init(P), P)


# Monitors ---------------------------------------------------------------------------


def test_metrics_of_gradient_descent() -> None:
    """For u = -0.1 g: norms, the ratio to the parameters, cosine -1, effective rate 0.1."""
    params = {"layer": {"kernel": 2 * P, "bias": P}}
    grads = jax.tree.map(lambda p: 3 * p, params)
    tx = gradtx.chain(
        gradtx.clip(100.0), gradtx.monitor(gradtx.sgd(0.1), ["*/kernel", "*"], name="m")
    )
    _, state = tx.update(grads, tx.init(params), params)
    found = {name: float(x) for name, x in gradtx.metrics(state).items()}
    g = 6 * float(jnp.linalg.norm(P))
    expected = {
        "grad_norm": g,
        "update_norm": 0.1 * g,
        "update_ratio": 0.3,
        "cosine": -1.0,
        "effective_learning_rate": 0.1,
    }
    for metric, x in expected.items():
        assert found[f"m/{metric}/*/kernel"] == pytest.approx(x, rel=1e-5), metric
    assert found["m/grad_norm/*"] == pytest.approx(3 * float(jnp.sqrt(5.0) * jnp.linalg.norm(P)))


def test_a_monitor_changes_no_update() -> None:
    plain, seen = gradtx.adamw(0.1), gradtx.monitor(gradtx.adamw(0.1))
    assert_same(plain.update(P, plain.init(P), P)[0], seen.update(P, seen.init(P), P)[0])
    assert gradtx.metrics(plain.init(P)) == {}


def test_patterns_that_fit_nothing_are_listed() -> None:
    with pytest.raises(ValueError, match="no array goes to"):
        gradtx.monitor(gradtx.sgd(0.1), "*/kernal").init({"kernel": P})
    with pytest.raises(ValueError, match="there is no metric 'grad_nrm'"):
        gradtx.monitor(gradtx.sgd(0.1), metrics="grad_nrm")


@pytest.mark.parametrize("name", ["apply_if_finite", "skip_outliers", "every"])
def test_updates_that_do_not_fit_are_refused(name: str) -> None:
    """Around what refuses nothing, where a branch would give arrays of other shapes."""
    tx = catalogue.wrappers[name].make().with_fields(inner=gradtx.identity())
    params, grads = {"w": jnp.ones((1, 3))}, {"w": jnp.ones((2, 3))}
    state = tx.init(params)
    with pytest.raises(ValueError, match=r"'w'") as raised:
        tx.update(grads, state, params)
    assert_three_parts(raised.value, "[2, 3]", "[1, 3]")


def test_the_loss_scale_stays_above_its_least() -> None:
    tx = gradtx.dynamic_loss_scale(gradtx.sgd(0.1), initial_scale=2.0, min_scale=1.0)
    state = tx.init(jnp.zeros(2))
    for _ in range(3):
        _, state = tx.update(jnp.array([jnp.nan, 0.0]), state)
    assert float(gradtx.loss_scale(state)) == 1.0


@pytest.mark.parametrize("times", [3.0, 100.0])
@pytest.mark.parametrize("watch", ["norm", "value"])
def test_skip_outliers_comes_back(watch: str, times: float) -> None:
    """What is larger for good becomes the usual: a few steps are left out, not all for ever."""
    tx = gradtx.skip_outliers(gradtx.sgd(0.1), warmup_steps=20, watch=watch)
    params = {"w": jnp.ones(3)}
    state, update, taken = tx.init(params), jax.jit(tx.update), []
    for i in range(120):
        size = (1 + 0.1 * np.random.default_rng(i).normal()) * (times if i >= 40 else 1.0)
        grads = {"w": jnp.full(3, size, jnp.float32)}
        _, state = update(grads, state, params, value=jnp.float32(size))
        taken.append(int(state.gradient_step))
    skipped = np.diff([0, *taken]) == 0
    assert skipped[40:60].all()  # an outlier, at first
    assert skipped[62:].mean() < 0.1
    assert int(state.total_skipped) == skipped.sum()
