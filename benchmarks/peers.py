"""Which optimizer of Optax does what a row of the catalogue does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import optax
from optax import contrib

import gradtx as gx

PEERS: dict[str, Callable[[float], Any]] = {
    "sgd": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),
    "nesterov": partial(optax.sgd, momentum=0.9, nesterov=True),
    "adagrad": optax.adagrad,
    "rmsprop": optax.rmsprop,
    "rmsprop_centered": partial(optax.rmsprop, centered=True),
    "rmsprop_momentum": partial(optax.rmsprop, momentum=0.9, eps_in_sqrt=False),
    "adadelta": optax.adadelta,
    "adam": optax.adam,
    "adamw": optax.adamw,
    "nadam": optax.nadam,
    "nadamw": optax.nadamw,
    "adamax": optax.adamax,
    "adamaxw": optax.adamaxw,
    "amsgrad": optax.amsgrad,
    "adabelief": optax.adabelief,
    "yogi": optax.yogi,
    "radam": optax.radam,
    "adan": optax.adan,
    "acprop": contrib.acprop,
    "ademamix": contrib.ademamix,
    "simplified_ademamix": contrib.simplified_ademamix,
    "adopt": contrib.adopt,
    "lion": optax.lion,
    "sign_sgd": optax.sign_sgd,
    "signum": optax.signum,
    "rprop": optax.rprop,
    "lars": optax.lars,
    "lamb": optax.lamb,
    "novograd": optax.novograd,
    "fromage": optax.fromage,
    "adafactor": optax.adafactor,
    "sm3": optax.sm3,
    "dog": contrib.dog,
    "dowg": contrib.dowg,
    "cocob": contrib.cocob,
    "polyak_sgd": partial(optax.polyak_sgd, 1.0),
    "momo": contrib.momo,
    "momo_adam": contrib.momo_adam,
    "mechanic": lambda rate: contrib.mechanize(optax.adam(rate)),
    "dadapt_adamw": contrib.dadapt_adamw,
    "prodigy": contrib.prodigy,
    "madgrad": contrib.madgrad,
    "optimistic_gradient_descent": optax.optimistic_gradient_descent,
}


def pairs() -> dict[str, tuple[Any, Any]]:
    """Ours and theirs for every row that has a peer, and a clipped AdamW."""
    rows = gx.catalogue.optimizers
    shared = {name: rows[name] for name in PEERS if name in rows}
    found = {
        name: (row.make(row.learning_rate), PEERS[name](row.learning_rate))
        for name, row in shared.items()
    }
    clipped = (
        gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(1e-3)),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)),
    )
    return {**found, "clip + adamw": clipped}


def wrapped() -> dict[str, tuple[Any, Any]]:
    """Ours and theirs for wrappers that sometimes do nothing, around AdamW."""
    ours, theirs = gx.adamw(1e-3), optax.adamw(1e-3)
    return {
        "accumulate, every=4": (gx.accumulate(ours, every=4), optax.MultiSteps(theirs, 4)),
        "apply_if_finite": (gx.apply_if_finite(ours, 5), optax.apply_if_finite(theirs, 5)),
    }
