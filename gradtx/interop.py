"""To and from other libraries, none of which is imported before it is needed; and their names."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp

from gradtx.engine.front import compiled
from gradtx.paths import refuse_no_mapping
from gradtx.struct import Table, answering, nearest, static, type_error
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


# Names -------------------------------------------------------------------------------------------

_ARRAYS_ALONE = "a `Rule` with `update_leaf`, or a `GradientTransformation` with `update`"

COUNTERPARTS = {
    # Optax
    "ApplyEvery": "accumulate",
    "apply_every": "accumulate, around the whole optimizer",
    "MultiSteps": "accumulate: accumulate(adam(1e-3), every=4)",
    "microbatch": "accumulate",
    "multi_transform": 'partition: partition({"*/bias": sgd(0.1), "*": adam(1e-3)})',
    "selective_transform": "freeze or masked",
    "set_to_zero": "freeze",
    "trace": "scale_by_momentum",
    "scale_by_rss": "scale_by_adagrad",
    "scale_by_schedule": "scale, or scale_by_learning_rate: any number may be a schedule",
    "scale_by_distance_over_gradients": "scale_by_dog",
    "additive_weight_decay": "add_decayed_weights",
    "inject_stateful_hyperparams": "inject_hyperparams",
    "named_chain": "chain with keywords: chain(clip=clip(1.0), adam=adam(1e-3))",
    "stateless": _ARRAYS_ALONE,
    "stateless_with_tree_map": "a `Rule` with `update_leaf`",
    "with_extra_args_support": "nothing: every transformation takes extra arguments",
    "GradientTransformationExtraArgs": "GradientTransformation",
    "noisy_sgd": "chain(add_noise(...), sgd(...))",
    "optimistic_adam": "chain(scale_by_adam(), scale_by_optimistic_gradient(), "
    "scale_by_learning_rate(...))",
    "optimistic_adam_v2": "chain(scale_by_adam(), scale_by_optimistic_gradient(), "
    "scale_by_learning_rate(...))",
    "normalize_by_update_norm": "normalize",
    "per_example_global_norm_clip": "differentially_private_aggregate",
    "per_example_layer_norm_clip": "differentially_private_aggregate",
    "skip_large_updates": "skip_outliers",
    "skip_not_finite": "apply_if_finite",
    "snapshot": "monitor and metrics",
    "measure_with_ema": "monitor and metrics",
    "incremental_update": "ema: ema(adam(1e-3), decay=0.999)",
    "periodic_update": "lookahead or outer",
    "LookaheadParams": "lookahead: it keeps the slow parameters in its state",
    "value_and_grad_from_state": "nothing: pass value= and grad_fn= to update",
    "tree_utils": "tree",
    "tree_map_params": "nothing: the state is a tree like the parameters, by slot",
    "global_norm": "tree.global_norm",
    "safe_norm": "tree.norm",
    "safe_root_mean_squares": "tree.norm",
    "EmptyState": "nothing: a state without memory is ()",
    "piecewise_interpolate_schedule": "join_schedules of linear_schedule",
    "warmup_constant_schedule": "warmup_schedule",
    "warmup_exponential_decay_schedule": "warmup_schedule(exponential_decay(...), ...)",
    "projection_halfspace": "projections.half_space",
    "hutchinson_estimator_diag_hessian": "hutchinson, in a hessian_diag_fn of sophia",
    "hessian_diag": "hutchinson",
    "fisher_diag": "gauss_newton_bartlett",
    "scale_by_backtracking_linesearch": "backtracking: backtracking(sgd(1.0))",
    "scale_by_zoom_linesearch": "wolfe: wolfe(sgd(1.0))",
    "losses": "optax.losses",
    "softmax_cross_entropy": "optax.softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels": "optax's of this name",
    "sigmoid_binary_cross_entropy": "optax.sigmoid_binary_cross_entropy",
    "l2_loss": "optax.l2_loss",
    "huber_loss": "optax.huber_loss",
    # PyTorch
    "ASGD": "polyak_average: polyak_average(sgd(0.1))",
    "Adadelta": "adadelta",
    "Adafactor": "adafactor",
    "Adagrad": "adagrad",
    "Adam": "adam",
    "AdamW": "adamw",
    "Adamax": "adamax",
    "LBFGS": "lbfgs: minimize(loss, params, lbfgs())",
    "Lion": "lion",
    "Muon": "muon",
    "NAdam": "nadam",
    "Optimizer": "GradientTransformation",
    "RAdam": "radam",
    "RMSprop": "rmsprop",
    "Rprop": "rprop",
    "SGD": "sgd",
    "SparseAdam": "adam",
    "clip_grad_norm_": "clip_by_global_norm, before an optimizer in a chain",
    "clip_grad_norm": "clip_by_global_norm, before an optimizer in a chain",
    "clip_grad_value_": "clip, before an optimizer in a chain",
    "GradScaler": "dynamic_loss_scale",
    "AveragedModel": "ema or polyak_average",
    "lr_scheduler": "schedules, which stand in the place of the learning rate",
    "ConstantLR": "constant_schedule",
    "ExponentialLR": "exponential_decay",
    "LinearLR": "linear_schedule",
    "StepLR": "step_schedule",
    "MultiStepLR": "piecewise_constant_schedule",
    "PolynomialLR": "polynomial_schedule",
    "CosineAnnealingLR": "cosine_decay_schedule",
    "CosineAnnealingWarmRestarts": "warm_restarts_schedule",
    "CyclicLR": "cyclic_schedule",
    "OneCycleLR": "cosine_onecycle_schedule",
    "SequentialLR": "join_schedules",
    "ChainedScheduler": "the product of schedules: one * other",
    "MultiplicativeLR": "the product of schedules: one * other",
    "LambdaLR": "a function of the count: adam(lambda count: ...)",
    "ReduceLROnPlateau": "reduce_on_plateau",
}
"""What other libraries have under a name that does not exist here, and what there is instead."""


def answer(name: str, known: dict[str, Any]) -> str:
    """What is said of a name that the library does not have."""
    if name in COUNTERPARTS:
        return f"gradtx has no {name!r}; its counterpart is {COUNTERPARTS[name]}"
    public = [other for other in known if not other.startswith("_")]
    spelt = {other.lower(): other for other in public}
    if name.lower() in spelt:
        return f"gradtx has no {name!r}. Did you mean {spelt[name.lower()]}?"
    hint = nearest(name, public)
    return f"gradtx has no {name!r}" + (f". {hint}" if hint.startswith("Did") else "")


def answer_calls(names: dict[str, Any]) -> None:
    """Lets the functions among these answer an unknown argument with the name that was meant."""
    for name, function in list(names.items()):
        if inspect.isfunction(function) and function.__module__.startswith("gradtx."):
            names[name] = answering(function)
            # Also where it is defined, since there pickle looks for it.
            setattr(sys.modules[function.__module__], function.__name__, names[name])
