"""Law 2: a state keeps its tree, shapes and dtypes; scan and vmap work."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from gradtx.testing.ask import start_and_update, step, update
from gradtx.testing.compare import avals, close, leaves, require, room, same_types
from gradtx.testing.evidence import Evidence
from gradtx.testing.laws.law import law
from gradtx.transform import State
from gradtx.tree import Tree


def _stable(shapes: dict[Any, Any], stepped: Any) -> None:
    for name, (_, grads, (state, updates, new)) in shapes.items():
        weak = [path for path, x in leaves(state) if getattr(x, "weak_type", False)]
        require(not weak, f"dtypes {name}: slots of weak types", weak)
        same_types(new, state, f"dtypes {name}: the state after an update")
        same_types(updates, grads, f"dtypes {name}: the updates")
    params, _, (state, *_) = shapes["all"]
    same_types(stepped[0], params, "the parameters after a step")
    same_types(stepped[1], state, "the state after a step")


@law(2)
def state_is_stable_for_all_dtypes(e: Evidence) -> None:
    """Tree, shapes, dtypes and their strength last, for every pairing of p and g."""
    _stable(*e.narrow_shapes)


@law(2)
def state_is_stable_for_all_dtypes_with_x64(e: Evidence) -> None:
    """The same with 64-bit types switched on, float64 included."""
    _stable(*e.wide_shapes)


@law(2)
def scan_takes_every_state(e: Evidence) -> None:
    """`jax.lax.scan`, which refuses a state that changes its type, runs with every dtype."""

    def scanned(grads: Tree, params: Tree) -> Any:
        def body(state: State, g: Any) -> Any:
            updates, state = update(e.tx, g, state, params)
            return state, updates

        return jax.lax.scan(body, e.tx.init(params), grads)

    params, grads, found = e.narrow_shapes[0]["all"]
    sequence = jax.tree.map(lambda g: np.stack([g, g]), grads)
    state, _ = jax.eval_shape(scanned, sequence, params)
    require(avals(state) == avals(found[0]), "the state after a scan", state)


@law(2)
def vmap_over_a_stacked_optimizer_is_the_loop(e: Evidence) -> None:
    """A stack of optimizers that differ in every number, in a scan: each does as it does alone."""
    alone, jolts, (states, updates) = e.stacked
    for index, (path, others) in enumerate(zip(alone, jolts, strict=True)):
        member = jax.tree.map(lambda x, i=index: x[i], (states, updates))
        expected, *jolted = [
            (one.states[-1], jax.tree.map(lambda *xs: np.stack(xs), *one.updates))
            for one in jax.device_get((path, *others))
        ]
        close(member, expected, room(expected, jolted), f"member {index} of a stack")


class _Named(NamedTuple):
    """Parameters whose names are those of slots."""

    mu: Any
    nu: Any


@law(2)
def a_named_tuple_of_parameters_is_as_a_dict(e: Evidence) -> None:
    """Parameters may be a NamedTuple with fields `mu` and `nu`: the program is that of a dict.

    A state is told from parameters by what it says it is, not by being a tuple with names.
    """

    def program(kind: Any) -> tuple[str, Any]:
        params, grads = (
            kind(mu=x["dense"]["kernel"], nu=x["dense"]["bias"]) for x in (e.params, e.grads[0])
        )

        def all_calls(grads: Tree, params: Tree) -> Any:
            state, updates, new = start_and_update(e.tx, grads, params)
            stepped = step(e.tx, grads, new, params)
            return state, updates, new, e.tx.eval_params(new, params), *stepped

        found, shapes = jax.make_jaxpr(all_calls, return_shape=True)(grads, params)
        return str(found), shapes

    (wanted, shapes), (found, named) = program(dict), program(_Named)
    types = [[(x.shape, x.dtype) for x in jax.tree.leaves(x)] for x in (named, shapes)]
    require(types[0] == types[1], "the arrays that come out, of a NamedTuple and a dict", *types)
    for index, what in ((1, "updates"), (3, "parameters to evaluate"), (4, "parameters")):
        require(isinstance(named[index], _Named), f"the {what} are a", type(named[index]))
    require(found == wanted, "a NamedTuple is computed otherwise than a dict")
