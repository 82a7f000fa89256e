"""Law 1: init and update are pure, the same under jit, and traced once. Law 11: what they cost."""

from __future__ import annotations

import copy

import jax

from gradtx.testing.ask import asks_functions, update, with_floats
from gradtx.testing.compare import apart, avals, close, number, require, room, same
from gradtx.testing.count import compilations
from gradtx.testing.evidence import Evidence
from gradtx.testing.laws.law import law
from gradtx.testing.trees import tree
from gradtx.transform import apply_updates, identity


@law(1)
def calls_change_nothing(e: Evidence) -> None:
    """Calls change neither their arguments nor the object."""
    tx, params, grads = e.tx, tree(0), tree(1)
    before, shown, hashed = copy.deepcopy((params, grads)), repr(tx), hash(tx)
    state = e.alone.path.states[0]
    tx.init(params)
    old = jax.tree.map(lambda x: number(x).copy(), state)
    e.update(grads, state, params)
    same((params, grads), before, "arguments after a call")
    kept = jax.tree.map(number, state)
    same(kept, old, "the state after a call")
    require((repr(tx), hash(tx)) == (shown, hashed), "the object changed", repr(tx), shown)


@law(1)
def same_arguments_give_the_same_result(e: Evidence) -> None:
    """Nothing is remembered between calls, not even another model."""
    path = e.alone.path
    e.update(tree(2), path.states[1], tree(3))
    same(e.tx.init(e.params), path.states[0], "init after other calls")
    found = e.update(e.grads[0], path.states[0], e.params)
    same(found, (path.updates[0], path.states[1]), "update after other calls")


@law(1)
def jit_changes_no_bit(e: Evidence) -> None:
    """`jax.jit` of init and update computes what they compute alone.

    What asks a function is not compiled outside, and rounds as single operations do.
    """
    tx, params, path = e.tx, e.params, e.alone.path
    state, (first, second) = e.in_jit
    same(state, path.states[0], "jax.jit(init)")
    if not asks_functions(tx):
        same(first, (path.updates[0], path.states[1]), "jax.jit(update)")
        return
    expected = update(tx, e.grads[0], state, params)
    allowed = _room_of_updates(e, 0)
    close(first, expected, allowed, "jax.jit(update)")
    again = update(tx, e.grads[0], expected[1], params)
    close(second, again, _room_of_updates(e, 1), "jax.jit(update) once more")


def _room_of_updates(e: Evidence, index: int) -> list[float]:
    picked = [(x.updates[index], x.states[index + 1]) for x in (e.alone.path, *e.alone.jolts)]
    return room(picked[0], picked[1:])


@law(1)
def a_step_is_update_and_apply(e: Evidence) -> None:
    """`step` gives what `update` and `apply_updates` give."""
    at = e.params, e.alone.path.states[0]
    for g in e.grads:
        updates, state = e.update(g, at[1], at[0])
        at = apply_updates(at[0], updates), state
    allowed = room(at, e.stepped.jolts)
    close(e.stepped.after[-1], at, allowed, "three steps beside three updates that are applied")


@law(1)
def other_numbers_are_not_traced_again(e: Evidence) -> None:
    """The state that comes out, and other hyperparameters as data, fit the trace that is there."""
    call, traces = e.data
    (params, grads), state = e.mixed, e.mixed_path.states[-1]
    other = with_floats(lambda x: 0.9 * x, e.tx)
    same_structure = jax.tree.structure(other) == jax.tree.structure(e.tx)
    require(same_structure, "other numbers are another tree", other)
    call(other, grads, state, params)
    require(len(traces) == 1, "one trace was expected, these were made", len(traces))


@law(1)
def other_numbers_compile_nothing(e: Evidence) -> None:
    """Outside of jit too, other numbers are the same compiled function."""
    if asks_functions(e.tx):
        return
    path = e.alone.path
    other = with_floats(lambda x: 0.9 * x, e.tx)
    with compilations() as compiled:
        e_other = update(other, e.grads[1], path.states[1], e.params)
    require(not compiled, "functions compiled for other numbers", len(compiled))
    require(avals(e_other) == avals((path.updates[1], path.states[2])), "other types came out")


@law(1)
def a_learning_rate_is_data(e: Evidence) -> None:
    """Made with another learning rate it moves differently and compiles nothing."""
    rate = _learning_rate(e)
    if rate is None or e.make is None or asks_functions(e.tx):
        return
    # Far smaller: of some methods it is but a bound.
    other, path = e.make(learning_rate=rate / 1000), e.alone.path
    moved = 0.0
    for k in (1, 0):  # some have no first step, and searches may read it at the first only
        with compilations() as compiled:
            updates, _ = update(other, e.grads[k], path.states[k], e.params)
        require(not compiled, "functions compiled for another learning rate", len(compiled))
        moved = apart(updates["dense"]["kernel"], path.updates[k]["dense"]["kernel"])
        if moved > 0:
            break
    require(moved > 0, "another learning rate gives the same updates")


def _learning_rate(e: Evidence) -> float | None:
    return getattr(e.make, "keywords", {}).get("learning_rate")


@law(1)
def outside_jit_a_call_is_one_compiled_function(e: Evidence) -> None:
    """On shapes never seen before, update and step compile one function each, then none.

    A function as an argument would have to be compiled anew for every call: it stays outside.
    """
    if asks_functions(e.tx):
        return
    for name, found in (("update", e.alone.compiled["update"]), ("step", e.stepped.compiled)):
        # `identity` hands its updates on and has nothing to compile.
        first = 0 if isinstance(e.tx, identity) and name == "update" else 1
        require(found == (first, 0), f"functions compiled by two calls of {name}", found)


@law(11)
def init_is_one_compiled_function(e: Evidence) -> None:
    """Outside of jit init compiles one function for a tree of new shapes, then none."""
    first, second = e.alone.compiled["init"]
    require(first <= 1, "functions compiled by init for a new tree, at most 1 is right", first)
    require(second == 0, "functions compiled by a second init of the same tree", second)
