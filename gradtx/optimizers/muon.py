"""Momentum whose matrices are replaced by their orthogonal factor.

muon       O = the orthogonal factor of the momentum, times a number for its shape
normuon    rows of O divided by their root mean square over time
adamuon    entries of O (of the sign of the momentum) divided by theirs
adago      O times a step size as that of AdaGrad, from the norms of gradients
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from gradtx.axes import (
    as_matrices,
    frobenius_norm,
    from_matrices,
    layout,
    on_matrices,
    shape_of_matrices,
)
from gradtx.hyper import AxesField
from gradtx.optimizers.polar import Polar, newton_schulz
from gradtx.rule import BatchedRule, HyperField, Square, Step
from gradtx.struct import static, within
from gradtx.tree import abs2, inverse, norm, one_minus_power, real_dtype, real_zeros_like, root

MOMENTA = ("lerp", "trace", "corrected")
SCALES = (None, "original", "spectral", "match_rms_adamw", "rms", "nuclear")


class Momentum(NamedTuple):
    mu: Array


def direction_and_momentum(rule: Any, g: Array, mu: Array, t: Array) -> tuple[Array, Array]:
    """The direction and the new momentum, in one of the forms in use.

    lerp: mu = beta mu + (1 - beta) g, and looking ahead beta mu + (1 - beta) g with the new mu.
    trace: mu = beta mu + g, and beta mu + g. corrected: as lerp, but mu over 1 - beta^t, and
    looking ahead beta mu / (1 - beta^(t+1)) + (1 - beta) g / (1 - beta^t).
    """
    beta, weight = rule.beta, 1 if rule.momentum == "trace" else 1 - rule.beta
    mu = beta * mu + weight * g
    if rule.momentum == "corrected":
        if not rule.nesterov:
            return mu / one_minus_power(beta, t), mu
        return beta * mu / one_minus_power(beta, t + 1) + weight * g / one_minus_power(beta, t), mu
    return (beta * mu + weight * g if rule.nesterov else mu), mu


def orthogonal_factor(self: Any, x: Array) -> Array:
    """`together` of a rule that asks nothing else of its matrices."""
    return self.polar.factor(x)


def shape_factor(scale: str | None, n: int, m: int, rms: Any) -> Any:
    """What an orthogonal n x m matrix (inputs, outputs) is multiplied by, from its shape alone."""
    n, m = max(n, 1), max(m, 1)
    if scale == "original":
        return math.sqrt(max(1.0, m / n))
    if scale == "spectral":
        return math.sqrt(m / n)
    if scale == "match_rms_adamw":
        return rms * math.sqrt(max(n, m))
    return 1


def scaled_to_rms(x: Array, rms: Any) -> Array:
    """Every matrix of a stack with this root mean square."""
    return x * (rms * math.sqrt(x.shape[-2] * x.shape[-1]) * inverse(frobenius_norm(x)))


class scale_by_muon(BatchedRule):
    """The orthogonal factor O of the momentum, times a number that `scale` names.

    With inputs n and outputs m: "original" sqrt(max(1, m/n)); "spectral" sqrt(m/n);
    "match_rms_adamw" rms sqrt(max(n, m)), so that learning rate and decay are those of AdamW (Liu+
    2025, 2502.16982); "rms" rms sqrt(n m) / |O|; "nuclear" <O, momentum> (Lau+ 2025, 2505.21799);
    `None` leaves O. Jordan+ 2024. Differs from Optax, which stacks nothing and guesses matrices by
    their number of axes: here arrays that have not two need `axes`.
    """

    _: KW_ONLY
    beta: HyperField = within("[0, 1)", default=0.95)
    # Of the entries of the update, in the scales that set it.
    rms: HyperField = within("(0, inf)", default=0.2)
    nesterov: bool = static(default=True)
    # PyTorch's code; or "trace" or "corrected" (Optax).
    momentum: str = static(default="lerp", among=MOMENTA)
    scale: str | None = static(default="match_rms_adamw", among=SCALES)
    polar: Polar = static(default=newton_schulz())  # or `exact_polar()`
    axes: AxesField = None  # an `Axes`: which are inputs and outputs, which stacked

    Slots = Momentum

    def init_leaf(self, p: Array) -> Momentum:
        layout(self.axes, p.shape, "scale_by_muon")
        return Momentum(jnp.zeros_like(p))

    def before_leaf(
        self, g: Array, slots: Momentum, p: Array, step: Step
    ) -> tuple[list[Array], Array]:
        u, mu = direction_and_momentum(self, g, slots.mu, step.t)
        return as_matrices(u, layout(self.axes, g.shape, "scale_by_muon")), mu

    def together(self, x: Array) -> Array:
        o = self.polar.factor(x)
        if self.scale != "nuclear":
            return o
        return o * jnp.sum((jnp.conj(o) * x).real, axis=(-2, -1), keepdims=True)

    def after_leaf(self, results: list[Array], kept: Array) -> tuple[Array, Momentum]:
        how = layout(self.axes, kept.shape, "scale_by_muon")
        return from_matrices([self._sized(o) for o in results], how), Momentum(kept)

    def _sized(self, o: Array) -> Array:
        if self.scale == "rms":
            return scaled_to_rms(o, self.rms)
        return o * shape_factor(self.scale, o.shape[-2], o.shape[-1], self.rms)


class scale_by_normuon(BatchedRule):
    """Muon whose rows (what leads to one output) are divided by their root mean square over time.

    nu = b2 nu + (1 - b2) mean over inputs of O^2, N = O / (sqrt(nu) + eps); with `scale="rms"` the
    update is rms sqrt(n m) N / |N|, else N |O| / |N| times the number of that scale (see
    `scale_by_muon`): the authors' code. Li+ 2025, 2510.05491.
    """

    beta: HyperField = within("[0, 1)", default=0.95)
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.95)
    eps: HyperField = within("(0, inf)", default=1e-8)
    rms: HyperField = within("(0, inf)", default=0.2)
    nesterov: bool = static(default=True)
    momentum: str = static(default="lerp", among=MOMENTA)
    scale: str | None = static(default="rms", among=tuple(s for s in SCALES if s != "nuclear"))
    polar: Polar = static(default=newton_schulz())
    axes: AxesField = None

    class Slots(NamedTuple):
        mu: Array
        nu: Square  # one number for every output of every matrix: [..., outputs]

    def init_leaf(self, p: Array) -> Slots:
        *stack, _, m = shape_of_matrices(self.axes, p.shape, "scale_by_normuon")
        return self.Slots(jnp.zeros_like(p), jnp.zeros((*stack, m), real_dtype(p.dtype)))

    def before_leaf(self, g: Array, slots: Slots, p: Any, step: Step) -> tuple[list[Array], Slots]:
        u, mu = direction_and_momentum(self, g, slots.mu, step.t)
        how = layout(self.axes, g.shape, "scale_by_normuon")
        return as_matrices(u, how), slots._replace(mu=mu)

    together = orthogonal_factor

    def after_leaf(self, results: list[Array], kept: Slots) -> tuple[Array, Slots]:
        (o,) = results
        square = jnp.sum(abs2(o), axis=-2) / max(o.shape[-2], 1)
        nu = self.b2 * kept.nu + (1 - self.b2) * square
        even = o / (root(nu) + self.eps)[..., None, :]
        if self.scale == "rms":
            even = scaled_to_rms(even, self.rms)
        else:
            factor = shape_factor(self.scale, o.shape[-2], o.shape[-1], self.rms)
            even = even * (frobenius_norm(o) * inverse(frobenius_norm(even)) * factor)
        how = layout(self.axes, kept.mu.shape, "scale_by_normuon")
        return from_matrices([even], how), kept._replace(nu=nu)


class scale_by_adamuon(BatchedRule):
    """The orthogonal factor of the sign of the momentum, over the root mean square of its entries.

    O = polar(sign(mu)), nu = b2 nu + (1 - b2) |O|^2, N = O / (sqrt(nu) + eps) and then
    u = rms sqrt(n m) N / |N|. Si+ 2025, 2507.11005. `signed=False` leaves out the sign, as much
    code does.
    """

    beta: HyperField = within("[0, 1)", default=0.95)
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.95)
    eps: HyperField = within("(0, inf)", default=1e-8)
    rms: HyperField = within("(0, inf)", default=0.2)
    nesterov: bool = static(default=False)
    momentum: str = static(default="lerp", among=MOMENTA)
    signed: bool = static(default=True)
    polar: Polar = static(default=newton_schulz())
    axes: AxesField = None

    class Slots(NamedTuple):
        mu: Array
        nu: Square

    def init_leaf(self, p: Array) -> Slots:
        layout(self.axes, p.shape, "scale_by_adamuon")
        return self.Slots(jnp.zeros_like(p), real_zeros_like(p))

    def before_leaf(self, g: Array, slots: Slots, p: Any, step: Step) -> tuple[list[Array], Slots]:
        u, mu = direction_and_momentum(self, g, slots.mu, step.t)
        how = layout(self.axes, g.shape, "scale_by_adamuon")
        return as_matrices(jnp.sign(u) if self.signed else u, how), slots._replace(mu=mu)

    together = orthogonal_factor

    def after_leaf(self, results: list[Array], kept: Slots) -> tuple[Array, Slots]:
        how = layout(self.axes, kept.mu.shape, "scale_by_adamuon")
        o = from_matrices(results, how)
        nu = self.b2 * kept.nu + (1 - self.b2) * abs2(o)
        even = o / (root(nu) + self.eps)
        return on_matrices(lambda x: scaled_to_rms(x, self.rms), even, how), kept._replace(nu=nu)


class scale_by_adago(BatchedRule):
    """The orthogonal factor O of the momentum, times a step from the norms of gradients.

    v = v + min(|g|, gamma)^2, u = max(floor, min(|g|, gamma) / sqrt(v)) O, norms of every matrix.
    Zhang+ 2025, 2509.02981. Differs from the paper in the floor, which is a share of the learning
    rate here: 0.01 is their 5e-4 at a rate of 0.05.
    """

    beta: HyperField = within("[0, 1)", default=0.95)
    _: KW_ONLY
    gamma: HyperField = within("(0, inf)", default=10.0)
    floor: HyperField = within("[0, inf)", default=0.01)
    nesterov: bool = static(default=False)
    momentum: str = static(default="lerp", among=MOMENTA)
    polar: Polar = static(default=newton_schulz())
    axes: AxesField = None

    class Slots(NamedTuple):
        mu: Array
        total: Square  # the sum of squared norms, for every matrix

    def init_leaf(self, p: Array) -> Slots:
        *stack, _, _ = shape_of_matrices(self.axes, p.shape, "scale_by_adago")
        return self.Slots(jnp.zeros_like(p), jnp.zeros(tuple(stack), real_dtype(p.dtype)))

    def before_leaf(
        self, g: Array, slots: Slots, p: Array, step: Step
    ) -> tuple[list[Array], tuple[Array, Slots]]:
        u, mu = direction_and_momentum(self, g, slots.mu, step.t)
        how = layout(self.axes, g.shape, "scale_by_adago")
        (x,) = as_matrices(g, how)
        length = norm(x, (x.ndim - 2, x.ndim - 1))
        size = jnp.minimum(jnp.squeeze(length, (-2, -1)), self.gamma)
        total = slots.total + lax.square(size)
        rate = jnp.maximum(self.floor, size * inverse(root(total)))
        return as_matrices(u, how), (rate, self.Slots(mu, total))

    together = orthogonal_factor

    def after_leaf(self, results: list[Array], kept: tuple[Array, Slots]) -> tuple[Array, Slots]:
        (o,), (step, slots) = results, kept
        how = layout(self.axes, slots.mu.shape, "scale_by_adago")
        return from_matrices([step[..., None, None] * o], how), slots
