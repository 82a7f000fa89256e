"""What a transformation consists of, what it asks for, and calls that give it that."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.struct import Struct, fields_below
from gradtx.transform import GradientTransformation, State
from gradtx.tree import Tree, is_inexact, real_dtype, wide


def parts(value: Any) -> Iterator[Any]:
    """A transformation and all that are inside it."""
    if isinstance(value, Struct):
        yield value
        for name in value._leaves:
            yield from parts(getattr(value, name))
    elif isinstance(value, Mapping):
        for below in value.values():
            yield from parts(below)


def needs(tx: GradientTransformation) -> set[str]:
    """What a transformation or a part of it cannot do without."""
    return {name for part in parts(tx) for name in getattr(part, "needs", ())}


def asks_functions(tx: GradientTransformation) -> bool:
    """Whether an update needs a function, so that outside of jit it runs as it is."""
    return any(name.endswith("_fn") for name in needs(tx))


def at_random(tx: Any) -> bool:
    """Whether a transformation draws random numbers."""
    return any(getattr(part, "random", False) is True for part in parts(tx))


KEYS = ("key", "seed")


def keys(tx: Any) -> list[str]:
    """The paths of the fields of a transformation that hold random keys."""
    return [".".join(path) for path, _, _ in fields_below(tx) if path[-1] in KEYS]


def axes(tx: Any) -> list[str]:
    """The paths of what a transformation takes for the axes of arrays."""
    names = {name for part in parts(tx) for name in getattr(part, "_axes", ())}
    return [
        ".".join(path)
        for path, value, chooses_code in fields_below(tx)
        if names & {*path} and not chooses_code and not isinstance(value, Struct)
    ]


def hyperparameters(tx: Any) -> dict[str, Any]:
    """The fields of a transformation that hold numbers, by path, each with one that it takes.

    Random keys and axes are no numbers, and whoever takes them refuses everything else at once.
    """
    others = {name for part in parts(tx) for name in part._others}
    numbers = {
        ".".join(path): value if type(value) in (int, float) else 0.1
        for path, value, chooses_code in fields_below(tx)
        if not chooses_code and not isinstance(value, Struct) and path[-1] not in others
    }
    return {path: number for path, number in numbers.items() if path not in axes(tx)}


def with_floats(change: Callable[[float], Any], tx: GradientTransformation) -> Any:
    """A transformation with every float hyperparameter changed, as JAX would rebuild it."""
    return jax.tree.map(lambda x: change(x) if type(x) is float else x, tx)


# Extra arguments -------------------------------------------------------------------------------


def loss(params: Tree) -> Any:
    """1 + |p|^2 / 2, in NumPy where nothing is traced."""
    leaves = [x for x in jax.tree.leaves(params) if is_inexact(x)]
    traced = any(isinstance(x, Tracer) for x in leaves)
    xp: Any = jnp if traced else np
    squares: list[Any] = []
    for x in leaves:
        x: Any = x.astype(wide(x.dtype)) if traced else np.asarray(x).astype(wide(x.dtype))
        is_complex = jnp.issubdtype(x.dtype, np.complexfloating)
        squares.append(xp.sum(xp.real(x) ** 2 + xp.imag(x) ** 2 if is_complex else x**2))
    dtype = np.result_type(np.float32, *(x.dtype for x in squares))
    return xp.asarray(1 + sum(x.astype(dtype) / 2 for x in squares), dtype)


def _loss_of_arrays(params: Tree) -> Any:
    return jax.jit(loss)(params)


def _slope(params: Tree) -> Any:
    found = jax.grad(_loss_of_arrays, allow_int=True)(params)
    # JAX gives the conjugate of the direction in which a complex parameter ascends.
    return jax.tree.map(lambda g: jnp.conj(g) if is_inexact(g) else g, found)


def _curvature(x: Any) -> Any:
    """The diagonal of the Hessian for an array: ones."""
    if not is_inexact(x):
        return x
    dtype = real_dtype(wide(x.dtype))
    if isinstance(x, Tracer):  # no constant, which would have to be stored
        return 0 * jnp.real(x).astype(dtype) + 1
    return np.ones(x.shape, dtype)


def extras(tx: GradientTransformation, params: Tree, grads: Tree) -> dict[str, Any]:
    """The extra arguments that a transformation needs, for the loss 1 + |p|^2 / 2."""
    known = {
        "value": lambda: loss(params),
        "grad": lambda: grads,
        "value_fn": lambda: _loss_of_arrays,
        "grad_fn": lambda: _slope,
        "key": lambda: jax.random.key(0),
        "hessian_diag": lambda: jax.tree.map(_curvature, params),
        "max_logits": lambda: {"*": np.float32(150.0)},
    }
    return {name: known[name]() for name in needs(tx) - {"params"}}


def update(tx: GradientTransformation, grads: Tree, state: State, params: Tree) -> Any:
    """`tx.update` with whatever it needs."""
    return tx.update(grads, state, params, **extras(tx, params, grads))


def step(tx: GradientTransformation, grads: Tree, state: State, params: Tree) -> Any:
    """`tx.step` with whatever it needs."""
    return tx.step(grads, state, params, **extras(tx, params, grads))


def start_and_update(tx: GradientTransformation, grads: Tree, params: Tree) -> Any:
    """The state at the start, the updates and the next state."""
    state = tx.init(params)
    return state, *update(tx, grads, state, params)


def shapes_of(function: Callable[..., Any], tx: GradientTransformation, *args: Any) -> Any:
    """The shapes of what `function(tx, *args)` returns, the transformation closed over."""
    return jax.eval_shape(functools.partial(function, tx), *args)
