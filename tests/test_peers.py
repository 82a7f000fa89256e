"""Agreement with PyTorch and Optax over 100 steps in float64, and where they part, by what."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from reference import (
    NOISE,
    PARAMS,
    STEPS,
    Run,
    adam as formulas,
    descend,
    error,
    gradients,
    run,
    trajectory,
)
from reference.arguments import EXACT, MASK

import gradtx

read_in_optax = pytest.mark.skipif(
    optax.__version__ != "0.2.8", reason="read in the code of Optax 0.2.8"
)

FORMS = [
    ({"centered": centered, **momentum}, " ".join(("centered" * centered, *momentum)).strip())
    for centered in (False, True)
    for momentum in ({}, {"momentum": 0.8})
]

# PyTorch ---------------------------------------------------------------------------------------

TORCH: dict[str, tuple[Any, Any]] = {
    "sgd": (lambda: gradtx.sgd(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (
        lambda: gradtx.sgd(0.03, momentum=0.9),
        lambda p: torch.optim.SGD(p, 0.03, momentum=0.9),
    ),
    "nesterov": (
        lambda: gradtx.sgd(0.03, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.03, momentum=0.9, nesterov=True),
    ),
    "momentum after l2": (
        lambda: gradtx.chain(gradtx.add_decayed_weights(0.1), gradtx.sgd(0.03, momentum=0.9)),
        lambda p: torch.optim.SGD(p, 0.03, momentum=0.9, weight_decay=0.1),
    ),
    "adagrad": (lambda: gradtx.adagrad(0.01), lambda p: torch.optim.Adagrad(p, 0.01)),
    "adagrad with decaying rate": (
        lambda: gradtx.adagrad(gradtx.inverse_time_schedule(0.1, 0.2), 0.3, eps=1e-3),
        lambda p: torch.optim.Adagrad(
            p, 0.1, lr_decay=0.2, initial_accumulator_value=0.3, eps=1e-3
        ),
    ),
    **{
        f"rmsprop {name}".strip(): (
            lambda form=form: gradtx.rmsprop(0.01, 0.99, 1e-8, eps_in_sqrt=False, **form),
            lambda p, form=form: torch.optim.RMSprop(p, 0.01, 0.99, 1e-8, **form),
        )
        for form, name in FORMS
    },
    "adadelta": (
        lambda: gradtx.adadelta(rho=0.9),
        lambda p: torch.optim.Adadelta(p, 1.0, 0.9, 1e-6),
    ),
    "adadelta with decay": (
        lambda: gradtx.chain(gradtx.add_decayed_weights(0.1), gradtx.adadelta(0.5, 0.95, 1e-4)),
        lambda p: torch.optim.Adadelta(p, 0.5, 0.95, 1e-4, weight_decay=0.1),
    ),
    "adam": (lambda: gradtx.adam(3e-3), lambda p: torch.optim.Adam(p, 3e-3)),
    "adam after l2": (
        lambda: gradtx.chain(gradtx.add_decayed_weights(0.1), gradtx.adam(3e-3, 0.8, 0.9, 1e-3)),
        lambda p: torch.optim.Adam(p, 3e-3, (0.8, 0.9), 1e-3, weight_decay=0.1),
    ),
    "adamw": (
        lambda: gradtx.adamw(3e-3, weight_decay=1e-2),  # the default there, ours is 1e-4
        lambda p: torch.optim.AdamW(p, 3e-3),
    ),
    "adamw with strong decay": (
        lambda: gradtx.adamw(0.01, 0.95, 0.99, 1e-4, weight_decay=0.5),
        lambda p: torch.optim.AdamW(p, 0.01, (0.95, 0.99), 1e-4, weight_decay=0.5),
    ),
    "nadam": (
        lambda: gradtx.nadam(2e-3, momentum_decay=4e-3),
        lambda p: torch.optim.NAdam(p, 2e-3),
    ),
    "nadamw": (
        lambda: gradtx.nadamw(2e-3, 0.8, 0.95, 1e-3, weight_decay=0.3, momentum_decay=0.1),
        lambda p: torch.optim.NAdam(
            p, 2e-3, (0.8, 0.95), 1e-3, 0.3, momentum_decay=0.1, decoupled_weight_decay=True
        ),
    ),
    "adamax": (
        lambda: gradtx.adamax(2e-3, eps=1e-3),
        lambda p: torch.optim.Adamax(p, 2e-3, eps=1e-3),
    ),
    "amsgrad": (
        lambda: gradtx.amsgrad(3e-3, eps=1e-3, form="torch"),
        lambda p: torch.optim.Adam(p, 3e-3, eps=1e-3, amsgrad=True),
    ),
    # PyTorch adds eps to the uncorrected root.
    "radam": (
        lambda: gradtx.radam(3e-3, eps=0.0, threshold=5.0),
        lambda p: torch.optim.RAdam(p, 3e-3, eps=0.0),
    ),
}


@pytest.fixture
def float64_of_torch() -> Iterator[None]:
    """The dtype in which NAdam multiplies its momenta."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def torch_run(make: Any) -> Run:
    tensors = {k: torch.tensor(p, requires_grad=True) for k, p in PARAMS[False].items()}
    optimizer = make(list(tensors.values()))
    parameters, updates = [], []
    before = PARAMS[False]
    for t in range(STEPS):
        gs = gradients(before, {k: x[t] for k, x in NOISE[False].items()})
        for k, p in tensors.items():
            p.grad = torch.from_numpy(np.asarray(gs[k]))
        optimizer.step()
        after = {k: p.detach().numpy().copy() for k, p in tensors.items()}
        updates.append({k: p - before[k] for k, p in after.items()})
        parameters.append(after)
        before = after
    return parameters, updates


@functools.cache
def beside_torch() -> dict[str, Run]:
    return run({name: ours for name, (ours, _) in TORCH.items()}, jnp.dtype("float64"))


@pytest.mark.parametrize("name", TORCH)
def test_pytorch(name: str, x64: None, float64_of_torch: None) -> None:
    """The parameters are those of PyTorch at every step (its updates are their differences)."""
    theirs, _ = torch_run(TORCH[name][1])
    ours = beside_torch()[name]
    found = error(ours if isinstance(ours, Exception) else (ours[0], []), (theirs, []))
    # PyTorch takes 1 - b2^t as a difference, which makes rho of RAdam uncertain by 1e-11.
    assert found < (1e-10 if name == "radam" else EXACT)


# Optax -----------------------------------------------------------------------------------------

FLAGS = [
    {"centered": c, "eps_in_sqrt": e, "bias_correction": b, "momentum": 0.8, "nesterov": n}
    for c, e, b, n in itertools.product((False, True), repeat=4)
    if n != b
]

FALLING = gradtx.linear_schedule(0.01, 1e-3, 60)  # a function for Optax too; its own are float32


def from_zero(tx: Any) -> Any:
    """Optax's Yogi with a momentum that starts from zero."""

    def init(params: Any) -> Any:
        first, *rest = tx.init(params)
        return (first._replace(mu=jax.tree.map(jnp.zeros_like, params)), *rest)

    return optax.GradientTransformation(init, tx.update)


OPTAX: dict[str, tuple[Any, Any]] = {
    "sgd": (lambda: gradtx.sgd(0.1), lambda: optax.sgd(0.1)),
    "momentum": (lambda: gradtx.sgd(0.03, 0.9), lambda: optax.sgd(0.03, 0.9)),
    "nesterov": (lambda: gradtx.sgd(0.03, 0.9, True), lambda: optax.sgd(0.03, 0.9, True)),
    # They part in the place of eps only, which is gone where eps is nothing beside the root.
    "adagrad": (
        lambda: gradtx.adagrad(0.03, 0.1, 1e-30),
        lambda: optax.adagrad(0.03, 0.1, 1e-30),
    ),
    **{
        " ".join(["rmsprop", *(k for k, v in flags.items() if v)]): (
            lambda flags=flags: gradtx.rmsprop(3e-3, 0.95, 1e-4, 0.5, **flags),
            lambda flags=flags: optax.rmsprop(3e-3, 0.95, 1e-4, 0.5, **flags),
        )
        for flags in FLAGS
    },
    "adadelta": (
        lambda: gradtx.chain(gradtx.add_decayed_weights(0.1), gradtx.adadelta(0.7, rho=0.9)),
        lambda: optax.adadelta(0.7, weight_decay=0.1),
    ),
    "adam": (lambda: gradtx.adam(3e-3), lambda: optax.adam(3e-3)),
    "adam with eps_root": (
        lambda: gradtx.adam(3e-3, 0.8, 0.95, 1e-3, 1e-2),
        lambda: optax.adam(3e-3, 0.8, 0.95, 1e-3, 1e-2),
    ),
    "adamw": (lambda: gradtx.adamw(3e-3), lambda: optax.adamw(3e-3)),
    "adamw scheduled and masked": (
        lambda: gradtx.adamw(
            FALLING,
            weight_decay=0.3,
            mask=MASK,
        ),
        lambda: optax.adamw(
            FALLING,
            weight_decay=0.3,
            mask=MASK,
        ),
    ),
    "links": (
        lambda: gradtx.chain(
            gradtx.clip(0.9),
            gradtx.clip_by_global_norm(0.9),
            gradtx.add_decayed_weights(0.1),
            gradtx.scale_by_momentum(0.5),
            gradtx.scale(-0.1),
        ),
        lambda: optax.chain(
            optax.clip(0.9),
            optax.clip_by_global_norm(0.9),
            optax.add_decayed_weights(0.1),
            optax.trace(0.5),
            optax.scale(-0.1),
        ),
    ),
    "nadam": (lambda: gradtx.nadam(3e-3), lambda: optax.nadam(3e-3)),
    "nadamw": (
        lambda: gradtx.nadamw(3e-3, weight_decay=0.3, mask=MASK),
        lambda: optax.nadamw(3e-3, weight_decay=0.3, mask=MASK),
    ),
    "adamax": (lambda: gradtx.adamax(3e-3), lambda: optax.adamax(3e-3)),
    "adamaxw": (
        lambda: gradtx.adamaxw(3e-3, weight_decay=0.3),
        lambda: optax.adamaxw(3e-3, weight_decay=0.3),
    ),
    "amsgrad": (
        lambda: gradtx.amsgrad(3e-3, eps_root=1e-2, form="max_of_corrected"),
        lambda: optax.amsgrad(3e-3, eps_root=1e-2),
    ),
    "adabelief": (lambda: gradtx.adabelief(3e-3), lambda: optax.adabelief(3e-3)),
    "yogi": (
        lambda: gradtx.yogi(1e-2, bias_correction=True),
        lambda: from_zero(optax.yogi(1e-2)),
    ),
    "ademamix": (
        lambda: gradtx.ademamix(3e-3, weight_decay=0.3),
        lambda: optax.contrib.ademamix(3e-3, weight_decay=0.3),
    ),
    "simplified_ademamix": (
        lambda: gradtx.simplified_ademamix(1e-4, alpha=10.0),
        lambda: optax.contrib.simplified_ademamix(1e-4, alpha=10.0),
    ),
    "adopt": (lambda: gradtx.adopt(3e-3), lambda: optax.contrib.adopt(3e-3)),
}

PARTING: dict[str, Any] = {
    "adagrad": lambda: optax.adagrad(0.03),
    "rmsprop": lambda: optax.rmsprop(FALLING, momentum=0.9),
    "adadelta": lambda: optax.adadelta(),
    "our rmsprop": lambda: gradtx.rmsprop(FALLING, momentum=0.9),
    "adan": lambda: optax.adan(3e-3, eps_root=0.0),
    "our adan": lambda: gradtx.adan(3e-3, weight_decay=0.0),
}


@functools.cache
def beside_optax() -> dict[str, Run]:
    pairs = {name: ours for name, (ours, _) in OPTAX.items()}
    pairs |= {f"optax {name}": theirs for name, (_, theirs) in OPTAX.items()}
    pairs |= {f"parting {name}": make for name, make in PARTING.items()}
    with jax.numpy_dtype_promotion("standard"):  # Optax does not run under the strict one
        return run(pairs, jnp.dtype("float64"))


@pytest.mark.parametrize("name", OPTAX)
def test_optax(name: str, x64: None) -> None:
    """Parameters and updates are those of Optax at every step."""
    assert error(beside_optax()[name], beside_optax()[f"optax {name}"]) < EXACT


def test_adagrad_of_optax_has_eps_inside(x64: None) -> None:
    """Optax: G from 0.1 and g / sqrt(G + 1e-7); the paper and we: G from 0 and g / (sqrt(G) + eps).

    Apart by sqrt(1 + 0.1 / g^2) at the first step.
    """

    def inside(g: Any, p: Any, t: int, s: Any) -> Any:
        total = s.get("G", 0.1) + g**2
        return g / np.sqrt(total + 1e-7), {"G": total}

    theirs = beside_optax()["parting adagrad"]
    assert error(theirs, trajectory(descend(inside), learning_rate=0.03)) < EXACT


def test_rmsprop_of_optax_has_the_rate_inside(x64: None) -> None:
    """Optax multiplies by the learning rate before the momentum: the buffer keeps old rates.

    PyTorch and we multiply after it. The same while the rate is constant, not under a schedule.
    """

    def rule(g: Any, p: Any, t: int, s: Any, rate: float, inside: bool) -> Any:
        v = 0.9 * s.get("v", 0.0) + 0.1 * g**2
        u = -g / np.sqrt(v + 1e-8)
        b = 0.9 * s.get("b", 0.0) + (rate * u if inside else u)
        return (b if inside else rate * b), {"v": v, "b": b}

    def on_all(gs: Any, ps: Any, t: int, s: Any, **hyper: Any) -> Any:
        new = {k: rule(g, ps[k], t, s.get(k, {}), **hyper) for k, g in gs.items()}
        return {k: u for k, (u, _) in new.items()}, {k: state for k, (_, state) in new.items()}

    def rate(count: int) -> float:
        return 0.01 + (1e-3 - 0.01) * min(count / 60, 1.0)

    theirs, ours = (beside_optax()[f"parting {k}"] for k in ("rmsprop", "our rmsprop"))
    assert error(theirs, trajectory(on_all, rate=rate, inside=True)) < EXACT
    assert error(ours, trajectory(on_all, rate=rate, inside=False)) < EXACT
    assert error(ours, theirs) > 0.01


@read_in_optax
def test_adadelta_of_optax_ascends_by_default(x64: None) -> None:
    """Optax without a learning rate neither scales nor flips: minus our update, step by step."""

    def ascending(g: Any, p: Any, t: int, s: Any) -> Any:
        e_g = 0.9 * s.get("e_g", 0.0) + 0.1 * g**2
        u = np.sqrt((s.get("e_x", 0.0) + 1e-6) / (e_g + 1e-6)) * g
        return u, {"e_g": e_g, "e_x": 0.9 * s.get("e_x", 0.0) + 0.1 * u**2}

    theirs = beside_optax()["parting adadelta"]
    assert error(theirs, trajectory(descend(ascending), learning_rate=-1.0)) < EXACT


@read_in_optax
def test_e1_adan_weighs_changes_by_b2(x64: None) -> None:
    """Optax's Adan weighs them by 1 - b2: the same as ours only where b2 is a half."""

    def faulty(g: Any, p: Any, t: int, s: Any) -> Any:
        d = g - s.get("g", g)
        m = 0.98 * s.get("m", 0.0) + 0.02 * g
        v = 0.92 * s.get("v", 0.0) + 0.08 * d
        n = 0.99 * s.get("n", 0.0) + 0.01 * (g + 0.08 * d) ** 2
        u = m / (1 - 0.98**t) + 0.08 * v / (1 - 0.92**t)
        return u / (np.sqrt(n / (1 - 0.99**t)) + 1e-8), {"m": m, "v": v, "n": n, "g": g}

    theirs, ours = (beside_optax()[f"parting {k}"] for k in ("adan", "our adan"))
    assert error(theirs, trajectory(descend(faulty), learning_rate=3e-3)) < EXACT
    right = trajectory(descend(formulas.adan), learning_rate=3e-3)
    assert error(ours, right) < EXACT
    assert error(theirs, right) > 0.3
