"""Faults of other libraries that are not ours.

Where Optax is the release in which a fault was found, it is run beside us and shows it: so each
of these tests is known to be able to fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws.cases import build, update

import gradtx
from gradtx import catalogue

FAULTY_OPTAX = optax.__version__ == "0.2.8"


def last_update(tx: Any, gs: Any, state: Any = None) -> tuple[Any, Any]:
    """The update and the state after gradients one after the other, at parameters zero."""
    # Optax does not run under the strict promotion of these tests.
    ours = isinstance(tx, gradtx.GradientTransformation)

    @jax.jit
    def run(gs: Any, state: Any) -> Any:
        def step(carry: Any, g: Any) -> Any:
            p = jnp.zeros_like(g)
            return (update if ours else optax_update)(tx, g, carry[1], p), None

        return jax.lax.scan(step, (jnp.zeros_like(gs[0]), state), gs)[0]

    with jax.numpy_dtype_promotion("strict" if ours else "standard"):
        return run(gs, tx.init(jnp.zeros_like(gs[0])) if state is None else state)


def optax_update(tx: Any, g: Any, state: Any, p: Any) -> Any:
    return tx.update(g, state, p)


# Narrow dtypes -----------------------------------------------------------------------------------


def test_e7_second_moment_of_bfloat16_grows() -> None:
    """Adam of bfloat16: for g = 1 the update is 1, nu does not stall at a half."""
    ones = jnp.ones(3000, jnp.bfloat16)
    u, state = last_update(gradtx.scale_by_adam(), ones)
    assert u.dtype == jnp.bfloat16
    assert float(u) == 1.0
    assert float(state.nu) == pytest.approx(1 - 0.999**3000, rel=1e-4)
    if FAULTY_OPTAX:
        assert float(last_update(optax.scale_by_adam(), ones)[0]) > 1.3


def test_e7_second_moment_of_bfloat16_decays() -> None:
    """After g = 1 and 5000 zeros nu is 0.999^5000 = 0.0067 of what it was."""
    zeros = jnp.zeros(5000, jnp.bfloat16)
    for tx, faulty in ((gradtx.scale_by_adam(), False), (optax.scale_by_adam(), True)):
        start = tx.init(zeros[0])
        start = start._replace(nu=jnp.ones_like(start.nu))
        if faulty and not FAULTY_OPTAX:
            continue
        _, state = last_update(tx, zeros, start)
        left = float(state.nu)
        assert left == (1.0 if faulty else pytest.approx(0.999**5000, rel=1e-3))


@pytest.mark.slow  # law 3 does it in two steps
@pytest.mark.parametrize("name", catalogue.optimizers)
def test_decays_are_not_rounded_to_one(name: str) -> None:
    """A decay of 0.999 is 1 in bfloat16: steps of narrow gradients are those of wide ones.

    The hyperparameters are Python numbers or arrays; all are taken at full width.
    """
    gs = jnp.asarray([[0.5, -2.0, 1.0], [0.25, 1.0, -1.0], [1.5, 0.5, 0.75]], jnp.bfloat16)
    tx = build(catalogue.optimizers[name])
    wide, _ = last_update(tx, gs.astype(jnp.float32))
    for kind in (lambda x: x, lambda x: jnp.asarray(x, jnp.float32)):
        same = jax.tree.map(lambda x, kind=kind: kind(x) if isinstance(x, float) else x, tx)
        narrow, _ = last_update(same, gs)
        assert narrow.dtype == jnp.bfloat16
        # The compiler may round the wide step's last digit otherwise, next to a tie; what
        # `mechanic` wraps hands it steps that are rounded already.
        slack = 2**-8 if name == "mechanic" else 1e-5
        ends = [(wide * (1 + side * slack)).astype(jnp.bfloat16) for side in (-1, 1)]
        assert ((jnp.minimum(*ends) <= narrow) & (narrow <= jnp.maximum(*ends))).all()


@pytest.mark.skipif(not FAULTY_OPTAX, reason="found in Optax 0.2.8")
def test_optax_rounds_decays_to_one() -> None:
    """What the test before this one is about: injected into bfloat16, b2 is 1 and 0/0 follows."""
    g = jnp.ones(3, jnp.bfloat16)
    tx = optax.inject_hyperparams(optax.adam)(learning_rate=0.1, b2=0.999)
    with jax.numpy_dtype_promotion("standard"):
        assert np.isnan(np.asarray(tx.update(g, tx.init(g))[0], np.float32)).all()


@pytest.mark.slow  # law 3 does it for more kinds of numbers
@pytest.mark.parametrize("is_wide", [False, True])
@pytest.mark.parametrize("name", catalogue.optimizers)
def test_numpy_hyperparameters_widen_nothing(
    name: str, is_wide: bool, request: pytest.FixtureRequest
) -> None:
    """np.float64 is a float and an array: with it updates and state keep their dtypes, with x64."""
    if is_wide:
        request.getfixturevalue("x64")
    tx = build(catalogue.optimizers[name])
    numpy = jax.tree.map(lambda x: np.float64(x) if isinstance(x, float) else x, tx)
    ps = {"narrow": jnp.ones(3, jnp.bfloat16), "usual": jnp.ones(3, jnp.float32)}

    def step(one: Any) -> Any:
        state = one.init(ps)
        return update(one, ps, state, ps), state

    for one in (tx, numpy):
        (us, after), before = jax.eval_shape(lambda one=one: step(one))
        assert jax.tree.map(lambda x: x.dtype, us) == jax.tree.map(lambda x: x.dtype, ps)
        dtypes = {x.dtype for x in jax.tree.leaves((before, after))}
        assert dtypes <= set(map(np.dtype, ("float32", "int32", "bool")))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_small_steps_of_narrow_parameters_are_not_lost_in_the_average(dtype: Any) -> None:
    """Adagrad of narrow parameters: 4000 gradients of one sum to 4000, not to 256 or 2048."""
    _, state = last_update(gradtx.scale_by_adagrad(), jnp.ones(4000, dtype))
    assert float(state.sum_of_squares) == 4000.0


# Division by zero --------------------------------------------------------------------------------


@pytest.mark.slow  # law 4 does it for each row
def test_zero_gradients_are_not_divided_by() -> None:
    """E4, E13: for every row zero gradients give finite updates, and so do small ones after them.

    In float16 too, where an eps of 1e-8 is zero if it is not kept at full width. There a small
    gradient over an eps of 1e-16 is truly infinite: only zeros come.
    """
    txs = {name: build(row) for name, row in (catalogue.optimizers | catalogue.links).items()}

    @jax.jit
    def run(gs: Any, zeros: Any) -> Any:
        def step(states: Any, g: Any) -> Any:
            new = {name: update(tx, g, states[name], zeros) for name, tx in txs.items()}
            return {name: state for name, (_, state) in new.items()}, new

        return jax.lax.scan(step, {name: tx.init(zeros) for name, tx in txs.items()}, gs)[1]

    for dtype, then in ((jnp.float16, 0.0), (jnp.bfloat16, 0.1), (jnp.float32, 0.1)):
        zeros = jnp.zeros(3, dtype)
        gs = jnp.stack([zeros, zeros, jnp.full_like(zeros, then), zeros])
        for name, values in run(gs, zeros).items():
            for value in jax.tree.leaves(values):
                assert np.isfinite(np.asarray(value, np.float32)).all(), name
    if FAULTY_OPTAX:
        zeros = jnp.zeros(3, jnp.float16)
        u, _ = last_update(optax.scale_by_adam(), zeros[None])
        assert np.isnan(np.asarray(u, np.float32)).all()


@pytest.mark.parametrize("decay", [0.5, 0.7, 0.8])
def test_variance_of_constant_gradients_is_not_negative(decay: float) -> None:
    """Rounding makes nu - mu^2 negative where gradients do not vary; its root stays real."""
    g = jnp.linspace(0.1, 30.0, 100, dtype=jnp.float32)
    for module in (gradtx, optax):
        tx = module.scale_by_stddev(decay, 1e-12)
        u, _ = last_update(tx, jnp.broadcast_to(g, (1000, 100)))
        if module is gradtx:
            assert np.isfinite(u).all()
        elif FAULTY_OPTAX:
            assert np.isnan(u).any()


def test_norms_neither_overflow_nor_underflow() -> None:
    """A clipped gradient has the norm asked for, be its entries 1e30 or 1e-30 in float32."""
    for size in (1e30, 1e-30):
        g = jnp.full(4, size, jnp.float32)
        for tx in (gradtx.clip_by_global_norm(size), gradtx.clip_by_norm(size)):
            u, _ = tx.update(g, tx.init(g))
            np.testing.assert_allclose(u, 0.5 * size, rtol=1e-6)
        if FAULTY_OPTAX:
            tx = optax.clip_by_global_norm(size)
            u, _ = tx.update(g, tx.init(g))
            assert not np.allclose(np.asarray(u) / size, 0.5, rtol=1e-6)


def test_norms_of_constant_zeros_are_zero() -> None:
    """XLA folds the norm of a constant, and would take 0 times the overflown square of a scale."""
    for norm in (gradtx.tree.global_norm, lambda x: gradtx.tree.norm(x, (0,))):
        assert float(jax.jit(lambda norm=norm: norm(jnp.zeros(3)).sum())()) == 0.0


# Schedules -----------------------------------------------------------------------------------

LENGTHS: dict[str, Callable[..., Any]] = {
    "linear_schedule": lambda module, n, x: module.linear_schedule(x, 0.1 * x, n),
    "polynomial_schedule": lambda module, n, x: module.polynomial_schedule(x, 0.1 * x, 2.0, n),
    "cosine_decay_schedule": lambda module, n, x: module.cosine_decay_schedule(x, n),
    "exponential_decay": lambda module, n, x: module.exponential_decay(x, n, 0.5, end_value=0.1),
    "exponential_decay by rate": lambda module, n, x: module.exponential_decay(x, 3, 1.0 / n),
    "warmup_cosine_decay_schedule": lambda module, n, x: module.warmup_cosine_decay_schedule(
        0.0, x, n, 3 * n
    ),
    "warmup_cosine_decay_schedule by peak": lambda module, n, x: (
        module.warmup_cosine_decay_schedule(0.0, x, 2, 8)
    ),
    "wsd_schedule": lambda module, n, x: module.wsd_schedule(x, n, 4 * n, n),
    "inverse_sqrt_schedule": lambda module, n, x: module.inverse_sqrt_schedule(x, n),
    "inverse_time_schedule": lambda module, n, x: module.inverse_time_schedule(x, 0.5, n),
    "step_schedule": lambda module, n, x: module.step_schedule(x, n, 0.5),
    "piecewise_constant_schedule": lambda module, n, x: module.piecewise_constant_schedule(
        x, ([n, 2 * n], [0.5, 0.5])
    ),
    "join_schedules": lambda module, n, x: module.join_schedules(
        [module.constant_schedule(x), module.constant_schedule(0.1 * x)], [n]
    ),
}
REFUSING = {  # of Optax 0.2.8
    "linear_schedule",
    "polynomial_schedule",
    "cosine_decay_schedule",
    "exponential_decay",
    "exponential_decay by rate",
    "warmup_cosine_decay_schedule",
}


@pytest.mark.parametrize("name", LENGTHS)
def test_e14_schedules_take_traced_lengths_and_peaks(name: str) -> None:
    """Traced under jit, they give what plain numbers give."""
    make = LENGTHS[name]

    def values(module: Any, n: Any, x: Any) -> Any:
        schedule = make(module, n, x)
        return jnp.stack([schedule(c) for c in range(16)])

    traced = jax.jit(lambda n, x: values(gradtx, n, x))(4, 0.5)
    np.testing.assert_allclose(traced, values(gradtx, 4, 0.5), rtol=1e-6)
    assert np.ptp(traced) > 0
    if FAULTY_OPTAX and name in REFUSING:
        with (
            pytest.raises(jax.errors.ConcretizationTypeError),
            jax.numpy_dtype_promotion("standard"),
        ):
            jax.jit(lambda n, x: values(optax, n, x))(4, 0.5)


# Formulas --------------------------------------------------------------------------------------


def test_e17_e21_adam_adds_eps_to_the_corrected_root() -> None:
    """At the first step g / (|g| + eps); added to the uncorrected root eps would weigh 32 times."""
    g, eps = jnp.asarray([0.1, -3.0]), 0.5
    u, _ = gradtx.scale_by_adam(eps=eps).update(g, gradtx.scale_by_adam().init(g))
    np.testing.assert_allclose(u, g / (jnp.abs(g) + eps), rtol=1e-5)
    hat = g * np.sqrt(1 - 0.999) / (np.sqrt(1 - 0.999) * jnp.abs(g) + eps)
    assert np.abs(u / hat - 1).min() > 3


def test_eps_of_adagrad_and_rmsprop_is_where_it_is_said_to_be() -> None:
    """Adagrad: outside. RMSProp: inside by default, outside on demand."""
    g, eps = jnp.asarray([0.1, -3.0]), 0.5
    for tx, divisor in (
        (gradtx.scale_by_adagrad(eps=eps), jnp.abs(g) + eps),
        (gradtx.scale_by_rms(0.75, eps), jnp.sqrt(0.25 * g**2 + eps)),
        (gradtx.scale_by_rms(0.75, eps, eps_in_sqrt=False), 0.5 * jnp.abs(g) + eps),
        (gradtx.scale_by_adam(b1=0.0, b2=0.0, eps=0.0, eps_root=eps), jnp.sqrt(g**2 + eps)),
    ):
        u, _ = tx.update(g, tx.init(g))
        np.testing.assert_allclose(u, g / divisor, rtol=1e-6)


@pytest.mark.parametrize("name", catalogue.optimizers)
def test_e22_every_optimizer_descends_by_default(name: str) -> None:
    """The first step is against the gradient, with the arguments that have defaults left out."""
    row = catalogue.optimizers[name]
    tx = gradtx.adadelta() if name == "adadelta" else build(row)
    g, p = jnp.asarray([1.0, -2.0, 0.5]), jnp.zeros(3)
    u, state = update(tx, g, tx.init(p), p)
    if name == "adopt":  # its first step only looks
        u, _ = update(tx, g, state, p)
    assert (np.sign(u) == -np.sign(g)).all()
    if FAULTY_OPTAX and name == "adadelta":
        faulty = optax.adadelta()
        u, _ = faulty.update(g, faulty.init(g), jnp.zeros(3))
        assert (np.sign(u) == np.sign(g)).all()


def test_e22_first_step_of_adadelta() -> None:
    """For g = 1 it is -sqrt(eps / (1 - rho + eps)), 1e-3 / sqrt(0.05) with the paper's rho."""
    tx = gradtx.adadelta()
    u, _ = tx.update(jnp.ones(()), tx.init(jnp.ones(())))
    assert float(u) == pytest.approx(-np.sqrt(1e-6 / (0.05 + 1e-6)), rel=1e-5)


def test_bias_correction_keeps_its_digits() -> None:
    """For constant gradients the first updates are the sign.

    With 1 - b2^t as a difference in float32 they are off by some 1e-5.
    """
    g = jnp.asarray([0.3, -2.0])
    for steps in (2, 3, 5):
        u, _ = last_update(gradtx.scale_by_adam(b2=0.9999), jnp.stack([g] * steps))
        np.testing.assert_allclose(u, np.sign(g), rtol=1e-6)
        if FAULTY_OPTAX:
            u, _ = last_update(optax.scale_by_adam(b2=0.9999), jnp.stack([g] * steps))
            assert np.abs(np.abs(u) - 1).max() > 5e-6


def test_a_mask_leaves_no_raw_gradient() -> None:
    """Outside its mask `masked` gives zero; Optax lets the gradient through, uphill."""
    g = {"in": jnp.ones(2), "out": jnp.ones(2)}
    mask = {"in": True, "out": False}
    tx = gradtx.masked(gradtx.sgd(0.1), mask)
    u, _ = tx.update(g, tx.init(g), g)
    assert u["in"].tolist() == pytest.approx([-0.1, -0.1])
    assert u["out"].tolist() == [0.0, 0.0]
    if FAULTY_OPTAX:
        faulty = optax.masked(optax.sgd(0.1), mask)
        assert faulty.update(g, faulty.init(g), g)[0]["out"].tolist() == [1.0, 1.0]


def test_counts_do_not_wrap_around() -> None:
    """After 2^31 - 1 updates the count stays, and Adam goes on."""
    g = jnp.ones(2)
    tx = gradtx.adam(0.1)
    state = tx.init(g)
    full = jnp.full_like(state["count"], jnp.iinfo(jnp.int32).max)
    settled = state["scale_by_adam"]._replace(mu=jnp.ones(2), nu=jnp.ones(2))
    u, state = tx.update(g, {**state, "count": full, "scale_by_adam": settled})
    assert int(state["count"]) == jnp.iinfo(jnp.int32).max
    np.testing.assert_allclose(u, -0.1, rtol=1e-6)


def test_adadelta_survives_a_square_beyond_float32() -> None:
    tx = gradtx.scale_by_adadelta()
    state = tx.init(jnp.zeros(2))
    for g in ([1e25, 1.0], [1.0, 1.0]):
        u, state = tx.update(jnp.array(g), state)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((u, state)))
