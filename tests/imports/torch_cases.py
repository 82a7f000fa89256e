"""Optimizers of PyTorch and ours that are the same, with the error at which a state comes over."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import optim

import gradtx as gx

from .optax_cases import COUNTLESS, SHAPES, Case, arrays


def make(kind: Any, **options: Any) -> Any:
    """A function of named parameters."""
    return functools.partial(kind, **options)


def trained(make: Any, steps: range, shapes: Any = None) -> tuple[Any, dict[str, Any]]:
    """An optimizer and its parameters after some steps."""
    tensors = {
        name: torch.nn.Parameter(torch.tensor(np.asarray(x)))
        for name, x in arrays(0, shapes).items()
    }
    optimizer = make([*tensors.items()])
    more(optimizer, tensors, steps)
    return optimizer, tensors


def more(optimizer: Any, tensors: dict[str, Any], steps: range) -> dict[str, Any]:
    shapes = {name: tuple(x.shape) for name, x in tensors.items()}
    for k in steps:
        for name, g in arrays(k + 1, shapes).items():
            tensors[name].grad = torch.tensor(np.asarray(g))
        optimizer.step()
    return plain(tensors)


def plain(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: x.detach().numpy().copy() for name, x in tensors.items()}


MATRIX = {"kernel": SHAPES["kernel"]}

MUON = gx.chain(
    gx.scale_by_muon(
        scale="original", polar=gx.newton_schulz("jordan"), axes=gx.Axes("oi"), nesterov=True
    ),
    gx.add_decayed_weights(0.1),
    gx.scale_by_learning_rate(0.1),
)

CASES = {
    "SGD": Case(make(optim.SGD, lr=0.1, momentum=0.9), gx.sgd(0.1, 0.9), 5e-15, tells=COUNTLESS),
    "nesterov": Case(
        make(optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
        gx.sgd(0.1, 0.9, True),
        5e-15,
        tells=COUNTLESS,
    ),
    "dampening": Case(
        make(optim.SGD, lr=0.1, momentum=0.9, dampening=0.3),
        gx.sgd(0.07, 0.9),
        6e-15,
        tells=COUNTLESS,
    ),
    "Adam": Case(make(optim.Adam, lr=0.1), gx.adam(0.1), 5e-14),
    "AdamW": Case(make(optim.AdamW, lr=0.1), gx.adamw(0.1, weight_decay=1e-2), 5e-14),
    "amsgrad": Case(make(optim.Adam, lr=0.1, amsgrad=True), gx.amsgrad(0.1, form="torch"), 2e-14),
    "NAdam": Case(
        make(optim.NAdam, lr=0.1),
        gx.nadam(0.1, momentum_decay=4e-3),
        8e-9,
        tells=("scale_by_warmed_nadam: mu_product",),
    ),
    "RAdam": Case(
        make(optim.RAdam, lr=0.1),
        gx.radam(0.1, threshold=5.0),
        9e-7,
        tells=("scale_by_radam: PyTorch",),
    ),
    "Adamax": Case(make(optim.Adamax, lr=0.1), gx.adamax(0.1), 2e-14),
    "Adagrad": Case(make(optim.Adagrad, lr=0.1), gx.adagrad(0.1), 2e-14),
    "Adadelta": Case(make(optim.Adadelta, rho=0.95), gx.adadelta(1.0), 2e-14),
    "RMSprop": Case(make(optim.RMSprop, lr=0.1), gx.rmsprop(0.1, 0.99, eps_in_sqrt=False), 2e-15),
    "RMSprop_momentum": Case(
        make(optim.RMSprop, lr=0.1, momentum=0.9),
        gx.rmsprop(0.1, 0.99, eps_in_sqrt=False, momentum=0.9),
        2e-15,
    ),
    "RMSprop_centered": Case(
        make(optim.RMSprop, lr=0.1, momentum=0.9, centered=True),
        gx.rmsprop(0.1, 0.99, eps_in_sqrt=False, momentum=0.9, centered=True),
        2e-15,
    ),
    "Rprop": Case(make(optim.Rprop, lr=0.1), gx.rprop(0.1), 2e-16),
    "Muon": Case(
        make(optim.Muon, lr=0.1), MUON, 6e-3, tells=("scale_by_muon: PyTorch", *COUNTLESS)
    ),
    "Adafactor": Case(
        make(optim.Adafactor, lr=0.1),
        gx.adafactor(0.1),
        2e-14,
        tells=("scale_by_factored_rms: not exact",),
    ),
}
