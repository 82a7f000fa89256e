"""Hyperparameters as the engine sees them: schedules evaluated, one number for every array."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from gradtx.axes import Axes
from gradtx.engine.plain import Each, here
from gradtx.engine.step import At
from gradtx.paths import by_path, is_mask, refuse_idle, refuse_unused, route, spread
from gradtx.schedules.base import Schedule, evaluate, evaluate_all
from gradtx.struct import (
    NUMBERS,
    Static,
    Struct,
    named_numbers,
    refuse_object,
    shown,
    value_error,
)
from gradtx.struct.along import along, are_flags, chosen
from gradtx.tree import Tree, is_inexact, is_none, named_leaves, real_dtype

S = TypeVar("S", bound=Struct)
T = TypeVar("T")


def per_array(struct: S, count: Any, tree: Tree, *, strict: bool = False) -> list[S]:
    """`struct` with plain numbers as hyperparameters, once for each leaf of `tree`.

    Schedules are evaluated at `count`. `None` counts as a leaf. Arrays with the same values get the
    same object. What has values `along` axes becomes an array beside which it broadcasts. `strict`
    also refuses patterns that no array uses. Raises `ValueError` for a hyperparameter with axes
    that nobody named and for one that does not fit the tree.
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
    for name in [name for name, value in shared.items() if isinstance(value, along)]:
        separate[name] = [shared.pop(name)] * number_of_leaves
    base = struct.with_fields(**shared)
    if not separate:
        return [base] * number_of_leaves
    for name, values in separate.items():
        if any(isinstance(value, along) for value in values):
            axes = separate.get("axes", [getattr(base, "axes", None)] * number_of_leaves)
            separate[name] = _beside(struct, name, values, axes, tree)
    found: dict[Any, S] = {}
    rows = []
    for values in zip(*separate.values(), strict=True):
        key = tuple(map(_identity, values))
        if key not in found:
            found[key] = base.with_fields(**dict(zip(separate, values, strict=True)))
        rows.append(found[key])
    return rows


def _beside(struct: Struct, name: str, values: list[Any], axes: list[Any], tree: Tree) -> list[Any]:
    """The values for each leaf of `tree`, those `along` axes as arrays of its rank.

    A rule with `axes` sees an array as matrices: there only what is stacked has values of its own.
    """
    found, done = [], {}
    for (path, x), value, letters in zip(named_leaves(tree), values, axes, strict=True):
        if not isinstance(value, along):
            found.append(value)
            continue
        if not is_inexact(x):
            found.append(0.0)  # nobody moves it: any number will do
            continue
        shape = np.shape(x)
        misfit = value.misfit(shape)
        if misfit is not None:
            raise value_error(
                type(struct).__name__,
                f"{name} has {misfit}, the array at {path!r} has shape {list(shape)}",
                "Give as many as the array has there, and other arrays a number by_path"
                if np.ndim(value.values) == len(value.axes)
                else "Run a stack of optimizers under jax.vmap",
            )
        if "axes" in struct._leaves and not _stacked(letters, value):
            raise value_error(
                type(struct).__name__,
                f"{name} has values along axis {value.axis}, of which {path!r} is one whole",
                "Name the stacked axes in front, such as axes=Axes('bio'), or give one number",
            )
        key = (id(value), shape)
        done[key] = done[key] if key in done else value.beside(shape)
        found.append(done[key])
    return found


def _stacked(axes: Axes | None, value: along) -> bool:
    """Whether all axes of the value are stacked in front, with the matrices as they are behind."""
    if axes is None or axes.letters.lstrip("b") not in ("", "i", "o", "io"):
        return False
    return all(axes.letters[i] == "b" for i in value.axes)


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
    number = _number(struct, name, value, count)
    if isinstance(number, along):
        raise value_error(
            type(struct).__name__,
            f"{name} has values along axis {number.axis}, but all arrays share one number here",
            "Give one number",
        )
    return number


_WHOLE = (Schedule, Static, Axes, along)  # values that are no trees of numbers


def _is_leaf(value: Any) -> bool:
    return isinstance(value, NUMBERS) or jax.tree_util.all_leaves([value])


def _number(struct: Struct, name: str, value: Any, count: Any) -> Any:
    number = evaluate(value, count)
    if are_flags(number):
        seen = f"{name} is {shown(number)}, which are flags"
        raise value_error(type(struct).__name__, seen, "Pass numbers")
    if isinstance(number, Axes | along):
        return number
    if number is not value:
        seen = f"what {shown(value)} returns as {name}"
        refuse_object(type(struct).__name__, seen, number)
    elif value is None and name not in struct._optional:
        refuse_object(type(struct).__name__, name, value)
    if np.ndim(number) != 0:
        raise value_error(
            type(struct).__name__,
            f"{name} has shape {np.shape(number)}, a hyperparameter is one number",
            "Run a stack of optimizers under jax.vmap; give layers values of their own with "
            "by_path or a tree of numbers, and rows or stacked layers of one array with along",
        )
    return number


def _looked_up(
    struct: Struct, name: str, table: by_path, count: Any, tree: Tree, strict: bool
) -> list[Any]:
    called = f"{type(struct).__name__}({name}={table!r})"
    keys = route(called, table.table, table.labels, tree)
    if strict and table.labels is None:
        refuse_unused(called, table.table, keys, tree)
    elif strict and (isinstance(table.labels, by_path) or is_mask(table.table)):
        refuse_idle(called, table.labels, tree)
    numbers = {key: _number(struct, name, value, count) for key, value in table.table.items()}
    # An array that no optimizer moves needs no number; any will do.
    spare = next(iter(numbers.values()))
    return [
        chosen(key, numbers[True], numbers[False], f"the {name} under a mask along axes")
        if isinstance(key, along)
        else numbers.get(key, spare)
        for key in keys
    ]


def _spread(struct: Struct, name: str, value: Any, count: Any, tree: Tree) -> list[Any]:
    numbers = jax.tree.map(
        lambda v: _number(struct, name, v, count), value, is_leaf=lambda v: isinstance(v, _WHOLE)
    )
    return spread(f"{type(struct).__name__}({name}={shown(value)})", numbers, tree)


# By name ---------------------------------------------------------------------------------------


def in_use(tx: Any, moments: Iterable[tuple[Any, At]]) -> dict[str, Any]:
    """The numbers of a transformation by name, schedules evaluated at the counts of its parts.

    `Each` where arrays count for themselves, None for a schedule that cannot be read here.
    """
    counts: dict[tuple[str, ...], list[Any]] = {}
    for _, moment in moments:
        counts.setdefault(moment.place, []).append(moment.count)

    def number(path: tuple[str, ...], value: Any) -> Any:
        found = next(counts[path[:k]] for k in range(len(path), -1, -1) if path[:k] in counts)
        if not isinstance(value, Schedule | Static):
            if isinstance(value, along):
                return value.values
            return Each(value) if len(found) > 1 and np.ndim(value) else value
        if any(here(x) is None for x in jax.tree.leaves((found, value))):
            return None
        found, value = jax.tree.map(here, (found, value))
        one = len(found) == 1
        result = evaluate_all(value, found[0] if one else jnp.stack(found))
        result = result.values if isinstance(result, along) else result
        return result if one else Each(result)

    return {name: number(x.path, x.value) for name, x in named_numbers(tx).items()}


# In the precision of an array ------------------------------------------------------------------


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
