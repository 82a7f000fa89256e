"""Adam with another divisor, AMSGrad to StableAdamW: arguments, identities, faults of others."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import adam as formulas, descend
from reference.arguments import EXACT, MASK, SPARED, Case, compared, same
from steps import assert_one_trajectory, normal, updates

import gradtx

ROWS_ALONE = gradtx.by_path({"weight": gradtx.Axes("bi"), "*": None})

VARIANTS: dict[str, Case] = {
    **{
        f"amsgrad {form}": same(
            gradtx.amsgrad,
            formulas.amsgrad,
            learning_rate=0.01,
            b1=0.8,
            b2=0.95,
            eps=1e-3,
            eps_root=1e-2,
            form=form,
        )
        for form in ("paper", "torch", "max_of_corrected")
    },
    "adabelief": same(
        gradtx.adabelief,
        formulas.adabelief,
        learning_rate=0.01,
        b1=0.8,
        b2=0.95,
        eps=1e-3,
        eps_root=1e-3,
    ),
    "adabelief of torch": same(
        gradtx.adabelief, formulas.adabelief, learning_rate=0.01, eps=1e-8, eps_root=1e-8
    ),
    "yogi": same(
        gradtx.yogi,
        formulas.yogi,
        learning_rate=0.01,
        b1=0.8,
        b2=0.95,
        eps=1e-2,
        initial_accumulator_value=0.1,
        bias_correction=True,
    ),
    "radam of torch": same(gradtx.radam, formulas.radam, learning_rate=0.01, threshold=5.0),
    **{
        f"radam b2 {b2}": same(
            gradtx.radam, formulas.radam, learning_rate=0.01, b1=0.8, b2=b2, eps=1e-3, eps_root=1e-2
        )
        for b2 in (0.3, 0.6, 0.8, 0.95, 0.9999)
    },
    "adam_atan2": same(
        gradtx.adam_atan2, formulas.adam_atan2, learning_rate=0.01, b1=0.8, b2=0.95, a=1.0, b=2.0
    ),
    "stable_adamw": (
        partial(gradtx.stable_adamw, 0.01, b1=0.8, b2=0.95, eps=0.1, weight_decay=0.3, mask=MASK),
        descend(formulas.stable_adamw),
        {"learning_rate": 0.01, "b1": 0.8, "b2": 0.95, "eps": 0.1, "weight_decay": SPARED},
    ),
    "stable_adamw by rows": (
        partial(gradtx.stable_adamw, 0.01, axes=ROWS_ALONE),
        descend(formulas.stable_adamw),
        {"learning_rate": 0.01, "blocks": MASK},
    ),
}
error_of = compared(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_arguments(name: str, x64: None) -> None:
    """With other arguments, too, parameters and updates are those of the formula, to 1e-12."""
    assert error_of(name) < EXACT


def test_a_form_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="max_of_corrected"):
        gradtx.amsgrad(0.1, form="keras")


# AMSGrad ----------------------------------------------------------------------------------------


def test_e17_three_forms_of_amsgrad(x64: None) -> None:
    """They are more than a tenth of an update apart at the end of 20 steps of falling gradients."""
    gs = normal(0, 20, 50) * (0.9 ** jnp.arange(20.0))[:, None]
    last = {
        form: updates(gradtx.scale_by_amsgrad(form=form), gs)[-1]
        for form in ("paper", "torch", "max_of_corrected")
    }
    for one, other in (("paper", "torch"), ("paper", "max_of_corrected")):
        assert np.abs(last[one] / last[other] - 1).min() > 0.1
    assert np.abs(last["torch"] / last["max_of_corrected"] - 1).max() > 0.1


@pytest.mark.parametrize("form", ["torch", "max_of_corrected"])
def test_amsgrad_of_growing_gradients_is_adam(form: str, x64: None) -> None:
    """Where no mean square falls, the largest is the last."""
    growing = jnp.sign(normal(1, 60, 4)) * jnp.linspace(0.1, 3, 60)[:, None]
    tx, adam = gradtx.amsgrad(0.1, b2=0.9, form=form), gradtx.adam(0.1, b2=0.9)
    np.testing.assert_allclose(updates(tx, growing), updates(adam, growing), rtol=1e-11)
    assert np.abs(updates(tx, growing[::-1]) - updates(adam, growing[::-1])).max() > 0.01


# StableAdamW ------------------------------------------------------------------------------------


def test_stable_adamw_of_shrinking_gradients_is_adamw(x64: None) -> None:
    """Where no gradient is above the root mean square, nothing slows down."""
    gs = jnp.sign(normal(1, 60, 4)) * jnp.linspace(3, 0.1, 60)[:, None]
    adam = gradtx.adam(0.1, 0.9, 0.99)
    np.testing.assert_allclose(updates(gradtx.stable_adamw(0.1), gs), updates(adam, gs), rtol=1e-11)
    found, adam = (updates(tx, gs[::-1])[-1] for tx in (gradtx.stable_adamw(0.1), adam))
    assert (np.abs(found) < 0.99 * np.abs(adam)).all()


def test_stable_adamw_of_stacked_layers_is_that_of_a_list(x64: None) -> None:
    """E15: an array of layers, stacked, moves as its layers do on their own; decay slows too."""
    gs, p = normal(0, 3, 4), normal(1, 3, 4)
    stacked = gradtx.stable_adamw(0.1, weight_decay=0.5, axes=gradtx.Axes("bi"))
    alone = gradtx.stable_adamw(0.1, weight_decay=0.5)
    state, states = stacked.init(p), [alone.init(layer) for layer in p]
    for size in (0.1, 1.0):  # the second gradient surprises
        found, state = stacked.update(size * gs, state, p)
        pairs = [alone.update(size * g, s, q) for g, s, q in zip(gs, states, p, strict=True)]
        states = [s for _, s in pairs]
        np.testing.assert_allclose(found, jnp.stack([u for u, _ in pairs]), rtol=1e-12)


# RAdam ------------------------------------------------------------------------------------------

REDUCTIONS: dict[str, tuple[Any, Any]] = {
    "radam with a short memory is corrected momentum": (
        gradtx.radam(0.1, 0.9, 0.5),
        gradtx.chain(  # momentum over its own weight, 1 - b1^t
            gradtx.scale_by_momentum(0.9),
            gradtx.scale(lambda count: 0.1 / (1 - 0.9 ** (count.astype(float) + 1))),
            gradtx.scale(-0.1),
        ),
    ),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction(name: str, x64: None) -> None:
    """Two ways to write one algorithm give one trajectory, to 1e-12."""
    assert_one_trajectory(*REDUCTIONS[name])


def test_radam_is_adam_in_the_end(x64: None) -> None:
    """Momentum alone for four steps; Adam where the memory of the divisor is full."""
    gs = normal(3, 500, 4)
    radam, adam = updates(gradtx.radam(0.1, b2=0.9), gs), updates(gradtx.adam(0.1, b2=0.9), gs)
    np.testing.assert_allclose(radam[450:], adam[450:], rtol=1e-11)
    for threshold, first in ((4.0, 5), (5.0, 6)):
        tx = gradtx.scale_by_radam(0.0, threshold=threshold)
        unrectified = (updates(tx, gs[:8]) == gs[:8]).all(axis=1)
        assert unrectified.tolist() == [t < first for t in range(1, 9)]


@pytest.mark.parametrize("b2", [0.9, 0.99, 0.999, 0.9999])
def test_radam_knows_its_rectification_in_float32(b2: float) -> None:
    """r is that of exact arithmetic, where differences of 1 / (1 - b2) lose four digits."""
    b = Fraction(float(np.float32(b2)))
    most = 2 / (1 - b) - 1
    tx = gradtx.scale_by_radam(b2=np.float32(b2))  # pyright: ignore[reportArgumentType]
    for t in (5, 6, 7, 10, 30, 100, 1000):
        rho = most - 2 * t * b**t / (1 - b**t)
        exact = float((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)) ** 0.5
        r = tx.shared(jnp.asarray(t, jnp.float32))[3]
        assert float(r) == pytest.approx(exact, rel=3e-6), t


# Adam-atan2, AdaBelief, Yogi --------------------------------------------------------------------


def test_adam_atan2_of_small_angles_is_adam(x64: None) -> None:
    """With a = b and both large it is mu^ / sqrt(nu^); its size is at most a pi / 2."""
    gs = normal(4, 100, 4)
    tx = gradtx.adam_atan2(0.1, a=1e6, b=1e6)
    np.testing.assert_allclose(updates(tx, gs), updates(gradtx.adam(0.1, eps=0.0), gs), rtol=1e-9)
    spike = jnp.zeros(1000).at[-1].set(1e9)
    assert updates(gradtx.scale_by_adam_atan2(a=1.0), spike)[-1] < np.pi / 2


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_adam_atan2_does_not_see_the_scale_of_gradients(scale: float) -> None:
    """There is no eps: in float32 gradients of 1e-9 move as far as those of 1."""
    gs = normal(5, 50, 4).astype(jnp.float32)
    found, plain = (updates(gradtx.adam_atan2(0.1), c * gs) for c in (scale, 1.0))
    np.testing.assert_allclose(found, plain, rtol=1e-4)
    np.testing.assert_allclose(np.abs(found[0]), 0.1, rtol=1e-5)


def test_adabelief_strides_where_gradients_do_not_vary(x64: None) -> None:
    """For constant gradients the surprise dies away with mu, and steps outgrow Adam's."""
    gs = jnp.full((100, 1), 0.3)
    found = np.abs(updates(gradtx.adabelief(0.1, b2=0.9), gs))
    assert found[-1] > 20 * np.abs(updates(gradtx.adam(0.1, b2=0.9), gs))[-1]


def test_yogi_moves_its_divisor_by_a_part_of_the_square() -> None:
    """From 1 with g = 0.1 and 1 - b2 = 0.5, nu falls by 0.005; that of Adam would be 0.505."""
    tx = gradtx.scale_by_yogi(b2=0.5, initial_accumulator_value=1.0)
    _, state = tx.update(jnp.asarray(0.1), tx.init(jnp.zeros(())))
    assert float(state.nu) == pytest.approx(0.995, rel=1e-6)


# The counter-example ----------------------------------------------------------------------------


def test_t8_who_finds_the_minimum_of_rare_large_gradients() -> None:
    """f_t = 1010 x at every 101st step and -10 x else, on [-1, 1]; the sum is least at -1.

    Reddi, Kale & Kumar 2018 (1904.09237), section 3, rate 0.5 / sqrt(t), b2 = 0.99. A divisor that
    forgets the large gradient between its visits makes it count for too little: x ends at 1.
    """

    def rate(count: Any) -> Any:
        return 0.5 / jnp.sqrt(count.astype(jnp.float32) + 1)

    txs = {
        "adam": gradtx.adam(rate, b2=0.99),
        "rmsprop": gradtx.adam(rate, b1=0.0, b2=0.99),
        "adabelief": gradtx.adabelief(rate, b2=0.99),
        "amsgrad paper": gradtx.amsgrad(rate, b2=0.99),
        "amsgrad torch": gradtx.amsgrad(rate, b2=0.99, form="torch"),
        "amsgrad corrected": gradtx.amsgrad(rate, b2=0.99, form="max_of_corrected"),
        "adopt": gradtx.adopt(rate, b2=0.99),
        "yogi": gradtx.yogi(rate, b2=0.99, bias_correction=True),
        "adagrad": gradtx.adagrad(0.5),  # has a falling rate of its own
    }

    def step(carry: Any, t: Any) -> Any:
        g, new = jnp.where(t % 101 == 1, 1010.0, -10.0), {}
        for name, (x, state) in carry.items():
            u, state = txs[name].update(g, state, x)
            new[name] = jnp.clip(x + u, -1, 1), state
        return new, None

    @jax.jit
    def run_all(x: Any) -> Any:
        start = {name: (x, tx.init(x)) for name, tx in txs.items()}
        return jax.lax.scan(step, start, jnp.arange(1, 1_000_001))[0]

    end = {name: float(x) for name, (x, _) in run_all(jnp.zeros(())).items()}
    for name in ("adam", "rmsprop", "adabelief"):
        assert end.pop(name) == 1.0
    expected = {
        "amsgrad paper": -0.997,
        "amsgrad torch": -0.997,
        "amsgrad corrected": -1.0,
        "adopt": -0.997,
        "yogi": -0.88,
        "adagrad": -0.976,
    }
    assert end == pytest.approx(expected, abs=5e-3)
