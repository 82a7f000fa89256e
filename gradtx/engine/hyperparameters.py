"""Hyperparameters as the engine sees them: schedules evaluated, one number for every array."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from gradtx.axes import Axes
from gradtx.paths import by_path, refuse_unused, route, spread
from gradtx.schedules.base import Schedule, evaluate
from gradtx.struct import NUMBERS, Static, Struct, shown, value_error
from gradtx.tree import Tree, is_none, real_dtype

S = TypeVar("S", bound=Struct)
T = TypeVar("T")


def per_array(struct: S, count: Any, tree: Tree, *, strict: bool = False) -> list[S]:
    """`struct` with plain numbers as hyperparameters, once for each leaf of `tree`.

    Schedules are evaluated at `count`. `None` counts as a leaf. Arrays with the same values get the
    same object. `strict` also refuses patterns that no array uses. Raises `ValueError` for a
    hyperparameter with axes of its own and for one that does not fit the tree.
    """
    number_of_leaves = jax.tree.structure(tree, is_leaf=is_none).num_leaves
    shared, separate = {}, {}
    for name in struct._leaves:
        value = getattr(struct, name)
        if name in struct._others:
            shared[name] = value
        elif isinstance(value, by_path):
            separate[name] = _looked_up(struct, name, value, count, tree, strict)
        elif value is None or isinstance(value, _WHOLE) or _is_leaf(value):
            shared[name] = _number(struct, name, value, count)
        else:
            separate[name] = _spread(struct, name, value, count, tree)
    base = struct.with_fields(**shared)
    if not separate:
        return [base] * number_of_leaves
    found: dict[Any, S] = {}
    rows = []
    for values in zip(*separate.values(), strict=True):
        key = tuple(map(_identity, values))
        if key not in found:
            found[key] = base.with_fields(**dict(zip(separate, values, strict=True)))
        rows.append(found[key])
    return rows


def _identity(value: Any) -> Any:
    return (type(value), value) if isinstance(value, NUMBERS) else id(value)


def for_all_arrays(struct: S, count: Any) -> S:
    """`struct` at `count`, where arrays cannot have values of their own.

    A transformation inside it sees to its own hyperparameters: here `None` stands for it.
    """
    numbers = {
        name: one_number(struct, name, count)
        for name in struct._leaves
        if name not in struct._others
    }
    return struct.with_fields(**numbers)


def one_number(struct: Struct, name: str, count: Any) -> Any:
    """The value of one hyperparameter at `count`, where arrays cannot have values of their own."""
    value = getattr(struct, name)
    inside = isinstance(value, Struct) and not isinstance(value, (by_path, *_WHOLE))
    if inside or value is None:
        return None
    if isinstance(value, by_path) or not (isinstance(value, _WHOLE) or _is_leaf(value)):
        raise value_error(
            type(struct).__name__,
            f"{name} is {shown(value)}, but all arrays share one number here",
            "Give one number, or route arrays to parts of their own with partition",
        )
    return _number(struct, name, value, count)


_WHOLE = (Schedule, Static, Axes)  # values that are no trees of numbers


def _is_leaf(value: Any) -> bool:
    return isinstance(value, NUMBERS) or jax.tree_util.all_leaves([value])


def _number(struct: Struct, name: str, value: Any, count: Any) -> Any:
    number = evaluate(value, count)
    if isinstance(number, Axes):
        return number
    if np.ndim(number) != 0:
        raise value_error(
            type(struct).__name__,
            f"{name} has shape {np.shape(number)}, a hyperparameter is one number",
            "Run a stack of optimizers under jax.vmap; give layers values of their own with "
            "by_path or a tree of numbers",
        )
    return number


def _looked_up(
    struct: Struct, name: str, table: by_path, count: Any, tree: Tree, strict: bool
) -> list[Any]:
    called = f"{type(struct).__name__}({name}={table!r})"
    keys = route(called, table.table, table.labels, tree)
    if strict and table.labels is None:
        refuse_unused(called, table.table, keys, tree)
    numbers = {key: _number(struct, name, value, count) for key, value in table.table.items()}
    # An array that no optimizer moves needs no number; any will do.
    spare = next(iter(numbers.values()))
    return [numbers.get(key, spare) for key in keys]


def _spread(struct: Struct, name: str, value: Any, count: Any, tree: Tree) -> list[Any]:
    numbers = jax.tree.map(
        lambda v: _number(struct, name, v, count), value, is_leaf=lambda v: isinstance(v, _WHOLE)
    )
    return spread(f"{type(struct).__name__}({name}={shown(value)})", numbers, tree)


def narrowed(values: T, dtype: DTypeLike) -> T:
    """A struct or tree with its numbers in the precision of `dtype`, which they must not widen."""
    real = real_dtype(dtype)

    def cast(number: Any) -> Any:
        if isinstance(number, NUMBERS):
            return real.type(number)
        if jnp.issubdtype(jnp.result_type(number), jax.dtypes.extended):
            return number
        return jax.lax.convert_element_type(number, real)

    if not isinstance(values, Struct):
        return jax.tree.map(cast, values)
    numbers = (name for name in values._leaves if name not in values._others)
    return values.with_fields(
        **{name: jax.tree.map(cast, getattr(values, name)) for name in numbers}
    )


def with_constants_inside(struct: S) -> S:
    """`struct` with its plain numbers as static values: code rather than arguments."""
    return jax.tree.map(lambda h: Static(h) if isinstance(h, np.generic) else h, struct)


def with_constants_outside(struct: S) -> S:
    """What `with_constants_inside` was given."""
    return jax.tree.map(
        lambda h: h.value if isinstance(h, Static) else h,
        struct,
        is_leaf=lambda h: isinstance(h, Static),
    )
