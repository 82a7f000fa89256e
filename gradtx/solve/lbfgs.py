"""Directions from the curvature that gradients showed, and the searches around them, ready-made.

What stands for the inverse of the Hessian tells the directions apart:

    scale_by_lbfgs    the last pairs of steps and changes of the gradient
"""

from __future__ import annotations

import functools
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from gradtx.chain import chain
from gradtx.engine.placement import on_any_mesh, ordered_after
from gradtx.rule import Copy, Hyper, JointRule, OptionalHyperField, Step
from gradtx.solve.search import wolfe
from gradtx.struct import static, within
from gradtx.transforms.scale import scale
from gradtx.tree import inner, not_begun

HIGHEST = lax.Precision.HIGHEST  # of float32 all digits, on accelerators too


def _products(memory: Array, x: Array) -> Array:
    """The real inner products of the arrays in `memory`, [m, ...], with an array."""
    if jnp.iscomplexobj(x):
        return _products(memory.real, x.real) + _products(memory.imag, x.imag)
    axes = tuple(range(x.ndim))
    over = (tuple(k + 1 for k in axes), axes), ((), ())
    dot = functools.partial(lax.dot_general, dimension_numbers=over, precision=HIGHEST)
    return on_any_mesh(dot, memory, x, like=lambda: None)


def _mixed(weights: Array, memory: Array) -> Array:
    """The sum of the arrays in `memory`, [m, ...], each with its weight."""
    weights = weights.astype(memory.dtype)
    return lax.dot_general(weights, memory, (((0,), (0,)), ((), ())), precision=HIGHEST)


class LbfgsSlots(NamedTuple):
    position: Copy  # of the step before
    gradient: Array  # there
    steps: Array  # [memory_size, ...]
    changes: Array  # of the gradient, [memory_size, ...]
    begun: Array  # 0 before the first step


class LbfgsGlobals(NamedTuple):
    place: Array  # of the oldest pair, which the next one takes
    gamma: Array
    steps_changes: Array  # their inner products, [memory_size, memory_size]
    changes_changes: Array


class LbfgsSums(NamedTuple):
    """Inner products with the gradient g and its change y; s is the step."""

    steps_g: Array  # [memory_size]
    steps_y: Array
    changes_g: Array
    changes_y: Array
    s_g: Array
    s_y: Array
    y_g: Array
    y_y: Array


class _Shared(NamedTuple):
    kept: Array  # whether the new pair goes into the memory
    place: Array  # where
    gamma: Array
    of_steps: Array  # [memory_size]
    of_changes: Array


class scale_by_lbfgs(JointRule):
    """Multiplies by the inverse Hessian of L-BFGS: u = gamma g + S v - gamma Y w.

    S and Y hold the last steps s and changes y of the gradient. With R the upper triangle of S'Y
    (oldest first), D its diagonal: w = R^-1 S'g, v = R^-T ((D + gamma Y'Y) w - gamma Y'g), and
    gamma = s'y / y'y of the newest. A pair is kept where s'y > eps y'y. Byrd, Nocedal & Schnabel
    1994, in one sum over all arrays. Differs from Optax, which keeps negative curvature, and
    climbs. Give it to a search, or a learning rate.
    """

    memory_size: int = static(default=10, within="[1, inf)")
    _: KW_ONLY
    # No pair whose s'y / y'y is lower; None: the last digit of the dtype.
    eps: OptionalHyperField = within("[0, inf)", default=None)
    scale_init_precond: bool = static(default=True)  # else gamma is 1

    Slots = LbfgsSlots
    Globals = LbfgsGlobals
    Sums = LbfgsSums
    stacked: ClassVar[frozenset[str]] = frozenset(("steps", "changes"))
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_leaf(self, p: Array) -> LbfgsSlots:
        zeros, none = jnp.zeros_like(p), jnp.zeros((self.memory_size, *p.shape), p.dtype)
        return LbfgsSlots(zeros, zeros, none, none, not_begun(p))

    def init_globals(self) -> Any:
        none = jnp.zeros((self.memory_size, self.memory_size))
        return LbfgsGlobals(0.0, 1.0, none, none)  # pyright: ignore[reportArgumentType]

    def measure_leaf(self, g: Array, slots: LbfgsSlots, p: Array, known: Any) -> LbfgsSums:
        s, y = _pair(g, slots, p)
        return LbfgsSums(
            steps_g=_products(slots.steps, g),
            steps_y=_products(slots.steps, y),
            changes_g=_products(slots.changes, g),
            changes_y=_products(slots.changes, y),
            s_g=inner(s, g),
            s_y=inner(s, y),
            y_g=inner(y, g),
            y_y=inner(y, y),
        )

    def decide(
        self, sums: LbfgsSums, globals_: LbfgsGlobals, t: Array, **extra: Any
    ) -> tuple[LbfgsGlobals, _Shared]:
        size = self.memory_size
        places = jnp.arange(size, dtype=jnp.int32)
        place = jnp.round(globals_.place).astype(jnp.int32)
        limits = jnp.finfo(sums.s_y.dtype)
        eps = limits.eps if self.eps is None else self.eps
        some = (sums.y_y >= limits.tiny) & (sums.s_y > eps * sums.y_y)
        ratio = sums.s_y / jnp.where(some, sums.y_y, 1)
        kept = some & jnp.isfinite(ratio) & jnp.isfinite(sums.y_y)
        gamma = jnp.where(kept, ratio, globals_.gamma)

        new = kept & (places == place)
        row, column = new[:, None], new[None, :]
        along = jnp.where(new, sums.s_y, sums.steps_y)[:, None]
        steps_changes = jnp.where(column, along, globals_.steps_changes)
        across = jnp.where(new, sums.y_y, sums.changes_y)
        changes_changes = jnp.where(row, across[None, :], globals_.changes_changes)
        changes_changes = jnp.where(column, across[:, None], changes_changes)
        after = jnp.where(kept, (place + 1) % size, place)
        globals_ = LbfgsGlobals(after.astype(t.dtype), gamma, steps_changes, changes_changes)

        gamma = gamma if self.scale_init_precond else jnp.ones_like(gamma)
        order = (after + places) % size  # oldest first
        a = jnp.where(new, sums.s_g, sums.steps_g)[order]
        b = jnp.where(new, sums.y_g, sums.changes_g)[order]
        v, w = _compact(
            a, b, gamma, steps_changes[order][:, order], changes_changes[order][:, order]
        )
        back = (places - after) % size
        # After all products, or the memory that the new pair overwrites would be copied for them.
        products = (sums.steps_g, sums.steps_y, sums.changes_g, sums.changes_y)
        written = ordered_after(jnp.sum(jnp.stack(products)), kept.astype(t.dtype))
        return globals_, _Shared(written, place, gamma, v[back], -gamma * w[back])

    def update_leaf(
        self, g: Array, slots: LbfgsSlots, p: Array, step: Step
    ) -> tuple[Array, LbfgsSlots]:
        kept, place, gamma, of_steps, of_changes = step.shared
        new = (jnp.arange(self.memory_size, dtype=place.dtype) == place) & (kept != 0)
        new = jnp.expand_dims(new, tuple(range(1, g.ndim + 1)))

        def put(memory: Array, x: Array) -> Array:
            return jnp.where(new, x[None], memory)

        s, y = _pair(g, slots, p)
        steps, changes = put(slots.steps, s), put(slots.changes, y)
        u = gamma * g + _mixed(of_steps, steps) + _mixed(of_changes, changes)
        return u, LbfgsSlots(p, g, steps, changes, jnp.ones_like(slots.begun))


def _pair(g: Array, slots: LbfgsSlots, p: Array) -> tuple[Array, Array]:
    """The step since the last update and the change of the gradient; zero at the first."""
    begun = slots.begun > 0
    return jnp.where(begun, p - slots.position, 0), jnp.where(begun, g - slots.gradient, 0)


def _compact(
    a: Array, b: Array, gamma: Array, steps_changes: Array, changes_changes: Array
) -> tuple[Array, Array]:
    """v and w of H g = gamma g + S v - gamma Y w, for a = S'g, b = Y'g and pairs oldest first."""
    diagonal = jnp.diagonal(steps_changes)
    some = diagonal > 0  # a place without a pair has a one there, and zeros beside it
    safe = jnp.diag(jnp.where(some, 0, 1).astype(a.dtype))
    upper = jnp.triu(steps_changes) + safe

    def solve(x: Array, transposed: bool) -> Array:
        return lax.linalg.triangular_solve(
            upper, x[:, None], left_side=True, lower=False, transpose_a=transposed
        )[:, 0]

    def times(x: Array) -> Array:
        return jnp.sum(changes_changes * x[None, :], axis=1)

    w = solve(a, False)
    v = solve(diagonal * w + gamma * (times(w) - b), True)
    return v, w


def lbfgs(
    learning_rate: Hyper = 1.0,
    memory_size: int = 10,
    *,
    scale_init_precond: bool = True,
    slope_rtol: Hyper = 1e-3,
    curv_rtol: Hyper = 0.9,
    approx_dec_rtol: Hyper | None = None,
    max_linesearch_steps: Hyper = 20,
    max_learning_rate: Hyper = 1e10,
) -> wolfe:
    """L-BFGS: the search `wolfe` along minus the direction of `scale_by_lbfgs`.

    `step` needs the loss of the whole problem as `value=`, and every call is one evaluation;
    `eval_params` is the best point. Liu & Nocedal 1989. Differs from Optax, whose `update` asks
    `value_fn` as often as the search wants.
    """
    return wolfe(
        chain(scale_by_lbfgs(memory_size, scale_init_precond=scale_init_precond), scale(-1.0)),
        learning_rate=learning_rate,
        slope_rtol=slope_rtol,
        curv_rtol=curv_rtol,
        approx_dec_rtol=approx_dec_rtol,
        max_linesearch_steps=max_linesearch_steps,
        max_learning_rate=max_learning_rate,
    )
