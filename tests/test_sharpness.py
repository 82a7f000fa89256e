"""SAM and ASAM: alternating and with a function for the gradients."""

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
from reference.average import followed, sam, trained

import gradtx

EXACT = 1e-12
RATE = 0.1


def base() -> Any:
    return gradtx.sgd(RATE)


RUNS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "sam": (lambda: gradtx.sam(base()), {}),
    "sam of three": (
        lambda: gradtx.sam(base(), rho=0.2, sync_period=3),
        {"rho": 0.2, "sync_period": 3},
    ),
    "sam by a schedule": (
        lambda: gradtx.sam(base(), rho=gradtx.linear_schedule(0.0, 1.0, STEPS)),
        {"rho": lambda count: 0.01 * count},
    ),
    "asam": (lambda: gradtx.asam(base()), {"rho": 0.5, "eta": 0.01}),
    "asam of three": (
        lambda: gradtx.asam(base(), rho=0.3, eta=0.1, sync_period=3),
        {"rho": 0.3, "eta": 0.1, "sync_period": 3},
    ),
}
ADAM = gradtx.adam(0.1)


@functools.cache
def runs() -> dict[str, Any]:
    return trained(
        {
            **{name: make for name, (make, _) in RUNS.items()},
            "adam": lambda: ADAM,
            "opaque flat": lambda: gradtx.opaque_sam(ADAM, rho=0.0),
            "alternating at once": lambda: gradtx.sam(ADAM, sync_period=1),
        }
    )


@pytest.mark.parametrize("name", RUNS)
def test_the_rule_of_the_paper(name: str, x64: None) -> None:
    """Where it goes and what is evaluated, which is never uphill, for 100 updates."""
    _, hyper = RUNS[name]
    assert error(runs()[name], followed(sam, learning_rate=RATE, **hyper)) < EXACT


@pytest.mark.parametrize("name", ["opaque flat", "alternating at once"])
def test_without_an_ascent_it_is_what_it_wraps(name: str, x64: None) -> None:
    """rho = 0 with a gradient function, and a period without room for an ascent."""
    assert error(runs()[name], runs()["adam"]) < EXACT


def noisy(p: Any, t: Any) -> Any:
    return {k: jnp.sin(3 * x + t) for k, x in p.items()}


def steps_of(tx: Any, updates_per_step: int, steps: int = 12) -> Any:
    """What is evaluated after some steps, all updates of a step on the same batch."""
    p = {"a": jnp.asarray([0.5, -1.0]), "b": jnp.asarray(2.0)}

    def step(carry: Any, t: Any) -> Any:
        p, state = carry
        for _ in range(updates_per_step):
            more = {"grad_fn": lambda p: noisy(p, t)}
            p, state = tx.step(noisy(p, t), state, p, **more)
        return (p, state), tx.eval_params(state, p)

    times = jnp.arange(steps, dtype=float)
    return jax.jit(lambda: jax.lax.scan(step, (p, tx.init(p)), times)[1])()


@pytest.mark.parametrize("eta", [None, 0.1])
def test_one_opaque_step_is_two_alternating_updates(eta: float | None, x64: None) -> None:
    """On the same batch they are the same, around an optimizer with a state and a decay."""
    inner = gradtx.adamw(0.1, weight_decay=0.1)
    alternating = steps_of(gradtx.sam(inner, rho=0.3, eta=eta), 2)
    opaque = steps_of(gradtx.opaque_sam(inner, rho=0.3, eta=eta), 1)
    flat = steps_of(gradtx.sam(inner, rho=0.0, eta=eta), 2)
    plain = steps_of(inner, 1)
    for k in alternating:
        np.testing.assert_allclose(opaque[k], alternating[k], rtol=EXACT)
        np.testing.assert_allclose(flat[k], plain[k], rtol=EXACT)  # rho = 0 is the base
        assert abs(plain[k] - opaque[k]).max() > 1e-3


def test_the_ascent_has_its_length_over_all_arrays() -> None:
    """rho, be the gradients large or small; of float16 too, whose squares are no numbers."""
    for dtype, sizes in ((jnp.float32, (1e-30, 1.0, 1e30)), (jnp.float16, (6e-8, 1.0, 6e4))):
        for size in sizes:
            g = {"a": jnp.full(3, size, dtype), "b": jnp.full((2, 3), -size, dtype)}
            p = jax.tree.map(jnp.zeros_like, g)
            tx = gradtx.sam(base(), rho=0.75)
            updates, _ = tx.update(g, tx.init(p), p)
            for k, sign in (("a", 1), ("b", -1)):
                np.testing.assert_allclose(updates[k].astype(jnp.float32), sign * 0.25, rtol=1e-3)


def test_e13_zero_gradients_go_nowhere() -> None:
    """In every dtype; Optax's recipe divides by zero."""
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        p = jnp.ones(3, dtype)
        for tx in (gradtx.sam(base()), gradtx.asam(base()), gradtx.opaque_sam(base())):
            u, _ = tx.update(p * 0, tx.init(p), p, grad_fn=lambda p: p * 0)
            np.testing.assert_array_equal(u.astype(jnp.float32), 0)
    if optax.__version__ == "0.2.8":
        c = optax.contrib
        theirs = c.sam(optax.sgd(0.1), optax.chain(c.normalize(), optax.sgd(0.05)))
        p = jnp.ones(3)
        with jax.numpy_dtype_promotion("standard"):
            u, _ = theirs.update(p * 0, theirs.init(p), p)
        assert jnp.isnan(u).all()


def assert_they_walk_alike(ours: Any, theirs: Any) -> None:
    """Nine updates from one point on noisy gradients."""
    p = q = {"a": jnp.asarray([0.5, -1.0]), "b": jnp.asarray(2.0)}
    state, their_state = ours.init(p), theirs.init(q)
    with jax.numpy_dtype_promotion("standard"):
        for t in range(9):
            p, state = ours.step(noisy(p, t), state, p)
            updates, their_state = theirs.update(noisy(q, t), their_state, q)
            q = optax.apply_updates(q, updates)
            for k in p:
                np.testing.assert_allclose(p[k], q[k], rtol=1e-10)


@pytest.mark.parametrize("period", [2, 3])
def test_optax_agrees(period: int, x64: None) -> None:
    """Update for update, around an optimizer with momentum."""
    c = optax.contrib
    uphill = optax.chain(c.normalize(), optax.sgd(0.2))
    theirs = c.sam(optax.sgd(0.1, 0.9), uphill, sync_period=period)
    ours = gradtx.sam(gradtx.sgd(0.1, 0.9), rho=0.2, sync_period=period)
    assert_they_walk_alike(ours, theirs)


def test_the_way_uphill_of_an_optimizer_begins_afresh_in_every_period(x64: None) -> None:
    """With momentum on two steps uphill of three, update for update as Optax has it."""
    c = optax.contrib
    theirs = c.sam(optax.sgd(0.1, 0.9), optax.sgd(0.2, 0.5), sync_period=3)
    ours = gradtx.sam(gradtx.sgd(0.1, 0.9), adv_optimizer=gradtx.sgd(0.2, 0.5), sync_period=3)
    assert_they_walk_alike(ours, theirs)


@pytest.mark.parametrize("make", [gradtx.sam, gradtx.opaque_sam])
def test_an_optimizer_uphill_and_a_size_of_entries_exclude_each_other(make: Any) -> None:
    with pytest.raises(ValueError, match=r"(?s)sam.*adv_optimizer.*Pass eta=None"):
        make(base(), eta=0.1, adv_optimizer=gradtx.sgd(0.1))


def test_the_inner_optimizer_counts_its_own_steps() -> None:
    """Its moments see the gradients from uphill alone, its schedule a step where one is taken."""
    tx, p = gradtx.sam(gradtx.adam(0.1), sync_period=3), jnp.ones(2)
    state = tx.init(p)
    for t in range(1, 8):
        g = jnp.full(2, 5.0 if t % 3 == 0 else 1.0)
        p, state = tx.step(g, state, p)
        inner = state.inner["scale_by_adam"]
        assert int(state.gradient_step) == t // 3
        np.testing.assert_allclose(inner.mu, 5 * (1 - 0.9 ** (t // 3)), rtol=1e-5)


def test_a_function_for_other_parameters_is_refused() -> None:
    """What `grad_fn` gives has to be gradients of these parameters: both trees are named."""
    tx, p = gradtx.opaque_sam(base()), {"a": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"result of grad_fn are different trees.*'b'"):
        tx.update(p, tx.init(p), p, grad_fn=lambda p: {"b": p["a"]})


def test_derivatives_at_zero_gradients_are_finite() -> None:
    """With respect to the gradients and the length of the way."""

    def moved(rho: Any, g: Any) -> Any:
        tx, p = gradtx.asam(base(), rho=rho), jnp.asarray([0.0, 1.0])
        return jnp.sum(tx.update(g, tx.init(p), p)[0])

    for g in (jnp.zeros(2), jnp.asarray([0.0, 1.0])):
        assert all(jnp.isfinite(d).all() for d in jax.grad(moved, (0, 1))(0.5, g))


assert STEPS % 3  # the last update of three is not a step: both kinds are evaluated
