"""What an update refuses, each with what was called, what was seen and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.engine.codes import Stored
from gradtx.engine.slots import Declared, map_slots
from gradtx.struct import complaint, shortened, type_error, value_error
from gradtx.tree import Tree, is_data, is_inexact, is_none, named_leaves, wide

ORDER = "update(grads, state, params) or step(grads, state, params)"
ORDERS = {
    "update": ORDER,
    "eval_params": "eval_params(state, params)",
    "hyperparameters": "hyperparameters(state), without one hyperparameters(count=...)",
}


def refuse_other_state(tx: Any, state: Any, wanted: Any, method: str = "update") -> None:
    """Raises for a state that is not of the type `wanted`, or one like it."""
    if not isinstance(state, tuple) or getattr(state, "_fields", None) != wanted._fields:
        raise type_error(
            f"{tx}.{method}",
            f"the state is {kind_of_state(state)}, not a {wanted.__qualname__}",
            f"Pass the state that this optimizer's init or last update returned: {ORDERS[method]}",
        )


def refuse_misplaced(tx: Any, updates: Tree, state: Any, params: Tree | None) -> None:
    """Raises for gradients that are none, and for arguments in another order, where one sees it."""
    seen = _seen_of(updates, state, params)
    if seen is not None:
        raise type_error(f"{tx}.update", *seen)


def _seen_of(updates: Tree, state: Any, params: Tree | None) -> tuple[str, str] | None:
    grads = "Pass the gradients, jax.grad(loss)(params)"
    if updates is None:
        if params is None and not _remembers_arrays(state):
            return None  # a tree without any array
        return "the gradients are None", f"{grads}, with None for single arrays at most"
    if callable(updates) and jax.tree_util.all_leaves([updates]):
        name = getattr(updates, "__name__", type(updates).__name__)
        return f"the gradients are the function {name}", f"{grads}: the gradients, not a function"
    if params is None:
        return None
    trees = [jax.tree.structure(x) for x in (updates, state, params)]
    if trees[1].num_leaves and trees[1] in (trees[0], trees[2]) and trees[0] != trees[2]:
        return (
            "in the place of the state stands a tree of gradients or parameters",
            f"The order is {ORDER}",
        )
    if jax.tree_util.treedef_is_leaf(trees[0]) and not jax.tree_util.treedef_is_leaf(trees[2]):
        seen = f"the gradients are {_aval(updates)}, the parameters a {type(params).__name__}"
        return seen, f"{grads}: one for every parameter, not the loss"
    return None


def _remembers_arrays(state: Any) -> bool:
    """Whether a state has slots of arrays; rings of numbers that arrays have in common are none."""
    found: list[Any] = []

    def note(_: str, slot: Any, known: Declared) -> Any:
        found.extend(jax.tree.leaves(slot) if known.kind != "number" else ())
        return slot

    map_slots(note, state)
    return any(np.ndim(x) and np.size(x) for x in found)


def refuse_no_arrays(
    called: object, tree: Tree, method: str = "init", of: str = "parameters"
) -> None:
    """Raises for what stands among the parameters, or gradients, and is neither array nor number.

    Functions and `None` pass: they are what models are made of besides.
    """
    if all(map(_is_of_a_model, jax.tree.leaves(tree))):
        return
    for path, x in named_leaves(tree):
        if x is None or _is_of_a_model(x):
            continue
        raise type_error(
            f"{called}.{method}",
            f"at {path!r} the {of} have {shortened(repr(x))}, a {type(x).__name__}",
            "Pass arrays and numbers, with None for what else belongs to the model",
        )


def _is_of_a_model(x: Any) -> bool:
    return is_data(x) or (callable(x) and not isinstance(x, type))


def refuse_missing(tx: Any, updates: Tree, given: dict[str, Any]) -> None:
    """Raises for an argument of `update` that `tx.needs` names and that was not given."""
    for name in tx.needs:
        if given.get(name) is None and any(map(is_inexact, jax.tree.leaves(updates))):
            whole = name == "params"
            raise value_error(
                f"{tx}.update",
                "the parameters are missing" if whole else f"{name!r} is missing",
                "Pass them: update(grads, state, params)"
                if whole
                else f"Pass it: update(grads, state, params, {name}=...)",
            )


def kind_of_state(state: Any) -> str:
    """What a state is, in words."""
    if state is None:
        return "None"
    if hasattr(state, "dtype"):
        return f"an array, {_aval(state)}"
    if hasattr(state, "_fields"):
        return f"a {type(state).__qualname__}({', '.join(state._fields)})"
    return f"a {type(state).__name__}" + (f" of {list(state)}" if isinstance(state, dict) else "")


def refuse_mixed(g: Any, p: Any, slots: Any) -> None:
    """Raises for an array that does not fit its parameter or has lost its slots."""
    if p is not None and not _is_leaf(p):
        raise TypeError(
            f"one array stands for a {type(p).__name__} of parameters. {_GRADIENTS}, one for each"
        )
    if not all(map(_is_leaf, slots_below(slots))):
        raise TypeError(f"one array stands where the state has a tree. {_GRADIENTS}, one for each")
    if p is not None and np.shape(g) != np.shape(p):
        raise ValueError(f"the shapes differ. {_gradients_of(g, p)}")
    if None in jax.tree.leaves(slots, is_leaf=is_none):
        raise ValueError(
            "the state has no memory of this array. Make the state for parameters that have it: "
            "tx.init(params)"
        )
    if p is not None and not is_inexact(p):
        raise TypeError(
            "a parameter that is no floating or complex array takes no gradient. Pass None, or a "
            "zero of its own dtype"
        )
    complex_g, complex_p = jnp.iscomplexobj(g), p is not None and jnp.iscomplexobj(p)
    if (complex_p or any(map(jnp.iscomplexobj, jax.tree.leaves(slots)))) and not complex_g:
        raise TypeError(f"a complex parameter has a complex gradient. {_GRADIENTS}")
    if complex_g and p is not None and not complex_p:
        raise TypeError("a real parameter has a real gradient. Take its real part")


_GRADIENTS = "Take the gradients with respect to these parameters: jax.grad(loss)(params)"


def _gradients_of(g: Any, p: Any) -> str:
    if np.shape(g)[1:] != np.shape(p):
        return _GRADIENTS
    return (
        "It looks like gradients of single examples: take their mean over the first axis, or put "
        "differentially_private_aggregate before this, in a chain"
    )


def _is_leaf(x: Any) -> bool:
    return x is None or isinstance(x, Stored) or jax.tree_util.all_leaves([x])


def slots_below(rows: Any) -> list[Any]:
    """What the states of some rules keep for one array."""
    return [slot for row in rows for slot in row]


def refuse_unfit(called: object, updates: Tree, params: Tree | None) -> None:
    """Raises for updates that have not the shapes of the parameters, where these are given."""
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    ps = [None] * len(leaves) if params is None else treedef.flatten_up_to(params)
    for i, (u, p) in enumerate(zip(leaves, ps, strict=True)):
        if u is not None and p is not None and np.shape(u) != np.shape(p):
            error = ValueError(f"the shapes differ. {_gradients_of(u, p)}")
            raise explained(called, updates, i, u, p, (), error)


def explained(
    called: object,
    updates: Tree,
    index: int,
    g: Any,
    p: Any,
    slots: Any,
    error: Exception,
    rules: Sequence[Any] = (),
) -> Exception:
    """The error with the path, shapes and dtypes of the array at which it came up.

    What to do is what the error says behind its first ". "; where it says nothing, it is found
    from the `rules` that ran (`called`, if that is one).
    """
    path = named_leaves(updates)[index][0]
    seen = f"at {path!r} the update is {_aval(g)}"
    if p is not None:
        seen += f", the parameter {_aval(p)}"
    for row in slots:
        for name, slot in zip(row._fields, row, strict=True):
            seen += f", {name} {_aval(slot)}"
    text, do = _told(error)
    if not do:
        rules = rules or ((called,) if hasattr(called, "init_leaf") else ())
        do = _what_to_do(called, rules, slots, g if p is None else p)
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(complaint(f"{called}.update", f"{seen}: {text}", do))


def _told(error: Exception) -> tuple[str, str]:
    """What an error says was seen and, if it does, what to do."""
    text = str(error).strip()
    if type(error).__module__.split(".")[0] in ("jax", "jaxlib") or "\n" in text:
        # The first sentence of a long explanation; the whole error is the cause of ours.
        return f"{type(error).__name__}: {text.splitlines()[0].split('. ')[0].rstrip('.')}", ""
    seen, _, do = text.rstrip(".").partition(". ")
    return seen or type(error).__name__, do


def _what_to_do(called: object, rules: Sequence[Any], slots: Any, p: Any) -> str:
    """What to do about an error in the formula of one of some rules."""
    for rule, row in zip(rules, slots, strict=False):
        if _is_of_another_model(rule, row, p):
            return "Make the state for these parameters, tx.init(params): that is of others"
    own = [type(r).__name__ for r in rules if type(r).__module__.split(".")[0] != "gradtx"]
    if own:
        return f"Mend update_leaf of {' or '.join(own)}"
    if rules:
        return "Pass gradients, state and parameters of one and the same model"
    return f"Mend the formula of {called}, or what it gets for this array"


def _is_of_another_model(rule: Any, row: Any, p: Any) -> bool:
    """Whether the slots have not the shapes that the rule would make for such a parameter."""
    like = jax.ShapeDtypeStruct(np.shape(p), wide(jnp.result_type(p)))
    try:
        fresh = jax.eval_shape(rule.init_leaf, like)
    except Exception:  # a hyperparameter that is no number yet: nothing is known
        return False
    pairs = zip(fresh, row, strict=True)
    return any(new.shape != old.shape for new, old in pairs if not isinstance(old, Stored))


def unmade(called: object, params: Tree, index: int, error: Exception) -> Exception:
    """The error with the path and shape of the parameter for which no memory could be made."""
    path, p = named_leaves(params)[index]
    seen, do = _told(error)
    kind = TypeError if isinstance(error, TypeError) else ValueError
    owner = type(called).__name__
    if type(called).__module__.split(".")[0] == "gradtx":
        usual = f"Give {owner} other arguments for this array, or route it elsewhere by partition"
    else:
        usual = f"Mend init_leaf of {owner}"
    return kind(
        complaint(f"{called}.init", f"at {path!r} the parameter is {_aval(p)}: {seen}", do or usual)
    )


def _aval(x: Any) -> str:
    if isinstance(x, Stored):
        return f"{type(x).__name__}{list(x.shape)}"
    if x is None or not _is_leaf(x):
        return "None" if x is None else f"a {type(x).__name__}"
    if not is_data(x):
        return f"a {type(x).__name__}"
    return f"{jnp.result_type(x)}{list(np.shape(x))}"
