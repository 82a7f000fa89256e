"""Small things that people asked for: partial windows, sums, averages from the start, resets."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx

P = jnp.asarray([1.0, -2.0, 3.0])


def grads(n):
    return [jnp.asarray(np.random.default_rng(i).normal(size=3), jnp.float32) for i in range(n)]


@pytest.mark.parametrize("traced", [False, True])
def test_accumulate_uses_up_a_partial_window(traced):
    """`last=True` takes the step with what there is, and a whole cycle follows."""
    tx = gx.accumulate(gx.sgd(0.5), 4)
    g, state = grads(9), tx.init(P)
    last = [jnp.asarray(i == 5) if traced else i == 5 for i in range(9)]
    steps = []
    for gradient, ends in zip(g, last, strict=True):
        u, state = tx.update(gradient, state, P, last=ends)
        steps.append(u)
    for i in (0, 1, 2, 4, 6, 7, 8):
        np.testing.assert_array_equal(steps[i], 0)
    np.testing.assert_allclose(steps[3], -0.5 * np.mean(g[:4], axis=0), rtol=1e-6)
    np.testing.assert_allclose(steps[5], -0.5 * np.mean(g[4:6], axis=0), rtol=1e-6)
    assert (int(state.gradient_step), int(state.mini_step)) == (2, 3)


def test_a_partial_window_weighs_by_examples():
    """The mean of what was seen, by `weight`; through wrappers, in `step` too."""
    tx, g = gx.ema(gx.accumulate(gx.sgd(1.0), 4)), grads(2)
    state = tx.init(P)
    p, state = tx.step(g[0], state, P, weight=3.0)
    p, state = tx.step(g[1], state, p, weight=1.0, last=True)
    np.testing.assert_allclose(p, P - (3 * g[0] + g[1]) / 4, rtol=1e-6)


def test_accumulate_sums():
    """`reduce="sum"` hands on the sum of w g; one micro-batch a cycle too."""
    g = grads(4)
    for every, weights in ((2, (1.0, 1.0)), (2, (3.0, 0.5)), (1, (2.0,))):
        tx = gx.accumulate(gx.sgd(1.0), every, reduce="sum")
        state = tx.init(P)
        for gradient, weight in zip(g, weights, strict=False):
            u, state = tx.update(gradient, state, P, weight=weight)
        expected = -sum(w * x for w, x in zip(weights, g, strict=False))
        np.testing.assert_allclose(u, expected, rtol=1e-6)


def path(tx, steps):
    """The parameters and the averages after each step."""
    p, state, seen, averages = P, tx.init(P), [P], [P]
    for g in grads(steps):
        p, state = tx.step(g, state, p)
        seen.append(p)
        averages.append(tx.eval_params(state, p))
    return np.array(seen, float), np.array(averages, float)


@pytest.mark.parametrize("debias", [True, False])
@pytest.mark.parametrize(("start", "every"), [(0, 1), (1, 1), (3, 1), (0, 2), (3, 2), (2, 3)])
def test_ema_from_a_start_one_of_every(start, every, debias):
    """a = decay a + (1 - decay) p over those that count; the parameters before the first."""
    decay = 0.7
    tx = gx.ema(gx.sgd(0.1), decay, start=start, every=every, debias=debias)
    seen, averages = path(tx, 9)
    for t in range(1, 10):
        counted = list(range(start, t + 1, every))
        if not counted:
            expected = seen[t]
        else:
            weights = (1 - decay) * decay ** np.arange(len(counted) - 1.0, -1, -1)
            if not debias:
                weights[0] = decay ** (len(counted) - 1)
            expected = weights @ seen[counted] / weights.sum()
        np.testing.assert_allclose(averages[t], expected, rtol=2e-6, err_msg=str(t))


def test_average_updates_debiased_is_optax_ema():
    """With `debias`, as in Optax; without, the plain average."""
    for debias in (True, False):
        ours, theirs = gx.average_updates(0.9, debias), optax.ema(0.9, debias)
        a, b = ours.init(P), theirs.init(P)
        for g in grads(4):
            u, a = ours.update(g, a)
            with jax.numpy_dtype_promotion("standard"):
                v, b = theirs.update(g, b)
            np.testing.assert_allclose(u, v, rtol=2e-6)


def test_lookahead_resets_the_state():
    """After each return `inner` begins anew, its count included; without it goes on."""
    for reset in (True, False):
        tx = gx.lookahead(gx.adam(0.1), 2, reset_state=reset)
        p, state = P, tx.init(P)
        for i, g in enumerate(grads(5)):
            p, state = tx.step(g, state, p)
            moments = jax.tree.leaves(state.inner["scale_by_adam"].mu)
            assert all(bool((m == 0).all()) for m in moments) == (reset and i % 2 == 1)
    tx = gx.lookahead(gx.adam(gx.linear_schedule(0.1, 0.0, 2)), 2, 1.0, reset_state=True)
    p, state = P, tx.init(P)
    for g in grads(5):
        before = p
        p, state = tx.step(g, state, p)
    np.testing.assert_allclose(np.abs(p - before), 0.1, rtol=1e-4)  # as a first step of Adam


def test_a_forgotten_vmap_is_noticed():
    """Gradients without an axis of examples are one example only where one says so."""
    tx = gx.differentially_private_aggregate(1.0, 0.0, key=0)
    with pytest.raises(ValueError, match=r"no axis of examples. Pass jax.vmap\(jax.grad"):
        tx.update(P, tx.init(P), P)
    u, _ = tx.update(jnp.stack([P, 2 * P]), tx.init(P), P)
    np.testing.assert_allclose(u, P / np.linalg.norm(P), rtol=1e-6)
    one = tx.replace(per_example=False)
    np.testing.assert_allclose(one.update(P, one.init(P), P)[0], P / np.linalg.norm(P), rtol=1e-6)


def test_replacing_beside_lengths_beyond():
    """A length that no leaf holds passes through `replace`, `join` and a sum of cycles."""
    schedule = gx.cosine_decay_schedule(1.0, 10**10).replace(alpha=0.5)
    assert schedule.decay_steps == gx.cosine_decay_schedule(1.0, 10**10).decay_steps
    cycle = {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 5, "decay_steps": 10**10}
    assert float(gx.sgdr_schedule([cycle] * 3)(5)) == 1.0


def test_complex_parameters_descend():
    """|z - (1 + 2i)|^2: the gradient is the conjugate of what `jax.grad` gives."""

    def loss(z):
        return jnp.abs(z - (1 + 2j)) ** 2

    tx, z = gx.adam(0.1), jnp.asarray(0.5 + 0.5j)
    state = tx.init(z)
    for _ in range(100):
        z, state = tx.step(jnp.conj(jax.grad(loss)(z)), state, z)
    assert abs(complex(z) - (1 + 2j)) < 0.05


@pytest.mark.parametrize("name", ["momo", "dog", "prodigy"])
def test_what_arrays_know_together_begins_anew_too(name: str) -> None:
    """After a return the estimates are those of the very start: a reset is a fresh `init`."""
    tx = gx.lookahead(getattr(gx, name)(), 3, reset_state=True)
    params = {"w": jnp.asarray([1.0, -2.0])}
    state = tx.init(params)
    for t in range(1, 7):
        grads = {"w": params["w"] * (1.0 + t)}
        params, state = tx.step(grads, state, params, value=jnp.sum(params["w"] ** 2))
    fresh = tx.inner.init(params)
    expected = dict(jax.tree_util.tree_leaves_with_path(fresh))
    kept = jax.tree_util.tree_leaves_with_path(state.inner)
    assert len(kept) == len(expected) - 1  # all but the count, which is that of the wrapper
    for path, x in kept:
        np.testing.assert_array_equal(x, expected[path], jax.tree_util.keystr(path))


@pytest.mark.parametrize(
    "make",
    [
        lambda inner: gx.lookahead(inner, 2, reset_state=True),
        lambda inner: gx.sam(gx.sgd(0.1), adv_optimizer=inner),
        lambda inner: gx.wolfe(inner),
    ],
    ids=["lookahead", "sam", "wolfe"],
)
def test_a_stored_state_begins_anew_as_it_is_stored(make: Any) -> None:
    """What is made afresh is in the formats of what it takes the place of."""
    tx = gx.store(make(gx.adam(0.1)), {"mu": "bfloat16", "nu": "int8"})
    params = {"w": jnp.ones(300)}
    state = start = tx.init(params)
    for _ in range(3):
        value = jnp.sum(params["w"] ** 2)
        params, state = tx.step(jax.tree.map(lambda x: 2 * x, params), state, params, value=value)
    assert jax.tree.map(lambda x: x.dtype, state) == jax.tree.map(lambda x: x.dtype, start)
    assert any(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(state))
    assert np.isfinite(params["w"]).all()


def test_a_stored_moment_is_zero_where_it_begins_anew() -> None:
    tx = gx.store(gx.lookahead(gx.adam(0.1), 2, reset_state=True), {"mu": "bfloat16"})
    params = {"w": jnp.ones(300)}
    state = tx.init(params)
    seen = []
    for _ in range(2):
        params, state = tx.step(params, state, params)
        stored = [x for x in jax.tree.leaves(state) if x.dtype == jnp.bfloat16]
        seen.append(any(np.any(np.asarray(x, np.float32)) for x in stored))
    assert seen == [True, False]
