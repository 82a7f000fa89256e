"""Averages of squares kept for rows and columns instead of entries, and stacks of matrices.

Inside, arrays have their stacked axes first; divisions have derivatives that stay finite where what
is divided by is 1e-30, the eps of these methods.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx.axes import Axes, unstacked_axes
from gradtx.transforms.norms import number_along
from gradtx.tree import abs2, real_dtype, real_zeros_like

Sides = tuple[tuple[int, ...], tuple[int, ...]]

LARGE = 128  # the shortest side that T5X and Optax factor


def stacked(axes: Axes | None, ndim: int) -> tuple[int, ...]:
    unstacked_axes(axes, ndim)  # refuses axes of another number
    return () if axes is None else axes.of("b")


def stack_in_front(x: Array, axes: Axes | None) -> Array:
    """`x` with its stacked axes first."""
    stack = stacked(axes, x.ndim)
    return jnp.moveaxis(x, stack, range(len(stack)))


def stack_put_back(x: Array, axes: Axes | None) -> Array:
    stack = stacked(axes, x.ndim)
    return jnp.moveaxis(x, range(len(stack)), stack)


def sides_of(axes: Axes | None, shape: tuple[int, ...], small: bool = True) -> Sides | None:
    """The axes of rows and of columns in an array of this shape that has its stacked axes first.

    `None` if it is not factored: without `small`, unless both sides have `LARGE` entries.
    """
    if len(shape) < 2:
        return None
    inside = "io" if axes is None else axes.letters.replace("b", "")
    front = Axes(inside.rjust(len(shape), "b"))
    rows, columns = front.of("i"), front.of("o")
    enough = small or min(math.prod(shape[i] for i in side) for side in (rows, columns)) >= LARGE
    return (rows, columns) if rows and columns and enough else None


def mean(x: Array, axes: tuple[int, ...]) -> Array:
    return jnp.sum(x, axis=axes, keepdims=True) / number_along(x, axes)


def packed(parts: list[Array], stack: int) -> Array:
    """Arrays that share their stacked axes, one after the other along the last axis."""
    ones = (1,) * (parts[0].ndim - stack - 1)
    return jnp.concatenate([x.reshape(*x.shape[:stack], *ones, -1) for x in parts], axis=-1)


def unpacked(x: Array, shapes: list[tuple[int, ...]], stack: int) -> list[Array]:
    """What was packed, in these shapes."""
    sizes = [math.prod(shape[stack:]) for shape in shapes]
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes) - 1)]
    parts = zip(jnp.split(x, ends, axis=-1), shapes, strict=True)
    return [part.reshape(shape) for part, shape in parts]


def reduced_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a sum over these axes leaves."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


@jax.custom_jvp
def quotient(a: Array, b: Array) -> Array:
    """a / b with a derivative in which no 1 / b^2 overflows."""
    return a / b


@quotient.defjvp
def _over_jvp(primals: Any, tangents: Any) -> Any:
    (a, b), (da, db) = primals, tangents
    return quotient(a, b), da / b - (a / b) * (db / b)


@jax.custom_jvp
def square_over(x: Array, v: Array) -> Array:
    """x^2 / v of real numbers, with a derivative in which no 1 / v^2 overflows."""
    return x * (x / v)


@square_over.defjvp
def _squared_over_jvp(primals: Any, tangents: Any) -> Any:
    (x, v), (dx, dv) = primals, tangents
    y = square_over(x, v)
    return y, 2 * (x / v) * dx - y * (dv / v)


@jax.custom_jvp
def over_root(g: Array, v: Array) -> Array:
    """g / sqrt(v) with a derivative in which no power of 1 / v overflows; v is positive."""
    return g * (1 / lax.sqrt(v))


@over_root.defjvp
def _over_root_jvp(primals: Any, tangents: Any) -> Any:
    (g, v), (dg, dv) = primals, tangents
    u = over_root(g, v)
    return u, dg * (1 / lax.sqrt(v)) - u * (0.5 * (dv / v))


def number_stacked(sides: Sides) -> int:
    """The number of stacked axes."""
    return min(*sides[0], *sides[1])


def zeros_of(p: Array, axes: Axes | None, sides: Sides | None) -> tuple[Array, Array]:
    """Slots for the means of rows and columns, and for all entries of what has no sides."""
    nothing, zeros = jnp.zeros((), real_dtype(p.dtype)), real_zeros_like(p)
    if sides is None:
        return nothing, zeros
    zeros = stack_in_front(zeros, axes)
    means = [mean(zeros, side) for side in (sides[1], sides[0])]
    return packed(means, number_stacked(sides)), nothing


class Squares(NamedTuple):
    """An average of squares: the means of rows and columns, or all entries (`full`)."""

    row: Array
    column: Array
    full: Array

    @staticmethod
    def from_slots(
        means: Array, full: Array, shape: tuple[int, ...], axes: Axes | None, sides: Sides | None
    ) -> Squares:
        if sides is None:
            return Squares(means, means, stack_in_front(full, axes))
        shapes = [reduced_shape(shape, side) for side in (sides[1], sides[0])]
        row, column = unpacked(means, shapes, number_stacked(sides))
        return Squares(row, column, full)

    def slots(self, axes: Axes | None, sides: Sides | None) -> tuple[Array, Array]:
        if sides is None:
            return self.row, stack_put_back(self.full, axes)
        return packed([self.row, self.column], number_stacked(sides)), self.full

    def averaged(self, x: Array, eps: Array, weight: Array, sides: Sides | None) -> Squares:
        """The average in which |x|^2 + eps has this weight."""
        # Far enough below the largest number that sums and quotients stay finite.
        most = jnp.finfo(x.dtype).max / (4 * max(x.size, 1))
        if sides is None:
            square = jnp.minimum(abs2(x), most) + eps
            full = (1 - weight) * self.full + weight * square
            return self._replace(full=jnp.maximum(full, jnp.finfo(full.dtype).tiny))
        rows, columns = sides
        # Twice x, or XLA would store the squares for both sums.
        along, down = mean(abs2(x), columns), mean(abs2(2 * x), rows) / 4
        row = (1 - weight) * self.row + weight * (jnp.minimum(along, most) + eps)
        column = (1 - weight) * self.column + weight * (jnp.minimum(down, most) + eps)
        return self._replace(row=row, column=column)

    def normalized(self, g: Array, sides: Sides | None) -> tuple[Array, Array]:
        """g over the root of the estimate, and its square; XLA fuses both in this form."""
        parts = (lax.real(g), lax.imag(g)) if jnp.iscomplexobj(g) else (g,)
        if sides is None:
            squares = [square_over(part, self.full) for part in parts]
            return over_root(g, self.full), sum(squares[1:], squares[0])
        tiny = jnp.finfo(self.row.dtype).tiny
        row, column = jnp.maximum(self.row, tiny), jnp.maximum(self.column, tiny)
        row = quotient(row, mean(row, sides[0]))
        u = over_root(over_root(g, row), column)
        one = jnp.ones((), row.dtype)
        squares = [part * (part * quotient(one, row) * quotient(one, column)) for part in parts]
        return u, sum(squares[1:], squares[0])
