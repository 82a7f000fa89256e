"""Averages of the parameters, lookahead and outer optimizers: definitions, identities, nesting."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import PARAMS, STEPS, error
from reference.average import diloco, ema_nesterov, followed, lookahead, trained
from reference.formula import each

import gradtx
from gradtx import by_path

EXACT = 1e-12
RATE = 0.1


def base() -> Any:
    return gradtx.sgd(RATE)


def falling(count: int) -> float:
    """From 0.99 to 0.49 in the 100 steps."""
    return 0.99 - 0.5 * count / STEPS


# Averages --------------------------------------------------------------------------------------


def weighted(points: list[Any], weights: list[float]) -> Any:
    total = sum(weights)
    return {
        k: sum(w / total * p[k] for w, p in zip(weights, points, strict=True)) for k in points[0]
    }


def exponential(decays: Callable[[int], float], points: list[Any]) -> Any:
    """Weights of p_1 ... p_t: that of p_i decays with every one after it."""
    t = len(points) - 1
    if t == 0:
        return points[0]
    weights = [
        (1 - decays(i)) * float(np.prod([decays(j) for j in range(i + 1, t + 1)]))
        for i in range(1, t + 1)
    ]
    return weighted(points[1:], weights)


def uniform(start: int, every: int, points: list[Any]) -> Any:
    t = len(points) - 1
    chosen = [points[i] for i in range(start, t + 1, every)] or [points[t]]
    return weighted(chosen, [1.0] * len(chosen))


def by_array(rules: dict[str, Callable[[list[Any]], Any]], points: list[Any]) -> Any:
    return {k: rule(points)[k] for k, rule in rules.items()}


AVERAGES: dict[str, tuple[Callable[[], Any], Callable[[list[Any]], Any]]] = {
    "ema": (lambda: gradtx.ema(base(), 0.9), functools.partial(exponential, lambda _: 0.9)),
    "ema of nothing": (lambda: gradtx.ema(base(), 0.0), lambda points: points[-1]),
    "ema by half-life": (
        lambda: gradtx.ema(base(), gradtx.half_life(7)),
        functools.partial(exponential, lambda _: 0.5 ** (1 / 7)),
    ),
    "ema by a power law": (
        lambda: gradtx.ema(base(), gradtx.power_law(3.0)),
        functools.partial(exponential, lambda t: (1 - 1 / t) ** 4),
    ),
    "ema by a schedule": (
        lambda: gradtx.ema(base(), gradtx.linear_schedule(0.99, 0.49, STEPS)),
        functools.partial(exponential, falling),
    ),
    "ema by path": (
        lambda: gradtx.ema(base(), by_path({"bias": 0.5, "*": 0.99})),
        functools.partial(
            by_array,
            {
                "bias": functools.partial(exponential, lambda _: 0.5),
                "weight": functools.partial(exponential, lambda _: 0.99),
            },
        ),
    ),
    "polyak_average": (
        lambda: gradtx.polyak_average(base()),
        functools.partial(uniform, 1, 1),
    ),
    "polyak_average of all": (
        lambda: gradtx.polyak_average(base(), start=0),
        functools.partial(uniform, 0, 1),
    ),
    "swa": (
        lambda: gradtx.polyak_average(base(), start=20, every=7),
        functools.partial(uniform, 20, 7),
    ),
}


@functools.cache
def averaged() -> dict[str, Any]:
    return trained({"base": base, **{name: make for name, (make, _) in AVERAGES.items()}})


@pytest.mark.parametrize("name", AVERAGES)
def test_averages_are_what_they_are_said_to_be(name: str, x64: None) -> None:
    """At each of 100 steps the mean, with the weights of the definition, of all the points."""
    parameters, evaluated = averaged()[name]
    for found, expected in zip(parameters, averaged()["base"][0], strict=True):
        jax.tree.map(np.testing.assert_array_equal, found, expected)  # training is as without
    points = [PARAMS[False], *parameters]
    expected = [AVERAGES[name][1](points[: t + 1]) for t in range(1, STEPS + 1)]
    assert error((evaluated, []), (expected, [])) < EXACT


def test_before_the_first_step_there_are_the_parameters() -> None:
    """Nothing is averaged yet, and nothing is asked of a state that knows only shapes."""
    p = {"a": jnp.asarray([1.0, -2.0]), "n": None, "i": jnp.arange(2)}
    for make in (gradtx.ema, gradtx.polyak_average, gradtx.lookahead, gradtx.diloco, gradtx.gpa):
        tx = make(base())
        jax.tree.map(np.testing.assert_array_equal, tx.eval_params(tx.init(p), p), p)


def test_the_average_is_of_what_the_parameters_became() -> None:
    """Steps that bfloat16 rounds away are in no average, and neither is what a clip takes away."""
    p = jnp.ones(3, jnp.bfloat16)
    for wrapped in (gradtx.ema(base()), gradtx.polyak_average(base())):
        tx = gradtx.chain(wrapped, gradtx.keep_params_nonnegative())
        for g, expected in ((1e-2, 1.0), (40.0, 0.0)):  # steps of 0.001 and of 4
            state, ps = tx.init(p), p
            for _ in range(3):
                ps, state = tx.step(jnp.full_like(p, g), state, ps)
            shown = tx.eval_params(state, ps)
            assert shown.dtype == jnp.bfloat16
            np.testing.assert_array_equal(shown.astype(jnp.float32), expected)
            dtypes = {str(x.dtype) for x in jax.tree.leaves(state)}
            assert dtypes == {"float32", "int32"}


def test_the_average_of_narrow_parameters_has_their_lost_digits() -> None:
    """It is kept in float32: between two neighbours in bfloat16 it is where it is."""
    tx, p = gradtx.polyak_average(base()), jnp.ones((), jnp.bfloat16)
    state = tx.init(p)
    for step in range(4):  # 1, 1, 1 and one less by 2^-8
        g = jnp.asarray(2.0**-8 / RATE if step == 2 else 0.0, jnp.bfloat16)
        p, state = tx.step(g, state, p)
    assert float(state.own.average) == pytest.approx(1 - 2**-8 / 3)
    assert float(p) == 1 - 2**-8


def test_an_average_of_an_average() -> None:
    """Around what averages itself, it is that average which is averaged."""
    inner = gradtx.schedule_free_sgd(0.3)
    runs = trained({"inner": lambda: inner, "ema": lambda: gradtx.ema(inner, 0.9)})
    points = [{k: np.asarray(p, np.float32) for k, p in PARAMS[False].items()}, *runs["inner"][1]]
    expected = exponential(lambda _: 0.9, points)
    for k, found in runs["ema"][1][-1].items():
        np.testing.assert_allclose(found, expected[k], rtol=1e-5)
        assert abs(found - exponential(lambda _: 0.9, runs["inner"][0])[k]).max() > 1e-3


def test_averages_pass_chains_partitions_and_masks() -> None:
    """Every array is shown as its own part averages it; where none does it is itself."""
    averaging = gradtx.polyak_average(base(), start=0)
    tx = gradtx.chain(
        gradtx.clip(10.0),
        gradtx.partition({"a": averaging, "b": gradtx.masked(averaging, True), "c": base()}),
    )
    p = {"a": jnp.zeros(2), "b": jnp.zeros(2), "c": jnp.zeros(2)}
    state = tx.init(p)
    for _ in range(3):
        p, state = tx.step(jax.tree.map(jnp.ones_like, p), state, p)
    shown = tx.eval_params(state, p)
    for k, expected in {"a": -0.15, "b": -0.15, "c": -0.3}.items():
        np.testing.assert_allclose(shown[k], expected, rtol=1e-6)


def test_extra_arguments_reach_what_is_wrapped() -> None:
    """And what it needs is asked for by name."""
    makers = (gradtx.ema, gradtx.lookahead, gradtx.diloco, gradtx.gpa, gradtx.sam)
    p = jnp.ones(3)
    for make in makers:
        tx = make(gradtx.polyak_sgd())
        tx.update(p, tx.init(p), p, value=1.0)
        with pytest.raises(ValueError, match="'value' is missing"):
            tx.update(p, tx.init(p), p)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gradtx.ema(base()),
        lambda: gradtx.polyak_average(base()),
        lambda: gradtx.lookahead(base(), 2),
        lambda: gradtx.diloco(base(), 2),
        lambda: gradtx.ema_nesterov(base()),
        lambda: gradtx.gpa(base()),
        lambda: gradtx.schedule_free_sgd(),
        lambda: gradtx.sam(base()),
    ],
    ids=["ema", "polyak", "lookahead", "diloco", "nesterov", "gpa", "schedule_free", "sam"],
)
def test_parameters_without_gradients_are_shown_as_they_are(make: Callable[[], Any]) -> None:
    """`None` for a gradient leaves a parameter where it is, in evaluation too."""
    tx, p = make(), {"still": jnp.asarray([1.0, -2.0]), "moving": jnp.ones(2)}
    state, g = tx.init(p), {"still": None, "moving": jnp.ones(2)}
    for _ in range(3):
        updates, state = tx.update(g, state, p)
        assert updates["still"] is None
        p = gradtx.apply_updates(p, updates)
        np.testing.assert_array_equal(tx.eval_params(state, p)["still"], [1.0, -2.0])
    assert (p["moving"] != 1).all()


# Decays ----------------------------------------------------------------------------------------


def test_a_half_life_halves() -> None:
    assert float(gradtx.half_life(10)(3)) ** 10 == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize(("gamma", "width"), [(6.94, 0.1), (16.97, 0.05)])
def test_widths_of_the_power_law(gamma: float, width: float, x64: None) -> None:
    """The standard deviation of the weights over the run is the one that the paper names."""
    t = np.arange(1, 20_001)
    decays = np.asarray(jax.vmap(gradtx.power_law(gamma))(jnp.arange(1, t.size + 1)))
    weights = (1 - decays) * np.append(np.cumprod(decays[:0:-1])[::-1], 1.0)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    mean = np.sum(weights * t)
    assert np.sqrt(np.sum(weights * (t - mean) ** 2)) / t.size == pytest.approx(width, rel=2e-3)


# Lookahead and outer optimizers ------------------------------------------------------------------


def rising(count: int) -> float:
    return 0.6 * min(count / STEPS, 1)


RUNS: dict[str, tuple[Callable[[], Any], Any, dict[str, Any]]] = {
    "lookahead": (lambda: gradtx.lookahead(base()), lookahead, {}),
    "lookahead 3": (
        lambda: gradtx.lookahead(base(), 3, 0.8),
        lookahead,
        {"sync_period": 3, "slow_step_size": 0.8},
    ),
    "diloco": (lambda: gradtx.diloco(base(), 8), diloco, {"every": 8}),
    "snoo": (
        lambda: gradtx.diloco(base(), 5, learning_rate=0.8, momentum=0.5),
        diloco,
        {"every": 5, "outer_rate": 0.8, "momentum": 0.5},
    ),
    "ema_nesterov": (lambda: gradtx.ema_nesterov(base()), ema_nesterov, {}),
    "ema_nesterov rising": (
        lambda: gradtx.ema_nesterov(base(), gradtx.linear_schedule(0.0, 0.6, STEPS), decay=0.9),
        ema_nesterov,
        {"beta": rising, "beta_next": lambda count: rising(count + 1), "decay": 0.9},
    ),
}
SAME: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "lookahead all the way": (lambda: gradtx.lookahead(gradtx.adam(0.1), 3, 1.0), lambda: ADAM),
    "outer all the way": (
        lambda: gradtx.outer(gradtx.adam(0.1), gradtx.sgd(1.0), every=3),
        lambda: ADAM,
    ),
    "outer of part of the way": (
        lambda: gradtx.outer(gradtx.adam(0.1), gradtx.sgd(0.4), every=4),
        lambda: gradtx.lookahead(gradtx.adam(0.1), 4, 0.4),
    ),
    "nesterov that looks nowhere": (
        lambda: gradtx.ema_nesterov(gradtx.adam(0.1), 0.0),
        lambda: ADAM,
    ),
}
ADAM = gradtx.adam(0.1)


@functools.cache
def looked_ahead() -> dict[str, Any]:
    pairs = {f"{n} {i}": m for n, makes in SAME.items() for i, m in enumerate(makes)}
    return trained({**{name: make for name, (make, _, _) in RUNS.items()}, **pairs})


@pytest.mark.parametrize("name", RUNS)
def test_outer_optimizers_agree_with_their_papers(name: str, x64: None) -> None:
    """Parameters and what is evaluated, for 100 steps around gradient descent."""
    _, reference, hyper = RUNS[name]
    expected = followed(each(reference), learning_rate=RATE, **hyper)
    assert error(looked_ahead()[name], expected) < EXACT


@pytest.mark.parametrize("name", SAME)
def test_identities_of_outer_optimizers(name: str, x64: None) -> None:
    """The same parameters, around Adam, which keeps its state through it all."""
    one, other = (looked_ahead()[f"{name} {i}"][0] for i in range(2))
    assert error((one, []), (other, [])) < EXACT


def test_the_outer_optimizer_runs_when_it_is_due() -> None:
    """Its own steps are counted, so a schedule of its rate falls from return to return."""
    rate = gradtx.linear_schedule(1.0, 0.0, 2)
    tx, p = gradtx.outer(base(), gradtx.sgd(rate), every=3), jnp.zeros(())
    state = tx.init(p)
    seen = []
    for t in range(1, 10):
        p, state = tx.step(jnp.ones(()), state, p)
        assert int(state.steps) == t // 3
        seen.append(round(float(p), 6))
    # All of the first way, half of the second, nothing of the third.
    assert seen == [-0.1, -0.2, -0.3, -0.4, -0.5, -0.45, -0.55, -0.65, -0.45]


def test_optax_agrees_on_lookahead(x64: None) -> None:
    """Its pair of parameters is our parameters and what we evaluate."""
    ours, theirs = gradtx.lookahead(base(), 3, 0.8), optax.lookahead(optax.sgd(RATE), 3, 0.8)
    p = jnp.asarray([0.5, -1.0])
    pair = optax.LookaheadParams.init_synced(p)
    state, their_state = ours.init(p), theirs.init(pair)
    for t in range(10):
        p, state = ours.step(jnp.sin(3 * p + t), state, p)
        with jax.numpy_dtype_promotion("standard"):
            updates, their_state = theirs.update(jnp.sin(3 * pair.fast + t), their_state, pair)
            pair = optax.apply_updates(pair, updates)
        np.testing.assert_allclose(p, pair.fast, rtol=EXACT)
        np.testing.assert_allclose(ours.eval_params(state, p), pair.slow, rtol=EXACT)


@pytest.mark.parametrize(
    "call",
    [
        "ema(sgd(0.1), 1.0)",
        "ema(sgd(0.1), half_life(0))",
        "ema(sgd(0.1), power_law(-1.0))",
        "polyak_average(sgd(0.1), start=-1)",
        "polyak_average(sgd(0.1), every=0)",
        "lookahead(sgd(0.1), 0)",
        "lookahead(sgd(0.1), 5, 1.5)",
        "diloco(sgd(0.1), 0)",
        "ema_nesterov(sgd(0.1), -0.1)",
        "gpa(sgd(0.1), 1.1)",
        "schedule_free_sgd(b1=1.1)",
        "sam(sgd(0.1), rho=-0.1)",
        "sam(sgd(0.1), sync_period=0)",
    ],
)
def test_impossible_numbers_are_refused(call: str) -> None:
    with pytest.raises(ValueError, match="Pass a number in"):
        eval(call, vars(gradtx).copy())
