"""What Optax's own test-suite shows when it is run on this library with nothing but renames."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from optax import tree as optax_tree

import gradtx as gx

# Its tree functions ------------------------------------------------------------------------------

PARAMS = {"w": jnp.ones((2, 2)), "b": jnp.ones(3)}
FITTED: dict[str, Any] = {
    "adamw(mask=tree)": gx.adamw(0.1, mask={"w": True, "b": False}),
    "masked(tree)": gx.masked(gx.adam(0.1), {"w": True, "b": False}),
    "partition(labels=tree)": gx.partition(
        {"x": gx.adam(0.1), "y": gx.sgd(0.1, 0.9)}, {"w": "x", "b": "y"}
    ),
    "partition by paths": gx.partition({"w": gx.adam(0.1), "*": gx.sgd(0.1)}),
    "adam(tree)": gx.adam({"w": 0.1, "b": 0.2}),
    "sgd(by_path)": gx.sgd(gx.by_path({"w": 0.1, "b": 0.2}), 0.9),
    "lars(weight_decay_mask=tree)": gx.lars(0.1, weight_decay_mask={"w": True, "b": False}),
    "muon": gx.muon(0.1, matrices="w"),
    "ema(masked(tree))": gx.ema(gx.masked(gx.adam(0.1), {"w": True, "b": False})),
    "novograd": gx.novograd(0.1),
    "accumulate": gx.accumulate(gx.adam(0.1), 2),
    "inject_hyperparams": gx.inject_hyperparams(gx.adam(0.1)),
}


@pytest.mark.parametrize("name", FITTED)
def test_map_params(name: str) -> None:
    """`optax.tree.map_params` finds what is like parameters, by `init` of a node without leaves.

    To it a tree with one number an array is like parameters too, as the `nu` of its own `novograd`.
    """
    tx = FITTED[name]
    state = tx.init(PARAMS)
    mapped = optax_tree.map_params(tx, lambda x: x + 2, state)
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(mapped), strict=True
    ):
        like = getattr(path[-1], "key", None) in PARAMS and x.dtype == jnp.float32  # no count
        np.testing.assert_allclose(y, x + 2 if like else x, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize(
    "tx",
    [
        gx.adam(0.1),
        gx.adamw(gx.linear_schedule(1.0, 0.0, 10)),
        gx.chain(gx.clip_by_global_norm(1.0), gx.lamb(0.1)),
        gx.muon(0.1, matrices="w"),
        gx.masked(gx.nadam(0.1), "w"),
    ],
    ids=lambda tx: type(tx).__name__,
)
def test_there_is_one_count(tx: Any) -> None:
    """`optax.tree.get(state, "count")` is not ambiguous."""
    state = tx.init(PARAMS)
    for _ in range(2):
        _, state = tx.update(PARAMS, state, PARAMS)
    assert int(optax_tree.get(state, "count")) == 2


def test_hyperparameters_are_got() -> None:
    """The rate in use by name, where it is kept in the state."""
    tx = gx.inject_hyperparams(gx.chain(gx.clip(1.0), gx.adamw(gx.linear_schedule(1.0, 0.0, 10))))
    _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    _, state = tx.update(PARAMS, state, PARAMS)
    assert float(optax_tree.get(state, "learning_rate")) == pytest.approx(0.9)
    assert float(state.hyperparams["learning_rate"]) == pytest.approx(0.9)


# Lengths -----------------------------------------------------------------------------------------

LATE: dict[str, tuple[Any, float]] = {
    "cosine": (gx.cosine_decay_schedule(1000.0, int(1e10)), 500 * (1 + np.cos(np.pi / 10))),
    "linear": (gx.linear_schedule(10.0, 20.0, int(1e10)), 11.0),
    "warmup_cosine": (gx.warmup_cosine_decay_schedule(0.0, 1.0, int(2e9), int(1e10)), 0.5),
    "join": (gx.join_schedules([1.0, 2.0], [int(1e10)]), 1.0),
    "exponential": (gx.exponential_decay(1.0, int(1e10), 0.5), 0.5**0.1),
    "piecewise": (gx.piecewise_constant_schedule(3.0, {int(1e10): 0.1}), 3.0),
}


@pytest.mark.parametrize("name", LATE)
def test_lengths_beyond_31_bits(name: str) -> None:
    """At count 1e9 of 1e10; as an integer of Python and as an array."""
    schedule, expected = LATE[name]
    for count in (10**9, jnp.int32(10**9)):
        assert float(schedule(count)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: gx.linear_schedule(10.0, 20.0, n),
        lambda n: gx.polynomial_schedule(10.0, 20.0, 2.0, n),
        lambda n: gx.cosine_decay_schedule(10.0, n, alpha=2.0),
        lambda n: gx.warmup_schedule(gx.constant_schedule(20.0), n),
    ],
)
def test_a_length_of_zero_is_the_end_at_once(make: Callable[[int], Any]) -> None:
    """One policy: zero means the end value at once, and a negative length is refused."""
    for count in (0, 1, 2**31 - 1):
        assert float(make(0)(count)) == 20.0
    with pytest.raises(ValueError, match="-1"):
        make(-1)


# Order of arguments ------------------------------------------------------------------------------

RENAMED = {
    "weight_decay_rate": "weight_decay",
    "epsilon": "eps",
    "axis": "axes",
    "fast_optimizer": "inner",
    "base_optimizer": "inner",
    "optimizer": "inner",
    "param_labels": "labels",
    "beta": "b1",
    "init_step": "reps_rel",
}


def positional(function: Any) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(function).parameters.values()
    return [RENAMED.get(p.name, p.name) for p in found if p.kind in kinds]


def counterpart(name: str) -> Any:
    return getattr(optax, name, None) or getattr(optax.contrib, name, None)


ASIDE = {"ema", "monitor", "differentially_private_aggregate", "apply_updates", "accumulate"}
BOTH = [
    name
    for name in dir(gx)
    if name.islower() and not name.startswith("_") and name not in ASIDE
    if callable(getattr(gx, name)) and callable(counterpart(name))
]


@pytest.mark.parametrize("name", BOTH)
def test_arguments_by_position_are_in_the_order_of_optax(name: str) -> None:
    """What may be given by position means the same there, but for the first."""
    ours, theirs = positional(getattr(gx, name)), positional(counterpart(name))
    for k, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        assert k == 0 or one == other, (ours, theirs)


# Of other names, or of other kinds, but in the order of Optax.
OF_OTHER_NAMES = {
    "scale_by_momentum": optax.trace,
    "average_updates": optax.ema,
    "scale_by_adagrad": optax.scale_by_rss,
    "differentially_private_aggregate": optax.contrib.differentially_private_aggregate,
}
ROWS = gx.catalogue.optimizers | gx.catalogue.links | gx.catalogue.wrappers
PUBLIC = [name for name in ROWS if hasattr(gx, name)]


@pytest.mark.parametrize("name", PUBLIC)
def test_what_optax_lacks_takes_one_argument_by_position(name: str) -> None:
    """Around another: that and one more; what Optax has too, no more than stands there."""
    ours = positional(getattr(gx, name))
    if name in BOTH or name in OF_OTHER_NAMES:
        theirs = positional(OF_OTHER_NAMES.get(name) or counterpart(name))
        assert len(ours) <= max(1, len(theirs)), (ours, theirs)
        assert ours[1:] == theirs[1 : len(ours)]
    else:
        assert len(ours) <= 1 + ("inner" in ours and name not in gx.catalogue.optimizers), ours


@pytest.mark.parametrize("name", PUBLIC)
def test_one_argument_too_many_is_refused_by_name(name: str) -> None:
    """The message names the argument and what may follow by name."""
    function = getattr(gx, name)
    known = inspect.signature(function).parameters.values()
    given = [f"value {k}" for k in range(len(positional(function)) + 1)]
    with pytest.raises(
        TypeError, match=f"^{name}: by position .* 'value {len(given) - 1}'"
    ) as error:
        function(*given)
    assert all(f"{p.name}=" in str(error.value) for p in known if p.kind is p.KEYWORD_ONLY)


CALLS: dict[str, Callable[[], Any]] = {
    "scale_by_polyak(0.0)": lambda: gx.scale_by_polyak(0.0),
    "madgrad(.1, .9, 1e-4)": lambda: gx.madgrad(0.1, 0.9, 1e-4),
    "scale_by_factored_rms(True, .8)": lambda: gx.scale_by_factored_rms(True, 0.8),  # pyright: ignore
    "prodigy(1., (.9, .999))": lambda: gx.prodigy(1.0, (0.9, 0.999)),
    "adamw(lr, b1, b2, eps, eps_root, None, wd)": lambda: gx.adamw(
        0.1, 0.9, 0.999, 1e-8, 0.0, None, 1e-4
    ),
    "lion(lr, b1, b2, None, wd)": lambda: gx.lion(0.1, 0.9, 0.99, None, 1e-3),
    "dog(lr, step, eps, wd)": lambda: gx.dog(1.0, 1e-6, 1e-8, 0.1),
    "sam(inner, adv)": lambda: gx.sam(gx.sgd(1.0), gx.sgd(0.1)),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_in_the_order_of_optax_are_refused(name: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        CALLS[name]()


# As a pair ---------------------------------------------------------------------------------------


def test_it_unpacks() -> None:
    init, update = gx.sgd(0.1)
    assert init(PARAMS)["count"] == 0
    assert update(PARAMS, init(PARAMS))[0]["b"][0] == pytest.approx(-0.1)
    assert len(gx.sgd(0.1)) == 2


def test_it_is_indexed() -> None:
    """`tx[0]` and `tx[1]` are `init` and `update`, as of a pair; there is no third."""
    tx: Any = gx.sgd(0.1)
    assert tx[0](PARAMS)["count"] == 0
    assert tx[1](PARAMS, tx[0](PARAMS))[0]["b"][0] == pytest.approx(-0.1)
    with pytest.raises(IndexError):
        tx[2]


def test_parts_of_the_pair_are_replaced() -> None:
    """`_replace(init=...)` is for a NamedTuple, which `to_optax` makes."""
    other = gx.interop.to_optax(gx.sgd(0.1))._replace(init=lambda params: "state")
    assert other.init(PARAMS) == "state"


# Examples ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{"w": jnp.ones((2, 2)), "b": jnp.ones(3)}, jnp.ones(4)])
def test_a_forgotten_vmap_is_noticed(params: Any) -> None:
    """Gradients without an axis of examples are refused, and the error says what to do."""
    tx = gx.differentially_private_aggregate(1.0, 0.5, key=0)
    with pytest.raises(ValueError, match=r"vmap|examples"):
        tx.update(params, tx.init(params), params)


def test_examples_are_aggregated() -> None:
    """Without noise: the mean of the examples, each clipped to norm one over all arrays."""
    tx = gx.differentially_private_aggregate(1.0, 0.0, key=0)
    params = {"a": jnp.zeros(2), "b": jnp.zeros(())}
    g = {"a": jnp.asarray([[3.0, 0.0], [0.1, 0.2]]), "b": jnp.asarray([4.0, 0.2])}
    u, _ = tx.update(g, tx.init(params), params)
    np.testing.assert_allclose(u["a"], [(0.6 + 0.1) / 2, 0.1], rtol=1e-6)
    np.testing.assert_allclose(u["b"], (0.8 + 0.2) / 2, rtol=1e-6)


# Arguments ---------------------------------------------------------------------------------------


def test_sam_goes_uphill_with_any_optimizer() -> None:
    """With `adv_optimizer=sgd(0.1)` first +0.1 g, then back and the step of `inner` from there."""
    tx: Any = gx.sam(gx.sgd(1.0), adv_optimizer=gx.sgd(0.1))  # pyright: ignore[reportCallIssue]
    p = jnp.asarray([1.0, 2.0])
    u, state = tx.update(jnp.asarray([1.0, -2.0]), tx.init(p), p)
    np.testing.assert_allclose(u, [0.1, -0.2], rtol=1e-6)
    p = p + u
    u, _ = tx.update(jnp.asarray([2.0, 4.0]), state, p)
    np.testing.assert_allclose(p + u, [-1.0, -2.0], rtol=1e-6)
