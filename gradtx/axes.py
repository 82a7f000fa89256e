"""Which axes of an array are stacked, inputs or outputs; arrays as matrices.

A matrix is [inputs, outputs]. Stacked axes stay axes of their own in front of it, so that they keep
their sharding, and parts that lie side by side become one more such axis:

    (in, out)                  Axes("io")              [in, out]
    (out, in)                  Axes("oi")              [in, out]
    (3, 3, in, out)            Axes("iiio")            [9 in, out]
    (layers, in, out)          Axes("bio")             [layers, in, out]
    (in, heads, size)          Axes("ibo")             [heads, in, size]
    (in, 3 out)                Axes("io", 3)           [3, in, out]
    (in, 4 size + 2 size)      Axes("io", (4s, 2s))    [in, 4s] and [in, 2s]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from gradtx.struct import Struct, static, value_error
from gradtx.tree import abs2, root


class Axes(Struct):
    """One letter for each axis: `b` stacked (layers, heads), `i` input, `o` output.

    A Dense kernel of JAX is `Axes("io")`, a convolution `Axes("iiio")`, a scanned stack of Dense
    layers `Axes("bio")`, an embedding `Axes("bo")` when every row counts for itself. It is given
    as a hyperparameter, for some arrays by `by_path({"*/kernel": Axes("io"), "*": None})`.

    Matrices that lie side by side in one array are told apart by `split_outputs`, a number of equal
    parts or a tuple of sizes, and `split_inputs`: `Axes("io", 3)` is a fused QKV kernel, and with
    `3 * heads` every head of it is a matrix of its own. Only what sees matrices looks at these.
    """

    letters: str = static()
    split_outputs: int | tuple[int, ...] = static(default=1)
    split_inputs: int | tuple[int, ...] = static(default=1)

    def check(self) -> None:
        if not isinstance(self.letters, str) or set(self.letters) - set("bio"):
            raise value_error(
                self, f"the axes are {self.letters!r}", "Give a letter b, i or o for each axis"
            )
        for name in ("split_outputs", "split_inputs"):
            parts = getattr(self, name)
            sizes = parts if isinstance(parts, tuple) else (parts,)
            if not sizes or not all(isinstance(n, int) and n > 0 for n in sizes):
                raise value_error(
                    self,
                    f"{name} is {parts!r}",
                    "Give a number of equal parts, or a tuple of sizes that add up",
                )

    def of(self, letter: str) -> tuple[int, ...]:
        """The axes with this letter."""
        return tuple(i for i, name in enumerate(self.letters) if name == letter)


def unstacked_axes(axes: Axes | None, ndim: int) -> tuple[int, ...]:
    """The axes of one matrix or vector: all but the stacked ones."""
    if axes is None:
        return tuple(range(ndim))
    _refuse_other_number(axes, ndim)
    return tuple(i for i, name in enumerate(axes.letters) if name != "b")


def _refuse_other_number(axes: Axes, ndim: int) -> None:
    if len(axes.letters) != ndim:
        raise ValueError(
            f"{axes} names {len(axes.letters)} axes, the array has {ndim}. Give a letter for each "
            "axis; arrays with other axes get others by by_path"
        )


def input_output_axes(axes: Axes | None, ndim: int, owner: object) -> Axes:
    """The axes of an array that must have an input and an output axis: a guess for none but two."""
    if axes is not None:
        _refuse_other_number(axes, ndim)
        return axes
    if ndim == 2:
        return Axes("io")
    raise ValueError(
        f"{owner} cannot tell inputs from outputs. Give axes, such as Axes('iiio'), or leave this "
        "array to another optimizer with partition"
    )


# Arrays as matrices ----------------------------------------------------------------------------


class Layout(NamedTuple):
    """How an array of one shape is made of matrices; static, so it may choose code."""

    order: tuple[int, ...]  # the axes: stacked ones, inputs, outputs
    shape: tuple[int, ...]  # of the array with its axes in this order
    stack: tuple[int, ...]  # the sizes of the stacked axes
    inputs: tuple[int, ...]  # the sizes of the parts into which the inputs fall
    outputs: tuple[int, ...]

    @property
    def is_even(self) -> bool:
        """Whether all matrices have one shape, so that one array holds them."""
        return len(set(self.inputs)) == len(set(self.outputs)) == 1

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of every array of matrices."""
        if not self.is_even:
            return [(*self.stack, n, m) for n in self.inputs for m in self.outputs]
        counts = (len(parts) for parts in (self.inputs, self.outputs) if len(parts) > 1)
        return [(*self.stack, *counts, self.inputs[0], self.outputs[0])]


def layout(axes: Axes | None, shape: tuple[int, ...], owner: str = "this rule") -> Layout:
    """How an array of this shape is made of matrices.

    Two axes are (inputs, outputs) if nothing is said. Raises `ValueError` for other numbers of axes
    without `axes`, for axes of another number and for parts that do not fit.
    """
    axes = input_output_axes(axes, len(shape), owner)
    stack, inputs, outputs = (axes.of(letter) for letter in "bio")
    order = stack + inputs + outputs
    n, m = (math.prod(shape[i] for i in side) for side in (inputs, outputs))
    return Layout(
        order,
        tuple(shape[i] for i in order),
        tuple(shape[i] for i in stack),
        _sizes(axes, "split_inputs", n),
        _sizes(axes, "split_outputs", m),
    )


def _sizes(axes: Axes, name: str, total: int) -> tuple[int, ...]:
    parts = getattr(axes, name)
    sizes = parts if isinstance(parts, tuple) else (total // parts,) * parts
    if sum(sizes) != total:
        raise ValueError(
            f"{name}={parts!r} of {axes} does not divide {total} entries. "
            "Give equal parts, or sizes that add up"
        )
    return sizes


def as_matrices(x: Array, how: Layout) -> list[Array]:
    """The matrices of an array: one array [..., in, out] unless parts differ in size."""
    x = x.transpose(how.order).reshape(*how.stack, sum(how.inputs), sum(how.outputs))
    if len(how.inputs) == len(how.outputs) == 1:
        return [x]
    if not how.is_even:
        rows = jnp.split(x, _ends(how.inputs), axis=-2)
        return [part for row in rows for part in jnp.split(row, _ends(how.outputs), axis=-1)]
    k, a, b = len(how.stack), len(how.inputs), len(how.outputs)
    x = x.reshape(*how.stack, a, how.inputs[0], b, how.outputs[0])
    # [..., parts of inputs, parts of outputs, in, out]
    x = x.transpose(*range(k), k, k + 2, k + 1, k + 3)
    return [x.reshape(how.shapes[0])]


def from_matrices(parts: Sequence[Array], how: Layout) -> Array:
    """The array that `as_matrices` was given."""
    if len(how.inputs) == len(how.outputs) == 1:
        (x,) = parts
    elif how.is_even:
        k, a, b = len(how.stack), len(how.inputs), len(how.outputs)
        x = parts[0].reshape(*how.stack, a, b, how.inputs[0], how.outputs[0])
        x = x.transpose(*range(k), k, k + 2, k + 1, k + 3)
    else:
        b = len(how.outputs)
        rows = [parts[i : i + b] for i in range(0, len(parts), b)]
        x = jnp.concatenate([jnp.concatenate(row, axis=-1) for row in rows], axis=-2)
    back = sorted(range(len(how.order)), key=how.order.__getitem__)
    return x.reshape(how.shape).transpose(back)


def on_matrices(function: Callable[[Array], Array], x: Array, how: Layout) -> Array:
    """`x` with a function applied to its matrices [..., in, out]."""
    return from_matrices([function(part) for part in as_matrices(x, how)], how)


def shape_of_matrices(axes: Axes | None, shape: tuple[int, ...], owner: str) -> tuple[int, ...]:
    """The shape [..., in, out] of the matrices, where a rule remembers something for each.

    Raises `ValueError` if they differ in size.
    """
    how = layout(axes, shape, owner)
    if not how.is_even:
        raise ValueError(
            f"{owner} remembers something of every matrix, and these differ in size. "
            "Split into heads"
        )
    return how.shapes[0]


def product(x: Array, y: Array) -> Array:
    """The products of matrices in full precision, which accelerators do not take by default."""
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)


def adjoint(x: Array) -> Array:
    """The transposed matrices, of complex ones the conjugates."""
    return jnp.conj(x.mT)


def frobenius_norm(x: Array) -> Array:
    """The Frobenius norm of every matrix of a stack, which keeps its number of axes."""
    return root(jnp.sum(abs2(x), axis=(-2, -1), keepdims=True))


def described(axes: Axes | None, shape: tuple[int, ...]) -> str:
    """The matrices of an array in words, `12 x (768 in, 64 out)`; nothing if nobody can tell."""
    if axes is None and len(shape) != 2:
        return ""
    found = []
    for *stack, n, m in layout(axes, shape).shapes:
        many = math.prod(stack)
        found.append(("" if many == 1 else f"{many} x ") + f"({n} in, {m} out)")
    return ", ".join(found)


def _ends(sizes: tuple[int, ...]) -> list[int]:
    return [sum(sizes[: k + 1]) for k in range(len(sizes) - 1)]
