"""Directions from a dense inverse of the Hessian, for at most some thousand parameters.

What the matrix is divided by before a pair goes into it tells the scalings apart:

    initial     y'y / s'y before the first pair: the usual BFGS
    al-baali    and before every later pair min(1, s'y / s'H^-1 s), where the model was too steep
    broyden     besides, and the update itself lies between those of BFGS and DFP, or beyond
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import ClassVar, Literal, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.axes import product
from gradtx.chain import chain
from gradtx.rule import Copy, Hyper, OptionalHyperField, Rule, Step
from gradtx.solve.search import wolfe
from gradtx.struct import static, within
from gradtx.transforms.scale import scale
from gradtx.tree import from_reals, not_begun, reals
from gradtx.wrappers.flatten import flatten

MOST = 20_000  # entries of an array
ALONG = 0.999  # squared cosine from which on a step counts as one along the direction

Scaling = Literal["initial", "al-baali", "broyden"]


class BfgsSlots(NamedTuple):
    position: Copy  # of the step before
    gradient: Array  # there
    inverse: Array  # of the Hessian, [n, n]
    begun: Array  # 0 before the first step
    paired: Array  # 0 before the first pair


class _Pair(NamedTuple):
    """A step and the change of the gradient, as vectors, and what is made of them."""

    s: Array
    y: Array
    rho: Array  # 1 / s'y
    turned: Array  # H y
    h: Array  # y'H y / s'y


class scale_by_bfgs(Rule):
    """Multiplies by a dense inverse Hessian: u = H g, for each array alone, [n, n] for n entries.

    With the last step s, the change y of the gradient, r = 1 / s'y and v = r s - H y / y'H y:
    H <- (H - H y y'H / y'H y + f y'H y v v') / t + r s s'. By the `scaling` t and f are one (None),
    t = y'y / s'y for the first pair ("initial"), min(1, s'y / s'H^-1 s) for others as well
    ("al-baali", 1985), or both those of SSBroyden (Urban+ 2025, 2405.04230). A pair is kept where
    s'y > eps y'y. For all arrays together: `flatten(scale_by_bfgs())`.
    """

    _: KW_ONLY
    scaling: Scaling | None = static(
        default="initial", among=("initial", "al-baali", "broyden", None)
    )
    # No pair whose s'y / y'y is lower; None: the last digit of the dtype.
    eps: OptionalHyperField = within("[0, inf)", default=None)

    Slots = BfgsSlots
    lies_apart: ClassVar[bool] = True  # a product with the matrix lies where that does
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_leaf(self, p: Array) -> BfgsSlots:
        n = p.size * (2 if jnp.iscomplexobj(p) else 1)
        if n > MOST:
            size = n * n * jnp.finfo(p.dtype).bits // 8
            raise ValueError(
                f"the inverse Hessian of {n} numbers would take {size / 1e9:.1f} GB. "
                "Use lbfgs, whose memory grows with the number of parameters"
            )
        zeros = jnp.zeros_like(p)
        no = not_begun(p)
        return BfgsSlots(zeros, zeros, jnp.eye(n, dtype=no.dtype), no, no)

    def update_leaf(
        self, g: Array, slots: BfgsSlots, p: Array, step: Step
    ) -> tuple[Array, BfgsSlots]:
        inverse, kept = self._next(g, slots, p)
        u = from_reals(product(inverse, reals(g)), g)
        paired = jnp.where(kept, 1, slots.paired)
        return u, BfgsSlots(p, g, inverse, jnp.ones_like(slots.begun), paired)

    def _next(self, g: Array, slots: BfgsSlots, p: Array) -> tuple[Array, Array]:
        """The matrix with the newest pair in it, and whether it is."""
        begun, inverse = slots.begun > 0, slots.inverse
        s = reals(jnp.where(begun, p - slots.position, 0))
        y = reals(jnp.where(begun, g - slots.gradient, 0))
        s_y, y_y = jnp.sum(s * y), jnp.sum(y * y)
        limits = jnp.finfo(y.dtype)
        eps = limits.eps if self.eps is None else self.eps
        some = (y_y >= limits.tiny) & (s_y > eps * y_y)
        rho = 1 / jnp.where(some, s_y, 1)
        turned = product(inverse, y)
        y_turned = jnp.sum(y * turned)
        some = some & (y_turned > 0)
        pair = _Pair(s, y, rho, turned, rho * y_turned)
        t, f = self._scaled(pair, slots)
        if self.scaling is not None:
            first = slots.paired == 0
            t, f = jnp.where(first, rho * y_y, t), jnp.where(first, 1, f)
        kept = some & jnp.isfinite(t) & (t > 0) & jnp.isfinite(f) & jnp.isfinite(y_turned / t)
        size = jnp.where(kept, y_turned, 1)
        v = rho * s - turned / size
        t = jnp.where(kept, t, 1)
        shrunk = inverse - _square(turned) / size + f * size * _square(v)
        return jnp.where(kept, shrunk / t + rho * _square(s), inverse), kept

    def _scaled(self, pair: _Pair, slots: BfgsSlots) -> tuple[Array, Array]:
        """t and f of the formula for a pair that is not the first."""
        one = jnp.ones_like(pair.rho)
        if self.scaling in (None, "initial"):
            return one, one
        b, known = _curvature(pair, slots)
        t = jnp.minimum(1, 1 / b)
        if self.scaling == "al-baali":
            return jnp.where(known, t, 1), one
        h, n = pair.h, pair.s.size
        a = jnp.maximum(b * h - 1, 0)
        safe = jnp.maximum(a, jnp.finfo(a.dtype).eps)
        least = jnp.minimum(1, h * (1 - jnp.sqrt(a / (1 + a))))
        lowest, highest = (least - 1) / safe, 1 / least
        theta = jnp.maximum(lowest, jnp.minimum(highest, (1 - b) / b))
        sigma = jnp.maximum(1 + theta * a, least)
        spread = sigma ** (1 / (1 - n)) if n > 1 else one
        positive = theta > 0
        most = jnp.where(positive, 1 / jnp.where(positive, theta, 1), sigma)
        t = jnp.where(positive, t * jnp.minimum(spread, most), jnp.minimum(t * spread, most))
        f = (1 - theta) / sigma
        return jnp.where(known, t, 1), jnp.where(known, f, 1)


def _curvature(pair: _Pair, slots: BfgsSlots) -> tuple[Array, Array]:
    """b = s'H^-1 s / s'y, and whether it is known: for a step along the last direction -H g.

    There H^-1 s = -a g, with the length a of the step.
    """
    g = reals(slots.gradient)
    u = product(slots.inverse, g)
    u_u, s_u, s_s = jnp.sum(u * u), jnp.sum(pair.s * u), jnp.sum(pair.s * pair.s)
    moved = (u_u > 0) & (s_u * s_u >= ALONG * s_s * u_u)
    length = -s_u / jnp.where(u_u > 0, u_u, 1)
    b = -length * pair.rho * jnp.sum(pair.s * g)
    known = moved & (b > 0) & jnp.isfinite(b)
    return jnp.where(known, b, 1), known


def _square(x: Array) -> Array:
    """x x', symmetric to the last bit."""
    return x[:, None] * x[None, :]


def bfgs(
    learning_rate: Hyper = 1.0,
    *,
    scaling: Scaling | None = "initial",
    slope_rtol: Hyper = 1e-4,
    curv_rtol: Hyper = 0.9,
    approx_dec_rtol: Hyper | None = None,
    max_linesearch_steps: Hyper = 20,
    max_learning_rate: Hyper = 1e10,
) -> wolfe:
    """BFGS: the search `wolfe` along minus the direction of `scale_by_bfgs` of all arrays together.

    `step` needs the loss of the whole problem as `value=`; `eval_params` is the best point. The
    matrix has n^2 numbers. With `scaling="broyden"` it is what physics-informed networks are
    finished with after Adam. Nocedal & Wright 2006, algorithm 6.1.
    """
    direction = flatten(scale_by_bfgs(scaling=scaling))
    return wolfe(
        chain(direction, scale(-1.0)),
        learning_rate=learning_rate,
        slope_rtol=slope_rtol,
        curv_rtol=curv_rtol,
        approx_dec_rtol=approx_dec_rtol,
        max_linesearch_steps=max_linesearch_steps,
        max_learning_rate=max_learning_rate,
    )
