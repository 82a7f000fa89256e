"""Who moves what: matrices that are named go to a matrix method, all other arrays elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradtx.axes import Axes
from gradtx.chain import chain
from gradtx.routing import Labels, by_path
from gradtx.rule import Hyper
from gradtx.struct import complaint
from gradtx.transform import GradientTransformation
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.wrappers.partition import partition

Matrices = str | Mapping[Any, Axes | str | None]
"""The matrices of a model: `{"embed/*": None, "*/kernel": "io"}`, path patterns with the axes of
the arrays that fit, of which the first counts; `None`, and whatever fits no pattern, is no matrix.
One pattern alone means axes (in, out). With labels beside it, its keys are labels."""


def by_role(
    called: str,
    learning_rate: Hyper,
    direction: Callable[[Any], GradientTransformation],
    rest: GradientTransformation,
    auxiliary: GradientTransformation | None,
    matrices: Matrices | None,
    labels: Labels | None,
) -> GradientTransformation:
    """A partition into "matrices", which get `direction(axes)`, and "rest".

    All move by one learning rate, the rest in the direction `rest`; or, given `auxiliary`, by that
    complete optimizer. Nothing is guessed from the number of axes: an embedding has two. Raises
    `ValueError` if no matrix is named, and in `init` for patterns that no array uses.
    """
    if isinstance(matrices, str):
        matrices = {matrices: "io"}
    named = {key: _as_axes(axes) for key, axes in (matrices or {}).items()}
    axes = {key: value for key, value in named.items() if value is not None}
    if not axes:
        raise ValueError(
            complaint(
                called,
                "no matrix is named" if matrices else "nobody said which arrays are matrices",
                'Name them and their axes: matrices={"*/kernel": "io"} for kernels (in, out); '
                "all other arrays go to the auxiliary optimizer",
            )
        )
    roles = {key: "rest" if value is None else "matrices" for key, value in named.items()}
    if labels is None:
        roles["*"] = roles.get("*", "rest")
    one = labels is not None and len(axes) == 1
    of_matrices = direction(*axes.values() if one else [by_path(axes, labels)])
    descend = scale_by_learning_rate(learning_rate)
    parts = (
        {"matrices": of_matrices, "rest": rest}
        if auxiliary is None
        else {"matrices": chain(of_matrices, descend), "rest": auxiliary}
    )
    optional = ("rest",) if labels is None else ("matrices", "rest")
    routed = partition(parts, by_path(roles, labels), optional)
    return chain(routed, descend) if auxiliary is None else routed


def _as_axes(value: Axes | str | None) -> Axes | None:
    return Axes(value) if isinstance(value, str) else value
