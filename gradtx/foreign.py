"""Transformations of other libraries as ours, and ours as theirs; none of them is imported here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp

from gradtx.engine.front import compiled
from gradtx.paths import refuse_no_mapping
from gradtx.struct import Table, static, type_error
from gradtx.transform import GradientTransformation, State
from gradtx.tree import Tree, U

if TYPE_CHECKING:
    import optax


class SupportsInitUpdate(Protocol):
    """An object with the functions `init` and `update`, such as a transformation of Optax."""

    @property
    def init(self) -> Callable[[Any], Any]: ...

    @property
    def update(self) -> Callable[..., Any]: ...


class NamedPair(Protocol):
    """The same as a named tuple, whose functions pyright takes for methods that lack `self`."""

    @property
    def init(self) -> Callable[..., Any]: ...

    @property
    def update(self) -> Callable[..., Any]: ...

    def _asdict(self) -> dict[str, Any]: ...


AnyTransformation = GradientTransformation | SupportsInitUpdate | NamedPair
"""What is taken where a transformation is expected: not its class, nor a function that makes it."""


_SKIPPING = ("MultiSteps", "apply_if_finite", "conditionally_mask")


class foreign(GradientTransformation):
    """A transformation from elsewhere, such as one of Optax, as a part of ours.

    It is held as a static value: its hyperparameters are closed over and cannot be edited.
    """

    transformation: SupportsInitUpdate | NamedPair = static()

    def own_extras(self) -> frozenset[str] | None:
        named, takes_any = self._arguments_of_update()
        return None if takes_any else named

    def _arguments_of_update(self) -> tuple[frozenset[str], bool]:
        """The names of the arguments beyond the usual three, and whether it takes any."""
        parameters = inspect.signature(self.transformation.update).parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        return frozenset([*parameters][3:]), takes_any

    @property
    def skips_steps(self) -> bool:
        """Known of those of Optax that do, by their names."""
        return getattr(self.transformation.init, "__qualname__", "").split(".")[0] in _SKIPPING

    @property
    def remembers(self) -> bool:
        """Whether its state holds anything, as far as one array can tell."""
        one = {"x": jax.ShapeDtypeStruct((2,), jnp.float32)}
        try:
            return bool(jax.tree.leaves(jax.eval_shape(self.transformation.init, one)))
        except Exception:  # of whoever wrote it, for parameters that it does not expect
            return False

    def init(self, params: Tree) -> State:
        return self.transformation.init(params)

    @compiled
    def update(
        self, updates: U, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[U, State]:
        named, takes_any = self._arguments_of_update()
        given = {name: x for name, x in extra.items() if takes_any or name in named}
        return self.transformation.update(updates, state, params, **given)


def as_transformation(value: AnyTransformation, called: object = "it") -> GradientTransformation:
    """`value` as a transformation; refuses what is none, a forgotten call above all."""
    if isinstance(value, GradientTransformation):
        return value
    init, update = getattr(value, "init", None), getattr(value, "update", None)
    if isinstance(init, bound) and update == bound(init.transformation, "update"):
        return init.transformation  # `to_optax` made it
    if callable(init) and callable(update) and not isinstance(value, type):
        return foreign(value)
    name = getattr(value, "__name__", None)
    raise type_error(
        called,
        f"{name or repr(value)} is not a gradient transformation",
        f"Call it: {name}(...)" if callable(value) and name else "Pass one, such as adam(1e-3)",
    )


def all_as_transformations(
    transforms: Mapping[Any, AnyTransformation], called: str = "it"
) -> Table:
    """A table of transformations, whose keys are also those of a state: of one type."""
    refuse_no_mapping(called, transforms, 'such as {"*/bias": sgd(0.1), "*": adam(1e-3)}')
    kinds = {type(key).__name__ for key in transforms}
    if len(kinds) > 1:
        raise type_error(
            called,
            f"its keys have the types {', '.join(sorted(kinds))}",
            "Give all keys one type: JAX sorts the keys of a state",
        )
    return Table({key: as_transformation(tx, called) for key, tx in transforms.items()})


@dataclass(frozen=True)
class bound:
    """A method of a transformation as a function: no pytree, compared, hashed and pickled."""

    transformation: GradientTransformation
    method: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.transformation, self.method)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"{self.transformation!r}.{self.method}"


def to_optax(tx: AnyTransformation) -> optax.GradientTransformationExtraArgs:
    """`tx` as an Optax transformation, for what asks for one, such as `flax.nnx.Optimizer`.

    Ours pass for Optax's wherever only `init` and `update` are called; but Optax drops the extra
    arguments of types that it does not know. Two results are equal when their optimizers are. The
    result is as opaque as those of Optax, and no argument of `jax.jit`: pass `tx`, whose numbers
    are data, and convert it inside.
    """
    import optax

    tx = as_transformation(tx, "to_optax")
    return optax.GradientTransformationExtraArgs(bound(tx, "init"), bound(tx, "update"))


def from_optax(tx: AnyTransformation) -> GradientTransformation:
    """A transformation of Optax, or any object with `init` and `update`, as one of ours.

    `chain` and `partition` do this on their own. Its hyperparameters stay closed over, but for what
    `to_optax` made of one of ours, which comes back as it was.
    """
    return as_transformation(tx, "from_optax")


def version() -> str:
    """The version of this library, as it is installed."""
    from importlib import metadata

    try:
        return metadata.version("gradtx")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"
