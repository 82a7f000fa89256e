"""To and from other libraries; none of them is imported before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradtx.struct import Struct, static
from gradtx.transform import GradientTransformation, as_transformation

if TYPE_CHECKING:
    import optax


class bound(Struct):
    """A method of a transformation as a function that can be compared, hashed and pickled."""

    transformation: Any
    method: str = static()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.transformation, self.method)(*args, **kwargs)


def to_optax(tx: GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`tx` as an Optax transformation, for wrappers that ask for one.

    Ours pass for Optax's wherever only `init` and `update` are called; but Optax drops the extra
    arguments of types that it does not know. Two results are equal when their optimizers are.
    """
    import optax

    return optax.GradientTransformationExtraArgs(bound(tx, "init"), bound(tx, "update"))


def from_optax(tx: Any) -> GradientTransformation:
    """A transformation of Optax, or any object with `init` and `update`, as one of ours.

    `chain` and `partition` do this on their own. Its hyperparameters stay closed over.
    """
    return as_transformation("from_optax", tx)
