"""Who comes from another library: names and arguments are answered, and may be used there."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from laws.cases import refused

import gradtx
from gradtx.counterparts import COUNTERPARTS
from gradtx.interop import to_optax


def test_names_of_other_libraries() -> None:
    """Every one is answered; none of them exists here; those that are named exist."""
    for name in COUNTERPARTS:
        assert not hasattr(gradtx, name), name
        with pytest.raises(AttributeError, match="counterpart"):
            getattr(gradtx, name)
    for name in ("MultiSteps", "multi_transform", "set_to_zero", "trace", "AdamW", "SGD"):
        ours = COUNTERPARTS[name].split(":")[0]
        assert hasattr(gradtx, ours), name
    with pytest.raises(AttributeError, match="Did you mean adamw"):
        _ = gradtx.adamww
    with pytest.raises(AttributeError, match="no 'nothing_like_it'"):
        _ = gradtx.nothing_like_it


def test_names_of_optax_and_pytorch_are_known() -> None:
    """All transformations of Optax and optimizers of PyTorch exist or are answered."""
    public = [
        name
        for name in dir(optax)
        if getattr(getattr(optax, name), "__module__", "").startswith("optax.transforms")
        and name.islower()
    ]
    assert len(public) > 20
    unknown = [n for n in public if not hasattr(gradtx, n) and n not in COUNTERPARTS]
    assert not unknown


@pytest.mark.parametrize(
    ("make", "meant"),
    [
        (lambda: gradtx.adam(lr=1e-3), "learning_rate?"),
        (lambda: gradtx.adam(1e-3, beta1=0.9), "b1?"),
        (lambda: gradtx.adam(1e-3, betas=(0.9, 0.99)), "b1 and b2?"),
        (lambda: gradtx.scale_by_adam(epsilon=1e-8), "eps?"),
        (lambda: gradtx.adamw(1e-3, wd=0.1), "weight_decay?"),
        (lambda: gradtx.adamw(1e-3, weight_deacy=0.1), "weight_decay?"),
        (lambda: gradtx.cosine_decay_schedule(1.0, decay_step=3), "decay_steps?"),
    ],
)
def test_arguments_of_other_libraries(make: Callable[[], Any], meant: str) -> None:
    """Functions and classes alike say which argument was meant."""
    refused(make, f"Did you mean {meant}")


def test_to_optax_is_opaque() -> None:
    """Compared, hashed, pickled, and held by a Flax optimizer although it has array leaves."""
    tx = gradtx.adam(jnp.float32(1e-3))
    ours = to_optax(tx)
    assert isinstance(ours, optax.GradientTransformationExtraArgs)
    assert ours == to_optax(copy.deepcopy(tx))
    assert hash(ours) == hash(to_optax(tx))
    assert pickle.loads(pickle.dumps(ours)) == ours
    assert not any(isinstance(x, jax.Array) for x in jax.tree.leaves(ours))
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, ours, wrt=nnx.Param)
    before = jnp.array(model.kernel[...])
    optimizer.update(model, nnx.grad(lambda m: m(jnp.ones((1, 2))).sum())(model))
    assert (model.kernel[...] != before).all()
