"""Law 3: arithmetic in float32 at least; hyperparameters neither lose digits nor widen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.testing.ask import asks_functions, shapes_of, start_and_update, with_floats
from gradtx.testing.compare import apart, avals, close, leaves, plain, require, room, same_types
from gradtx.testing.evidence import Evidence
from gradtx.testing.laws.law import law
from gradtx.testing.trees import tree
from gradtx.transform import GradientTransformation
from gradtx.tree import is_inexact
from gradtx.wrappers.precision import kahan, master_weights, stochastic_rounding
from gradtx.wrappers.store import store


@law(3)
def slots_are_wide_and_updates_leave_as_they_came(e: Evidence) -> None:
    """Every floating slot has 32 bits or more; every update has the dtype of its gradient.

    Slots are narrower where storage is asked for.
    """
    for name, (_, grads, (state, updates, new)) in e.narrow_shapes[0].items():
        for path, slot in leaves((state, new)):
            wide = not is_inexact(slot) or jnp.finfo(slot.dtype).bits >= 32
            require(wide or isinstance(e.tx, store), f"{name}: slot {path!r}", slot.dtype)
        same_types(updates, grads, f"dtypes {name}: the updates")


KINDS: dict[str, Callable[[float], Any]] = {
    "np.float64": np.float64,
    "np.float32": np.float32,
    "np.array": np.asarray,
    "array": lambda x: jnp.asarray(x),
    "bfloat16 array": lambda x: jnp.asarray(x, jnp.bfloat16),
    "float64 array": lambda x: jnp.asarray(x, jnp.float64),
}
SEEN, UNSEEN = "not traced", "traced"


def _no_dtype_moves(
    tx: GradientTransformation, dtypes: tuple[str, ...], *kinds: tuple[str, str]
) -> None:
    shapes = {"kernel": (4, 3), "scale": ()}
    params, grads = ({d: tree(seed, d, shapes) for d in dtypes} for seed in (0, 1))
    expected = jax.eval_shape(start_and_update, tx, grads, params)
    for name, how in kinds:
        other = with_floats(KINDS[name], tx)
        if how == UNSEEN:
            found = jax.eval_shape(start_and_update, other, grads, params)
        else:
            found = shapes_of(start_and_update, other, grads, params)
        same_types(found, expected, f"{name} as hyperparameters, {how}, {dtypes}")


@law(3)
def kinds_of_hyperparameters_change_no_dtype(e: Evidence) -> None:
    """NumPy numbers and arrays, traced or not, give the dtypes that Python floats give."""
    kinds = [("np.float64", SEEN), ("np.array", SEEN), ("bfloat16 array", SEEN)]
    _no_dtype_moves(e.tx, ("bfloat16", "float32"), *kinds, ("array", UNSEEN))
    _no_dtype_moves(e.tx, ("bfloat16",), ("np.float32", SEEN), ("bfloat16 array", UNSEEN))


@law(3)
def kinds_of_hyperparameters_change_no_dtype_with_x64(e: Evidence) -> None:
    """A float64 hyperparameter widens nothing when 64-bit types are switched on."""
    wide = [("np.float64", SEEN), ("float64 array", SEEN), ("float64 array", UNSEEN)]
    with jax.enable_x64(True):
        _no_dtype_moves(e.tx, ("bfloat16", "float32"), *wide)
        _no_dtype_moves(e.tx, ("bfloat16",), *wide[1:])
        _no_dtype_moves(e.tx, ("float64",), ("np.float32", SEEN), ("bfloat16 array", UNSEEN))


def _decides_where_parameters_go(tx: GradientTransformation) -> bool:
    return isinstance(tx, kahan | master_weights | stochastic_rounding)


@law(3)
def narrow_arrays_get_wide_arithmetic(e: Evidence) -> None:
    """Updates of narrow arrays are those of the widened arrays, rounded once at the end.

    A hyperparameter cast to bfloat16 (0.999 becomes 1), a slot or a sum kept in it would show. What
    a function finds for narrow parameters is as narrow.
    """
    if asks_functions(e.tx) or _decides_where_parameters_go(e.tx):
        return
    narrow, (wide, jolts) = e.mixed_path, e.wide_path
    for index, updates in enumerate(narrow.updates):
        exact, *others = [(p.updates[index], p.states[index + 1]) for p in (wide, *jolts)]
        allowed = room(exact, others)
        states = allowed[len(updates) :]
        close(narrow.states[index + 1], exact[1], states, f"the state of narrow arrays, {index}")
        for limit, (name, u) in zip(allowed[: len(updates)], updates.items(), strict=True):
            expected, info = exact[0][name], jnp.finfo(u.dtype)
            half_a_digit = 0.51 * float(info.eps) * np.abs(plain(expected))
            smallest = 0.51 * float(info.smallest_subnormal)
            difference = np.abs(plain(u) - plain(expected)) - half_a_digit
            seen = f"{u} is not {expected}, {limit:.3g} besides a rounding is allowed"
            require((difference <= limit + smallest).all(), f"update {index + 1} of {name}", seen)


@law(3)
def narrow_parameters_follow_wide_ones(e: Evidence) -> None:
    """Two steps in narrow parameters end within two roundings of the same steps in wide ones."""
    if not _decides_where_parameters_go(e.tx):
        return
    start, grads = e.mixed
    narrow = start
    for narrow, wide in e.followed:
        for name, p in narrow.items():
            digit = float(max(jnp.finfo(p.dtype).eps, jnp.finfo(grads[name].dtype).eps))
            way = apart(wide[name], start[name])
            limit = 2 * digit * np.abs(plain(wide[name])) + 0.02 * way
            difference = np.abs(plain(p) - plain(wide[name]))
            require((difference <= limit).all(), name, f"{p} is not {wide[name]}")
        require(avals(narrow) == avals(start), "the parameters that follow", avals(narrow))
