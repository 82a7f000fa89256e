"""Searches: at the end of a chain in Optax, around it here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

import gradtx as gx


def chain(*parts: Any) -> Any:
    """A search goes around what stands before it."""
    if parts and isinstance(parts[-1], search):
        return parts[-1].around(gx.chain(*parts[:-1]))
    return gx.chain(*parts)


class Found(NamedTuple):
    learning_rate: Any  # `state.search.step`


class search:
    """A search of Optax, which stands at the end of a chain; here it stands around it."""

    def __init__(self, kind: Callable[..., Any], **arguments: Any) -> None:
        self.kind = functools.partial(kind, **arguments)
        self.init, self.update = self.around(gx.identity())

    def around(self, tx: Any) -> Any:
        """The search around `tx`, with the length of the last step at the end of its state."""
        tx = self.kind(tx)

        def init(params: Any) -> Any:
            state = tx.init(params)
            return state, Found(state.search.step)

        def update(g: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            u, new = tx.update(g, state[0], params, **extra)
            return u, (new, Found(new.search.step))

        return optax.GradientTransformationExtraArgs(init, update)


def zoom_linesearch(
    max_linesearch_steps: Any,
    max_learning_rate: Any = None,
    tol: Any = 0.0,
    increase_factor: Any = 2.0,
    slope_rtol: Any = 1e-4,
    curv_rtol: Any = 0.9,
    approx_dec_rtol: Any = 1e-6,
    interval_threshold: Any = 0.0,
    initial_guess_strategy: str = "keep",
    **_: Any,
) -> search:
    limit = {} if max_learning_rate is None else {"max_learning_rate": max_learning_rate}
    return search(
        gx.wolfe,
        max_linesearch_steps=max_linesearch_steps,
        slope_rtol=slope_rtol,
        curv_rtol=curv_rtol,
        approx_dec_rtol=approx_dec_rtol,
        initial_guess_strategy=initial_guess_strategy,
        scale_init_step=False,
        **limit,
    )


def backtracking_linesearch(
    max_backtracking_steps: Any,
    slope_rtol: Any = 1e-4,
    decrease_factor: Any = 0.8,
    increase_factor: Any = 1.5,
    max_learning_rate: Any = 1.0,
    atol: Any = 0.0,
    rtol: Any = 0.0,
    store_grad: bool = False,
    verbose: bool = False,
) -> search:
    return search(
        gx.backtracking,
        max_linesearch_steps=max_backtracking_steps,
        slope_rtol=slope_rtol,
        increase_factor=None if increase_factor == float("inf") else increase_factor,
        max_learning_rate=max_learning_rate,
        approx_dec_rtol=rtol,
        scale_init_step=False,
    )


USUAL = object()


def lbfgs(
    learning_rate: Any = None,
    memory_size: int = 10,
    scale_init_precond: bool = True,
    linesearch: Any = USUAL,
) -> Any:
    if linesearch is USUAL:
        return gx.lbfgs(
            1.0 if learning_rate is None else learning_rate,
            memory_size,
            scale_init_precond=scale_init_precond,
        )
    rate = 1.0 if learning_rate is None else learning_rate
    direction = gx.scale_by_lbfgs(memory_size, scale_init_precond=scale_init_precond)
    tx = gx.chain(direction, gx.scale_by_learning_rate(rate))
    return tx if linesearch is None else linesearch.around(tx)
