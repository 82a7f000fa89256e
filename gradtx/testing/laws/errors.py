"""Law 10: errors say what was called, what was seen, what to do, and come at trace time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.chain import chain
from gradtx.paths import by_path
from gradtx.testing.ask import (
    axes,
    extras,
    hyperparameters,
    keys,
    shapes_of,
    start_and_update,
    update,
)
from gradtx.testing.compare import avals, require, three_parts
from gradtx.testing.evidence import Evidence
from gradtx.testing.laws.extra_arguments import refused
from gradtx.testing.laws.law import law
from gradtx.transform import State, apply_updates, identity
from gradtx.transforms.clip import clip
from gradtx.transforms.momentum import scale_by_momentum
from gradtx.transforms.scale import scale
from gradtx.tree import Tree
from gradtx.wrappers.transparent import Transparent


def _refused(e: Evidence, grads: Tree, state: State, kinds: Any = (TypeError, ValueError)) -> Any:
    more = extras(e.tx, e.params, grads)
    return refused(
        lambda g, s, p: e.tx.update(g, s, p, **more), grads, state, e.params, kinds=kinds
    )


@law(10)
def gradients_of_another_tree(e: Evidence) -> None:
    """A missing or a surplus array is named by its path."""
    params, state = e.params, e.alone.path.states[0]
    if isinstance(e.tx, identity):  # it hands on whatever it gets
        require(e.tx.update(params, state, {"other": 1.0})[0] is params, "identity changed it")
        return
    missing = {"dense": {"kernel": params["dense"]["kernel"]}, "scale": params["scale"]}
    surplus = {**params, "more": params["scale"]}
    three_parts(_refused(e, missing, state), "'dense/bias'", "different trees")
    three_parts(_refused(e, surplus, state), "'more'", "different trees")
    three_parts(_refused(e, [params["scale"]], state), "different trees")


@law(10)
def shapes_that_would_broadcast(e: Evidence) -> None:
    """A gradient of another shape is refused, with its path and both shapes."""
    params, state = e.params, e.alone.path.states[0]
    for shape in ((1, 3), (3,), (), (8, 1), (2, 8, 3)):
        kernel = np.ones(shape, np.float32)
        grads = {**params, "dense": {**params["dense"], "kernel": kernel}}
        if isinstance(e.tx, identity):
            error = refused(lambda p, g: e.tx.step(g, state, p), params, grads)
            require("dense/kernel" in str(error), "the path is not named", error)
            continue
        three_parts(_refused(e, grads, state), "'dense/kernel'", str(list(shape)), "[8, 3]")


@law(10)
def state_of_other_shapes(e: Evidence) -> None:
    """A state made from another model is refused where an array of it does not fit."""
    other = jax.tree.map(lambda p: np.ones((1, *p.shape), p.dtype), e.params)
    state = jax.eval_shape(e.tx.init, other)
    if avals(state) == avals(jax.eval_shape(e.tx.init, e.params)):
        # It remembers no array: any model will do.
        jax.eval_shape(lambda g, s, p: update(e.tx, g, s, p), e.params, state, e.params)
        return
    three_parts(_refused(e, e.params, state), "dense/", "[1, ")


def strangers(params: Tree) -> list[Any]:
    """States of other transformations, and what is no state at all."""
    other = chain(clip(1.0), scale_by_momentum(), scale(1.0))
    return [jax.eval_shape(other.init, params), {}, None, 3, params]


@law(10)
def state_of_another_optimizer(e: Evidence) -> None:
    """A state of another kind is refused with what it is and what was expected."""
    if not isinstance(e.tx, identity):
        for state in strangers(e.params):
            refuses_state(e, state)


def refuses_state(e: Evidence, state: State) -> None:
    error = _refused(e, e.params, state, TypeError)
    # The state of these is that of their inside.
    owner = e.tx.inner if isinstance(e.tx, Transparent) else e.tx
    three_parts(error, type(owner).__name__, "state", "init")


@law(10)
def strings_as_hyperparameters(e: Evidence) -> None:
    """A string in the place of any number is refused when the object is made."""
    named = {path: path.split(".")[-1] for path in hyperparameters(e.tx)}
    named |= dict.fromkeys(keys(e.tx), "key") | dict.fromkeys(axes(e.tx), "axes")
    for path, name in named.items():
        try:
            e.tx.replace({path: "0.1"})
        except TypeError as error:
            three_parts(error, name, "'0.1'")
        else:
            raise AssertionError(f"{path} took a string")


def _replaced(e: Evidence, path: str, value: Any, mention: str) -> Any:
    """The transformation with another value, or None if the constructor refuses it and says so."""
    try:
        return e.tx.replace({path: value})
    except (TypeError, ValueError) as error:
        three_parts(error, mention)
        return None


@law(10)
def hyperparameters_with_axes(e: Evidence) -> None:
    """An array of numbers is refused with its shape, before anything is computed with it."""
    state = jax.eval_shape(e.tx.init, e.params)
    kinds = (jnp.asarray(np.full(3, 0.1)), np.full((1,), 0.1), np.full((4, 3), 0.1))
    for index, path in enumerate(hyperparameters(e.tx)):
        for value in kinds if index == 0 else kinds[:1]:
            broad = _replaced(e, path, value, str(value.shape))
            if broad is None:
                continue
            error = refused(lambda g, s, p, o=broad: update(o, g, s, p), e.params, state, e.params)
            three_parts(error, path.split(".")[-1], str(value.shape), "vmap")


@law(10)
def hyperparameters_that_are_trees_of_another_model(e: Evidence) -> None:
    """A tree of numbers that does not fit the parameters is refused with its paths."""
    state = jax.eval_shape(e.tx.init, e.params)
    for path, x in hyperparameters(e.tx).items():
        wrong = _replaced(e, path, {"dense": x, "elsewhere": x}, "elsewhere")
        if wrong is None:
            continue
        error = refused(lambda g, s, p, o=wrong: update(o, g, s, p), e.params, state, e.params)
        three_parts(error, path.split(".")[-1], "elsewhere")


@law(10)
def patterns_without_an_array(e: Evidence) -> None:
    """`by_path` as a hyperparameter: unused patterns and arrays without one are listed by init."""
    for path, x in hyperparameters(e.tx).items():
        for table, mention in (
            ({"*/bais": x, "*": x}, "*/bais"),
            ({"*/bias": x}, "no entry for"),
        ):
            wrong = _replaced(e, path, by_path(table), "by_path({")
            if wrong is None:
                continue
            try:
                shapes_of(start_and_update, wrong, e.grads[0], e.params)
            except ValueError as error:
                # A number that all arrays share is refused as such, and the table with it.
                shared = "all arrays share one number" in str(error)
                three_parts(error, "by_path", "by_path({" if shared else mention)
            else:
                raise AssertionError(f"{path} = by_path({table}) passed")


@law(10)
def unknown_hyperparameters(e: Evidence) -> None:
    """`replace` says that there is no such hyperparameter, and shows the object."""
    try:
        e.tx.replace(lerning_rate=0.1)
    except ValueError as error:
        require("there is no 'lerning_rate'" in str(error), "the name is not in", error)
        require(str(e.tx) in str(error), "the object is not in", error)
    else:
        raise AssertionError("replace(lerning_rate=0.1) passed")


@law(10)
def floating_gradient_of_an_integer_parameter(e: Evidence) -> None:
    """Parameters that are not moved take no gradient: the path and both dtypes are named."""
    params, grads = {"i": np.ones(3, np.int32)}, {"i": np.ones(3, np.float32)}
    if isinstance(e.tx, identity):
        moved = apply_updates(params, grads)["i"]
        require((moved == params["i"]).all(), "an integer parameter moved", moved)
        return
    state = jax.eval_shape(e.tx.init, params)
    more = extras(e.tx, params, grads)
    error = refused(lambda g, s, p: e.tx.update(g, s, p, **more), grads, state, params)
    three_parts(error, "'i'", "float32", "int32")
