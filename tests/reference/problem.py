"""A problem to run optimizers and references on, and the error between them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .formula import Arrays, Reference, State, at_step, sqr

STEPS = 100
SHAPES = {"bias": (), "weight": (2, 3)}
SIZES = {"bias": 0.3, "weight": 0.6}  # with which a clip at one acts at some steps only


def draw(seed: int, steps: int | None = None, is_complex: bool = False) -> Arrays:
    """Standard normal numbers for every array, and for every step if steps are given."""
    rng = np.random.default_rng(seed)
    lead = () if steps is None else (steps,)
    parts = 2 if is_complex else 1
    found = {
        k: [rng.normal(size=lead + shape) for _ in range(parts)] for k, shape in SHAPES.items()
    }
    return {k: x[0] + 1j * x[1] if is_complex else np.asarray(x[0]) for k, x in found.items()}


PARAMS = {False: draw(0), True: draw(0, is_complex=True)}  # real, complex
NOISE = {False: draw(1, STEPS), True: draw(1, STEPS, is_complex=True)}


def gradients(ps: Arrays, noise: Arrays) -> Arrays:
    """Gradients that move with the parameters: a smooth function of them, and noise."""
    return {k: (p / (1 + p * p.conj()) + noise[k]) * SIZES[k] for k, p in ps.items()}


def value(ps: Arrays) -> Any:
    """The loss, whose gradients are those above without the noise; at least zero."""
    xp = jnp if any(isinstance(p, jax.Array) for p in ps.values()) else np
    return sum(SIZES[k] / 2 * xp.sum(xp.log1p((p * p.conj()).real)) for k, p in ps.items())


def curvature(ps: Arrays) -> Arrays:
    """The diagonal of the Hessian of that loss, for complex arrays a real number like it.

    It is negative where |p| > 1.
    """
    return {
        k: SIZES[k] * (1 - (p * p.conj()).real) / (1 + (p * p.conj()).real) ** 2
        for k, p in ps.items()
    }


def with_curvature(reference: Reference) -> Reference:
    """Marks a reference as one that needs that, as its argument `hessian_diag`."""
    NEED_CURVATURE.add(reference)
    return reference


Hessian = Callable[[Arrays, Arrays], Arrays]


def hessian(ps: Arrays, vs: Arrays) -> Arrays:
    """How the gradients above change along `vs`."""
    found = {}
    for k, p in ps.items():
        under = 1 + sqr(p)
        found[k] = (vs[k] / under - p * 2 * (p.conj() * vs[k]).real / under**2) * SIZES[k]
    return found


def with_hessian(reference: Reference) -> Reference:
    """Marks a reference as one that needs products with the Hessian, as its argument `hessian`."""
    NEED_HESSIAN.add(reference)
    return reference


def with_value(reference: Reference) -> Reference:
    """Marks a reference as one that needs the loss, as its argument `value`."""
    NEED_VALUE.add(reference)
    return reference


NEED_VALUE: set[Reference] = set()
NEED_CURVATURE: set[Reference] = set()
NEED_HESSIAN: set[Reference] = set()
STILL = dict.fromkeys(SHAPES, 0.0)  # no noise
LOGITS = {"weight": 150.0}  # the argument `max_logits`, which `qk_clip` needs


def arguments(ps: Arrays) -> dict[str, Any]:
    """What some transformations need besides."""
    return {
        "value": value(ps),
        "grad_fn": lambda ps: gradients(ps, STILL),
        "hessian_diag": curvature(ps),
        "max_logits": LOGITS,
    }


Run = tuple[list[Arrays], list[Arrays]]
"""The parameters after every step, and its updates."""


def rounded(value: Any, rng: np.random.Generator) -> Any:
    """All numbers off as if they were rounded to float32, in one direction or the other."""
    if isinstance(value, dict):
        return {k: rounded(x, rng) for k, x in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(rounded(x, rng) for x in value)
    if np.issubdtype(np.asarray(value).dtype, np.inexact):
        return value * (1 + 2.0**-24 * rng.uniform(-1, 1, np.shape(value)))
    return value


def trajectory(
    reference: Reference,
    is_complex: bool = False,
    along: float = 1.0,
    rng: np.random.Generator | None = None,
    **hyper: Any,
) -> Run:
    """A run of a reference: p <- p + along u. With `rng` gradients, states, updates are rounded."""
    ps, noise = PARAMS[is_complex], NOISE[is_complex]
    states: State = {}
    parameters, updates = [], []
    for t in range(1, STEPS + 1):
        gs = gradients(ps, {k: x[t - 1] for k, x in noise.items()})
        loss: dict[str, Any] = {"value": value(ps)} if reference in NEED_VALUE else {}
        if reference in NEED_CURVATURE:
            loss["hessian_diag"] = curvature(ps)
        if reference in NEED_HESSIAN:
            loss["hessian"] = hessian
        if rng is not None:
            gs, loss, states = rounded((gs, loss, states), rng)
        us, states = reference(gs, ps, t, states, **loss, **at_step(hyper, t))
        us = us if rng is None else rounded(us, rng)
        ps = {k: p + along * us[k] for k, p in ps.items()}
        ps = ps if rng is None else rounded(ps, rng)
        parameters.append(ps)
        updates.append(us)
    return parameters, updates


def run(
    builders: dict[str, Callable[[], Any]], dtype: Any, along: dict[str, float] | None = None
) -> dict[str, Run | Exception]:
    """The same runs of transformations (pairs of init and update), all in one compiled scan.

    All of them get all `arguments`, which those without use for them ignore.
    One that cannot be built or traced has its exception in the place of a run.
    """
    is_complex = bool(jnp.issubdtype(dtype, jnp.complexfloating))
    start, noise = (
        jax.tree.map(lambda x: jnp.asarray(x, dtype), x[is_complex]) for x in (PARAMS, NOISE)
    )
    txs, failed = {}, {}

    for name, build in builders.items():
        try:
            tx = build()
            jax.eval_shape(
                lambda ps, tx=tx: tx.update(ps, tx.init(ps), ps, **arguments(ps)),
                start,
            )
            txs[name] = tx
        except Exception as exception:
            failed[name] = exception

    def step(carry: Any, noise: Any) -> Any:
        new, seen = {}, {}
        for name, (ps, state) in carry.items():
            us, state = txs[name].update(gradients(ps, noise), state, ps, **arguments(ps))
            factor = (along or {}).get(name, 1.0)
            ps = {k: p + factor * us[k] for k, p in ps.items()}
            new[name], seen[name] = (ps, state), (ps, us)
        return new, seen

    @jax.jit
    def all_steps(start: Any, noise: Any) -> Any:
        return jax.lax.scan(step, {k: (start, tx.init(start)) for k, tx in txs.items()}, noise)[1]

    runs = jax.tree.map(np.asarray, all_steps(start, noise))
    assert all(x.dtype == dtype for x in jax.tree.leaves(runs))
    return failed | {
        name: tuple([{k: x[t] for k, x in part.items()} for t in range(STEPS)] for part in parts)
        for name, parts in runs.items()
    }


def error(got: Run | Exception, wanted: Run) -> float:
    """The largest difference at a step relative to the largest entry of all arrays at that step."""
    if isinstance(got, Exception):
        raise got
    worst = []
    for ours, theirs in zip(itertools.chain(*got), itertools.chain(*wanted), strict=True):
        assert {k: np.shape(x) for k, x in ours.items()} == SHAPES
        difference = np.max([np.abs(ours[k] - x).max() for k, x in theirs.items()])
        size = np.max([np.abs(x).max() for x in theirs.values()])
        worst.append(difference / (size or 1.0))  # a step that moves nothing has no size
    return float(np.max(worst))  # NaN counts as the worst
