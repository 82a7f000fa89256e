"""What an optimizer does, in numbers kept in its state: `monitor`, read by `metrics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.engine.beside import aligned
from gradtx.engine.placement import ordered_after, zero_count
from gradtx.engine.plain import plain
from gradtx.engine.step import At
from gradtx.paths import matches, refuse_idle, refuse_no_mapping
from gradtx.struct import Static, Table, converted, nearest, static, type_error, value_error
from gradtx.transform import State
from gradtx.tree import (
    Tree,
    dot,
    global_norm,
    is_inexact,
    is_none,
    named_leaves,
    real_dtype,
    real_dtype_of,
    widest,
)
from gradtx.wrappers.base import Taken, Wrapper

METRICS = ("grad_norm", "update_norm", "update_ratio", "cosine", "effective_learning_rate")


class MonitorOwn(NamedTuple):
    """What `monitor` remembers: its numbers of the last step, by name."""

    metrics: dict[str, Any]


def _as_measures(given: Mapping[str, Callable[..., ArrayLike]], called: str = "monitor") -> Table:
    refuse_no_mapping(called, given, 'such as measures={"norm": lambda g, u, p: global_norm(p)}')
    for name, measure in given.items():
        if not callable(measure):
            seen = f"the measure {name!r} is {measure!r}"
            raise type_error(called, seen, "Give a function (grads, updates, params) -> number")
    return Table({name: _static(measure) for name, measure in given.items()})


def _static(measure: Callable[..., ArrayLike]) -> Static:
    return measure if isinstance(measure, Static) else Static(measure)


class monitor(Wrapper):
    """Keeps numbers of the last step of `inner`, which it does not change, for `metrics` to read.

    For every path pattern, over all arrays that fit: `grad_norm` |g| of what comes in,
    `update_norm` |u| of what goes out, `update_ratio` |u| / |p|, `cosine` <u, g> / (|u| |g|), which
    is -1 for gradient descent, and `effective_learning_rate` -<u, g> / |g|^2, the rate with which
    gradient descent would go as far along g. Each is zero where it would divide by zero. `measures`
    are numbers of your own by name: functions `(grads, updates, params)` of whole trees, such as
    `{"largest": lambda grads, updates, params: global_norm(params["head"])}`.
    """

    patterns: str | Sequence[str] = static(default="*")
    _: KW_ONLY
    metrics: str | Sequence[str] = static(default=METRICS)
    measures: Mapping[str, Callable[..., ArrayLike]] = converted(
        converter=_as_measures, default=Table({}), hyperparameter=False
    )
    name: str = static(default="")  # comes before the others, to tell monitors apart

    Own = MonitorOwn
    looks_back: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def check(self) -> None:
        for name in _strings(self.metrics):
            if name not in METRICS:
                raise value_error(
                    self, f"there is no metric {name!r}", nearest(name, [*METRICS])[:-1]
                )

    def init_own(self, params: Tree, at: At) -> MonitorOwn:
        for pattern in _strings(self.patterns) if at.whole else ():
            refuse_idle(self, pattern, params)
        real = real_dtype_of(params)
        names = [
            self._key(pattern, metric)
            for pattern in _strings(self.patterns)
            for metric in _strings(self.metrics)
        ]
        names += [self._named(name) for name in self.measures]
        return MonitorOwn({name: zero_count(params).astype(real) for name in names})

    def finish(self, done: Taken, steps: Tree, state: State) -> tuple[Tree, State]:
        """Measures the steps before they are rounded to the dtype in which they leave."""
        updates, params = done.updates, done.params
        treedef = jax.tree.structure(updates, is_leaf=is_none)
        us = aligned(self, treedef, steps, "updates that come out")
        ps = aligned(self, treedef, params, "parameters") if params is not None else us
        rows = [
            (path, (g, u, p))
            for (path, g), u, p in zip(named_leaves(updates), us, ps, strict=True)
            if is_inexact(g)
        ]
        found = {}
        for pattern in _strings(self.patterns):
            chosen = [row for path, row in rows if matches(pattern, path)]
            with jax.named_scope(type(self).__name__):
                numbers = _measured(*([row[i] for row in chosen] for i in range(3)))
            for metric in _strings(self.metrics):
                key = self._key(pattern, metric)
                old = state.metrics[key]
                # Bound to it, or the memory of what is not read could not be used again.
                found[key] = ordered_after(old, numbers[metric].astype(old.dtype))
        for name, measure in self.measures.items():
            number, key = measure(updates, steps, params), self._named(name)
            if jnp.shape(number) or jnp.iscomplexobj(number):
                seen = f"{name!r} is {jnp.result_type(number)}{list(jnp.shape(number))}"
                raise value_error(f"{self}.update", seen, "Let the measure return one real number")
            old = state.metrics[key]
            found[key] = ordered_after(old, jnp.asarray(number).astype(old.dtype))
        return steps, state._replace(metrics=found)

    def _key(self, pattern: str, metric: str) -> str:
        return self._named(f"{metric}/{pattern}")

    def _named(self, key: str) -> str:
        return f"{self.name}/{key}" if self.name else key


def _strings(given: Any) -> tuple[str, ...]:
    given = getattr(given, "tree", given)  # a list became a `FrozenTree`
    return (given,) if isinstance(given, str) else tuple(given)


def _measured(gs: list[Any], us: list[Any], ps: list[Any]) -> dict[str, Array]:
    """All metrics of these gradients, updates and parameters; what nobody reads is not computed."""
    real = real_dtype_of([gs, us, ps])
    g, u, p = (global_norm(x).astype(real) for x in (gs, us, ps))
    # Both have length one in the product, which neither overflows nor underflows.
    cosine = dot(_scaled(us, _inverse(u)), _scaled(gs, _inverse(g))).astype(real)
    return {
        "grad_norm": g,
        "update_norm": u,
        "update_ratio": u * _inverse(p),
        "cosine": cosine,
        "effective_learning_rate": -cosine * (u * _inverse(g)),
    }


def _inverse(x: Array) -> Array:
    """1 / x, and zero for zero."""
    some = x > 0
    return jnp.where(some, 1 / jnp.where(some, x, 1), 0)


def _scaled(arrays: list[Any], factor: Array) -> list[Array]:
    dtypes = [widest([x]) for x in arrays]
    return [
        jnp.asarray(x).astype(d) * factor.astype(real_dtype(d)).astype(d)
        for x, d in zip(arrays, dtypes, strict=True)
    ]


def metrics(state: State) -> dict[str, Any]:
    """The numbers of every `monitor` in the state of any optimizer, by name, for a logger.

    The names are `metric/pattern`, such as `update_norm/*/kernel`, after the monitor's own name if
    it has one; what would stand twice gets `_2`, `_3` ... behind it. They are Python numbers, in
    lists for a stack of states, None for what cannot be read here (deleted arrays, those of other
    processes); arrays under a trace.
    """
    return plain(_found(state))


def _found(state: State) -> dict[str, Any]:
    found: dict[str, Any] = {}
    kinds = (monitor.State, monitor.Part)
    nodes = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, kinds))
    for node in nodes:
        if not isinstance(node, kinds):
            continue
        for usual, value in [*node.metrics.items(), *_found(node.inner).items()]:
            name, repeats = usual, 1
            while name in found:
                repeats += 1
                name = f"{usual}_{repeats}"
            found[name] = value
    return found
