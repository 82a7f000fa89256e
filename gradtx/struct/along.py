"""Numbers that differ inside one array: `along`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gradtx.struct.base import Struct, converted, static
from gradtx.struct.messages import type_error, value_error
from gradtx.struct.printing import shown


def _as_values(values: ArrayLike | Sequence[Any], called: str = "along") -> Any:
    """Lists as NumPy arrays, whole numbers as real ones; flags stay flags."""
    if isinstance(values, jax.Array):
        return values if values.dtype == bool else jnp.asarray(values, jnp.result_type(values, 1.0))
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "biuf" and not jnp.issubdtype(array.dtype, jnp.floating):
        raise type_error(called, f"the values are {shown(values)}", "Pass an array of real numbers")
    return array.astype(float) if array.dtype.kind in "iu" else array


class along(Struct):
    """A hyperparameter or a mask with a value of its own for each index of some axes of an array.

    `adam(by_path({"layers/*": along(rates, 0), "*": 1e-3}))` has a learning rate for every layer of
    a stack, `masked(tx, {"embed": along(trained, 0), "head": True})` moves some rows of an
    embedding, `projection_box(along(low, (0, 1)), high)` has a bound for every entry. `values` has
    one axis for each in `axis`, of the size that the array has there, and is never broadcast. It
    may stand for any number, also in a schedule, that is not one for a whole array or for all.
    """

    values: ArrayLike | Sequence[Any] = converted(converter=_as_values)
    axis: int | tuple[int, ...] = static()  # of the array; negative ones count from the end

    _is_closed: ClassVar[bool] = True
    _is_number: ClassVar[bool] = True
    _is_scalar: ClassVar[bool] = True

    def check(self) -> None:
        if not all(isinstance(i, int) for i in self.axes) or len({*self.axes}) < len(self.axes):
            do = "Name an axis of the array by its number, or several, each once"
            raise type_error("along", f"axis is {self.axis!r}", do)
        if np.ndim(self.values) != len(self.axes) or not self.axes:
            seen = f"the values have shape {list(np.shape(self.values))}, axis is {self.axis}"
            raise value_error("along", seen, "Give one axis of the array for each of the values")

    @property
    def axes(self) -> tuple[int, ...]:
        return self.axis if isinstance(self.axis, tuple) else (self.axis,)

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        """What is wrong with it for an array of this shape, None if nothing is."""
        sizes = np.shape(self.values)
        if len(sizes) != len(self.axes):
            return f"values of shape {list(sizes)} for axis {self.axis}"
        rank = len(shape)
        known = [i % rank for i in self.axes if -rank <= i < rank]
        if len({*known}) < len(self.axes) or sizes != tuple(shape[i] for i in known):
            return f"{' x '.join(map(str, sizes))} values for axis {self.axis}"
        return None

    def beside(self, shape: tuple[int, ...]) -> Any:
        """Its values with the axes of an array of this shape, of size one where they are alike."""
        axes = [i % len(shape) for i in self.axes]
        order = sorted(range(len(axes)), key=axes.__getitem__)
        whole = [n if i in axes else 1 for i, n in enumerate(shape)]
        values: Any = self.values
        return values.transpose(order).reshape(whole)

    def __repr__(self) -> str:
        values: Any = self.values
        if not isinstance(values, np.ndarray):
            return f"along({shown(values)}, axis={self.axis})"
        few = values.size <= 8
        text = shown(values.tolist()) if few else f"array({values.dtype}{list(values.shape)})"
        return f"along({text}, axis={self.axis})"


def are_flags(value: Any) -> bool:
    return isinstance(value, along) and value.values.dtype == bool  # pyright: ignore


def chosen(mask: along, yes: Any, no: Any, called: str) -> along:
    """The number `yes` along the axes of a mask where it holds, else `no`."""
    same = isinstance(yes, along) and yes.axis == mask.axis
    where, held = mask.values, yes.values if same else yes
    if isinstance(held, along) or held is None or no is None:
        seen = f"there is {shown(yes)} where it holds, {shown(no)} elsewhere"
        raise value_error(called, seen, "Give numbers, or values along the axes of the mask")
    return along(jnp.where(where, held, no), mask.axis)  # pyright: ignore


def where(called: object, path: str, mask: Any, x: Any, y: Any) -> Any:
    """The entries of an array `x` where the mask holds, else those of `y`."""
    misfit = mask.misfit(x.shape)
    if misfit is not None:
        seen = f"the mask has {misfit}, the array at {path!r} has shape {list(x.shape)}"
        raise value_error(called, seen, "Give as many flags as the array has there")
    return jnp.where(mask.beside(x.shape), x, y)
