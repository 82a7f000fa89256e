"""Law 6: structure follows None, bool and static fields, never the value of a number."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

import jax

from gradtx.testing.ask import shapes_of, start_and_update, with_floats
from gradtx.testing.compare import require, same_types
from gradtx.testing.evidence import Evidence
from gradtx.testing.laws.law import law
from gradtx.testing.trees import tree
from gradtx.transform import GradientTransformation

_SHAPES = {"bias": (3,), "kernel": (4, 3)}


def _types(tx: GradientTransformation) -> Any:
    """The shapes of state and update, the transformation closed over."""
    return shapes_of(start_and_update, tx, tree(1, shapes=_SHAPES), tree(0, shapes=_SHAPES))


def _program(tx: GradientTransformation) -> tuple[str, Any]:
    """What init and update compute, numbers left out, and the shapes of what they return."""
    grads, params = tree(1, shapes=_SHAPES), tree(0, shapes=_SHAPES)
    call = jax.make_jaxpr(functools.partial(start_and_update, tx), return_shape=True)
    program, shapes = call(grads, params)
    numbers = r"-?(\d+\.\d*|\d+(?=e))(e[-+]?\d+)?|-?\binf\b|\b(True|False)(?=:bool)"
    return re.sub(numbers, "number", " ".join(str(program).split())), shapes


@law(6)
def state_does_not_depend_on_a_number(e: Evidence) -> None:
    """Each number in turn, and all together: tree, shapes, dtypes stay, and so does the program."""
    program, expected = _program(e.tx)
    for value in (0.0, 1.0):
        other = with_floats(lambda _, v=value: v, e.tx)
        found, shapes = _program(other)
        same_types(shapes, expected, f"state and update of {other}")
        require(found == program, "another program than that of the defaults", other)
    leaves, treedef = jax.tree.flatten(e.tx)
    for index, leaf in enumerate(leaves):
        if type(leaf) is float:
            other = treedef.unflatten([*leaves[:index], 0.0, *leaves[index + 1 :]])
            same_types(_types(other), expected, f"state and update of {other}")


@law(6)
def numbers_may_be_traced(e: Evidence) -> None:
    """With every number traced nothing can look at a value: init and update run all the same."""
    grads, params = tree(1, shapes=_SHAPES), tree(0, shapes=_SHAPES)
    found = jax.eval_shape(start_and_update, e.tx, grads, params)
    same_types(found, _types(e.tx), "with numbers traced, state and update")


@law(6)
def constructors_look_at_no_number(e: Evidence) -> None:
    """Made with traced arguments, or with zero, a transformation has the structure it always has.

    A constructor that leaves out a part `if weight_decay` would fail or differ.
    """
    if e.make is None:
        return
    make, structure = e.make, jax.tree.structure(e.tx)
    arguments = inspect.signature(make).parameters.items()
    numbers = [name for name, p in arguments if type(p.default) is float]
    shaped = jax.eval_shape(lambda numbers: make(**numbers), dict.fromkeys(numbers, 0.5))
    found = jax.tree.structure(shaped)
    require(found == structure, "made with traced numbers its structure is", found, structure)
    for name in numbers:
        try:
            zero = make(**{name: 0.0})
        except ValueError as error:  # refused: zero is impossible for it
            require(name in str(error), f"what refuses {name}=0.0 does not name it", error)
        else:
            found = jax.tree.structure(zero)
            require(found == structure, f"made with {name}=0.0 its structure is", found, structure)
