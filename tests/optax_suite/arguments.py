"""Calls as Optax takes them: its names of arguments, and its order, for functions of ours."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

import gradtx as gx

ARGUMENTS: dict[str, Mapping[str, str]] = {
    "lookahead": {"fast_optimizer": "inner"},
    "sam": {"optimizer": "inner"},
    "partition": {"param_labels": "labels"},
    "adaptive_grad_clip": {"axis": "axes"},
    "adafactor": {"weight_decay_rate": "weight_decay", "weight_decay_mask": "mask"},
    "scale_by_factored_rms": {"epsilon": "eps"},
    "dog": {"init_step": "reps_rel"},
    "scale_by_dog": {"init_step": "reps_rel"},
    "signum": {"beta": "b1"},
    "momo": {"beta": "b1"},
    "galore": {"update_proj_gap": "every"},
    "scale_by_galore": {"update_proj_gap": "every"},
    "scale_by_schedule": {"step_size_fn": "step_size"},
    "add_noise": {"seed": "key"},
    "differentially_private_aggregate": {"seed": "key"},
    "sophia": {"weight_decay_mask": "mask"},
    "lbfgs": {},
}
# Slots in another dtype are `store` here.
DTYPES = {"mu_dtype": "mu", "accumulator_dtype": "trace", "state_dtype": "z"}


def default_of(parameter: inspect.Parameter, value: Any) -> bool:
    """Whether a value is the one that Optax takes where nothing is given."""
    return value is parameter.default or (
        isinstance(value, bool | int | float | str | tuple) and value == parameter.default
    )


def adapted(name: str, ours: Callable[..., Any], theirs: Callable[..., Any]) -> Any:
    """`ours` as it is called like `theirs`."""
    signature = inspect.signature(theirs)
    known = inspect.signature(ours).parameters
    renamed = ARGUMENTS.get(name, {})

    @functools.wraps(theirs)
    def call(*args: Any, **kwargs: Any) -> Any:
        given: dict[str, Any] = {}
        stored = {}
        for key, value in signature.bind(*args, **kwargs).arguments.items():
            kind = signature.parameters[key].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                given |= value
            elif key in DTYPES:
                stored[DTYPES[key]] = value
            elif key == "betas" and "b1" in known:
                given |= dict(zip(("b1", "b2"), value, strict=True))
            elif renamed.get(key, key) in known or not default_of(signature.parameters[key], value):
                given[renamed.get(key, key)] = value
        return in_dtypes(ours(**given), stored)

    shown = inspect.Signature(
        with_default(p, known.get(renamed.get(p.name, p.name)))
        for p in signature.parameters.values()
        if p.name in DTYPES or renamed.get(p.name, p.name) in known
    )
    vars(call)["__signature__"] = shown  # what `inject_hyperparams` of Optax goes by
    return call


def with_default(theirs: inspect.Parameter, ours: inspect.Parameter | None) -> inspect.Parameter:
    """The parameter of Optax with our default, where both have one."""
    empty = inspect.Parameter.empty
    if ours is None or empty in (ours.default, theirs.default):
        return theirs
    return theirs.replace(default=ours.default)


def in_dtypes(tx: Any, stored: Mapping[str, Any]) -> Any:
    """The transformation with some slots in narrow dtypes, which has to be asked for here."""
    formats = {
        slot: gx.rounded(jnp.dtype(dtype).name)
        for slot, dtype in stored.items()
        if dtype is not None and jnp.dtype(dtype).itemsize < 4
    }
    return gx.store(tx, formats) if formats else tx
