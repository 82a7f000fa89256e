"""Methods in the eigenbasis of a matrix's two sides: Adam there, or signs.

With L and R the averages of G G^H and G^H G, and Q their eigenvectors:

    soap     Adam of Q_L^H G Q_R, turned back
    splus    the sign of Q_L^H mu Q_R, turned back, for stepping far; evaluate with averages

Bases are made anew every so many steps. With `stagger` the matrices take turns, so that all steps
cost about the same; the turns follow the places of the arrays in the tree, and of the layers in a
stack. No derivative is taken of a basis.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from gradtx.axes import adjoint, as_matrices, from_matrices, layout, product, shape_of_matrices
from gradtx.engine.placement import varying_as
from gradtx.hyper import AxesField
from gradtx.optimizers.roles import Matrices, routed
from gradtx.optimizers.sides import (
    SIDES,
    Pair,
    averages,
    diagonals,
    due,
    eigenbasis,
    has_matrix,
    on_both_sides,
    power_step,
    refreshed,
    same_order,
    without_dead,
    without_rounding,
    zeros_and_identities,
)
from gradtx.paths import Labels
from gradtx.rule import BatchedRule, Hyper, HyperField, Square, Step
from gradtx.struct import static, within
from gradtx.transform import GradientTransformation
from gradtx.tree import abs2, not_begun, one_minus_power, real_zeros_like, root


class scale_by_soap(BatchedRule):
    """Adam in the eigenbasis of Shampoo's preconditioner.

    Z = Q_L^H G Q_R (zero where it is only rounding), mu and nu the moments of Z with Adam's
    corrections for t - 1 steps, u = Q_L mu / (sqrt(nu) + eps) Q_R^H with eps beside the uncorrected
    nu; then L and R (`shampoo_beta`) take G in. The first step finds L, R and Q alone, u = 0. Every
    few steps Q becomes QR(L Q), its columns sorted, nu with them, and mu is turned over. Vyas+
    2024, 2409.11321, in the authors' form. With no side left it is Adam.
    """

    b1: HyperField = within("[0, 1)", default=0.95)
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.95)
    eps: HyperField = within("(0, inf)", default=1e-8)
    shampoo_beta: HyperField = within("[0, 1)", default=0.95)
    every: HyperField = within("(0, inf)", default=10)  # steps from one basis to the next
    stagger: bool = static(default=True)  # False: all matrices in the same step
    sides: str = static(default="both", among=SIDES)  # or "shorter", "inputs", "outputs"
    # Longer sides keep their axes; None: 10,000.
    max_dim: int | None = static(default=None, within="[0, inf)")
    axes: AxesField = None  # an `Axes`

    class Slots(NamedTuple):
        mu: Array  # both moments are in the basis
        nu: Square
        left: Array  # [..., inputs, inputs]
        right: Array
        left_basis: Array
        right_basis: Array
        begun: Array  # 0 before the first step of this array, then 1

    cut: ClassVar[bool | None] = None
    in_turn: ClassVar[bool] = True
    numbered: ClassVar[bool] = True
    lies_apart: ClassVar[bool] = True  # sides of square matrices

    def init_leaf(self, p: Array) -> Slots:
        shape = shape_of_matrices(self.axes, p.shape, "scale_by_soap")
        sides = zeros_and_identities(shape, p.dtype, self.sides, self.max_dim)
        return self.Slots(jnp.zeros_like(p), real_zeros_like(p), *sides, begun=not_begun(p))

    def before_leaf(self, g: Array, slots: Slots, p: Any, step: Step) -> tuple[list[Any], Any]:
        if g.size == 0:
            return [], (g, slots)
        how = layout(self.axes, g.shape, "scale_by_soap")
        (x,), (mu,), (nu,) = (as_matrices(a, how) for a in (g, slots.mu, slots.nu))
        bases = slots.left_basis, slots.right_basis
        z = without_rounding(on_both_sides(adjoint(bases[0]), x, bases[1]))
        first = slots.begun == 0
        mu = jnp.where(first, 0, self.b1 * mu + (1 - self.b1) * z)
        nu = jnp.where(first, 0, self.b2 * nu + (1 - self.b2) * abs2(z))
        k = jnp.maximum(step.t - 1, 1)
        correction = root(one_minus_power(self.b2, k)) / one_minus_power(self.b1, k)
        u = on_both_sides(bases[0], correction * (mu / (root(nu) + self.eps)), adjoint(bases[1]))
        new = averages((slots.left, slots.right), x, self.shampoo_beta, 1 - self.shampoo_beta)
        turns = due(step.count, step.place, self.every, x.shape[:-2], self.stagger) | first
        u = from_matrices([without_dead(u, *diagonals(new, u))], how)
        firsts = jnp.broadcast_to(first, turns.shape)
        kept = u, slots._replace(left=new[0], right=new[1], begun=jnp.ones_like(slots.begun))
        return [(turns, (mu, nu, *bases), *new, firsts)], kept

    def together(self, x: Any) -> Any:
        turns, old, *args = x
        return refreshed(turns, _in_next_bases, old, *args)

    def after_leaf(self, results: list[Any], kept: Any) -> tuple[Array, Slots]:
        u, slots = kept
        if not results:
            return kept
        ((mu, nu, left, right),) = results
        how = layout(self.axes, u.shape, "scale_by_soap")
        mu, nu = (from_matrices([a], how) for a in (mu, nu))
        return u, slots._replace(mu=mu, nu=nu, left_basis=left, right_basis=right)


def _in_next_bases(old: Any, left: Array, right: Array, first: Array) -> Any:
    """Both moments in the next bases, and these bases."""
    mu, nu, *bases = old
    for side, a in enumerate((left, right)):
        if has_matrix(a):
            new, order = lax.cond(first, _first_basis, power_step, a, bases[side])
            turn, bases[side] = product(adjoint(new), bases[side]), new
            if side == 0:
                mu, nu = product(turn, mu), jnp.take_along_axis(nu, order[..., :, None], axis=-2)
            else:
                mu = product(mu, adjoint(turn))
                nu = jnp.take_along_axis(nu, order[..., None, :], axis=-1)
    # Where no gradient was, rounding has left something in the momentum, but not in its divisor.
    return (jnp.where(nu > 0, mu, 0), nu, *bases)


def _first_basis(a: Array, basis: Array) -> Pair:
    return eigenbasis(a), varying_as(a, same_order(a.shape[:-1]))


class scale_by_splus(BatchedRule):
    """Signs of the momentum in the eigenbasis of Shampoo's preconditioner: SPlus.

    u = 2 / (n + m) Q_L sign(Q_L^H mu Q_R) Q_R^H with mu = b1 mu + (1 - b1) g, L and R averaged
    with b2 and Q found anew every 100 steps. Frans+ 2025, 2506.07254. Entries that are rounding
    count as zero, so the first step is along the orthogonal factor. Evaluate with an average of
    the parameters, of decay 0.999 in the paper.
    """

    b1: HyperField = within("[0, 1)", default=0.9)
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.999)
    every: HyperField = within("(0, inf)", default=100)  # steps from one basis to the next
    stagger: bool = static(default=True)  # False: all matrices in the same step
    sides: str = static(default="both", among=SIDES)  # or "shorter", "inputs", "outputs"
    # Longer sides keep their axes; None: 10,000.
    max_dim: int | None = static(default=None, within="[0, inf)")
    axes: AxesField = None  # an `Axes`

    class Slots(NamedTuple):
        mu: Array
        left: Array  # [..., inputs, inputs]
        right: Array
        left_basis: Array
        right_basis: Array
        begun: Array  # 0 before the first step of this array, then 1

    cut: ClassVar[bool | None] = True
    in_turn: ClassVar[bool] = True
    numbered: ClassVar[bool] = True
    lies_apart: ClassVar[bool] = True  # sides of square matrices

    def init_leaf(self, p: Array) -> Slots:
        shape = shape_of_matrices(self.axes, p.shape, "scale_by_splus")
        sides = zeros_and_identities(shape, p.dtype, self.sides, self.max_dim)
        return self.Slots(jnp.zeros_like(p), *sides, begun=not_begun(p))

    def before_leaf(self, g: Array, slots: Slots, p: Any, step: Step) -> tuple[list[Any], Any]:
        if g.size == 0:
            return [], (g, slots)
        how = layout(self.axes, g.shape, "scale_by_splus")
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        (x,) = as_matrices(g, how)
        new = averages((slots.left, slots.right), x, self.b2, 1 - self.b2)
        turns = due(step.count, step.place, self.every, x.shape[:-2], self.stagger)
        turns, begun = turns | (slots.begun == 0), jnp.ones_like(slots.begun)
        slots = slots._replace(mu=mu, left=new[0], right=new[1], begun=begun)
        return [(turns, (slots.left_basis, slots.right_basis), *new)], (g, slots)

    def together(self, x: Any) -> Any:
        turns, old, *args = x
        return refreshed(turns, _eigenbases, old, *args)

    def after_leaf(self, results: list[Any], kept: Any) -> tuple[Array, Slots]:
        g, slots = kept
        if not results:
            return kept
        (bases,) = results
        how = layout(self.axes, g.shape, "scale_by_splus")
        (average,) = as_matrices(slots.mu, how)
        signs = jnp.sign(without_rounding(on_both_sides(adjoint(bases[0]), average, bases[1])))
        u = on_both_sides(bases[0], signs * (2 / sum(average.shape[-2:])), adjoint(bases[1]))
        u = without_dead(u, *diagonals((slots.left, slots.right), u))
        new = slots._replace(left_basis=bases[0], right_basis=bases[1])
        return from_matrices([u], how), new


def _eigenbases(old: Pair, left: Array, right: Array) -> Pair:
    return eigenbasis(left), eigenbasis(right)


# Optimizers ------------------------------------------------------------------------------------


def soap(
    learning_rate: Hyper,
    *,
    matrices: Matrices | None = None,
    labels: Labels | None = None,
    b1: Hyper = 0.95,
    b2: Hyper = 0.95,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.01,
    shampoo_beta: Hyper = 0.95,
    every: Hyper = 10,
    stagger: bool = True,
    sides: str = "both",
    max_dim: int | None = None,
    auxiliary: GradientTransformation | None = None,
) -> GradientTransformation:
    """SOAP: `scale_by_soap` and decoupled weight decay for matrices, Adam (b2 0.95) for the rest.

    `matrices`, `labels` and `auxiliary` as in `muon`.
    """
    direction = scale_by_soap(
        b1,
        b2=b2,
        eps=eps,
        shampoo_beta=shampoo_beta,
        every=every,
        stagger=stagger,
        sides=sides,
        max_dim=max_dim,
    )
    return routed("soap", direction, learning_rate, weight_decay, matrices, labels, auxiliary)


def splus(
    learning_rate: Hyper,
    *,
    matrices: Matrices | None = None,
    labels: Labels | None = None,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    weight_decay: Hyper = 0.01,
    every: Hyper = 100,
    stagger: bool = True,
    sides: str = "both",
    max_dim: int | None = None,
    auxiliary: GradientTransformation | None = None,
) -> GradientTransformation:
    """SPlus: `scale_by_splus` and decoupled weight decay for matrices, Adam for the rest.

    The paper's learning rate is 0.1 for matrices; give an `auxiliary` for the rest then. Evaluate
    with an average of the parameters. `matrices`, `labels` and `auxiliary` as in `muon`.
    """
    direction = scale_by_splus(
        b1, b2=b2, every=every, stagger=stagger, sides=sides, max_dim=max_dim
    )
    return routed("splus", direction, learning_rate, weight_decay, matrices, labels, auxiliary)
