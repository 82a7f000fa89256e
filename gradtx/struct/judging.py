"""What may stand in the place of a number: judged by the constructor, by name and value.

Only what is known without a device is judged: Python and NumPy numbers, dtypes of arrays.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from gradtx.struct.equality import NUMBERS
from gradtx.struct.messages import type_error, value_error
from gradtx.struct.node import Node
from gradtx.struct.printing import shown

A_NUMBER = "Pass a number, an array, a schedule or a tree of these"


def as_real(value: Any) -> Any:
    """`value` with Python integers as floats, so that a derivative can be taken; trees too."""
    if value is None or isinstance(value, float | np.ndarray | np.generic | jax.Array):
        return value
    return jax.tree.map(_real, value, is_leaf=_is_node)


def _real(leaf: Any) -> Any:
    if type(leaf) is int:
        return float(leaf)
    if isinstance(leaf, Node) and leaf._is_values:
        return leaf.with_fields(**{name: as_real(getattr(leaf, name)) for name in leaf._leaves})
    return leaf


def _is_node(x: Any) -> bool:
    return isinstance(x, Node)


def entries(value: Any) -> Iterator[Any]:
    """What one hyperparameter is for some array: numbers, arrays, schedules, other objects."""
    for leaf in jax.tree.leaves(value, is_leaf=_is_node):
        if isinstance(leaf, Node) and leaf._is_values:
            for name in leaf._leaves:
                yield from entries(getattr(leaf, name))
        else:
            yield leaf


def _leaves(value: Any) -> Iterator[Any]:
    """The numbers of one hyperparameter; what a schedule holds is not the value it will have."""
    return (leaf for leaf in entries(value) if not isinstance(leaf, Node))


def numbers(value: Any) -> Iterator[tuple[Any, float]]:
    """The real numbers of one hyperparameter that can be judged, each as it is and as a float."""
    for leaf in entries(value):
        if isinstance(leaf, Node):
            if isinstance(leaf, SupportsIndex):
                yield leaf, float(operator.index(leaf))
            elif leaf._is_number:
                yield from ((leaf, end) for end in _ends(leaf))
        elif isinstance(leaf, np.generic | np.ndarray):
            if leaf.ndim == 0 and (
                leaf.dtype.kind in "biuf" or jnp.issubdtype(leaf.dtype, jnp.floating)
            ):
                yield leaf, float(leaf)
        elif isinstance(leaf, int | float):
            yield leaf, float(leaf)


def _ends(node: Node) -> Iterator[float]:
    """The least and the largest number that an object holds, as far as they are known."""
    for held in (getattr(node, name) for name in node._leaves):
        if isinstance(held, np.ndarray) and held.size and held.dtype.kind in "iuf":
            yield from (float(held.min()), float(held.max()))


def refuse_iterator(called: str, name: str, value: Any) -> None:
    """Raises `TypeError` for what is used up by reading, such as `model.parameters()`."""
    if isinstance(value, Iterator):
        raise type_error(called, f"{name} is a {type(value).__name__}", A_NUMBER)


def refuse_no_number(called: str, name: str, value: Any) -> None:
    """Raises `TypeError` for what is neither a real number nor an array, schedule or tree of them.

    A tree of arrays of several shapes is taken for the parameters of a model, which some other
    libraries hand to the optimizer.
    """
    leaves = list(_leaves(value))
    for leaf in leaves:
        seen = f"{name} is {shown(leaf)}"
        dtype = getattr(leaf, "dtype", None)
        if isinstance(leaf, complex) or (dtype is not None and _is_complex(dtype)):
            raise type_error(called, f"{seen}, a complex number", "Pass a real number")
        if dtype is None and not isinstance(leaf, NUMBERS):
            raise type_error(called, seen, A_NUMBER)
    shapes = {np.shape(leaf) for leaf in leaves if hasattr(leaf, "shape")}
    if len(shapes) > 1 and any(shapes) and not isinstance(value, Node):
        raise type_error(
            called,
            f"{name} is a tree of arrays with shapes such as {list(max(shapes, key=len))}",
            f"Pass a number as {name}; parameters go to init and update: state = tx.init(params)",
        )


def refuse_object(called: str, name: str, value: Any) -> None:
    """Raises as `refuse_no_number`, and for None, a bool or an object, such as another optimizer.

    What can be called, such as a schedule, gives a number.
    """
    refuse_no_number(called, name, value)
    for entry in (None,) if value is None else entries(value):
        gives_one = callable(entry) or isinstance(entry, SupportsIndex)
        is_object = isinstance(entry, Node) and not (gives_one or entry._is_number)
        if entry is None or is_object or isinstance(entry, bool | np.bool_):
            raise type_error(called, f"{name} is {shown(entry)}", A_NUMBER)


def _is_complex(dtype: DTypeLike) -> bool:
    return jnp.issubdtype(dtype, jnp.complexfloating)


def refuse_nan(called: object, name: str, value: Any) -> None:
    """Raises `ValueError` for a number that is none."""
    for leaf, number in numbers(value):
        if math.isnan(number):
            raise value_error(called, f"{name} is {leaf!r}", "Pass a number")


class Interval:
    """The numbers between two ends, written as `"[0, 1)"`: a square bracket takes in its end."""

    def __init__(self, text: str) -> None:
        try:
            self.low, self.high = map(float, text[1:-1].split(","))
        except ValueError:
            raise value_error("within", f"the interval is {text!r}", 'Write "[0, 1)"') from None
        self.text = text

    def __str__(self) -> str:
        return self.text

    def __contains__(self, number: float) -> bool:
        above = number > self.low or (self.text[0] == "[" and number == self.low)
        return above and (number < self.high or (self.text[-1] == "]" and number == self.high))


FINITE = Interval("(-inf, inf)")


def refuse_outside(called: object, interval: Interval, name: str, value: Any) -> None:
    """Raises `ValueError` for a number outside an interval."""
    for leaf, number in numbers(value):
        if number not in interval:
            raise value_error(called, f"{name} is {leaf!r}", f"Pass a number in {interval}")


def refuse_no_size(called: object, interval: Interval, name: str, value: Any, whole: bool) -> None:
    """Raises `ValueError` for what chooses code and is neither None nor a (whole) number."""
    kinds = int | np.integer if whole else int | float | np.number
    if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
        do = f"Pass a {'whole ' if whole else ''}number in {interval}"
        raise value_error(called, f"{name} is {value!r}", do)


def refuse_disorder(called: object, lower: str, low: Any, upper: str, high: Any) -> None:
    """Raises `ValueError` where two single numbers are known and the first is larger."""
    lows, highs = list(numbers(low)), list(numbers(high))
    if len(lows) == len(highs) == 1 and lows[0][1] > highs[0][1]:
        raise value_error(
            called,
            f"{lower} is {lows[0][0]!r}, above {upper}, which is {highs[0][0]!r}",
            f"Pass a {lower} that is at most {upper}",
        )
