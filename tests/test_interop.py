"""Who comes from another library: names and arguments are answered, and may be used there."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from laws.cases import refused

import gradtx
from gradtx.counterparts import COUNTERPARTS
from gradtx.interop import from_optax, to_optax


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


standard = jax.numpy_dtype_promotion("standard")  # which Optax's MultiSteps needs


def test_to_optax_refuses_what_is_none() -> None:
    """A forgotten call is named where it stands, not at the first `init`."""
    for wrong in (gradtx.adam, 3, "adam", None):
        refused(lambda wrong=wrong: to_optax(wrong), "not a gradient transformation")


def test_to_optax_and_back() -> None:
    """What comes back is the optimizer itself, with its hyperparameters; twice is once."""
    tx = gradtx.adamw(gradtx.linear_schedule(0.1, 0.0, 9))
    assert from_optax(to_optax(tx)) == tx
    assert gradtx.chain(gradtx.clip(1.0), to_optax(tx)) == gradtx.chain(gradtx.clip(1.0), tx)
    assert to_optax(to_optax(tx)) == to_optax(tx)
    assert repr(to_optax(gradtx.scale(0.5)).update) == "scale(0.5).update"


def test_to_optax_is_equal_by_value() -> None:
    """Arrays by their bits; a number is no array; the two methods differ."""
    pairs = [to_optax(gradtx.adam(rate)) for rate in (0.1, jnp.float32(0.1), jnp.float32(0.2))]
    assert len({*pairs, *map(copy.deepcopy, pairs)}) == 3
    for pair in pairs:
        assert pair.init != pair.update
        assert pair != optax.adam(0.1)
        copied = pickle.loads(pickle.dumps(pair))
        assert (copied, hash(copied)) == (pair, hash(pair))


@standard
def test_to_optax_inside_a_trace() -> None:
    """The optimizer is an argument of `jit`, and what Optax wraps is made inside: one trace."""
    params, traces = {"w": jnp.ones(3), "b": jnp.ones(2)}, []

    @jax.jit
    def first(tx: Any) -> Any:
        traces.append(None)
        pair = to_optax(tx)
        assert hash(pair) == hash(to_optax(tx))
        assert pair == to_optax(tx)
        assert pair != to_optax(gradtx.adam(1.0))
        masked = optax.masked(pair, {"w": True, "b": False})
        outer = optax.chain(optax.MultiSteps(masked, 1), optax.scale(2.0))
        return outer.update(params, outer.init(params), params)[0]["w"]

    once, twice = (first(gradtx.adam(rate)) for rate in (0.1, 0.2))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)
    assert len(traces) == 1
    rates = jax.vmap(gradtx.adam)(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(jax.vmap(first)(rates), jnp.stack([once, twice]), rtol=1e-6)


def _spy(seen: list[Any]) -> Any:
    class spy(gradtx.identity):
        def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            seen.append(sorted(extra))
            return updates, state

    return to_optax(spy())


MASK = {"w": True, "b": False}
HOLDERS = {
    "chain": lambda tx: optax.chain(optax.clip(1.0), tx),
    "named_chain": lambda tx: optax.named_chain(("first", tx)),
    "masked": lambda tx: optax.masked(tx, MASK),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 1),
    "MultiSteps that skip": lambda tx: optax.MultiSteps(
        tx, 1, should_skip_update_fn=optax.skip_not_finite
    ),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "partition": lambda tx: optax.partition({True: tx, False: optax.set_to_zero()}, MASK),
    "flatten": optax.flatten,
    "conditionally_transform": lambda tx: optax.conditionally_transform(
        tx, lambda count: count < 9
    ),
    "conditionally_mask": lambda tx: optax.conditionally_mask(tx, lambda count: count < 9),
    "schedule_free": lambda tx: optax.contrib.schedule_free(tx, 0.1),
    "inject_hyperparams": lambda tx: optax.inject_hyperparams(
        lambda rate: optax.chain(tx, optax.scale(rate))
    )(rate=1.0),
}


@standard
@pytest.mark.parametrize("holder", HOLDERS)
def test_to_optax_keeps_extra_arguments(holder: str) -> None:
    """They come through whatever Optax puts around it, to the part that asks for them."""
    seen: list[Any] = []
    tx, params = HOLDERS[holder](_spy(seen)), {"w": jnp.ones(3), "b": jnp.ones(2)}
    tx.update(params, tx.init(params), params, value=jnp.float32(1.0), grad=params)
    assert ["grad", "value"] in seen


@standard
@pytest.mark.parametrize("holder", ["chain", "MultiSteps", "apply_if_finite"])
def test_searches_in_wrappers_of_optax(holder: str) -> None:
    """Through `value`, `grad` and `value_fn`, as Optax's own searches take them."""

    def loss(p: Any) -> Any:
        return jnp.sum((p["w"] - 2) ** 2) + jnp.sum(p["b"] ** 2)

    tx, params = HOLDERS[holder](to_optax(gradtx.lbfgs())), {"w": jnp.ones(3), "b": jnp.ones(2)}
    state = tx.init(params)

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        value, grad = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(params, updates), state

    for _ in range(4):
        params, state = step(params, state)
    assert loss(params) < 1e-6


def test_inject_hyperparams_of_a_function() -> None:
    """The rate of a function that makes one of ours, alone or in a chain, is set in the state."""
    params = {"w": jnp.ones(3)}
    for make in (
        lambda rate: to_optax(gradtx.adam(rate)),
        lambda rate: optax.chain(optax.clip(9.0), to_optax(gradtx.adam(rate))),
    ):
        tx = optax.inject_hyperparams(make)(rate=0.1)
        state, update = tx.init(params), jax.jit(tx.update)
        once, _ = update(params, state, params)
        state.hyperparams["rate"] = jnp.float32(0.2)
        twice, _ = update(params, state, params)
        np.testing.assert_allclose(twice["w"], 2 * once["w"], rtol=1e-6)
        assert update._cache_size() == 1


def test_map_params_beside_the_parameters() -> None:
    """With a tree beside the slots, such as shardings; masked arrays are `None`, a leaf then."""
    params = {"w": jnp.ones(3), "b": jnp.ones(2)}
    names = {"w": "a matrix", "b": "a bias"}
    for tx, more in (
        (to_optax(gradtx.adam(0.1)), {}),
        (optax.chain(optax.clip(1.0), to_optax(gradtx.adam(0.1))), {}),
        (to_optax(gradtx.masked(gradtx.adam(0.1), "w")), {"is_leaf": lambda x: x is None}),
    ):
        named = optax.tree.map_params(
            tx,
            lambda x, name: None if x is None else name,
            tx.init(params),
            names,
            transform_non_params=lambda _: "count",
            **more,
        )
        mu = optax.tree.get(named, "mu")
        assert mu["w"] == "a matrix"
        assert mu["b"] == (None if more else "a bias")


def test_flax_holds_the_state_unchanged() -> None:
    """`TrainState` as it is; `nnx.Optimizer` every leaf of it in a variable, in the same tree."""
    tx = gradtx.ema(gradtx.adamw(gradtx.linear_schedule(0.1, 0.0, 9)))
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    grads = jax.tree.map(jnp.ones_like, params)
    _, expected = tx.update(grads, tx.init(params), params)
    train = TrainState.create(apply_fn=None, params=params, tx=tx)
    assert jax.tree.structure(train.opt_state) == jax.tree.structure(expected)
    found = train.apply_gradients(grads=grads).opt_state
    jax.tree.map(np.testing.assert_array_equal, found, expected)

    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
    held = nnx.as_pure(optimizer.opt_state)
    assert type(held) is type(expected)
    for one, other in zip(jax.tree.leaves(held), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)
