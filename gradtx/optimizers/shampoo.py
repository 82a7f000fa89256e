"""Roots of the averages of G G^H and G^H G on both sides of a matrix.

    shampoo       L^-1/4 M R^-1/4, with the norm of the step of a simpler method
    kl_shampoo    L^-1/2 M R^-1/2, each side being averaged in the metric of the other

M is the momentum. Roots are taken anew every so many steps. With `stagger` the matrices take turns,
so that all steps cost about the same; the turns follow the places of the arrays in the tree, and of
the layers in a stack. No derivative is taken of a root.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.axes import as_matrices, frobenius_norm, from_matrices, layout, shape_of_matrices
from gradtx.engine.step import next_count
from gradtx.hyper import AxesField
from gradtx.optimizers.roles import Matrices, routed
from gradtx.optimizers.sides import (
    ROOTS,
    SIDES,
    Pair,
    averages,
    diagonals,
    due,
    grams,
    has_matrix,
    inverse_root,
    numbers_of_matrices,
    on_both_sides,
    refreshed,
    scaled_identity,
    without_dead,
    zeros_and_identities,
)
from gradtx.paths import Labels
from gradtx.rule import BatchedRule, Hyper, HyperField, OptionalHyperField, Square, Step
from gradtx.struct import static, value_error, within
from gradtx.transform import GradientTransformation
from gradtx.tree import abs2, inverse, one_minus_power, real_dtype, real_zeros_like, root


class scale_by_shampoo(BatchedRule):
    """Preconditions a matrix on both sides, with the norm of a simpler method's step (grafting).

    L = b2 L + (1 - b2) G G^H, R = b2 R + (1 - b2) G^H G (sums if b2 is 1), both over 1 - b2^t,
    D = (L + eps)^-e M (R + eps)^-e with the corrected momentum M and e one over twice the number of
    sides (1/4), u = D |graft| / |D|. The `graft`, which moves alone up to the first root, is M
    ("sgd"), or M over the root of the sum ("adagrad"), the average ("rmsprop") or the corrected
    average ("adam") of squares; with `None` u = D. Gupta+ 2018, 1802.09568; Shi+ 2023, 2309.06497.
    A vector is `Axes("i")`: full-matrix AdaGrad.
    """

    b1: HyperField = within("[0, 1)", default=0.9)
    _: KW_ONLY
    b2: HyperField = within("[0, 1]", default=0.999)
    eps: HyperField = within("(0, inf)", default=1e-12)  # added to the eigenvalues
    graft_eps: HyperField = within("(0, inf)", default=1e-8)
    exponent: OptionalHyperField = within("[0, inf)", default=None)  # e, if it is not the usual one
    every: HyperField = within("(0, inf)", default=10)  # steps from one root to the next
    graft: str | None = static(default="adam", among=(None, "sgd", "adagrad", "rmsprop", "adam"))
    # Larger matrices are cut into equal blocks.
    block_size: int | None = static(default=None, within="[1, inf)")
    stagger: bool = static(default=True)  # False: all matrices in the same step
    # Or "shorter", "inputs", "outputs", of every block.
    sides: str = static(default="both", among=SIDES)
    # Longer sides keep a diagonal; None: 10,000.
    max_dim: int | None = static(default=None, within="[0, inf)")
    # Or "newton": products only, which accelerators prefer.
    roots: str = static(default="eigh", among=ROOTS)
    axes: AxesField = None  # an `Axes`

    class Slots(NamedTuple):
        mu: Array
        nu: Square  # of the graft; empty if that needs none
        left: Array  # [..., inputs, inputs]
        right: Array
        left_root: Array
        right_root: Array

    cut: ClassVar[bool | None] = None
    in_turn: ClassVar[bool] = True
    numbered: ClassVar[bool] = True
    lies_apart: ClassVar[bool] = True  # sides of square matrices

    def check(self) -> None:
        if self.roots == "newton" and self.exponent is not None:
            seen = f'exponent is {self.exponent!r} and roots is "newton"'
            do = 'Leave the exponent out, or take roots="eigh"'
            raise value_error("scale_by_shampoo", seen, do)

    def _blocks(self, n: int, m: int) -> tuple[int, int]:
        """The number of blocks along inputs and outputs."""
        size = self.block_size or max(n, m, 1)
        return max(1, -(-n // size)), max(1, -(-m // size))

    def init_leaf(self, p: Array) -> Slots:
        *stack, n, m = shape_of_matrices(self.axes, p.shape, "scale_by_shampoo")
        a, b = self._blocks(n, m)
        shape = (*stack, a, b, -(-n // a), -(-m // b))
        sides = zeros_and_identities(shape, p.dtype, self.sides, self.max_dim, diagonal=True)
        squares = self.graft not in (None, "sgd")
        nu = real_zeros_like(p) if squares else jnp.zeros((0,), real_dtype(p.dtype))
        return self.Slots(jnp.zeros_like(p), nu, *sides)

    def before_leaf(self, g: Array, slots: Slots, p: Any, step: Step) -> tuple[list[Any], Any]:
        if g.size == 0:
            return [], (g, slots)
        how = layout(self.axes, g.shape, "scale_by_shampoo")
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        mean = mu / one_minus_power(self.b1, step.t)
        simple, nu = self._grafted(g, mean, slots.nu, step.t)
        (x,), (m,), (short,) = (as_matrices(a, how) for a in (g, mean, simple))
        parts = self._blocks(*x.shape[-2:])
        x, m, short = (_as_blocks(a, *parts) for a in (x, m, short))
        sums = averages((slots.left, slots.right), x, self.b2, _weight_of_new(self.b2))
        stack = x.shape[:-2]
        late = numbers_of_matrices(step.place, stack).astype(step.t.dtype) if self.stagger else 0
        begun = step.t >= self.every + jnp.mod(late, self.every)  # from the first root on
        turns = begun & due(next_count(step.count), step.place, self.every, stack, self.stagger)
        numbers = [_sum_of_weights(self.b2, step.t), self.eps]
        numbers += [] if self.exponent is None else [self.exponent]
        numbers = [jnp.broadcast_to(jnp.asarray(n).astype(step.t.dtype), stack) for n in numbers]
        slots = slots._replace(mu=mu, nu=nu, left=sums[0], right=sums[1])
        return [(turns, (slots.left_root, slots.right_root), *sums, *numbers)], (
            (m, short, jnp.broadcast_to(begun, stack)),
            slots,
        )

    def together(self, x: Any) -> Any:
        def roots(old: Pair, left: Array, right: Array, weight: Array, *numbers: Array) -> Pair:
            usual = 1 / (2 * max(1, sum(map(has_matrix, (left, right)))))
            eps, *given = (n[..., None, None] for n in numbers)
            exponent = given[0] if given else usual
            weight = weight[..., None, None]
            means = (a / weight.astype(a.dtype) for a in (left, right))
            a, b = (inverse_root(x, exponent, eps, self.roots) for x in means)
            return a, b

        turns, old, *args = x
        return refreshed(turns, roots, old, *args)

    def after_leaf(self, results: list[Any], kept: Any) -> tuple[Array, Slots]:
        if not results:
            return kept
        ((left, right),), ((m, short, begun), slots) = results, kept
        how = layout(self.axes, slots.mu.shape, "scale_by_shampoo")
        d = without_dead(on_both_sides(left, m, right), *diagonals((slots.left, slots.right), m))
        if self.graft is not None:
            d = d * (frobenius_norm(short) * inverse(frobenius_norm(d)))
        (like,) = as_matrices(slots.mu, how)
        u = _from_blocks(jnp.where(begun[..., None, None], d, short), like.shape[-2:])
        return from_matrices([u], how), slots._replace(left_root=left, right_root=right)

    def _grafted(self, g: Array, mean: Array, nu: Array, t: Array) -> tuple[Array, Array]:
        """The step of the method that gives the length, and its squares."""
        if self.graft in (None, "sgd"):
            return mean, nu
        decay, weight = (1, 1) if self.graft == "adagrad" else (self.b2, _weight_of_new(self.b2))
        nu = decay * nu + weight * abs2(g)
        squares = nu / _sum_of_weights(self.b2, t) if self.graft == "adam" else nu
        return mean / (root(squares) + self.graft_eps), nu


def _weight_of_new(decay: Any) -> Array:
    """The weight of the new in an average, which is a sum where nothing decays."""
    return jnp.where(jnp.less(decay, 1), 1 - decay, 1)


def _sum_of_weights(decay: Any, t: Array) -> Array:
    averaged = jnp.less(decay, 1)
    below_one = jnp.where(averaged, decay, 0.5).astype(t.dtype)
    return jnp.where(averaged, one_minus_power(below_one, t), 1)


def _as_blocks(x: Array, a: int, b: int) -> Array:
    """[..., n, m] as blocks [..., a, b, n / a, m / b], padded with zeros."""
    *stack, n, m = x.shape
    rows, columns = -(-n // a), -(-m // b)
    x = jnp.pad(x, [(0, 0)] * len(stack) + [(0, a * rows - n), (0, b * columns - m)])
    return x.reshape(*stack, a, rows, b, columns).swapaxes(-3, -2)


def _from_blocks(x: Array, shape: tuple[int, ...]) -> Array:
    """What `_as_blocks` was given."""
    *stack, a, b, rows, columns = x.shape
    x = x.swapaxes(-3, -2).reshape(*stack, a * rows, b * columns)
    return x[..., : shape[0], : shape[1]]


class scale_by_kl_shampoo(BatchedRule):
    """Whitens by the Kronecker product that is nearest to the covariance of the gradients.

    L = b2 L + (1 - b2) / m G R^-1 G^H, R = b2 R + (1 - b2) / n G^H L^-1 G (both with the old ones),
    u = (L + eps)^-1/2 M (R + eps)^-1/2 with the corrected momentum M of n x m matrices: the nearest
    in the divergence of Kullback and Leibler. Lin+ 2025, 2509.03378. Inverses are those of the last
    refresh. Of the start the paper leaves a choice: here both sides are the identity times the root
    mean square of the first gradient that is not zero.
    """

    b1: HyperField = within("[0, 1)", default=0.9)
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.95)
    eps: HyperField = within("(0, inf)", default=1e-12)  # added to the eigenvalues
    every: HyperField = within("(0, inf)", default=10)  # steps from one root to the next
    stagger: bool = static(default=True)  # False: all matrices in the same step
    sides: str = static(default="both", among=SIDES)  # or "shorter", "inputs", "outputs"
    # Longer sides keep a diagonal; None: 10,000.
    max_dim: int | None = static(default=None, within="[0, inf)")
    # Or "newton": products only, which accelerators prefer.
    roots: str = static(default="eigh", among=ROOTS)
    axes: AxesField = None  # an `Axes`

    class Slots(NamedTuple):
        mu: Array
        left: Array  # [..., inputs, inputs]
        right: Array
        left_root: Array
        right_root: Array

    cut: ClassVar[bool | None] = True
    in_turn: ClassVar[bool] = True
    numbered: ClassVar[bool] = True
    lies_apart: ClassVar[bool] = True  # sides of square matrices

    def init_leaf(self, p: Array) -> Slots:
        shape = shape_of_matrices(self.axes, p.shape, "scale_by_kl_shampoo")
        sides = zeros_and_identities(shape, p.dtype, self.sides, self.max_dim, diagonal=True)
        return self.Slots(jnp.zeros_like(p), *sides)

    def before_leaf(self, g: Array, slots: Slots, p: Any, step: Step) -> tuple[list[Any], Any]:
        if g.size == 0:
            return [], (g, slots)
        how = layout(self.axes, g.shape, "scale_by_kl_shampoo")
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        (x,), (mean,) = as_matrices(g, how), as_matrices(mu / one_minus_power(self.b1, step.t), how)
        n, m = x.shape[-2:]
        old = slots.left, slots.right
        # A side of zeros has seen no gradient yet.
        new_here = [jnp.all(a == 0, axis=(-2, -1), keepdims=True) for a in old if has_matrix(a)]
        first = new_here[0] if new_here else jnp.zeros((*x.shape[:-2], 1, 1), bool)
        power = jnp.sum(abs2(x), axis=(-2, -1), keepdims=True) / (n * m)
        size = root(power) if all(map(has_matrix, old)) else power
        some = inverse(root(size))
        start = [jnp.where(first, scaled_identity(size, a), a) for a in old]
        old_roots = slots.left_root, slots.right_root
        roots = [jnp.where(first, scaled_identity(some, a), a) for a in old_roots]
        by_right = on_both_sides(_left_alone(roots[0]), x, roots[1]) * m**-0.5
        by_left = on_both_sides(roots[0], x, _left_alone(roots[1])) * n**-0.5
        new = grams(by_right, *start)[0], grams(by_left, *start)[1]
        # In this form there is one way only to fuse a product into the sum.
        left, right = (a + (1 - self.b2) * (b - a) for a, b in zip(start, new, strict=True))
        turns = due(step.count, step.place, self.every, x.shape[:-2], self.stagger)
        eps = jnp.broadcast_to(jnp.asarray(self.eps).astype(step.t.dtype), x.shape[:-2])
        slots = slots._replace(mu=mu, left=left, right=right)
        return [(turns, tuple(roots), left, right, eps)], (mean, slots)

    def together(self, x: Any) -> Any:
        def fresh(old: Pair, left: Array, right: Array, eps: Array) -> Pair:
            ridge = eps[..., None, None]
            a, b = (inverse_root(x, 0.5, ridge, self.roots) for x in (left, right))
            return a, b

        turns, old, *args = x
        return refreshed(turns, fresh, old, *args)

    def after_leaf(self, results: list[Any], kept: Any) -> tuple[Array, Slots]:
        if not results:
            return kept
        (roots,), (mean, slots) = results, kept
        u = on_both_sides(roots[0], mean, roots[1])
        u = without_dead(u, *(jnp.max(abs2(mean), axis=axis) for axis in (-1, -2)))
        how = layout(self.axes, slots.mu.shape, "scale_by_kl_shampoo")
        return from_matrices([u], how), slots._replace(left_root=roots[0], right_root=roots[1])


def _left_alone(side: Array) -> Array:
    """A side that is left alone in the place of this one."""
    return side[..., :0, :0]


# Optimizers ------------------------------------------------------------------------------------


def shampoo(
    learning_rate: Hyper,
    *,
    matrices: Matrices | None = None,
    labels: Labels | None = None,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-12,
    graft_eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.01,
    exponent: Hyper | None = None,
    every: Hyper = 10,
    graft: str | None = "adam",
    block_size: int | None = None,
    stagger: bool = True,
    sides: str = "both",
    max_dim: int | None = None,
    roots: str = "eigh",
    auxiliary: GradientTransformation | None = None,
) -> GradientTransformation:
    """Shampoo: `scale_by_shampoo` and decoupled weight decay for matrices, Adam for the rest.

    `matrices`, `labels` and `auxiliary` as in `muon`.
    """
    direction = scale_by_shampoo(
        b1,
        b2=b2,
        eps=eps,
        graft_eps=graft_eps,
        exponent=exponent,
        every=every,
        graft=graft,
        block_size=block_size,
        stagger=stagger,
        sides=sides,
        max_dim=max_dim,
        roots=roots,
    )
    return routed("shampoo", direction, learning_rate, weight_decay, matrices, labels, auxiliary)


def kl_shampoo(
    learning_rate: Hyper,
    *,
    matrices: Matrices | None = None,
    labels: Labels | None = None,
    b1: Hyper = 0.9,
    b2: Hyper = 0.95,
    eps: Hyper = 1e-12,
    weight_decay: Hyper = 0.01,
    every: Hyper = 10,
    stagger: bool = True,
    sides: str = "both",
    max_dim: int | None = None,
    roots: str = "eigh",
    auxiliary: GradientTransformation | None = None,
) -> GradientTransformation:
    """KL-Shampoo: `scale_by_kl_shampoo` and decoupled weight decay for matrices, Adam for the rest.

    `matrices`, `labels` and `auxiliary` as in `muon`.
    """
    direction = scale_by_kl_shampoo(
        b1, b2=b2, eps=eps, every=every, stagger=stagger, sides=sides, max_dim=max_dim, roots=roots
    )
    return routed("kl_shampoo", direction, learning_rate, weight_decay, matrices, labels, auxiliary)
