"""Arguments that are trees, integers, shapes for values; clocks; hyperparameters in the state."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import FrozenDict

import gradtx as gx

# Trees like the parameters -----------------------------------------------------------------------


class by_curvature(gx.Rule):
    """Divides by an estimate of the curvature."""

    needs: ClassVar[tuple[str, ...]] = ("curvature",)
    trees: ClassVar[tuple[str, ...]] = ("curvature",)

    def update_leaf(self, g: Any, slots: Any, p: Any, step: gx.Step) -> Any:
        return g / step.extra["curvature"], slots


class by_curvature_of_trees(gx.GradientTransformation):
    """The same as a transformation of trees."""

    needs: ClassVar[tuple[str, ...]] = ("curvature",)
    trees: ClassVar[tuple[str, ...]] = ("curvature",)

    def init(self, params: Any) -> Any:
        return ()

    def update(
        self, updates: Any, state: Any, params: Any = None, *, curvature: Any, **extra: Any
    ) -> Any:
        return jax.tree.map(lambda g, c: g / c, updates, curvature), state


PARAMS = {"a": jnp.ones(2), "b": {"c": jnp.ones(3), "d": jnp.ones(4)}}
CURVATURE = {"a": jnp.full(2, 2.0), "b": {"c": jnp.full(3, 4.0), "d": jnp.full(4, 8.0)}}
AROUND = {
    "alone": (lambda tx: tx, (0.5, 0.25, 0.125)),
    "partition": (lambda tx: gx.partition({"b/*": tx, "*": gx.sgd(1.0)}), (-1.0, 0.25, 0.125)),
    "masked": (lambda tx: gx.masked(tx, "b/c"), (0.0, 0.25, 0.0)),
    "masked passing": (lambda tx: gx.masked(tx, "a", outside="pass"), (0.5, 1.0, 1.0)),
    "nested": (
        lambda tx: gx.partition({"a": gx.sgd(1.0), "*": gx.masked(tx, "b/d")}),
        (-1.0, 0.0, 0.125),
    ),
    "ema": (lambda tx: gx.ema(gx.masked(tx, "a")), (0.5, 0.0, 0.0)),
}


@pytest.mark.parametrize("make", [by_curvature, by_curvature_of_trees])
@pytest.mark.parametrize("around", AROUND)
def test_trees_like_the_parameters_are_split(make: Any, around: str) -> None:
    """Every part gets what belongs to its arrays."""
    wrap, expected = AROUND[around]
    tx = wrap(make())
    u, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS, curvature=CURVATURE)
    found = (u["a"][0], u["b"]["c"][0], u["b"]["d"][0])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("grads", "curvature"),
    [
        pytest.param({**PARAMS, "a": None}, CURVATURE, id="no gradient"),
        pytest.param(
            {**PARAMS, "a": jnp.ones(2), "b": None},
            CURVATURE,
            id="no gradients below",
        ),
        pytest.param(PARAMS, FrozenDict(CURVATURE), id="another container"),
        pytest.param(
            PARAMS, {"a": jnp.full(2, 2.0), "b": jnp.asarray(8.0)}, id="one for a subtree"
        ),
    ],
)
def test_trees_beside_updates(grads: Any, curvature: Any) -> None:
    """Where updates are `None`, and trees of another container."""
    tx = by_curvature()
    u, _ = tx.update(grads, tx.init(PARAMS), PARAMS, curvature=curvature)
    for found, expected in ((u["a"], 0.5), (u["b"] and u["b"]["d"], 0.125)):
        assert found is None or float(found[0]) == expected


@pytest.mark.parametrize("curvature", [{"a": jnp.ones(2)}, {**CURVATURE, "e": jnp.ones(1)}])
def test_trees_that_do_not_fit_are_refused_by_name(curvature: Any) -> None:
    """The argument and the paths that only one of both has."""
    tx = by_curvature()
    with pytest.raises(ValueError, match=r"curvature.*('b/c'|'e')"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, curvature=curvature)


# Integers ----------------------------------------------------------------------------------------


def loss(tx: Any) -> Any:
    return tx.update(jnp.ones(3), tx.init(jnp.ones(3)), jnp.ones(3))[0].sum()


@pytest.mark.parametrize("make", [lambda: gx.sgd(1), lambda: gx.sgd({"": 1}), lambda: gx.adam(1)])
def test_integers_that_mean_real_numbers_are_differentiated(make: Any) -> None:
    """They became floats when they were given."""
    tx = gx.sgd(1)
    assert float(jax.tree.leaves(jax.grad(loss)(tx))[0]) == -3.0
    assert all(type(x) is float for x in jax.tree.leaves(make()))


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: gx.sgd(gx.cosine_decay_schedule(0.1, 100)), "init_value"),
        (lambda: gx.lookahead(gx.sgd(0.1)), "learning_rate"),
        (lambda: gx.chain(gx.add_noise(0.1, 0.5, key=0), gx.sgd(0.1)), "learning_rate"),
        (lambda: gx.accumulate(gx.sgd(0.1), 1), "learning_rate"),
    ],
)
def test_lengths_and_seeds_are_differentiated_by_allow_int(make: Any, path: str) -> None:
    """As README says of lengths and seeds."""
    slope = jax.grad(loss, allow_int=True)(make())
    named = {"".join(map(str, p)): x for p, x in jax.tree_util.tree_leaves_with_path(slope)}
    [found] = [x for name, x in named.items() if path in name]
    assert np.isfinite(float(found))
    assert float(found) != 0


def test_one_trace_for_equal_numbers() -> None:
    """1 and 1.0 are one trace; arrays and numbers of NumPy another, for all of them."""
    traces = []

    @jax.jit
    def step(tx: Any) -> Any:
        traces.append(None)
        return loss(tx)

    for rate in (1.0, 1, 2, 0.5):
        step(gx.sgd(rate))
    assert len(traces) == 1
    for rate in (jnp.float32(1), jnp.float32(2), np.float32(1.0), np.float64(1.0)):
        step(gx.sgd(rate))
    assert len(traces) == 2


# Shapes for values -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dadapt_adamw", "master_weights", "schedule_free", "lookahead"])
def test_shapes_are_enough_for_init(name: str) -> None:
    """What is remembered of the parameters is taken at the first step: the same steps follow."""
    wrappers = ("master_weights", "schedule_free", "lookahead")
    make = getattr(gx, name)
    tx = make(gx.sgd(0.1)) if name in wrappers else make(1.0)
    params = {"w": jnp.asarray([1.0, -2.0, 3.0])}
    shapes = {"w": jax.ShapeDtypeStruct((3,), jnp.float32)}
    found = []
    for start in (shapes, params):
        state, at = tx.init(start), params
        for k in range(3):
            g = {"w": jnp.asarray([1.0, 0.5, -2.0]) * (k + 1)}
            at, state = tx.step(g, state, at)
        found.append(np.asarray(at["w"]))
    np.testing.assert_allclose(*found, rtol=1e-6)
    assert np.abs(found[0] - np.asarray(params["w"])).max() > 0


@pytest.mark.parametrize("name", ["dog", "ldog", "dowg", "prodigy", "cocob", "madgrad", "mechanic"])
def test_who_remembers_where_it_began_says_how_to_ask_for_shapes(name: str) -> None:
    """To take the start at the first step would write a parameter-sized array at every step."""
    tx = gx.mechanic(gx.sgd(0.1)) if name == "mechanic" else getattr(gx, name)(1.0)
    shapes = {"w": jax.ShapeDtypeStruct((3,), jnp.float32)}
    with pytest.raises(ValueError, match=r"remembers the values.*jax\.eval_shape"):
        tx.init(shapes)
    abstract = jax.eval_shape(tx.init, shapes)
    assert jax.tree.structure(abstract) == jax.tree.structure(tx.init({"w": jnp.ones(3)}))


# Clocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "skipping",
    [
        lambda: optax.MultiSteps(optax.scale(1.0), 4).gradient_transformation(),
        lambda: optax.apply_if_finite(optax.scale(1.0), 4),
    ],
)
def test_clocks_behind_optax_that_skips(skipping: Any) -> None:
    """Refused as behind `accumulate`, with the way out."""
    rate = gx.scale_by_learning_rate(gx.linear_schedule(1.0, 11.0, 10))
    with pytest.raises(ValueError, match="inside"):
        gx.chain(skipping(), rate)


def test_clocks_of_optax_behind_what_skips() -> None:
    with pytest.raises(ValueError, match="inside"):
        gx.chain(gx.accumulate(gx.scale(1.0), 4), optax.scale_by_adam())


def test_a_shorter_window_uses_up_what_is_there() -> None:
    """After 1 of 4, `replace(every=1)`: the mean of 1 and 3, as with every=2; counted as a step."""
    p = jnp.ones(2)
    tx = gx.accumulate(gx.sgd(1.0), 4)
    _, state = tx.update(p, tx.init(p), p)
    for every in (2, 1):
        u, new = tx.replace(every=every).update(3 * p, state, p)
        assert int(new.gradient_step) == 1
        assert int(new.mini_step) == 0
        np.testing.assert_allclose(u, -2.0)


# Hyperparameters in the state --------------------------------------------------------------------


def test_two_rates_are_told_apart() -> None:
    """Two wrappers in one state: both rates are read."""
    tx = gx.partition(
        {"a": gx.inject_hyperparams(gx.sgd(0.1)), "b": gx.inject_hyperparams(gx.sgd(0.2))}
    )
    found = gx.hyperparams(tx.init({"a": jnp.ones(1), "b": jnp.ones(1)}))
    rates = sorted(round(float(x), 6) for name, x in found.items() if "learning_rate" in name)
    assert rates == [0.1, 0.2]


def test_rates_by_path_keep_their_name() -> None:
    """`by_path` inside: the keys say which hyperparameter it is."""
    tx = gx.inject_hyperparams(gx.sgd(gx.by_path({"*/bias": 0.2, "*": 0.1})))
    state = tx.init({"l": {"bias": jnp.ones(1), "k": jnp.ones(1)}})
    assert all("learning_rate" in name for name in state.hyperparams)
    assert len(state.hyperparams) == 2
