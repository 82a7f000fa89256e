"""Schedule-free optimizers with their published defaults.

    schedule_free_sgd      plain steps
    schedule_free_adamw    steps divided by the root mean square, decay at the point of the gradient

Both train between the iterates and their average, which `eval_params` gives: see `schedule_free`.
"""

from __future__ import annotations

from typing import Any

from gradtx.optimizers.adagrad import scale_by_rms
from gradtx.optimizers.decoupled import decoupled, descending
from gradtx.rule import Hyper
from gradtx.schedules.warmup import power_schedule
from gradtx.transforms.decay import add_decayed_weights
from gradtx.wrappers.schedule_free import schedule_free


def _warmed(learning_rate: Hyper, warmup_steps: float | None) -> Hyper:
    """learning_rate min(1, t / warmup_steps), t counting from 1."""
    if warmup_steps is None:
        return learning_rate
    rate: Any = learning_rate  # one number or schedule: a schedule multiplies nothing else
    return power_schedule(1.0, warmup_steps, 0.0) * rate


def schedule_free_sgd(
    learning_rate: Hyper = 1.0,
    warmup_steps: float | None = None,
    b1: Hyper = 0.9,
    weight_decay: Hyper = 0.0,
    weight_lr_power: Hyper = 2.0,
    *,
    r: Hyper = 0.0,
) -> schedule_free:
    """Schedule-free gradient descent: weight decay and learning rate, within `schedule_free`.

    `warmup_steps` raises the rate as t / warmup_steps, t from 1 (Optax begins with zero).
    """
    decay = add_decayed_weights(weight_decay)
    inner = descending(decay, _warmed(learning_rate, warmup_steps))
    return schedule_free(inner, b1=b1, weight_lr_power=weight_lr_power, r=r)


def schedule_free_adamw(
    learning_rate: Hyper = 2.5e-3,
    warmup_steps: float | None = None,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    weight_lr_power: Hyper = 2.0,
    *,
    r: Hyper = 0.0,
) -> schedule_free:
    """Schedule-free AdamW: Adam without its momentum, for which b1 stands, in `schedule_free`.

    The chain is `scale_by_rms` (bias-corrected, eps outside the root), weight decay, learning rate;
    `warmup_steps` as in `schedule_free_sgd`.
    """
    direction = scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True)
    inner = decoupled(direction, _warmed(learning_rate, warmup_steps), weight_decay)
    return schedule_free(inner, b1=b1, weight_lr_power=weight_lr_power, r=r)
