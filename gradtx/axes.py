"""Which axes of an array are stacked matrices, which their inputs, which their outputs."""

from __future__ import annotations

from typing import Any

from gradtx.struct import Struct, complaint, static


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
            raise ValueError(
                complaint(
                    self, f"the axes are {self.letters!r}", "Give a letter b, i or o for each axis"
                )
            )
        for name in ("split_outputs", "split_inputs"):
            parts = getattr(self, name)
            sizes = parts if isinstance(parts, tuple) else (parts,)
            if not sizes or not all(isinstance(n, int) and n > 0 for n in sizes):
                raise ValueError(
                    complaint(
                        self,
                        f"{name} is {parts!r}",
                        "Give a number of equal parts, or a tuple of sizes that add up",
                    )
                )

    def of(self, letter: str) -> tuple[int, ...]:
        """The axes with this letter."""
        return tuple(i for i, name in enumerate(self.letters) if name == letter)


def within(axes: Axes | None, ndim: int) -> tuple[int, ...]:
    """The axes of one matrix or vector: all but the stacked ones."""
    if axes is None:
        return tuple(range(ndim))
    _refuse_other_number(axes, ndim)
    return tuple(i for i, name in enumerate(axes.letters) if name != "b")


def _refuse_other_number(axes: Axes, ndim: int) -> None:
    if len(axes.letters) != ndim:
        raise ValueError(f"{axes} names {len(axes.letters)} axes, the array has {ndim}")


def known(axes: Axes | None, ndim: int, called: Any) -> Axes:
    """The axes of an array that must have an input and an output axis: a guess for none but two."""
    if axes is not None:
        _refuse_other_number(axes, ndim)
        return axes
    if ndim == 2:
        return Axes("io")
    raise ValueError(f"{called} cannot tell inputs from outputs: give axes, such as Axes('iiio')")
