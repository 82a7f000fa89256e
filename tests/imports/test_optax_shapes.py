"""The shapes in which states of Optax are found: all give the same state."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx, serialization, traverse_util
from flax.training.train_state import TrainState
from states.models import assert_bits

import gradtx as gx
from gradtx.interop import from_optax_state

PARAMS = {
    "dense": {"kernel": np.ones((3, 4)), "bias": np.zeros(4)},
    "head": {"kernel": np.ones((4, 2))},
}
LABELS = {"dense": {"kernel": "a", "bias": "b"}, "head": {"kernel": "a"}}
RATE = 0.1


def params() -> Any:
    return jax.tree.map(jnp.asarray, PARAMS)


def after(tx: Any, steps: int = 3, tree: Any = None) -> Any:
    tree = params() if tree is None else tree
    state = tx.init(tree)
    for k in range(steps):
        grads = jax.tree.map(lambda x, k=k: jnp.full_like(x, k + 0.5), tree)
        _, state = tx.update(grads, state, tree)
    return state


def theirs() -> Any:
    """Groups with holes, states without memory, a schedule, and momentum twice."""
    schedule = optax.linear_schedule(RATE, 0.2, 9)
    groups = {"a": optax.adamw(schedule), "b": optax.sgd(RATE, 0.9)}
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.trace(0.5), optax.multi_transform(groups, LABELS)
    )


def ours() -> Any:
    groups = {"*/bias": gx.sgd(RATE, 0.9), "*": gx.adamw(gx.linear_schedule(RATE, 0.2, 9))}
    return gx.chain(gx.clip_by_global_norm(1.0), gx.scale_by_momentum(0.5), gx.partition(groups))


def restored_by_orbax(state: Any, path: Any) -> Any:
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "state", {"opt_state": state, "step": 3})
        checkpointer.wait_until_finished()
        return checkpointer.restore(path / "state")


def flat(state: Any, separator: str | None = "/") -> Any:
    return traverse_util.flatten_dict(serialization.to_state_dict(state), sep=separator)


def by_keystr(state: Any) -> Any:
    found = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): x for path, x in found}


def in_variables(state: Any) -> Any:
    """What nnx has around every array: `.value`."""
    return jax.tree.map(nnx.Variable, state)


FORMS: dict[str, Any] = {
    "live": lambda state, path: state,
    "to_state_dict": lambda state, path: serialization.to_state_dict(state),
    "msgpack": lambda state, path: serialization.msgpack_restore(serialization.to_bytes(state)),
    "orbax": restored_by_orbax,
    "in variables": lambda state, path: in_variables(state),
    "flat": lambda state, path: flat(state),
    "flat, of a train state": lambda state, path: {
        f"opt_state/{k}": x for k, x in flat(state).items()
    },
    "flat, of variables": lambda state, path: {f"{k}/value": x for k, x in flat(state).items()},
    "flat, with points": lambda state, path: flat(state, "."),
    "flat, of tuples": lambda state, path: flat(state, None),
    "flat, as JAX prints it": lambda state, path: by_keystr(state),
    "a train state": lambda state, path: TrainState(3, None, params(), None, state),  # type: ignore
}


@pytest.mark.parametrize("form", FORMS)
def test_all_shapes_give_the_same_state(form: str, tmp_path: Any) -> None:
    state = after(theirs())
    expected, _ = from_optax_state(ours(), state, params())
    got, report = from_optax_state(ours(), FORMS[form](state, tmp_path), params())
    assert_bits(got, expected)
    assert len(report.renamed) == 8
    assert not [*report.notes, *report.fresh, *report.unused]
    assert int(got["count"]) == 3
    assert_bits(got["scale_by_momentum"].trace, state[1].trace)


def test_optimizers_of_nnx() -> None:
    """Its state, the tree of its variables, and both as plain dicts."""
    model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
    tree = nnx.state(model, nnx.Param)
    plain = nnx.to_pure_dict(tree)
    expected = from_optax_state(gx.adam(RATE), optimizer.opt_state, plain)[0]
    assert float(expected["scale_by_adam"].mu["bias"][0]) == pytest.approx(0.1)
    whole = nnx.state(optimizer)
    for form in (whole, nnx.to_pure_dict(whole), optimizer.opt_state):
        for target in (plain, tree):
            got, report = from_optax_state(gx.adam(RATE), form, target)
            assert not report.unused
            for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
                assert_bits(x, y)


def test_a_parameter_alone_and_one_called_value() -> None:
    for tree in (
        jnp.ones(3),
        {"value": jnp.ones(3), "count": jnp.ones(2), "mu": {"nu": jnp.ones(1)}},
    ):
        state = after(optax.adam(RATE), 3, tree)
        for form in (state, serialization.to_state_dict(state)):
            got, _ = from_optax_state(gx.adam(RATE), form, tree)
            assert_bits(got["scale_by_adam"].mu, state[0].mu)
            assert_bits(got["scale_by_adam"].nu, state[0].nu)


def test_masked_and_frozen_arrays_are_holes() -> None:
    mask = {"dense": {"kernel": True, "bias": False}, "head": {"kernel": True}}
    state = after(optax.masked(optax.adam(RATE), mask))
    got, _ = from_optax_state(gx.masked(gx.adam(RATE), "*/kernel"), state, params())
    assert_bits(got["scale_by_adam"].mu["head"], state.inner_state[0].mu["head"])
    assert got["scale_by_adam"].mu["dense"]["bias"] is None


def test_groups_need_not_be_the_same() -> None:
    """One Adam there for two groups here, and two groups there for one here."""
    one, groups = optax.adam(RATE), {"a": optax.adam(RATE), "b": optax.adam(RATE)}
    two = optax.multi_transform(groups, LABELS)
    split = gx.partition({"*/bias": gx.adam(RATE), "*": gx.adam(RATE)})
    there = [after(one), after(two)]
    for tx in (gx.adam(RATE), split):
        first, second = (from_optax_state(tx, state, params())[0] for state in there)
        assert_bits(first, second)
        flat = gx.state_dict(tx, first, params())
        assert_bits(flat["scale_by_adam/mu/dense/bias"], there[0][0].mu["dense"]["bias"])


def test_injected_hyperparameters_are_reported() -> None:
    """They are not state: the optimizer has its own, also where these are state here."""
    tx = optax.inject_hyperparams(optax.adamw)(learning_rate=0.3, weight_decay=0.02)
    state = after(tx)
    for tx in (gx.adamw(RATE), gx.inject_hyperparams(gx.adamw(RATE))):
        got, report = from_optax_state(tx, state, params())
        assert int(tx.count(got)) == 3
        differing = {key.rpartition(".")[2]: pair for key, pair in report.hyperparameters.items()}
        assert differing == {
            "learning_rate": (pytest.approx(0.3), pytest.approx(RATE)),
            "weight_decay": (pytest.approx(0.02), pytest.approx(1e-4)),
        }


def test_momentum_lies_where_the_rate_says() -> None:
    """Before it in sgd, behind it in rmsprop; also where states without memory are lost."""
    for name, tx, mine, factor in (
        ("sgd", optax.sgd(RATE, 0.9), gx.sgd(RATE, 0.9), 1),
        ("rmsprop", optax.rmsprop(RATE, momentum=0.9), gx.rmsprop(RATE, momentum=0.9), -1 / RATE),
        (
            "rmsprop as in Optax",
            optax.rmsprop(RATE, momentum=0.9),
            gx.chain(gx.rmsprop(RATE), gx.scale_by_momentum(0.9)),
            1,
        ),
        ("no rate", optax.sgd(RATE, 0.9), gx.scale_by_momentum(0.9), 1),
        (
            "clipped",
            optax.chain(optax.clip(1.0), optax.trace(0.9), optax.scale(-RATE)),
            gx.chain(gx.clip(1.0), gx.sgd(RATE, 0.9)),
            1,
        ),
        (
            "momentum before the rate",
            optax.chain(optax.scale_by_rms(), optax.trace(0.9), optax.scale(-RATE)),
            gx.rmsprop(RATE, momentum=0.9),
            1,
        ),
        (
            "sgd, the rate first",
            optax.sgd(RATE, 0.9),
            gx.chain(gx.scale_by_learning_rate(RATE), gx.scale_by_momentum(0.9)),
            -RATE,
        ),
    ):
        state = after(tx)
        (there,) = (x["trace"] for x in _dicts(serialization.to_state_dict(state)) if "trace" in x)
        for form in (state, flat(state)):
            got, _ = from_optax_state(mine, form, params())
            here = gx.state_dict(mine, got, params())["scale_by_momentum/trace/dense/bias"]
            expected = np.asarray(there["dense"]["bias"]) * factor
            np.testing.assert_allclose(here, expected, rtol=1e-6, err_msg=name)


def _dicts(tree: Any) -> Any:
    if isinstance(tree, dict):
        yield tree
        for below in tree.values():
            yield from _dicts(below)


def test_cycles_of_micro_batches() -> None:
    """Sums where both have sums, and a note where the length of a cycle moves."""
    state = after(optax.MultiSteps(optax.sgd(RATE, 0.9), 4, use_grad_mean=False), 6)
    tx = gx.accumulate(gx.sgd(RATE, 0.9), every=4, reduce="sum")
    got, _ = from_optax_state(tx, state, params())
    flat = gx.state_dict(tx, got, params())
    total = flat["accumulate/total/head/kernel"].astype(jnp.float32)
    assert_bits(total, state.acc_grads["head"]["kernel"])
    names = ("count", "accumulate/gradient_step", "accumulate/mini_step", "accumulate/weight")
    assert [int(flat[name]) for name in names] == [6, 1, 2, 2]
    moving = gx.accumulate(gx.sgd(RATE, 0.9), every=lambda count: 4)
    _, report = from_optax_state(moving, state, params())
    assert any("lengths of cycles move" in note for note in report.notes)


def test_shapes_of_parameters_are_enough() -> None:
    state = after(optax.adam(RATE))
    shapes = jax.eval_shape(params)
    got, _ = from_optax_state(gx.adam(RATE), state, shapes)
    assert_bits(got, from_optax_state(gx.adam(RATE), state, params())[0])


def test_no_memory_is_shared() -> None:
    state = jax.tree.map(np.array, after(optax.adam(RATE)))
    got, _ = from_optax_state(gx.adam(RATE), state, params())
    before = np.array(got["scale_by_adam"].mu["head"]["kernel"])
    state[0].mu["head"]["kernel"][:] = 7.0
    assert_bits(got["scale_by_adam"].mu["head"]["kernel"], before)


def test_it_lies_as_the_parameters_do() -> None:
    mesh = jax.make_mesh((2,), ("x",))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    tree = {"w": jax.device_put(jnp.ones((4, 3)), place)}
    state = jax.tree.map(np.asarray, after(optax.adam(RATE), 3, {"w": jnp.ones((4, 3))}))
    got, _ = from_optax_state(gx.adam(RATE), state, tree)
    assert got["scale_by_adam"].mu["w"].sharding.is_equivalent_to(place, 2)
    assert_bits(np.asarray(got["scale_by_adam"].mu["w"]), state[0].mu["w"])
