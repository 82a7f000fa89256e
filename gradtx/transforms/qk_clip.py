"""The clip of MuonClip: queries and keys whose attention logits grow too large are scaled down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from gradtx.axes import unstacked_axes
from gradtx.clocked import Clocked
from gradtx.engine.hyperparameters import per_array
from gradtx.engine.refusals import refuse_missing
from gradtx.engine.run import Running, run
from gradtx.engine.step import At
from gradtx.hyper import AxesField
from gradtx.paths import by_path, matches, refuse_unused
from gradtx.rule import HyperField, Rule, Step
from gradtx.struct import type_error, value_error, within
from gradtx.transform import State
from gradtx.tree import Extra, Tree, is_inexact, named_leaves


class _shrink(Rule, called="qk_clip"):
    """Leads to the parameters times min(1, threshold / m)^power, m being the largest logits."""

    threshold: HyperField
    power: HyperField
    axes: AxesField

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        largest = step.shared
        stack = () if self.axes is None else self.axes.of("b")
        heads = tuple(g.shape[i] for i in stack)
        if largest.ndim and largest.shape != heads:
            raise ValueError(
                f"max_logits has shape {largest.shape}, the stacked axes {heads}"
                ". Pass one number, or one for each head, and name the axis of heads in axes"
            )
        factor = (self.threshold / jnp.maximum(largest, self.threshold)) ** self.power
        if largest.ndim:
            factor = jnp.expand_dims(factor, unstacked_axes(self.axes, g.ndim))
        return factor * g + (factor - 1) * p, slots


class qk_clip(Clocked):
    """Scales the parameters of queries and keys down where a logit passes the threshold.

    p + u = (p + g) min(1, threshold / max_logits)^power, the last link of an optimizer. `update`
    needs `max_logits`, the largest logit of the step under path patterns: `{"layer_0/[qk]/kernel":
    logits}`; other arrays pass. It is one number, or one for each head where `axes` has the heads
    as stacked axes. Kimi 2025, 2507.20534. Give rotary queries of MLA a power of one by `by_path`.
    """

    threshold: HyperField = within("(0, inf)", default=100.0)
    _: KW_ONLY
    power: HyperField = within("[0, inf)", default=0.5)  # queries and keys share the factor evenly
    axes: AxesField = None  # an `Axes` whose stacked axes are heads

    needs: ClassVar[tuple[str, ...]] = ("params", "max_logits")
    tables: ClassVar[tuple[str, ...]] = ("max_logits",)

    def init_part(self, params: Tree, at: At) -> State:
        per_array(self, at.count, params, strict=True)
        return {}

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        refuse_missing(self, updates, {**extra, "params": params})
        given = extra.get("max_logits")
        logits = _checked(self, {} if given is None else given)
        keys = []
        for path, g in named_leaves(updates):
            fitting = [k for k in logits if matches(k, path)]
            if len(fitting) > 1 and is_inexact(g):
                self._refuse_lost_order(given, path, fitting)
            keys.append(fitting[0] if fitting and is_inexact(g) else None)
        refuse_unused(f"{self}.update", logits, keys, updates)
        each = {i: jnp.zeros(()) if k is None else logits[k] for i, k in enumerate(keys)}
        rule = _shrink(self.threshold, self.power, self.axes)
        running = Running(rule, _shrink.Part(), at, each=each)
        return run([running], updates, params)[0], state

    def _refuse_lost_order(self, given: Any, path: str, fitting: list[str]) -> None:
        """The first pattern counts, and a dict that has been through `jit` is sorted."""
        if isinstance(given, dict) and any(isinstance(x, Tracer) for x in given.values()):
            raise value_error(
                f"{self}.update",
                f"{path!r} fits the patterns {', '.join(map(repr, fitting))} of a dict under "
                "jit, which sorts its keys",
                "Let one pattern fit each array, or pass max_logits=by_path({...}), which "
                "keeps the order",
            )


def _checked(owner: object, logits: Any) -> Mapping[str, Array]:
    if isinstance(logits, by_path):
        logits = logits.table
    if not isinstance(logits, Mapping):
        seen = f"max_logits is a {type(logits).__name__}"
        raise type_error(f"{owner}.update", seen, "Pass a mapping from path patterns to logits")
    return {key: jnp.asarray(value) for key, value in logits.items()}
