"""Gradient descent, with and without momentum.

momentum=None                   p <- p - lr g        full batch, mini-batch or one example
momentum=0.9                    the heavy ball       b = g + momentum b
momentum=0.9, nesterov=True     Nesterov             u = g + momentum b
"""

from __future__ import annotations

from gradtx.chain import chain
from gradtx.rule import Hyper
from gradtx.transform import GradientTransformation
from gradtx.transforms.momentum import scale_by_momentum
from gradtx.transforms.scale import scale_by_learning_rate


def sgd(
    learning_rate: Hyper, momentum: Hyper | None = None, nesterov: bool = False
) -> GradientTransformation:
    """(Stochastic) gradient descent: Robbins & Monro 1951; with momentum `scale_by_momentum`."""
    descend = scale_by_learning_rate(learning_rate)
    if momentum is None:
        return chain(descend)
    return chain(scale_by_momentum(momentum, nesterov), descend)
