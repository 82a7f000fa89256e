"""Hyperparameters that move with the step count.

A schedule is called with the number of updates done so far: the first update sees 0. Its numbers
are leaves, lengths and peaks included, so they can be traced, swept and differentiated. Schedules
combine by `+`, `-`, `*`, `/`, by `.clip` and by `join_schedules`; their shapes are in `schedules/`.
A length of zero means the end value at once; negative lengths and beginnings are refused, and so
are periods and units of time that are zero.
"""

from __future__ import annotations

import abc
import operator
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Union

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from gradtx.schedules.steps import passed, since
from gradtx.struct import (
    Fixed,
    Static,
    Struct,
    numbers,
    refuse_object,
    shown,
    static,
    type_error,
    value_error,
    whole,
    with_functions_wrapped,
)
from gradtx.struct.along import along

Number = float | np.number[Any] | Array
"""A real number: Python, NumPy or JAX; may be traced."""

Scalar = Union["Schedule", Callable[[Any], ArrayLike], Number]
"""One number for all arrays: fixed, or a schedule or function of the count."""


class Schedule(Struct, abc.ABC):
    """A scalar as a function of the number of updates done so far."""

    _is_scalar: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._judges = dict.fromkeys(cls._leaves, refuse_object)

    @abc.abstractmethod
    def __call__(self, count: Any) -> Array:
        """The value before update number `count` (the first is 0), a float scalar."""

    def span(self) -> float:
        """How many updates show its shape: its length, or some periods; 0 if it has none.

        That of a schedule of your own is the largest whole number in it.
        """
        whole = (getattr(self, name) for name in self._wholes)
        inside = (getattr(self, name) for name in self._leaves if name not in self._wholes)
        return longest(*whole, *(x for x in inside if isinstance(x, Schedule)))

    def plot(self, steps: int | None = None, ax: Any = None) -> Any:
        """Draws it over so many updates with matplotlib, else over its `span`; returns the axes.

        One line for each schedule of a stack. Without `ax` it makes a figure.
        """
        from gradtx.schedules.plot import plot

        return plot(self, steps, ax)

    def _repr_html_(self) -> str | None:
        """A picture for notebooks; None, for its text, without matplotlib and under a trace."""
        from gradtx.schedules.plot import picture

        return picture(self)

    def clip(self, min: Number | None = None, max: Number | None = None) -> Schedule:
        """This schedule kept within [min, max]."""
        return clipped(self, min, max)

    def __add__(self, other: Scalar) -> Schedule:
        return combined("+", self, other)

    def __radd__(self, other: Scalar) -> Schedule:
        return combined("+", other, self)

    def __sub__(self, other: Scalar) -> Schedule:
        return combined("-", self, other)

    def __rsub__(self, other: Scalar) -> Schedule:
        return combined("-", other, self)

    def __mul__(self, other: Scalar) -> Schedule:
        return combined("*", self, other)

    def __rmul__(self, other: Scalar) -> Schedule:
        return combined("*", other, self)

    def __truediv__(self, other: Scalar) -> Schedule:
        return combined("/", self, other)

    def __rtruediv__(self, other: Scalar) -> Schedule:
        return combined("/", other, self)

    def __neg__(self) -> Schedule:
        return combined("*", -1.0, self)


def longest(*lengths: Any) -> float:
    """The largest of numbers and of the spans of schedules, among stacked ones too; else 0."""
    found = [0.0]
    for length in lengths:
        if isinstance(length, Schedule):
            found.append(length.span())
        else:
            leaves = jax.tree.leaves(length, is_leaf=lambda n: isinstance(n, Fixed))
            found += (int(n) if isinstance(n, Fixed) else float(np.max(n)) for n in leaves)
    return max(found)


def evaluate(value: Any, count: Any) -> Any:
    """`value(count)` for a schedule or a bare function, any other value as it is.

    A schedule whose numbers are `along` some axes has a value along these.
    """
    if not isinstance(value, Schedule | Static):
        return value
    leaves, treedef = jax.tree.flatten(value, is_leaf=lambda x: isinstance(x, along))
    places = {i: x for i, x in enumerate(leaves) if isinstance(x, along)}
    if not places:
        return value(count)
    axis, *others = {x.axis for x in places.values()}
    if others or len({np.shape(x.values) for x in places.values()}) > 1:
        seen = f"its numbers differ along other axes or sizes: {shown(list(places.values()))}"
        raise value_error(type(value).__name__, seen, "Give values of one shape for one axis")

    def one(values: list[Any]) -> Array:
        of_one = dict(zip(places, values, strict=True))
        return treedef.unflatten(of_one.get(i, x) for i, x in enumerate(leaves))(count)

    for _ in np.shape(places[min(places)].values):
        one = jax.vmap(one)
    return along(one([x.values for x in places.values()]), axis)


def evaluate_all(value: Any, counts: Any) -> Any:
    """`evaluate` at each of many counts; the numbers of a stacked schedule are as many."""
    if np.ndim(counts) == 0 or any(map(np.ndim, jax.tree.leaves(value))):
        return evaluate(value, counts)
    return jax.vmap(lambda count: evaluate_all(value, count))(counts)


class constant_schedule(Schedule):
    """The same value at every step."""

    value: Number

    def __call__(self, count: Any) -> Array:
        return jnp.asarray(self.value, jnp.result_type(float))


class join_schedules(Schedule):
    """One schedule after the other; each one's count starts at 0 where it begins.

    `boundaries` are the counts at which the second, third ... schedule begins, one fewer than
    schedules, in rising order. A number stands for a schedule that is constant.
    """

    schedules: Sequence[Schedule | Static]
    boundaries: Sequence[Number] = whole(within="[0, inf)")

    def __init__(self, schedules: Sequence[Scalar], boundaries: Sequence[Number]) -> None:
        object.__setattr__(self, "schedules", tuple(map(_as_schedule, schedules)))
        object.__setattr__(self, "boundaries", tuple(boundaries))
        self.__post_init__()

    def check(self) -> None:
        if len(self.schedules) != len(self.boundaries) + 1:
            seen = f"{len(self.schedules)} schedules and {len(self.boundaries)} boundaries"
            raise value_error(self, seen, "Give one boundary fewer than schedules")
        known = [number for _, number in numbers(self.boundaries)]
        if known != sorted(known):
            seen = f"boundaries are {shown(self.boundaries)}"
            raise value_error(self, seen, "Give them in rising order")

    def span(self) -> float:
        begin = longest(*self.boundaries)
        return begin + (longest(self.schedules[-1]) or begin)

    def __call__(self, count: Any) -> Array:
        value = self.schedules[0](count)
        for begin, schedule in zip(self.boundaries, self.schedules[1:], strict=True):
            # Before its turn a schedule sees 0, where it is defined.
            value = jnp.where(passed(count, begin) >= 0, schedule(since(count, begin)), value)
        return value


def _as_schedule(value: Any) -> Schedule | Static:
    if isinstance(value, Schedule | Static):
        return value
    if callable(value):
        return with_functions_wrapped(value, "join_schedules", "one of the schedules")
    if value is None or np.ndim(value) or isinstance(value, str | bytes | Struct):
        seen = f"one of the schedules is {shown(value)}"
        do = "Give schedules, functions of the count or numbers"
        raise type_error("join_schedules", seen, do)
    return constant_schedule(value)


class clipped(Schedule):
    """A schedule kept within [min, max]; `schedule.clip(min, max)` makes one."""

    schedule: Scalar
    min: Number | None = None
    max: Number | None = None

    def check(self) -> None:
        self.require_order("min", "max")

    def __call__(self, count: Any) -> Array:
        return jnp.clip(evaluate(self.schedule, count), self.min, self.max)

    def __repr__(self) -> str:
        return f"{_operand(self.schedule)}.clip({self.min!r}, {self.max!r})"


_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


class combined(Schedule):
    """The sum, difference, product or quotient of schedules and numbers; operators make one."""

    operation: str = static()
    left: Scalar = 0.0
    right: Scalar = 0.0

    def __call__(self, count: Any) -> Array:
        values = (evaluate(self.left, count), evaluate(self.right, count))
        left, right = (jnp.asarray(v, jnp.result_type(float)) for v in values)
        return _OPERATORS[self.operation](left, right)

    def __repr__(self) -> str:
        return f"{_operand(self.left)} {self.operation} {_operand(self.right)}"


def _operand(value: Any) -> str:
    return f"({value!r})" if isinstance(value, combined) else repr(value)
