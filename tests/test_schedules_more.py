"""Schedules of a whole run, in cycles, tied to b2 or to a spectrum, beside PyTorch and Optax.

Their values and derivatives are tested with the others, in `test_schedules.py`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from reference.schedules import MORE

import gradtx

STEPS = 60


def values(schedule: Any, n: int = STEPS) -> np.ndarray:
    """What one would plot."""
    return np.asarray(jax.vmap(schedule)(jnp.arange(n)))


def of_torch(make: Any, n: int = STEPS, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """The learning rates and momenta of a scheduler of PyTorch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    scheduler = make(optimizer, **settings)
    rates, momenta = [], []
    for _ in range(n):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    return np.array(rates), np.array(momenta)


# Peers -------------------------------------------------------------------------------------------

torch_schedulers = torch.optim.lr_scheduler


@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_one_cycle_of_torch(strategy: str, x64: None) -> None:
    """The learning rate, and the momentum the other way as a second schedule.

    PyTorch's cycle ends at the last step, one less than its length, and its linear form has two
    phases; its peak is at `pct_start` of all steps, less one.
    """
    n = 51
    rates, momenta = of_torch(
        torch_schedulers.OneCycleLR,
        n,
        max_lr=0.9,
        total_steps=n + 1,
        pct_start=20 / (n + 1),
        anneal_strategy="cos",
        div_factor=12.0,
        final_div_factor=50.0,
    )
    middle = 19 / n
    if strategy == "cos":
        rate = gradtx.cosine_onecycle_schedule(n, 0.9, middle, 12.0, 50.0)
        momentum = gradtx.cosine_onecycle_schedule(n, 0.85, middle, 0.85 / 0.95, 1.0)
        np.testing.assert_allclose(values(rate, n), rates, rtol=1e-12)
        np.testing.assert_allclose(values(momentum, n), momenta, rtol=1e-12)
        return
    rates, momenta = of_torch(
        torch_schedulers.OneCycleLR,
        n,
        max_lr=0.9,
        total_steps=n + 1,
        pct_start=20 / (n + 1),
        anneal_strategy="linear",
        div_factor=12.0,
        final_div_factor=50.0,
        three_phase=True,
    )
    back = (2 * 20 - 2) / n
    rate = gradtx.linear_onecycle_schedule(n, 0.9, middle, back, 12.0, 50.0)
    momentum = gradtx.linear_onecycle_schedule(n, 0.85, middle, back, 0.85 / 0.95, 1.0)
    np.testing.assert_allclose(values(rate, n), rates, rtol=1e-12)
    np.testing.assert_allclose(values(momentum, n), momenta, rtol=1e-12)


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_cyclic_of_torch(mode: str, x64: None) -> None:
    """The three modes, with legs of different lengths."""
    settings = {"step_size_up": 7, "step_size_down": 4, "gamma": 0.97, "mode": mode}
    rates, _ = of_torch(
        torch_schedulers.CyclicLR, base_lr=0.1, max_lr=0.9, cycle_momentum=False, **settings
    )
    np.testing.assert_allclose(
        values(gradtx.cyclic_schedule(0.1, 0.9, **settings)), rates, rtol=1e-11
    )


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_warm_restarts_of_torch(factor: int) -> None:
    """Every count is in the cycle in which PyTorch has it, in float32 too."""
    rates, _ = of_torch(
        torch_schedulers.CosineAnnealingWarmRestarts, 300, T_0=7, T_mult=factor, eta_min=0.05
    )
    ours = values(gradtx.warm_restarts_schedule(1.0, 7, factor, end_value=0.05), 300)
    np.testing.assert_allclose(ours, rates, rtol=1e-5)


def test_restarts_are_exact_far_out() -> None:
    """The first count of a cycle has the peak, for growth factors that no float holds."""
    for factor in (1.0, 1.1, 2.0):
        schedule = jax.jit(gradtx.warm_restarts_schedule(1.0, 10, factor))
        begins = np.cumsum([0, *(10 * factor**k for k in range(30))])
        for begin in begins[begins == np.round(begins)]:
            if begin < 2**20:
                assert float(schedule(int(begin))) == 1.0


CYCLES = [
    {"init_value": 0.1, "peak_value": 0.9, "warmup_steps": 3, "decay_steps": 11, "end_value": 0.05},
    {"init_value": 0.05, "peak_value": 0.5, "warmup_steps": 5, "decay_steps": 21},
    {"init_value": 0.0, "peak_value": 0.3, "warmup_steps": 2, "decay_steps": 9, "exponent": 1.5},
]

OPTAX = {
    "sgdr": (gradtx.sgdr_schedule, optax.sgdr_schedule, ([CYCLES][0],)),
    "cosine one-cycle": (
        gradtx.cosine_onecycle_schedule,
        optax.cosine_onecycle_schedule,
        (40, 0.9, 0.25, 12.0, 50.0),
    ),
    "linear one-cycle": (
        gradtx.linear_onecycle_schedule,
        optax.linear_onecycle_schedule,
        (40, 0.9, 0.25, 0.75, 12.0, 50.0),
    ),
}


@pytest.mark.parametrize("name", OPTAX)
def test_optax(name: str, x64: None) -> None:
    """The same arguments give the same values where boundaries are whole."""
    ours, theirs, arguments = OPTAX[name]
    with jax.numpy_dtype_promotion("standard"):
        expected = [float(theirs(*arguments)(jnp.asarray(c, float))) for c in range(STEPS)]
    np.testing.assert_allclose(values(ours(*arguments)), expected, rtol=1e-6)


# Properties --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MORE)
def test_all_can_be_plotted(name: str) -> None:
    """`jax.vmap` over the counts gives a curve of finite numbers."""
    curve = values(MORE[name][0], 200)
    assert curve.shape == (200,)
    assert np.isfinite(curve).all()


def test_power_of_a_half_is_the_inverse_root() -> None:
    """`inverse_sqrt_schedule` is the power schedule with one half."""
    np.testing.assert_allclose(
        values(gradtx.power_schedule(0.7, 9, 0.5)),
        values(gradtx.inverse_sqrt_schedule(0.7, 9)),
        rtol=1e-6,
    )


def test_warm_up_of_a_number_is_a_line() -> None:
    """Before a constant it is `linear_schedule`; its end is the schedule's first value."""
    ours, line = gradtx.warmup_schedule(0.5, 10, 0.1), gradtx.linear_schedule(0.1, 0.5, 10)
    np.testing.assert_allclose(values(ours), values(line), rtol=1e-6)
    falling = gradtx.linear_schedule(0.5, 0.0, 20)
    assert float(gradtx.warmup_schedule(falling, 10)(10)) == 0.5
    assert float(gradtx.warmup_schedule(falling, 10)(15)) == float(falling(5))


def test_untuned_warm_up_holds_the_step_of_radam() -> None:
    """Its length is 2 / (1 - b2); both forms are below one and rise."""
    linear, exponential = (
        gradtx.untuned_warmup(1.0),
        gradtx.untuned_warmup(1.0, shape="exponential"),
    )
    assert float(linear(1998)) < 1
    assert float(linear(1999)) == pytest.approx(1, rel=1e-5)
    curve = values(exponential, 3000)
    assert (np.diff(curve) > 0).all()
    assert curve[-1] == pytest.approx(1 - np.exp(-3), rel=1e-4)


@pytest.mark.parametrize("fractal", [False, True])
def test_chebyshev_is_the_best_polynomial(fractal: bool, x64: None) -> None:
    """After a period the error of every eigenvalue is at most 1 / T_n, at the bounds exactly."""
    smallest, largest, n = 0.1, 3.0, 16
    schedule = gradtx.chebyshev_schedule(smallest, largest, n, fractal=fractal)
    steps = values(schedule, n)
    eigenvalues = np.linspace(smallest, largest, 301)
    left = np.abs(np.prod(1 - steps[:, None] * eigenvalues, axis=0))
    best = 1 / np.cosh(n * np.arccosh((largest + smallest) / (largest - smallest)))
    assert left.max() == pytest.approx(best, rel=1e-9)
    np.testing.assert_allclose(values(schedule, 2 * n)[n:], steps, rtol=1e-14)


def test_the_fractal_order() -> None:
    """It is a permutation, the one of Lebedev and Finogenov, and keeps partial products small."""
    order = [0]
    while len(order) < 16:
        order = [x for k in order for x in (k, 2 * len(order) - 1 - k)]
    plain = values(gradtx.chebyshev_schedule(0.01, 1.0, 16), 16)
    fractal = values(gradtx.chebyshev_schedule(0.01, 1.0, 16, fractal=True), 16)
    np.testing.assert_allclose(fractal, plain[order], rtol=1e-6)

    def worst(steps: np.ndarray) -> float:
        factors = np.abs(1 - steps[:, None] * np.linspace(0.01, 1, 200))
        return np.cumprod(factors, axis=0).max()

    assert worst(fractal) < 0.01 * worst(plain[::-1])


def test_silver_steps() -> None:
    """The first ones of the pattern, a new largest one at every power of two."""
    r = 1 + np.sqrt(2)
    expected = [np.sqrt(2), 2, np.sqrt(2), 1 + r, np.sqrt(2), 2, np.sqrt(2), 1 + r**2]
    np.testing.assert_allclose(values(gradtx.silver_schedule(), 8), expected, rtol=1e-6)
    assert float(gradtx.silver_schedule()(2**20 - 1)) == pytest.approx(1 + r**19, rel=1e-5)


def test_lengths_and_peaks_may_be_traced() -> None:
    """A sweep over lengths and peaks is one compiled function."""

    @jax.jit
    def total(length: Any, peak: Any) -> Any:
        schedules = (
            gradtx.cosine_onecycle_schedule(length, peak),
            gradtx.linear_onecycle_schedule(length, peak),
            gradtx.cyclic_schedule(0.0, peak, length),
            gradtx.warm_restarts_schedule(peak, length, 2.0),
            gradtx.warmup_schedule(peak, length),
            gradtx.power_schedule(peak, length),
            gradtx.chebyshev_schedule(0.1, peak, length, fractal=True),
            gradtx.silver_schedule(peak),
            gradtx.untuned_warmup(peak, 0.9),
        )
        return jnp.stack([jax.vmap(s)(jnp.arange(20)).sum() for s in schedules])

    swept = jax.vmap(total)(jnp.asarray([8.0, 16.0]), jnp.asarray([0.5, 1.0]))
    for row, length, peak in zip(swept, (8, 16), (0.5, 1.0), strict=True):
        np.testing.assert_allclose(row, total(length, peak), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gradtx.cosine_onecycle_schedule(-1, 1.0), "transition_steps is -1"),
        (lambda: gradtx.linear_onecycle_schedule(9, 1.0, pct_final=1.5), "pct_final is 1.5"),
        (lambda: gradtx.cyclic_schedule(0.0, 1.0, mode="sine"), "mode is 'sine'"),
        (lambda: gradtx.warm_restarts_schedule(1.0, 5, 0.5), "period_factor is 0.5"),
        (lambda: gradtx.warmup_schedule(1.0, 5, shape="step"), "shape is 'step'"),
        (lambda: gradtx.untuned_warmup(1.0, 1.0), "b2 is 1.0"),
        (lambda: gradtx.chebyshev_schedule(0.0, 1.0, 4), r"smallest is 0\.0"),
    ],
)
def test_impossible_numbers_are_refused(make: Any, message: str) -> None:
    """Numbers that no run can have are refused by name at construction."""
    with pytest.raises(ValueError, match=message):
        make()
