"""Law 4: zero gradients give finite updates for ever, and finite derivatives."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.testing.ask import update
from gradtx.testing.compare import finite, number, require
from gradtx.testing.evidence import Evidence
from gradtx.testing.laws.law import law
from gradtx.testing.trees import paired, tree, zeros
from gradtx.transform import GradientTransformation
from gradtx.tree import Tree, is_inexact


def _finite_steps(call: Any, tx: GradientTransformation, at: Any, what: str, steps: int = 3) -> Any:
    grads, state, params = at
    for _ in range(steps):
        updates, state = call(tx, grads, state, params)
        finite((updates, state), what)
    return state


@law(4)
def zero_gradients_from_the_first_step_on(e: Evidence) -> None:
    """Three zero gradients in every narrow dtype, at a point and at zero parameters."""
    params, grads = e.mixed
    finite((e.mixed_path.updates, e.mixed_path.states), "ordinary gradients")
    for start, where in ((params, "at a point"), (zeros(params), "at zero parameters")):
        at = zeros(grads), e.tx.init(start), start
        _finite_steps(e.data[0], e.tx, at, f"zero gradients {where}")


@law(4)
def gradients_after_zeros(e: Evidence) -> None:
    """After zero gradients ordinary ones are finite too.

    Not in float16, where an ordinary gradient over an eps of 1e-16 is truly infinite.
    """
    params, grads = e.mixed
    state = e.tx.init(params)
    for g in (zeros(grads), zeros(grads), grads, zeros(grads)):
        updates, state = e.data[0](e.tx, g, state, params)
        wide = {k: u for k, u in updates.items() if k != "float16 float16"}
        finite(wide, "ordinary gradients after zeros")


@law(4)
def zero_gradients_after_others(e: Evidence) -> None:
    """Zero gradients after a step that was not zero."""
    params, grads = e.mixed
    at = zeros(grads), e.mixed_path.states[1], params
    _finite_steps(e.data[0], e.tx, at, "zero gradients after another")


@law(4)
def zero_gradients_for_ever(e: Evidence) -> None:
    """After ever so many zero gradients: slots that have decayed, a count that is full.

    A count of all steps stays full; other whole numbers, such as a place in a cycle, move on.
    """
    params, grads = e.mixed
    full = np.iinfo(np.int32).max

    def is_count(path: Any) -> bool:
        return "count" in (getattr(path[-1], "name", None), getattr(path[-1], "key", None))

    for left in (0.0, 1e-30, 1e-40):

        def late(path: Any, x: Any, left: float = left) -> Any:
            given = {getattr(key, "name", None) for key in path} & {"hyperparams", "schedules"}
            if given or not (is_inexact(x) or is_count(path)):
                return x  # whole numbers that are no counts may be codes of slots
            value = np.full_like(x, full) if is_count(path) else number(x) * left
            return jax.device_put(value.astype(x.dtype), x.sharding if x.committed else None)

        state = jax.tree_util.tree_map_with_path(late, e.mixed_path.states[1])
        at = zeros(grads), state, params
        state = _finite_steps(
            e.data[0], e.tx, at, f"slots that decayed to {left} of what they were"
        )
        for path, x in jax.tree_util.tree_leaves_with_path(state):
            kept = not is_count(path) or (number(x) == full).all()
            require(kept, f"a full count at {jax.tree_util.keystr(path)} became", x)


@law(4)
def zero_gradients_of_float64(e: Evidence) -> None:
    """The same in float64, alone and beside others, after ordinary gradients too."""
    with jax.enable_x64(True):
        params, grads = paired([("float64", "float64"), ("float64", "float32")])
        call, nothing = jax.jit(update), zeros(grads)
        state = e.tx.init(params)
        _finite_steps(call, e.tx, (nothing, state, params), "zero gradients of float64")
        state = _finite_steps(call, e.tx, (grads, state, params), "gradients of float64", 1)
        _finite_steps(call, e.tx, (nothing, state, params), "zero gradients of float64, later")


def _sum_of_two_updates(numbers: Any, params: Tree) -> Any:
    tx, grads = numbers
    state, total = tx.init(params), 0.0
    for _ in range(2):  # in a scan JAX would trace for longer
        updates, state = update(tx, grads, state, params)
        total += sum(u.sum() for u in jax.tree.leaves(updates))
    return total


@law(4)
def derivatives_at_zero_are_finite(e: Evidence) -> None:
    """With respect to gradients and hyperparameters, all entries zero or only some of them."""
    shapes = {"bias": (3,), "scale": ()}
    params, grads = tree(0, shapes=shapes), tree(1, shapes=shapes)
    sparse = {
        "bias": grads["bias"] * np.array([0, 1, 1], np.float32),
        "scale": np.zeros_like(grads["scale"]),
    }
    slopes = jax.jit(jax.grad(_sum_of_two_updates, allow_int=True))
    for g, which in ((zeros(grads), "all"), (sparse, "some")):
        for at, where in ((params, "a point"), (zeros(params), "zero")):
            found = slopes((e.tx, jax.tree.map(jnp.asarray, g)), at)
            finite(found, f"derivatives with {which} gradients zero at {where}")
