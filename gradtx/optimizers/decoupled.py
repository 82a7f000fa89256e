"""How ready-made optimizers end: what makes a descent of a direction."""

from __future__ import annotations

from gradtx.chain import chain
from gradtx.hyper import Hyper
from gradtx.paths import Labels
from gradtx.transform import GradientTransformation
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scale import scale, scale_by_learning_rate


def descending(direction: GradientTransformation, learning_rate: Hyper) -> chain:
    """A direction, then the learning rate."""
    return chain(direction, scale_by_learning_rate(learning_rate))


def turned(direction: GradientTransformation) -> chain:
    """A direction that has the learning rate in it, with its sign turned."""
    return chain(direction, scale(-1.0))


def decoupled(
    direction: GradientTransformation,
    learning_rate: Hyper,
    weight_decay: Hyper,
    mask: Labels | None = None,
) -> chain:
    """A direction, decay of the arrays that `mask` tells, and the learning rate for both."""
    decay = add_decayed_weights(weight_decay, mask)
    return chain(direction, decay, scale_by_learning_rate(learning_rate))
