"""Ready-made optimizers with a matrix method for the matrices that are named.

All take `matrices` (see `roles.Matrices`) and `labels`. Other arrays move by Adam (b2 = 0.95) at
the same learning rate, without decay, or by `auxiliary`, a complete optimizer of their own.

    muon       the orthogonal factor of the momentum
    normuon    with rows of equal size
    adamuon    with entries of equal size, from signs
    adago      with a step from the norms of gradients
    dion       of low rank
    scion      the farthest points of norm balls, for all arrays
"""

from __future__ import annotations

from gradtx.chain import chain
from gradtx.optimizers.dion import scale_by_dion
from gradtx.optimizers.lmo import scale_by_lmo
from gradtx.optimizers.muon import scale_by_adago, scale_by_adamuon, scale_by_muon, scale_by_normuon
from gradtx.optimizers.polar import Polar, newton_schulz
from gradtx.optimizers.roles import Matrices, routed
from gradtx.paths import Labels
from gradtx.rule import Hyper
from gradtx.transform import GradientTransformation
from gradtx.transforms.decay import add_decayed_weights

POLAR = newton_schulz()


def muon(
    learning_rate: Hyper,
    *,
    matrices: Matrices | None = None,
    labels: Labels | None = None,
    beta: Hyper = 0.95,
    weight_decay: Hyper = 0.1,
    rms: Hyper = 0.2,
    nesterov: bool = True,
    momentum: str = "lerp",
    scale: str | None = "match_rms_adamw",
    polar: Polar = POLAR,
    auxiliary: GradientTransformation | None = None,
) -> GradientTransformation:
    """Muon: `scale_by_muon` and decoupled weight decay for matrices, Adam for other arrays.

    As in Liu+ 2025 (2502.16982) one learning rate serves both. Jordan's: `scale="original"`,
    `polar=newton_schulz("jordan")`, `weight_decay=0.0`, learning rate 0.02 and an `auxiliary`.
    Differs from Optax in who is a matrix, which is said and not guessed, and in what moves the
    rest, which is NAdam there because it inherits `nesterov`.
    """
    direction = scale_by_muon(
        beta=beta, rms=rms, nesterov=nesterov, momentum=momentum, scale=scale, polar=polar
    )
    return routed("muon", direction, learning_rate, weight_decay, matrices, labels, auxiliary)


def normuon(
    learning_rate: Hyper,
    *,
    matrices: Matrices | None = None,
    labels: Labels | None = None,
    beta: Hyper = 0.95,
    b2: Hyper = 0.95,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.1,
    rms: Hyper = 0.2,
    nesterov: bool = True,
    momentum: str = "lerp",
    scale: str | None = "rms",
    polar: Polar = POLAR,
    auxiliary: GradientTransformation | None = None,
) -> GradientTransformation:
    """NorMuon: `scale_by_normuon` and decoupled weight decay for matrices, Adam for the rest."""
    direction = scale_by_normuon(
        beta,
        b2=b2,
        eps=eps,
        rms=rms,
        nesterov=nesterov,
        momentum=momentum,
        scale=scale,
        polar=polar,
    )
    return routed("normuon", direction, learning_rate, weight_decay, matrices, labels, auxiliary)


def adamuon(
    learning_rate: Hyper,
    *,
    matrices: Matrices | None = None,
    labels: Labels | None = None,
    beta: Hyper = 0.95,
    b2: Hyper = 0.95,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.1,
    rms: Hyper = 0.2,
    nesterov: bool = False,
    momentum: str = "lerp",
    signed: bool = True,
    polar: Polar = POLAR,
    auxiliary: GradientTransformation | None = None,
) -> GradientTransformation:
    """AdaMuon: `scale_by_adamuon` and decoupled weight decay for matrices, Adam for the rest."""
    direction = scale_by_adamuon(
        beta,
        b2=b2,
        eps=eps,
        rms=rms,
        nesterov=nesterov,
        momentum=momentum,
        signed=signed,
        polar=polar,
    )
    return routed("adamuon", direction, learning_rate, weight_decay, matrices, labels, auxiliary)


def adago(
    learning_rate: Hyper,
    *,
    matrices: Matrices | None = None,
    labels: Labels | None = None,
    beta: Hyper = 0.95,
    gamma: Hyper = 10.0,
    floor: Hyper = 0.01,
    nesterov: bool = False,
    momentum: str = "lerp",
    polar: Polar = POLAR,
    auxiliary: GradientTransformation | None = None,
) -> GradientTransformation:
    """AdaGO: `scale_by_adago` for matrices, Adam for the rest."""
    direction = scale_by_adago(
        beta, gamma=gamma, floor=floor, nesterov=nesterov, momentum=momentum, polar=polar
    )
    return routed("adago", direction, learning_rate, None, matrices, labels, auxiliary)


def dion(
    learning_rate: Hyper,
    *,
    matrices: Matrices | None = None,
    labels: Labels | None = None,
    beta: Hyper = 0.95,
    weight_decay: Hyper = 0.01,
    rank_fraction: float | None = None,
    auxiliary: GradientTransformation | None = None,
) -> GradientTransformation:
    """Dion: `scale_by_dion` and decoupled weight decay for matrices, Adam for the rest."""
    direction = scale_by_dion(beta, rank_fraction=rank_fraction)
    return routed("dion", direction, learning_rate, weight_decay, matrices, labels, auxiliary)


def scion(
    learning_rate: Hyper,
    *,
    matrices: Matrices | None = None,
    labels: Labels | None = None,
    radius: Hyper = 50.0,
    rest_radius: Hyper = 1.0,
    decay: Hyper = 0.9,
    constrained: bool = False,
    polar: Polar = POLAR,
    auxiliary: GradientTransformation | None = None,
) -> GradientTransformation:
    """Scion: `scale_by_lmo` for all arrays, spectral for matrices and signs for the rest.

    Unconstrained it is p = p - lr radius lmo; `constrained` it is the step of Frank and Wolfe
    p = (1 - lr) p - lr radius lmo, which stays in the ball. The paper's last layer is
    `auxiliary=chain(scale_by_lmo(3000.0, norm="sign", axes=...), scale_by_learning_rate(...))`.
    """
    shrink = 1.0 if constrained else 0.0
    direction = scale_by_lmo(radius, decay=decay, norm="spectral", polar=polar)
    rest = chain(scale_by_lmo(rest_radius, decay=decay, norm="sign"), add_decayed_weights(shrink))
    return routed("scion", direction, learning_rate, shrink, matrices, labels, auxiliary, rest)
