"""What has a name in Optax has one here, or an answer, and does the same."""

from __future__ import annotations

import types
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from laws.cases import assert_three_parts

import gradtx as gx
from gradtx.counterparts import COUNTERPARTS, OUT_OF_SCOPE

# Whose names stand at the top here. `optax.tree` and `optax.tree_utils` are left to Optax whole.
MODULES = (
    *("", "assignment", "contrib", "experimental", "losses", "microbatching", "perturbations"),
    *("projections", "schedules", "second_order", "transforms"),
)


def public(module: str) -> list[str]:
    place = getattr(optax, module) if module else optax
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            name
            for name in dir(place)
            if not name.startswith("_") and not isinstance(getattr(place, name), types.ModuleType)
        ]


@pytest.mark.parametrize("module", MODULES)
def test_no_name_falls_through(module: str) -> None:
    """Every public name exists, is answered, is the name of a state, or is out of scope."""
    for name in public(module):
        if name in vars(gx):
            continue
        with pytest.raises(AttributeError) as error:
            getattr(gx, name)
        said = str(error.value)
        assert "counterpart" in said or "of Optax works" in said or "a state is" in said, said


def test_no_answer_is_idle() -> None:
    """What is said to be out of scope is a name of Optax; nothing has two answers."""
    modules = (m for m in MODULES if m)
    known = {name for module in MODULES for name in public(module)}
    assert set(OUT_OF_SCOPE) <= known.union(modules)
    assert not set(OUT_OF_SCOPE).intersection(COUNTERPARTS, vars(gx))
    assert not set(COUNTERPARTS).intersection(vars(gx))


# Functions of trees --------------------------------------------------------------------------


def trees(dtype: str) -> tuple[Any, Any]:
    new = {"w": jnp.asarray([1.0, -2.0], dtype), "n": jnp.asarray(5), "none": None}
    return new, {"w": jnp.asarray([0.5, 4.0], dtype), "n": jnp.asarray(2), "none": None}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_parameters_follow(dtype: str) -> None:
    new, old = trees(dtype)
    mixed = gx.incremental_update(new, old, 0.25)
    np.testing.assert_allclose(np.asarray(mixed["w"], complex), [0.625, 2.5], rtol=1e-6)
    assert (mixed["w"].dtype, int(mixed["n"]), mixed["none"]) == (dtype, 5, None)
    for steps, taken in ((0, new), (3, old), (4, new)):
        found = jax.jit(gx.periodic_update)(new, old, jnp.asarray(steps), 4)
        assert found["w"].dtype == dtype
        assert all(
            jnp.array_equal(x, y)
            for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(taken), strict=True)
        )


def test_small_steps_follow_in_float32() -> None:
    """bfloat16 would make 1.0 of 0.999."""
    new, old = jnp.asarray(512.0, "bfloat16"), jnp.asarray(1024.0, "bfloat16")
    assert gx.incremental_update(new, old, 0.03).dtype == jnp.bfloat16
    assert float(gx.incremental_update(new, old, 0.03)) == 1008.0  # of 1008.64; not 1009.2


def test_trees_that_do_not_fit_are_refused() -> None:
    for follow in (
        lambda new, old: gx.incremental_update(new, old, 0.5),
        lambda new, old: gx.periodic_update(new, old, 1, 2),
    ):
        for new in ({"v": jnp.ones(2)}, {"w": jnp.ones(3)}):
            with pytest.raises(ValueError, match=r"'[wv]'") as error:
                follow(new, {"w": jnp.ones(2)})
            assert_three_parts(str(error.value))


def test_global_norm() -> None:
    tree = {"a": jnp.asarray([3.0, 0.0]), "b": jnp.asarray(4.0), "c": None}
    assert float(gx.global_norm(tree)) == pytest.approx(5.0)


# Links from a function -----------------------------------------------------------------------


def test_functions_get_parameters_where_they_are_given() -> None:
    g, p = {"w": jnp.ones(2)}, {"w": jnp.asarray([3.0, 5.0])}
    whole = gx.stateless(lambda g, p: g if p is None else p)
    each = gx.stateless_with_tree_map(lambda g, p: g if p is None else p)
    for tx in (whole, each, gx.chain(each, gx.scale(1.0))):
        np.testing.assert_array_equal(tx.update(g, tx.init(p))[0]["w"], g["w"])
        np.testing.assert_array_equal(tx.update(g, tx.init(p), p)[0]["w"], p["w"])


def test_updates_keep_their_dtype_and_what_has_none() -> None:
    tx = gx.stateless(lambda g, p: jax.tree.map(lambda x: x.astype("float32") * 2, g))
    u, _ = tx.update({"w": jnp.ones(2, "bfloat16"), "v": None}, (), None)
    assert u["w"].dtype == jnp.bfloat16
    assert u["v"] is None


@pytest.mark.parametrize(
    "tx",
    [
        gx.stateless(lambda g, p: {"v": g["w"]}),
        gx.stateless(lambda g, p: {"w": jnp.ones(3)}),
        gx.stateless_with_tree_map(lambda g, p: jnp.ones(3)),
    ],
)
def test_functions_that_make_something_else_are_refused(tx: Any) -> None:
    g = {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match="f "):
        tx.update(g, tx.init(g), g)


# Schedules -----------------------------------------------------------------------------------

SCHEDULES = {
    "piecewise_interpolate_schedule": [("linear", 2.0, {5: 0.5, 10: 3.0}), ("cosine", 2.0, {7: 0})],
    "warmup_constant_schedule": [(0.1, 1.0, 5)],
    "warmup_exponential_decay_schedule": [
        (0.1, 1.0, 5, 3, 0.5),
        (0.0, 1.0, 4, 3, 0.5, 2, True, 0.2),
    ],
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_those_of_optax(name: str) -> None:
    for arguments in SCHEDULES[name]:
        ours, theirs = getattr(gx, name)(*arguments), getattr(optax, name)(*arguments)
        for count in range(14):
            with jax.numpy_dtype_promotion("standard"):
                expected = float(theirs(count))
            assert float(ours(count)) == pytest.approx(expected, abs=1e-6)


def test_boundaries_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="rising"):
        gx.piecewise_interpolate_schedule("linear", 1.0, ((10, 5), (0.5, 0.1)))
    table = gx.piecewise_interpolate_schedule("linear", 1.0, {10: 0.5, 5: 0.1})
    assert table == gx.piecewise_interpolate_schedule("linear", 1.0, {5: 0.1, 10: 0.5})
    assert float(gx.piecewise_interpolate_schedule("linear", 3.0)(7)) == 3.0


# Arguments -----------------------------------------------------------------------------------


def test_decay_under_a_mask() -> None:
    """In any form, and by position as in Optax."""
    p = {"w": jnp.ones(2), "b": jnp.ones(2)}
    for mask in ({"w": True, "b": False}, "w", lambda path, x: path == "w"):
        tx = gx.add_decayed_weights(0.1, mask)
        u, _ = tx.update(jax.tree.map(jnp.zeros_like, p), tx.init(p), p)
        assert float(u["w"][0]) == pytest.approx(0.1)
        assert float(u["b"][0]) == 0.0


def test_a_step_is_left_out_where_a_function_says_so() -> None:
    """It sees updates, the steps taken and the parameters; nothing of `inner` changes."""
    tx = gx.skip_if(gx.adam(0.1), lambda g, count, p: (gx.global_norm(g) > 2) | (count >= 2))
    p, state, moved = jnp.ones(2), None, []
    state = tx.init(p)
    for size in (1.0, 5.0, 1.0, 1.0):
        new, state = tx.step(jnp.full(2, size), state, p)
        moved.append(bool((new != p).all()))
        p = new
    assert moved == [True, False, True, False]
    assert (int(state.skipped_count), int(state.total_skipped)) == (1, 2)
    assert int(state.gradient_step) == 2
    unsure = gx.skip_if(gx.sgd(0.1), lambda g, count, p: 1.0)
    with pytest.raises(TypeError, match="one bool"):
        unsure.update(p, unsure.init(p), p)


def test_measures_of_ones_own() -> None:
    """They get gradients, updates and parameters, and stand beside the others, by their names."""

    def largest(grads: Any, updates: Any, params: Any) -> Any:
        return jnp.max(jnp.abs(grads["w"])) + jnp.max(updates["w"]) + jnp.sum(params["w"])

    tx = gx.monitor(gx.sgd(0.5), metrics="grad_norm", measures={"own": largest}, name="me")
    p, g = {"w": jnp.asarray([1.0, 2.0])}, {"w": jnp.asarray([-3.0, 4.0])}
    _, state = jax.jit(tx.update)(g, tx.init(p), p)
    found = gx.metrics(state)
    assert set(found) == {"me/grad_norm/*", "me/own"}
    assert float(found["me/own"]) == pytest.approx(4 + 1.5 + 3)
    with pytest.raises(TypeError, match="measure 'own'"):
        gx.monitor(gx.sgd(0.5), measures={"own": 1.0})  # pyright: ignore[reportArgumentType]
    wide = gx.monitor(gx.sgd(0.5), measures={"own": lambda g, u, p: g["w"]})
    with pytest.raises(ValueError, match="one real number"):
        wide.update(g, wide.init(p), p)
