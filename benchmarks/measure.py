"""Two sides of one measurement, taken in turn."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

import gradtx as gx


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Seconds of gradtx and of Optax, and the median of their quotients with its quartiles."""

    ours: float
    theirs: float
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
        quotients = [a / b for a, b in zip(ours, theirs, strict=True)]
        low, median, high = statistics.quantiles(quotients, n=4)
        return cls(statistics.median(ours), statistics.median(theirs), median, low, high)


def geometric_mean(ratios: Sequence[Ratio]) -> Ratio:
    """The mean of many ratios, and of their times and quartiles."""
    fields = zip(*(dataclasses.astuple(ratio) for ratio in ratios), strict=True)
    return Ratio(*map(statistics.geometric_mean, fields))


def seconds(run: Callable[[], Any], repeats: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def train_step(tx: Any) -> Callable[..., Any]:
    """`(params, state, grads) -> (params, state)`, with the library's own `apply_updates`."""
    ours = isinstance(tx, gx.GradientTransformation)
    apply = gx.apply_updates if ours else optax.apply_updates
    tx = tx if ours else optax.with_extra_args_support(tx)

    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(  # with the loss and a curvature, for some
            grads, state, params, value=1.0, hessian_diag=grads
        )
        return apply(params, updates), state

    return step


def whole_step(tx: Any) -> Callable[..., Any]:
    """The same, with the step of ours that makes no tree of updates where nothing moves."""
    if not isinstance(tx, gx.GradientTransformation):
        return train_step(tx)
    return lambda params, state, grads: tx.step(grads, state, params)


def building(txs: Sequence[Any], params: Any, rounds: int) -> tuple[Ratio, Ratio]:
    """Trace and lower, then compile, a training step, with nothing cached."""
    lowering: list[list[float]] = [[], []]
    compiling: list[list[float]] = [[], []]
    for _ in range(rounds):
        for side, tx in enumerate(txs):
            state = tx.init(params)
            jax.clear_caches()
            gc.collect()
            step = jax.jit(train_step(tx), donate_argnums=(0, 1))
            start = time.perf_counter()
            lowered = step.lower(params, state, params)
            middle = time.perf_counter()
            lowered.compile()
            compiling[side].append(time.perf_counter() - middle)
            lowering[side].append(middle - start)
            del step, lowered  # or the next side would be timed while it frees them
    return Ratio.of(*lowering), Ratio.of(*compiling)


def stepping(
    txs: Sequence[Any],
    params: Any,
    rounds: int,
    repeats: int,
    step_of: Callable[[Any], Callable[..., Any]] = train_step,
) -> Ratio:
    """The compiled, donated step until its results are there, the mean of `repeats` in a row."""
    times: list[list[float]] = [[], []]
    sides = []
    for tx in txs:
        held = jax.tree.map(lambda x: x + 0, (params, tx.init(params)))
        sides.append([jax.jit(step_of(tx), donate_argnums=(0, 1)), held])
    grads = jax.tree.map(lambda x: 0.01 * x, params)

    def advance(side: list[Any]) -> None:
        step, (p, s) = side
        side[1] = step(p, s, grads)

    for round_ in range(rounds + 1):
        for index, side in enumerate(sides):

            def several(side: list[Any] = side) -> None:
                for _ in range(repeats):
                    advance(side)
                jax.block_until_ready(side[1])

            taken = seconds(several) / repeats
            if round_:  # the first one compiles
                times[index].append(taken)
    return Ratio.of(*times)


def dispatching(txs: Sequence[Any], params: Any, rounds: int, repeats: int) -> Ratio:
    """The compiled step until the call returns: what Python and the runtime cost."""
    times: list[list[float]] = [[], []]
    sides = []
    for tx in txs:
        step = jax.jit(train_step(tx))
        state = tx.init(params)
        jax.block_until_ready(step(params, state, params))
        sides.append(lambda step=step, state=state: step(params, state, params))
    for _ in range(rounds):
        for index, call in enumerate(sides):
            times[index].append(seconds(call, repeats))
            jax.block_until_ready(call())
    return Ratio.of(*times)


def unjitted(txs: Sequence[Any], params: Any, rounds: int) -> Ratio:
    """`update` and `apply_updates` called outside of any jit."""
    times: list[list[float]] = [[], []]
    sides = []
    for tx in txs:
        step, state = train_step(tx), tx.init(params)
        sides.append(lambda s=step, state=state: jax.block_until_ready(s(params, state, params)))
        sides[-1]()
    for _ in range(rounds):
        for index, call in enumerate(sides):
            times[index].append(seconds(call))
    return Ratio.of(*times)
