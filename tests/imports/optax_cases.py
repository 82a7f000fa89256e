"""Optimizers of Optax and ours that are the same, with the error at which a state comes over."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

import gradtx as gx

SHAPES = {"kernel": (130, 140), "bias": (140,)}


class Case(NamedTuple):
    theirs: Any
    ours: Any
    error: float  # as a share of what moved
    steps: int = 5
    tells: tuple[str, ...] = ()  # what the notes of the report begin with, in order


def arrays(seed: int, shapes: Any = None) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {k: jnp.asarray(random.normal(size=s)) for k, s in sorted((shapes or SHAPES).items())}


def shapes_of(params: Any) -> dict[str, Any]:
    return {name: x.shape for name, x in params.items()}


def theirs_after(tx: Any, params: Any, steps: range, state: Any = None) -> tuple[Any, Any]:
    state, update = (tx.init(params) if state is None else state), jax.jit(tx.update)
    for k in steps:
        updates, state = update(arrays(k + 1, shapes_of(params)), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def ours_after(tx: Any, params: Any, steps: range, state: Any) -> Any:
    for k in steps:
        params, state = tx.step(arrays(k + 1, shapes_of(params)), state, params)
    return params


def error(one: Any, other: Any, before: Any) -> float:
    """The largest difference as a share of the largest move, over arrays."""

    def share(x: Any, y: Any, z: Any) -> float:
        return float(np.max(np.abs(x - y)) / np.max(np.abs(np.asarray(x) - z)))

    return max(jax.tree.leaves(jax.tree.map(share, one, other, before)))


COUNTLESS = ("there is no count",)


def assert_told(report: Any, tells: tuple[str, ...]) -> None:
    """All is loaded, nothing left, no hyperparameter differs, and the notes begin with these."""
    assert all(note.startswith(text) for note, text in zip(report.notes, tells, strict=True))
    left = {n: found for n, found in vars(report).items() if found and n not in EXPECTED}
    assert not left


EXPECTED = {"loaded", "renamed", "converted", "notes"}

MUON = {"beta": 0.95, "momentum": "corrected", "scale": "original", "weight_decay": 0.0}

CASES = {
    "sgd": Case(optax.sgd(0.1, 0.9), gx.sgd(0.1, 0.9), 5e-15, tells=COUNTLESS),
    "nesterov": Case(optax.sgd(0.1, 0.9, True), gx.sgd(0.1, 0.9, True), 5e-15, tells=COUNTLESS),
    "adam": Case(optax.adam(0.1), gx.adam(0.1), 2e-14),
    "adamw": Case(optax.adamw(0.1), gx.adamw(0.1), 2e-14),
    "nadamw": Case(optax.adamw(0.1, nesterov=True), gx.nadamw(0.1), 2e-14),
    "lion": Case(optax.lion(0.1), gx.lion(0.1), 2e-14),
    "adamax": Case(optax.adamax(0.1), gx.adamax(0.1), 2e-14),
    "adabelief": Case(optax.adabelief(0.1), gx.adabelief(0.1), 2e-14),
    "yogi": Case(optax.yogi(0.1), gx.yogi(0.1, bias_correction=True), 2e-14),
    "radam": Case(optax.radam(0.1), gx.radam(0.1, threshold=5.0), 5e-12),
    "rmsprop": Case(optax.rmsprop(0.1), gx.rmsprop(0.1), 6e-15, tells=COUNTLESS),
    "centered": Case(
        optax.rmsprop(0.1, centered=True), gx.rmsprop(0.1, centered=True), 6e-15, tells=COUNTLESS
    ),
    "rmsprop_momentum": Case(
        optax.rmsprop(0.1, momentum=0.9),
        gx.rmsprop(0.1, momentum=0.9),
        1e-15,
        tells=("momentum lies behind", *COUNTLESS),
    ),
    "rmsprop_corrected": Case(
        optax.rmsprop(0.1, bias_correction=True), gx.rmsprop(0.1, bias_correction=True), 6e-15
    ),
    "adagrad": Case(
        optax.adagrad(0.1),
        gx.adagrad(0.1, 0.1, 1e-7),
        5e-8,
        tells=("scale_by_adagrad: eps", *COUNTLESS),
    ),
    "adadelta": Case(optax.adadelta(1.0, 0.95), gx.adadelta(1.0, 0.95), 4e-13, tells=COUNTLESS),
    "lamb": Case(optax.lamb(0.1), gx.lamb(0.1, weight_decay=0.0), 4e-13),
    "novograd": Case(optax.novograd(0.1), gx.novograd(0.1, 0.9, 0.25, 1e-6), 4e-13),
    "factored": Case(
        optax.chain(optax.scale_by_factored_rms(), optax.scale(-0.1)),
        gx.chain(gx.scale_by_factored_rms(clipping_threshold=None), gx.scale(-0.1)),
        2e-8,
    ),
    "amsgrad": Case(optax.amsgrad(0.1), gx.amsgrad(0.1, form="max_of_corrected"), 2e-14),
    "multi_steps": Case(
        optax.MultiSteps(optax.adamw(0.1), 4),
        gx.accumulate(gx.adamw(0.1), every=4),
        3e-6,
        10,
        ("accumulate: the losses",),
    ),
    "muon": Case(
        contrib.muon(0.1),
        gx.muon(
            0.1,
            matrices="kernel",
            polar=gx.newton_schulz("jordan"),
            auxiliary=gx.nadamw(0.1, weight_decay=0.0),
            **MUON,
        ),
        1e-6,
    ),
    "schedule_free_sgd": Case(contrib.schedule_free_sgd(0.1), gx.schedule_free_sgd(0.1), 1e-13),
    "schedule_free_adamw": Case(
        contrib.schedule_free_adamw(0.1), gx.schedule_free_adamw(0.1), 1e-13
    ),
    "ademamix": Case(contrib.ademamix(0.1), gx.ademamix(0.1), 2e-14),
    "optimistic": Case(
        optax.optimistic_gradient_descent(0.1),
        gx.optimistic_gradient_descent(0.1),
        5e-15,
        tells=COUNTLESS,
    ),
    "ema": Case(
        optax.chain(optax.ema(0.9), optax.scale(-0.1)),
        gx.chain(gx.average_updates(0.9, debias=True), gx.scale(-0.1)),
        2e-14,
    ),
    "schedule": Case(
        optax.adam(optax.linear_schedule(0.1, 0.2, 10)),
        gx.adam(gx.linear_schedule(0.1, 0.2, 10)),
        5e-8,  # their schedules are in float32
    ),
    "guarded": Case(
        optax.apply_if_finite(optax.adam(0.1), 5),
        gx.apply_if_finite(gx.adam(0.1), 5),
        2e-14,
        tells=("apply_if_finite: that of Optax",),
    ),
    "lars": Case(
        optax.lars(0.1, weight_decay=0.0), gx.lars(0.1, weight_decay=0.0), 1e-13, tells=COUNTLESS
    ),
}
