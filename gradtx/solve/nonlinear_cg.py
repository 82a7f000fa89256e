"""Directions of nonlinear conjugate gradients, which remember one step, and the search with them.

d = -g + beta d_ where d_ is the direction before, y = g - g_ the change of the gradient. What beta
is tells the methods apart:

    fletcher-reeves     |g|^2 / |g_|^2
    polak-ribiere       max(0, y'g / |g_|^2)
    hestenes-stiefel    max(0, y'g / y'd_)
    dai-yuan            |g|^2 / y'd_
    hager-zhang         y'g / y'd_ - 2 |y|^2 d_'g / (y'd_)^2, at least -1 / (|d_| min(eta, |g_|))
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.chain import chain
from gradtx.engine.placement import ordered_after
from gradtx.rule import Hyper, HyperField, JointRule, Step
from gradtx.solve.more_thuente import quotient
from gradtx.solve.search import wolfe
from gradtx.struct import static, within
from gradtx.transforms.scale import scale
from gradtx.tree import inner, not_begun, root

METHODS = ("hestenes-stiefel", "polak-ribiere", "dai-yuan", "hager-zhang", "fletcher-reeves")


class CgSlots(NamedTuple):
    gradient: Array  # of the step before
    direction: Array  # its update, which is -d_
    begun: Array  # 0 before the first step


class CgSums(NamedTuple):
    """Inner products; d is the direction before, y the change of the gradient."""

    g_g: Array
    g_before: Array
    before_before: Array
    y_g: Array
    y_y: Array
    d_g: Array
    d_y: Array
    d_d: Array


class scale_by_cg(JointRule):
    """Adds to the gradient its share of the last update: u = g + beta u_, conjugate gradients.

    With y = g - g_ and d_ = -u_, beta is by `method` that of Polak & Ribière 1969 (at least zero),
    Hestenes & Stiefel 1952 (the same), Dai & Yuan 1999, Hager & Zhang 2005, or Fletcher & Reeves
    1964; see the table above. It is zero where |g'g_| >= restart |g|^2 (Powell 1977), where there
    was no curvature along d_, and where -u would not lead down. Give it to an exact search.
    """

    method: str = static(default="hestenes-stiefel", among=METHODS)
    _: KW_ONLY
    restart: HyperField = within("(0, inf]", default=0.2)  # infinity: never for this reason
    eta: HyperField = within("(0, inf)", default=0.01)  # of hager-zhang

    Slots = CgSlots
    Sums = CgSums

    def init_leaf(self, p: Array) -> CgSlots:
        return CgSlots(jnp.zeros_like(p), jnp.zeros_like(p), not_begun(p))

    def measure_leaf(self, g: Array, slots: CgSlots, p: Any, known: Any) -> CgSums:
        before, u = slots.gradient, slots.direction
        y = jnp.where(slots.begun > 0, g - before, 0)
        return CgSums(
            g_g=inner(g, g),
            g_before=inner(g, before),
            before_before=inner(before, before),
            y_g=inner(y, g),
            y_y=inner(y, y),
            d_g=-inner(u, g),
            d_y=-inner(u, y),
            d_d=inner(u, u),
        )

    def decide(self, sums: CgSums, globals_: Any, t: Array, **extra: Any) -> tuple[Any, Any]:
        beta = self._beta(sums)
        far = jnp.abs(sums.g_before) < self.restart * sums.g_g
        down = beta * sums.d_g < sums.g_g
        beta = jnp.where(far & down & jnp.isfinite(beta), beta, 0)
        # Or the gradient that the new one overwrites would be copied for the products.
        written = ordered_after(beta, jnp.ones_like(beta))
        return globals_, (beta, written)

    def _beta(self, sums: CgSums) -> Array:
        some = sums.d_y > 0
        if self.method == "fletcher-reeves":
            return quotient(sums.g_g, sums.before_before)
        if self.method == "polak-ribiere":
            return jnp.maximum(quotient(sums.y_g, sums.before_before), 0)
        if self.method == "hestenes-stiefel":
            return jnp.where(some, jnp.maximum(quotient(sums.y_g, sums.d_y), 0), 0)
        if self.method == "dai-yuan":
            return jnp.where(some, quotient(sums.g_g, sums.d_y), 0)
        less = 2 * quotient(sums.y_y, sums.d_y) * quotient(sums.d_g, sums.d_y)
        size = root(sums.d_d) * jnp.minimum(self.eta, root(sums.before_before))
        floor = -quotient(jnp.ones_like(size), size)
        return jnp.where(some, jnp.maximum(quotient(sums.y_g, sums.d_y) - less, floor), 0)

    def update_leaf(self, g: Array, slots: CgSlots, p: Any, step: Step) -> tuple[Array, CgSlots]:
        beta, written = step.shared
        u = g + beta * slots.direction
        gradient = jnp.where(written != 0, g, slots.gradient)
        return u, CgSlots(gradient, u, jnp.maximum(slots.begun, 1))


def nonlinear_cg(
    learning_rate: Hyper = 1.0,
    *,
    method: str = "hestenes-stiefel",
    restart: Hyper = 0.2,
    eta: Hyper = 0.01,
    initial_guess_strategy: str = "slope",
    slope_rtol: Hyper = 1e-4,
    curv_rtol: Hyper = 0.1,
    approx_dec_rtol: Hyper | None = None,
    max_linesearch_steps: Hyper = 20,
    max_learning_rate: Hyper = 1e10,
) -> wolfe:
    """Nonlinear conjugate gradients: the search `wolfe` along minus the direction of `scale_by_cg`.

    Three arrays are remembered where L-BFGS remembers twenty. `step` needs the loss as `value=`,
    and every call is one evaluation; `eval_params` is the best point. The search is more exact than
    that of `lbfgs`, and its first trial promises the same change as the step before it did.
    """
    return wolfe(
        chain(scale_by_cg(method, restart=restart, eta=eta), scale(-1.0)),
        learning_rate=learning_rate,
        initial_guess_strategy=initial_guess_strategy,
        slope_rtol=slope_rtol,
        curv_rtol=curv_rtol,
        approx_dec_rtol=approx_dec_rtol,
        max_linesearch_steps=max_linesearch_steps,
        max_learning_rate=max_learning_rate,
    )
