"""Law 9: a pair that takes extra arguments; those that it needs are named, others ignored."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.testing.ask import asks_functions, extras, needs, update
from gradtx.testing.compare import require, same, same_types, three_parts
from gradtx.testing.count import compilations
from gradtx.testing.evidence import Evidence
from gradtx.testing.laws.law import law


@law(9)
def is_a_pair(e: Evidence) -> None:
    """`init, update = tx` unpacks, as it does for Optax's named tuple."""
    init, second = e.tx
    require(len(e.tx) == 2, "its length is", len(e.tx))
    require((init, second) == (e.tx.init, e.tx.update), "it is not (init, update)", init, second)


@law(9)
def unknown_extra_arguments_are_ignored(e: Evidence) -> None:
    """Arguments that nobody asked for, of any kind, change no bit and nothing about the speed."""
    tx, path = e.tx, e.alone.path
    known = extras(tx, e.params, e.grads[0])
    args = e.grads[0], path.states[0], e.params
    strange = {"stranger": jnp.ones(2), "strange_fn": lambda x: x}
    state, updates = jax.eval_shape(lambda *a: tx.update(*a, **strange, **known)[::-1], *args)
    same_types(state, path.states[0], "the state with unknown arguments")
    same_types(updates, e.grads[0], "the updates with unknown arguments")
    if asks_functions(tx):
        return
    expected = path.updates[0], path.states[1]
    for more in ({"anything": {"a": 1}, "mode": "train"}, strange):
        with compilations() as first:
            found = tx.update(*args, **more, **known)
        same(found, expected, f"update with {sorted(more)}")
        with compilations() as second:
            tx.update(*args, **more, **known)
        counts = len(first), len(second)
        few = counts[0] <= 1 and counts[1] == 0
        require(few, f"functions compiled by two updates with {sorted(more)}", counts)


@law(9)
def needed_extra_arguments_are_named(e: Evidence) -> None:
    """What is needed is asked for by name; what needs nothing runs without."""
    tx, state, params = e.tx, e.alone.path.states[0], e.params
    needed = needs(tx) - {"params"}
    known = extras(tx, params, params)
    for name in needed:
        more = {k: v for k, v in known.items() if k != name}
        error = refused(lambda g, more=more: tx.update(g, state, params, **more), params)
        three_parts(error, name)
    if not needed:
        jax.eval_shape(lambda g: tx.update(g, state, params), params)


def refused(call: Any, *args: Any, kinds: Any = (TypeError, ValueError)) -> Exception:
    """The error that a call raises when it is only traced."""
    try:
        jax.eval_shape(call, *args)
    except kinds as error:
        return error
    raise AssertionError("this was expected to be refused and passed")


@law(9)
def missing_parameters(e: Evidence) -> None:
    """What needs the parameters asks for them; what does not runs without, to the same end."""
    tx, state, params = e.tx, e.alone.path.states[0], e.params
    more = extras(tx, params, params)

    def without(g: Any) -> Any:
        return tx.update(g, state, **more)

    if "params" in needs(tx):
        error = refused(without, params, kinds=ValueError)
        three_parts(error, "parameters are missing", "Pass them")
    else:
        with_them = jax.eval_shape(lambda g: update(tx, g, state, params), params)
        same_types(jax.eval_shape(without, params), with_them, "the update without parameters")
