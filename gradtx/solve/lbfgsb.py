"""Directions within bounds: the least point of a quadratic model in a box.

The model at x is g'z + z'B z / 2 with the Hessian B = theta - W'M W of L-BFGS. Its Cauchy point is
the first minimum on the way along -g, of which each entry stops at its bound; from there the free
entries go on to the minimum of the model. Byrd, Lu, Nocedal & Zhu 1995. The way has a corner where
an entry stops. Sums over all entries that stop later, or have stopped before, give the slope and
the curvature behind every corner at once, without a loop over corners.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.axes import product
from gradtx.chain import chain
from gradtx.rule import Copy, Hyper, OptionalHyperField, Rule, Step
from gradtx.solve.box import BOUNDS
from gradtx.solve.search import wolfe
from gradtx.struct import static, within
from gradtx.transforms.scale import scale
from gradtx.tree import from_reals, not_begun, reals
from gradtx.wrappers.flatten import flatten


class LbfgsbSlots(NamedTuple):
    position: Copy  # of the step before
    gradient: Array  # there
    steps: Array  # [memory_size, ...], the newest last
    changes: Array  # of the gradient, [memory_size, ...]
    theta: Array  # y'y / s'y of the newest pair
    begun: Array  # 0 before the first step


class scale_by_lbfgsb(Rule):
    """Turns a gradient into minus the way to the least point of L-BFGS's model in a box.

    u = x - clip(x + d), with the Cauchy point and the subspace minimum of Byrd, Lu, Nocedal & Zhu
    1995 and the projection of Morales & Nocedal 2011, for each array alone; for all together:
    `flatten(scale_by_lbfgsb())`. The bounds are the extra arguments `lower` and `upper` of
    `update`, which a search with bounds hands on; without them u = H g.
    """

    memory_size: int = static(default=10, within="[1, inf)")
    _: KW_ONLY
    # No pair whose s'y / y'y is lower; None: the last digit of the dtype.
    eps: OptionalHyperField = within("[0, inf)", default=None)

    Slots = LbfgsbSlots
    stacked: ClassVar[frozenset[str]] = frozenset(("steps", "changes"))
    needs: ClassVar[tuple[str, ...]] = ("params",)
    wants: ClassVar[tuple[str, ...]] = BOUNDS
    trees: ClassVar[tuple[str, ...]] = BOUNDS

    def init_leaf(self, p: Array) -> LbfgsbSlots:
        zeros, none = jnp.zeros_like(p), jnp.zeros((self.memory_size, *p.shape), p.dtype)
        no = not_begun(p)
        return LbfgsbSlots(zeros, zeros, none, none, jnp.ones_like(no), no)

    def update_leaf(
        self, g: Array, slots: LbfgsbSlots, p: Array, step: Step
    ) -> tuple[Array, LbfgsbSlots]:
        new = self._remembered(g, slots, p)
        steps, changes = (
            jnp.stack([reals(x) for x in memory]) for memory in (new.steps, new.changes)
        )
        lower, upper = (
            jnp.broadcast_to(jnp.asarray(step.extra.get(name, none), new.theta.dtype), p.shape)
            for name, none in zip(BOUNDS, (-jnp.inf, jnp.inf), strict=True)
        )
        if jnp.iscomplexobj(p):
            lower, upper = (jnp.concatenate([reals(x)] * 2) for x in (lower, upper))
        x, slope = reals(p), reals(g)
        model = _model(steps, changes, new.theta)
        aim = _least(x, slope, jnp.ravel(lower), jnp.ravel(upper), model)
        return from_reals(x - aim, g), new

    def _remembered(self, g: Array, slots: LbfgsbSlots, p: Array) -> LbfgsbSlots:
        """The slots with the newest pair, if it shows a curvature."""
        begun = slots.begun > 0
        s = jnp.where(begun, p - slots.position, 0)
        y = jnp.where(begun, g - slots.gradient, 0)
        s_y, y_y = jnp.sum(reals(s) * reals(y)), jnp.sum(reals(y) * reals(y))
        limits = jnp.finfo(y_y.dtype)
        eps = limits.eps if self.eps is None else self.eps
        some = (y_y >= limits.tiny) & (s_y > eps * y_y)
        theta = y_y / jnp.where(some, s_y, 1)
        kept = some & jnp.isfinite(theta)

        def put(memory: Array, x: Array) -> Array:
            return jnp.where(kept, jnp.concatenate([memory[1:], x[None]]), memory)

        return LbfgsbSlots(
            p,
            g,
            put(slots.steps, s),
            put(slots.changes, y),
            jnp.where(kept, theta, slots.theta),
            jnp.ones_like(slots.begun),
        )


class _Model(NamedTuple):
    """B = theta - W'M W."""

    theta: Array
    w: Array  # [2 m, n]
    m: Array  # [2 m, 2 m]


def _model(steps: Array, changes: Array, theta: Array) -> _Model:
    """The model from pairs, the oldest first; a place without one has ones in M, zeros in W."""
    products = product(steps, changes.T)
    diagonal = jnp.diagonal(products)
    none = diagonal <= 0
    # Each pair in units in which s'y = 1 and theta s's = 1, for the digits of the inverse.
    of_change = 1 / jnp.sqrt(jnp.where(none, 1, diagonal))
    lengths = jnp.where(none, 1, theta * jnp.sum(steps * steps, axis=1))
    of_step = 1 / jnp.sqrt(lengths)
    below = jnp.tril(products, -1) * of_step[:, None] * of_change[None, :]
    sizes = theta * product(steps, steps.T) * of_step[:, None] * of_step[None, :]
    sizes = sizes + jnp.diag(jnp.where(none, 1, 0).astype(sizes.dtype))
    minus = -jnp.eye(steps.shape[0], dtype=sizes.dtype)
    rows = (
        jnp.concatenate([minus, below.T], axis=1),
        jnp.concatenate([below, sizes], axis=1),
    )
    w = jnp.concatenate([of_change[:, None] * changes, (theta * of_step)[:, None] * steps])
    return _Model(theta, w, jnp.linalg.inv(jnp.concatenate(rows)))


def _least(x: Array, g: Array, lower: Array, upper: Array, model: _Model) -> Array:
    """The point of the box that the model leads to."""
    theta, w, m = model
    bound = jnp.where(g < 0, upper, lower)
    # How far along -g each entry gets.
    ends = (g != 0) & jnp.isfinite(bound)
    times = jnp.where(ends, x - bound, 0) / jnp.where(ends, g, 1)
    times = jnp.where(ends, jnp.maximum(times, 0), jnp.inf)
    t = _first_minimum(times, g, model)
    stopped = times <= t
    cauchy = jnp.where(stopped, bound, jnp.clip(x - t * g, lower, upper))
    z = cauchy - x

    r = jnp.where(stopped, 0, -(g + theta * z - product(product(m, product(w, z)), w)))
    free = jnp.where(stopped[None], 0, w)
    inner = product(m, product(free, r))
    size = jnp.eye(m.shape[0], dtype=m.dtype)
    inner = jnp.linalg.solve(size - product(m, product(free, free.T)) / theta, inner)
    d = r / theta + product(inner, free) / theta**2
    d = jnp.where(jnp.isfinite(d), d, 0)

    aim = jnp.clip(cauchy + d, lower, upper)
    # Where the projection has spoilt the descent: along d as far as the box goes.
    bound = jnp.where(d > 0, upper, lower)
    ends = (d != 0) & jnp.isfinite(bound)
    shares = jnp.where(ends, bound - cauchy, 1) / jnp.where(ends, d, 1)
    share = jnp.min(shares, initial=1)
    along = jnp.clip(cauchy + jnp.maximum(share, 0) * d, lower, upper)
    return jnp.where(jnp.sum((aim - x) * g) > 0, along, aim)


def _first_minimum(times: Array, g: Array, model: _Model) -> Array:
    """How far along -g the model has its first minimum."""
    theta, w, m = model
    order = jnp.argsort(times)
    ends, g, w = times[order], g[order], w[:, order]
    begins = jnp.concatenate([jnp.zeros((1,), ends.dtype), ends])
    lengths = jnp.where(jnp.isfinite(ends), ends - begins[:-1], 0)

    def later(x: Array) -> Array:
        """Of each segment the sum over the entries that have not stopped; the last has none."""
        sums = jnp.flip(jnp.cumsum(jnp.flip(x, -1), axis=-1), -1)
        return jnp.concatenate([sums, jnp.zeros((*x.shape[:-1], 1), x.dtype)], axis=-1)

    squares, p = later(g * g), -later(g[None] * w)
    c = jnp.cumsum(lengths[None] * p[:, :-1], axis=-1)
    c = jnp.concatenate([jnp.zeros((c.shape[0], 1), c.dtype), c], axis=-1)
    m_p = product(m, p)
    reached = jnp.isfinite(begins)
    start = jnp.where(reached, begins, 0)
    slope = -squares + theta * start * squares - jnp.sum(c * m_p, axis=0)
    curvature = theta * squares - jnp.sum(p * m_p, axis=0)
    step = jnp.maximum(-slope, 0) / jnp.where(curvature > 0, curvature, 1)
    step = jnp.where(slope >= 0, 0, jnp.where(curvature > 0, step, jnp.inf))
    end = jnp.concatenate([ends, jnp.full((1,), jnp.inf, ends.dtype)])
    found = reached & ((slope >= 0) | (start + step < end))
    first = jnp.argmax(found)
    t = start[first] + step[first]
    return jnp.where(found.any() & jnp.isfinite(t), t, 0)


def lbfgsb(
    learning_rate: Hyper = 1.0,
    *,
    lower: Any = None,
    upper: Any = None,
    memory_size: int = 10,
    slope_rtol: Hyper = 1e-3,
    curv_rtol: Hyper = 0.9,
    approx_dec_rtol: Hyper | None = None,
    max_linesearch_steps: Hyper = 20,
) -> wolfe:
    """L-BFGS-B: the search `wolfe` within bounds, along minus the direction of `scale_by_lbfgsb`.

    `lower` and `upper` are numbers or (prefix) trees like the parameters, of numbers or arrays;
    equal ones freeze an entry. No point outside is asked for; a start outside is moved to the
    nearest one inside. `step` needs the loss as `value=`; `eval_params` is the best point. Byrd,
    Lu, Nocedal & Zhu 1995; Morales & Nocedal 2011. Differs from jaxopt, which leaves the box.
    """
    return wolfe(
        chain(flatten(scale_by_lbfgsb(memory_size)), scale(-1.0)),
        learning_rate=learning_rate,
        slope_rtol=slope_rtol,
        curv_rtol=curv_rtol,
        approx_dec_rtol=approx_dec_rtol,
        max_linesearch_steps=max_linesearch_steps,
        lower=lower,
        upper=upper,
    )
