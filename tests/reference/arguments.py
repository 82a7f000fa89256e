"""Optimizers with arguments that their rows leave at their defaults, beside their formulas."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp

import gradtx
from gradtx import catalogue

from . import REFERENCES, STEPS, descend, error, run, trajectory

EXACT = 1e-12
MASK = {"bias": False, "weight": True}
SPARED = {"bias": 0.0, "weight": 0.3}

Case = tuple[Callable[[], Any], Any, dict[str, Any]]
"""Ours, the formula, and what the formula takes."""


def same(build: Any, formula: Any, **hyper: Any) -> Case:
    return partial(build, **hyper), descend(formula), hyper


def named(made: str, **arguments: Any) -> Case:
    """An optimizer of the catalogue; a pair in place of an argument is ours and the formula's."""
    ours, theirs = (
        {k: v[side] if isinstance(v, tuple) else v for k, v in arguments.items()} for side in (0, 1)
    )
    rate = {"learning_rate": catalogue.optimizers[made].learning_rate}
    return partial(getattr(gradtx, made), **ours), REFERENCES[made], {**rate, **theirs}


def falling(start: float, end: float) -> tuple[Any, Any]:
    """A line from `start` to `end` in 60 updates: ours and plainly."""
    return gradtx.linear_schedule(start, end, 60), lambda c: start + (end - start) * min(c / 60, 1)


def scheduled(build: Any, formula: Any, **ends: tuple[float, float]) -> Case:
    moving = {k: falling(*pair) for k, pair in ends.items()}
    ours = {k: pair[0] for k, pair in moving.items()}
    return partial(build, **ours), descend(formula), {k: pair[1] for k, pair in moving.items()}


def compared(cases: dict[str, Case]) -> Callable[..., float]:
    """A function of a name that gives the error of this case, in all steps or in the first ones.

    When the first case is asked for, all run in one compiled scan.
    """

    @functools.cache
    def runs() -> dict[str, Any]:
        return run({name: ours for name, (ours, _, _) in cases.items()}, jnp.dtype("float64"))

    def error_of(name: str, steps: int = STEPS) -> float:
        found, (_, formula, hyper) = runs()[name], cases[name]
        if isinstance(found, Exception):
            raise found
        pair = found, trajectory(formula, **hyper)
        return error(*((ps[:steps], us[:steps]) for ps, us in pair))

    return error_of
