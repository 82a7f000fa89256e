"""Law 5: leaves that are no floating arrays, or hardly any, pass; complex arrays follow |g|^2."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.testing.ask import start_and_update, step, update
from gradtx.testing.compare import avals, close, finite, number, plain, require, room, same_types
from gradtx.testing.evidence import Evidence
from gradtx.testing.laws.law import law
from gradtx.testing.trees import complex_pair, unmoved
from gradtx.transform import apply_updates, identity
from gradtx.tree import Tree, is_inexact


@law(5)
def other_leaves_do_not_matter(e: Evidence) -> None:
    """None, empty trees, zero-size, integer, bool and key leaves change no other update."""
    path, jolts = e.alone.path, e.alone.jolts
    _, all_grads, state, updates, new = e.among_others
    same_types(updates, all_grads, "updates among leaves of other kinds")
    same_types(new, state, "the state among leaves of other kinds")
    found = {name: updates[name] for name in path.updates[0]}
    allowed = room(path.updates[0], [x.updates[0] for x in jolts])
    close(found, path.updates[0], allowed, "updates among leaves of other kinds")
    finite((updates, new), "among leaves of other kinds")


@law(5)
def leaves_that_are_not_moved_get_no_state(e: Evidence) -> None:
    """The state has no array for None, integer, bool and key leaves."""
    params, _, state, _, _ = e.among_others
    floats = jax.tree.map(lambda x: x if is_inexact(x) else None, params)
    expected = avals(jax.eval_shape(e.tx.init, floats))[1]
    require(avals(state)[1] == expected, "the state with leaves that are not moved", state)
    require(not any(s.shape == (2,) for s in jax.tree.leaves(state)), "a slot of a flag", state)


@law(5)
def leaves_that_are_not_moved_get_no_update(e: Evidence) -> None:
    """Integer, bool and key leaves are the same, bit for bit, after `apply_updates`."""
    params, _, _, updates, _ = e.among_others
    moved = apply_updates(params, updates)
    same_types(moved, params, "parameters after apply_updates")
    for name, before in unmoved().items():
        after = moved["unmoved"][name]
        require((number(after) == number(before)).all(), f"{name} moved", after)


@law(5)
def leaves_that_are_not_moved_without_gradients(e: Evidence) -> None:
    """Their gradients may be None or zeros of their own dtype too."""
    plain_ones = {name: x for name, x in unmoved().items() if name != "key"}
    params = {"bias": np.ones(3, np.float32), **plain_ones}

    def run(params: Tree, grads: Tree) -> Any:
        state, updates, new = start_and_update(e.tx, grads, params)
        return state, updates, new, apply_updates(params, updates)

    for absent in (lambda _: None, np.zeros_like):
        grads = {"bias": np.ones(3, np.float32), **jax.tree.map(absent, plain_ones)}
        state, updates, new, moved = jax.eval_shape(run, params, grads)
        same_types(new, state, "the state where gradients are absent")
        same_types(updates, grads, "the updates where gradients are absent")
        same_types(moved, params, "the parameters where gradients are absent")


@law(5)
def trees_without_any_array(e: Evidence) -> None:
    """No array at all is fine: the same tree comes out."""
    for tree in ({}, None, ()):
        jax.eval_shape(lambda tree=tree: _passes(e, tree))
    _passes(e, {"a": None, "b": {}})


def _passes(e: Evidence, tree: Any) -> None:
    state = e.tx.init(tree)
    updates, new = update(e.tx, tree, state, tree)
    require(updates == tree, f"updates of the tree {tree}", updates)
    same_types(new, state, f"the state of the tree {tree}")
    moved = step(e.tx, tree, new, tree)[0]
    require(moved == tree, f"the tree {tree} after a step", moved)


@law(5)
def bare_arrays_are_trees(e: Evidence) -> None:
    """A single array, and a scalar one, is a tree as well."""
    for shape in ((3,), ()):
        array = np.ones(shape, np.float32)
        found = jax.eval_shape(lambda x: start_and_update(e.tx, x, x), array)
        require(found[1].shape == shape, f"the update of an array {shape}", found[1])
        same_types(found[2], found[0], f"the state of an array {shape}")


@law(5)
def zero_size_arrays(e: Evidence) -> None:
    """Arrays without an entry keep their shape and disturb no number, alone too."""
    params = {"a": np.zeros((0,), np.float32), "b": np.zeros((0, 3), np.float32)}
    state = e.tx.init(params)
    updates, new = update(e.tx, params, state, params)
    same_types(updates, params, "updates of arrays without an entry")
    same_types(new, state, "the state of arrays without an entry")
    finite(new, "the state of arrays without an entry")


@law(5)
def complex_arrays_keep_their_state(e: Evidence) -> None:
    """A complex array's state is stable; real slots stay real; the same with 128 bits."""
    for dtype, x64 in (("complex64", False), ("complex128", True)):
        with jax.enable_x64(x64):
            real = jnp.finfo(dtype).dtype
            params = {"c": np.ones((4, 3), dtype), "r": np.ones(3, real)}
            found = jax.eval_shape(lambda x: start_and_update(e.tx, x, x), params)
            same_types(found[1], params, f"updates of {dtype}")
            same_types(found[2], found[0], f"the state of {dtype}")


@law(5)
def complex_arrays_follow_the_square_of_the_modulus(e: Evidence) -> None:
    """Turning gradients and parameters by a right angle turns the updates, and zero is finite.

    Only |g|^2 is the same before and after: g^2 changes its sign. Noise is added, so for what
    draws at random it is what is added that stays the same.
    """
    path, jolts, turned, at_zero = e.complex_path
    grads = complex_pair()[1]["c"]
    for index, u in enumerate(x["c"] for x in path.updates):
        require(u.dtype == np.complex64, "the update of a complex64 array has the dtype", u.dtype)
        other, others = turned.updates[index]["c"], [x.updates[index]["c"] for x in jolts]
        found, expected = plain(other), plain(u) * 1j
        allowed = room(expected, [plain(x) * 1j for x in others])
        if e.drawn is not None:
            found, expected = plain(other) - grads * 1j, plain(u) - grads
        close(found, expected, allowed, f"update {index + 1}, turned by a right angle")
    finite(at_zero, "a zero gradient of a complex array")


@law(5)
def a_real_gradient_of_a_complex_parameter_is_refused(e: Evidence) -> None:
    """Mixed up real and complex arrays are an error with the path, not a silent cast."""
    params, grads = {"c": np.ones((3, 2), np.complex64)}, {"c": np.ones((3, 2), np.float32)}
    if isinstance(e.tx, identity):  # it looks at nothing
        return
    for g, p in ((grads, params), (params, grads)):
        try:
            jax.eval_shape(lambda g, p: start_and_update(e.tx, g, p), g, p)
        except TypeError as error:
            require("'c'" in str(error), "the path is not in the message", error)
        else:
            raise AssertionError(f"a gradient {g['c'].dtype} of a parameter {p['c'].dtype} passed")
