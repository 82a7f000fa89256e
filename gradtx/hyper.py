"""What may stand where a number is expected: `Hyper`, and the fields that hold it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Union

from jax import Array

from gradtx.axes import Axes
from gradtx.paths import by_path
from gradtx.schedules.base import Scalar
from gradtx.struct import entries, shown, type_error
from gradtx.struct.along import along

Hyper = Union[  # noqa: UP007 - it names itself
    Scalar,
    along,
    by_path,
    Mapping[Any, "Hyper"],
    Sequence["Hyper"],
]
"""A hyperparameter: a number, an array without axes, numbers `along` axes of an array, a schedule
or a function of the count of updates done, `by_path`, or a prefix tree of the parameters with these
as leaves. A tree that is neither a mapping nor a sequence passes type checkers through
`prefix_tree`."""


AxesOf = Union[Axes, by_path, Mapping[Any, "AxesOf"], Sequence["AxesOf"], None]  # noqa: UP007
"""The axes of arrays: of all, `by_path`, or a prefix tree; None where nobody says them."""


def prefix_tree(tree: object) -> Any:
    """`tree` itself, which type checkers then take for a tree of hyperparameters or of labels.

    A dict, list or tuple needs no such word; a dataclass or an Equinox module does.
    """
    return tree


if TYPE_CHECKING:
    # What is given to a field is a `Hyper`; what a formula reads there is a number, since the
    # engine has evaluated schedules and looked up paths before. A descriptor says so, and a
    # protocol without members lets plain numbers be defaults: `b1: HyperField = 0.9`.

    class _Read:
        def __get__(self, owner: object, kind: Any) -> Array: ...
        def __set__(self, owner: object, value: Hyper) -> None: ...

    class _ReadIfGiven:
        def __get__(self, owner: object, kind: Any) -> Array | None: ...
        def __set__(self, owner: object, value: Hyper | None) -> None: ...

    class _ReadAxes:
        def __get__(self, owner: object, kind: Any) -> Axes | None: ...
        def __set__(self, owner: object, value: AxesOf) -> None: ...

    class HyperField(_Read, Protocol):  # pyright: ignore[reportGeneralTypeIssues]
        pass

    class OptionalHyperField(_ReadIfGiven, Protocol):  # pyright: ignore[reportGeneralTypeIssues]
        pass

    class AxesField(_ReadAxes, Protocol):  # pyright: ignore[reportGeneralTypeIssues]
        pass

else:
    HyperField = Hyper
    """The annotation of a field of a `Rule`, `Wrapper` or other part that is a hyperparameter."""
    OptionalHyperField = Hyper | None
    AxesField = AxesOf


def fields_of(cls: Any, *annotations: str) -> frozenset[str]:
    """The fields of a dataclass that are annotated so, by these names of this module."""
    kinds = [*annotations, *(globals()[name] for name in annotations)]
    declared = {f.name: f.type for f in dataclasses.fields(cls)}
    written = {name: str(kind).split(".")[-1] for name, kind in declared.items()}
    return frozenset(name for name in declared if {written[name], declared[name]} & {*kinds})


def refuse_no_axes(called: str, name: str, value: Any) -> None:
    """Raises `TypeError` for what is not the axes of arrays."""
    for entry in entries(value):
        if not isinstance(entry, Axes):
            do = "Pass an Axes, such as Axes('io'), by_path or a tree of these"
            raise type_error(called, f"{name} is {shown(entry)}", do)
