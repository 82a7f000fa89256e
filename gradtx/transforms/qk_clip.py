"""The clip of MuonClip: queries and keys whose attention logits grow too large are scaled down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from gradtx.axes import within
from gradtx.engine.hyperparameters import per_array
from gradtx.engine.placement import zero_count
from gradtx.engine.refusals import refuse_missing, refuse_other_state
from gradtx.engine.run import next_count, run
from gradtx.paths import aligned, matches, refuse_unused
from gradtx.rule import Hyper, Rule
from gradtx.struct import complaint
from gradtx.transform import GradientTransformation, State, compiled
from gradtx.tree import Tree, is_inexact, is_none, named_leaves


class _shrink(Rule, called="qk_clip"):
    """Leads to the parameters times min(1, threshold / t)^power, `t` being the largest logits."""

    threshold: Hyper
    power: Hyper
    axes: Any

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, t: Array) -> tuple[Array, Any]:
        stack = () if self.axes is None else self.axes.of("b")
        heads = tuple(g.shape[i] for i in stack)
        if t.ndim and t.shape != heads:
            raise ValueError(
                f"max_logits has shape {t.shape}, the stacked axes {heads}. "
                "Pass one number, or one for each head"
            )
        factor = (self.threshold / jnp.maximum(t, self.threshold)) ** self.power
        if t.ndim:
            factor = jnp.expand_dims(factor, within(self.axes, g.ndim))
        return factor * g + (factor - 1) * p, slots


class qk_clip(GradientTransformation):
    """Scales the parameters of queries and keys down where a logit passes the threshold.

    p + u = (p + g) min(1, threshold / max_logits)^power, the last link of an optimizer. `update`
    needs `max_logits`, the largest logit of the step under path patterns: `{"layer_0/[qk]/kernel":
    logits}`; other arrays pass. It is one number, or one for each head where `axes` has the heads
    as stacked axes. Kimi 2025, 2507.20534. Give rotary queries of MLA a power of one by `by_path`.
    """

    threshold: Hyper = 100.0
    power: Hyper = 0.5  # queries and keys share the factor evenly
    axes: Any = None  # an `Axes` whose stacked axes are heads

    needs: ClassVar[tuple[str, ...]] = ("params", "max_logits")

    def check(self) -> None:
        self.require("(0, inf)", "threshold")
        self.require("[0, inf)", "power")

    def init(self, params: Tree) -> State:
        count = zero_count(params)
        per_array(self, count, params, strict=True)
        return _shrink.State(count)

    @compiled
    def update(
        self,
        updates: Tree,
        state: State,
        params: Tree | None = None,
        *,
        max_logits: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> tuple[Tree, State]:
        refuse_other_state(self, state, _shrink.State)
        refuse_missing(self, updates, {"params": params, "max_logits": max_logits})
        leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
        ps = leaves if params is None else aligned(self, treedef, params, "parameters")
        model = treedef.unflatten(None if g is None else p for g, p in zip(leaves, ps, strict=True))
        logits = _checked(self, {} if max_logits is None else max_logits)
        paths = [path for path, _ in named_leaves(updates)]
        keys = [next((k for k in logits if matches(k, path)), None) for path in paths]
        used = [k if is_inexact(g) else None for k, g in zip(keys, leaves, strict=True)]
        refuse_unused(f"{self}.update", logits, used, updates)
        rule = _shrink(self.threshold, self.power, self.axes)
        outs = []
        for path, g, p, key, own in zip(
            paths, leaves, ps, keys, per_array(rule, state.count, model), strict=True
        ):
            shared = jnp.zeros(()) if key is None else logits[key]
            moved, _ = run((own,), {path: g}, (state,), {path: p}, shared=shared)
            outs.append(moved[path])
        return treedef.unflatten(outs), _shrink.State(next_count(state.count))


def _checked(called: Any, logits: Any) -> Mapping[str, Array]:
    if not isinstance(logits, Mapping):
        seen = f"max_logits is a {type(logits).__name__}"
        raise TypeError(
            complaint(f"{called}.update", seen, "Pass a mapping from path patterns to logits")
        )
    return {key: jnp.asarray(value) for key, value in logits.items()}
