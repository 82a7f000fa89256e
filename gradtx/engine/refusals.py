"""What an update refuses, each with what was called, what was seen and what to do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.engine.codes import Stored
from gradtx.struct import complaint
from gradtx.tree import Tree, is_inexact, is_none, named_leaves


def refuse_other_state(tx: Any, state: Any, wanted: Any) -> None:
    """Raises for a state that is not of the type `wanted`, or one like it."""
    if not isinstance(state, tuple) or getattr(state, "_fields", None) != wanted._fields:
        raise TypeError(
            complaint(
                f"{tx}.update",
                f"the state is {kind_of_state(state)}, not a {wanted.__qualname__}",
                "Pass the state that this optimizer's init or last update returned",
            )
        )


def refuse_missing(tx: Any, updates: Tree, given: dict[str, Any]) -> None:
    """Raises for an argument of `update` that `tx.needs` names and that was not given."""
    for name in tx.needs:
        if given.get(name) is None and any(map(is_inexact, jax.tree.leaves(updates))):
            whole = name == "params"
            raise ValueError(
                complaint(
                    f"{tx}.update",
                    "the parameters are missing" if whole else f"{name!r} is missing",
                    "Pass them: update(grads, state, params)"
                    if whole
                    else f"Pass it: update(grads, state, params, {name}=...)",
                )
            )


def kind_of_state(state: Any) -> str:
    """What a state is, in words."""
    if hasattr(state, "_fields"):
        return f"a {type(state).__qualname__}({', '.join(state._fields)})"
    return f"a {type(state).__name__}" + (f" of {list(state)}" if isinstance(state, dict) else "")


def refuse_mixed(g: Any, p: Any, slots: Any) -> None:
    """Raises for an array that does not fit its parameter or has lost its slots."""
    if p is not None and np.shape(g) != np.shape(p):
        raise ValueError("the shapes differ")
    if None in jax.tree.leaves(slots, is_leaf=is_none):
        raise ValueError("the state has no memory of this array")
    if p is not None and not is_inexact(p):
        raise TypeError("a parameter that is no floating or complex array takes no gradient")
    complex_g, complex_p = jnp.iscomplexobj(g), p is not None and jnp.iscomplexobj(p)
    if (complex_p or any(map(jnp.iscomplexobj, jax.tree.leaves(slots)))) and not complex_g:
        raise TypeError("a complex parameter has a complex gradient")
    if complex_g and p is not None and not complex_p:
        raise TypeError("a real parameter has a real gradient")


def refuse_unfit(called: Any, updates: Tree, params: Tree | None) -> None:
    """Raises for updates that have not the shapes of the parameters, where these are given."""
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    ps = [None] * len(leaves) if params is None else treedef.flatten_up_to(params)
    for i, (u, p) in enumerate(zip(leaves, ps, strict=True)):
        if u is not None and p is not None and np.shape(u) != np.shape(p):
            raise explained(called, updates, i, u, p, (), ValueError("the shapes differ"))


def explained(
    called: Any, updates: Tree, index: int, g: Any, p: Any, slots: Any, error: Exception
) -> Exception:
    """The error with the path, shapes and dtypes of the array at which it came up."""
    path = named_leaves(updates)[index][0]
    seen = f"at {path!r} the update is {_aval(g)}"
    if p is not None:
        seen += f", the parameter {_aval(p)}"
    for row in slots:
        for name, slot in zip(row._fields, row, strict=True):
            seen += f", {name} {_aval(slot)}"
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(
        complaint(
            f"{called}.update",
            f"{seen}: {str(error).rstrip('.')}",
            "Pass gradients, state and parameters of one and the same model",
        )
    )


def unmade(called: Any, params: Tree, index: int, error: Exception) -> Exception:
    """The error with the path and shape of the parameter for which no memory could be made."""
    path, p = named_leaves(params)[index]
    seen, _, do = str(error).rstrip(".").partition(". ")
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(
        complaint(
            f"{called}.init",
            f"at {path!r} the parameter is {_aval(p)}: {seen}",
            do or "Mend what it is told of this array, or route the array elsewhere",
        )
    )


def _aval(x: Any) -> str:
    if isinstance(x, Stored):
        return f"{type(x).__name__}{list(x.shape)}"
    return "None" if x is None else f"{jnp.result_type(x)}{list(np.shape(x))}"
