"""DiLoCo: an outer optimizer along the way that an inner one goes."""

from __future__ import annotations

from gradtx.foreign import AnyTransformation
from gradtx.hyper import Hyper
from gradtx.optimizers.decoupled import descending
from gradtx.transforms.momentum import scale_by_momentum
from gradtx.wrappers.outer import outer


def diloco(
    inner: AnyTransformation,
    every: Hyper = 32,
    *,
    learning_rate: Hyper = 0.7,
    momentum: Hyper = 0.9,
) -> outer:
    """DiLoCo on one machine: `outer` with Nesterov's momentum.

    Douillard+ 2023, 2311.08105 (every = 500); Kallusky+ 2025, 2510.15830, call it SNOO.
    """
    nesterov = scale_by_momentum(momentum, nesterov=True)
    return outer(inner, descending(nesterov, learning_rate), every=every)
