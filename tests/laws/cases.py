"""What tests share: the rows and their evidence, small trees, comparison, counting."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradtx.catalogue import Row, links, optimizers, wrappers
from gradtx.chain import chain
from gradtx.optimizers.roles import by_role
from gradtx.rule import BatchedRule, JointRule
from gradtx.testing import Evidence
from gradtx.testing.ask import (
    asks_functions as asks_functions,
    at_random as at_random,
    extras as extras,
    hyperparameters as hyperparameters,
    needs as needs,
    parts as parts,
    step as step,
    update as update,
    with_floats as with_floats,
)
from gradtx.testing.compare import (
    apart,
    avals as avals,
    finite,
    leaves,
    same,
    size,
    three_parts,
)
from gradtx.testing.count import compilations as compilations, counting_traces as _counting
from gradtx.testing.trees import NARROW as NARROW, WIDE as WIDE, tree as _tree


def _keeps_host_memory() -> bool:
    """Whether what is compiled can leave arrays in host memory: on a CPU not before JAX 0.10."""
    moved = jax.jit(lambda x: jax.device_put(x, jax.memory.Space.Host))(jnp.ones(2))
    return moved.sharding.memory_kind == "pinned_host"


ROWS = {**optimizers, **links, **wrappers}
HAS_HOST_MEMORY = _keeps_host_memory()
if not HAS_HOST_MEMORY:
    del ROWS["offload"]


def maker(row: Row) -> Any:
    """What makes the transformation of a row, its learning rate an argument like others."""
    if row.learning_rate is None:
        return row.make
    return functools.partial(row.make, learning_rate=row.learning_rate)


@functools.cache
def build(row: Row) -> Any:
    """The transformation of a row with its published defaults."""
    return maker(row)()


@functools.lru_cache(maxsize=1)
def evidence(row: Row) -> Evidence:
    """What is found out about a row. Tests run row by row, so the last one is all that is kept."""
    return Evidence(build(row), maker(row), row.temporary_bytes, row.entries)


def some(values: Any, often: Any) -> list[Any]:
    """Values for a test; those that are not among `often` run in `make test-all` only."""
    return [
        pytest.param(*_tuple(x), marks=[] if x in often else [pytest.mark.slow]) for x in values
    ]


def _tuple(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def over(rows: Any, fast: Any = None) -> Any:
    """A test for each row; those that are not `fast` run in `make test-all` only."""
    slow = set(rows) - set(rows if fast is None else fast)
    return pytest.mark.parametrize(
        "row",
        [
            pytest.param(row, id=name, marks=[pytest.mark.slow] if name in slow else [])
            for name, row in rows.items()
        ],
    )


# A row for every kind of state, of need and of wrapper. What other libraries do with a state knows
# these kinds only.
VARIANTS = {
    *("accumulate_and_look", "skip_loss_outliers", "store_companded", "store_float8", "asam"),
    *("gpa", "polyak_average", "conditionally_mask", "master_weights_split"),
    *("backtracking", "hager_zhang"),
}
KINDS = {
    *(set(wrappers) - VARIANTS),
    *("identity", "scale", "scale_by_momentum", "scale_by_adam", "scale_by_polyak"),
    *("clip_by_global_norm", "scale_by_dog", "add_noise", "qk_clip", "scale_by_factored_rms"),
    *("reduce_on_plateau", "cautious", "clip_by_percentile", "scale_by_soap", "scale_by_kron"),
    *("differentially_private_aggregate", "scale_by_sm3", "projection_simplex"),
    *("sgd", "adamw", "mechanic", "schedule_free_adamw", "muon", "adafactor", "momo", "prodigy"),
}


KNOWN = {type(part) for link in links.values() for part in parts(build(link))} | {chain, by_role}
KNOWN |= {type(build(wrapper)) for wrapper in wrappers.values()}


def _is_alias(row: Row) -> bool:
    """Whether an optimizer is made of links and wrappers alone, each of which is a row itself."""
    return row.name not in KINDS and all(type(part) in KNOWN for part in parts(build(row)))


def _has_other_shapes(row: Row) -> bool:
    """Whether a slot has not the shape of its parameter, so that its place is a question."""
    state = jax.eval_shape(build(row).init, {"w": jax.ShapeDtypeStruct((4, 3), "float32")})
    return any(x.ndim and x.shape != (4, 3) for x in jax.tree.leaves(state))


def _is_joint(row: Row) -> bool:
    """Whether a part of it is more than a formula for every array alone."""
    return any(isinstance(part, JointRule | BatchedRule) for part in parts(build(row)))


OF_OTHER_SHAPES = {name for name, row in ROWS.items() if _has_other_shapes(row)}
JOINT = {name for name, row in ROWS.items() if _is_joint(row)}
ALIASES = {name for name, row in optimizers.items() if _is_alias(row)}
LAWS_OF_ALIASES = {
    *("a_learning_rate_is_data", "zero_gradients_for_ever", "constructors_look_at_no_number"),
    *("compiled_donated_step_holds_no_copy", "optimizer_comes_back", "unknown_hyperparameters"),
}
"""What a chain of links can get wrong although each of its links is right."""

LAWS_OF_PLACES = {
    *("init_on_a_mesh", "steps_on_a_mesh", "state_lies_on_the_device_of_the_parameters"),
    "state_is_loaded_by_name",
}
LAWS_OF_THE_ENGINE = LAWS_OF_PLACES | {
    *("calls_change_nothing", "jit_changes_no_bit", "other_numbers_compile_nothing"),
    *("outside_jit_a_call_is_one_compiled_function", "init_is_one_compiled_function"),
    *("state_is_stable_for_all_dtypes_with_x64", "zero_gradients_of_float64"),
    *("kinds_of_hyperparameters_change_no_dtype_with_x64", "scan_takes_every_state"),
    *("kinds_of_hyperparameters_change_no_dtype", "vmap_over_a_stacked_optimizer_is_the_loop"),
    *("other_numbers_are_not_traced_again", "complex_arrays_keep_their_state"),
    *("other_leaves_do_not_matter", "leaves_that_are_not_moved_get_no_update"),
    *("leaves_that_are_not_moved_without_gradients", "trees_without_any_array"),
    *("init_on_shapes_of_other_leaves", "a_named_tuple_of_parameters_is_as_a_dict"),
    *("a_real_gradient_of_a_complex_parameter_is_refused", "gradients_of_another_tree"),
    *("shapes_that_would_broadcast", "state_of_other_shapes", "state_of_another_optimizer"),
    *("hyperparameters_with_axes", "hyperparameters_that_are_trees_of_another_model"),
    *("patterns_without_an_array", "floating_gradient_of_an_integer_parameter"),
    *("unknown_extra_arguments_are_ignored", "leaves_that_are_not_moved_get_no_state"),
    *("init_on_shapes", "state_comes_back", "a_step_is_update_and_apply"),
    "state_moves_between_meshes",
}
"""What no rule does for itself: a row of every kind shows it."""

over_rows = over(ROWS)
over_kinds = over(ROWS, KINDS)

# For what sees a tree of arrays and no more, such as another library: a row of each kind of tree.
FEW = {
    *("sgd", "adamw", "muon", "adafactor", "mechanic", "schedule_free_adamw", "prodigy"),
    *("scale_by_adam", "scale_by_kron", "add_noise", "reduce_on_plateau", "clip_by_percentile"),
    *("masked", "partition", "separately", "accumulate", "ema", "sam", "apply_if_finite"),
    *("store_int8", "master_weights", "inject_hyperparams", "every", "monitor", "offload"),
}
over_few = over(ROWS, FEW)
over_kinds_of_optimizers = over(optimizers, KINDS)
over_optimizers = over(optimizers)


# Trees -----------------------------------------------------------------------------------------

SHAPES = {"dense": {"bias": (3,), "kernel": (4, 3)}, "scale": ()}


def tree(seed: int, dtype: Any = "float32", shapes: Any = SHAPES) -> Any:
    """A tree of NumPy arrays with normal entries."""
    return _tree(seed, dtype, shapes)


def arrays(seed: int, dtype: Any = "float32", shapes: Any = SHAPES) -> Any:
    """The same as JAX arrays."""
    return jax.device_put(_tree(seed, dtype, shapes))


# Comparison ------------------------------------------------------------------------------------

assert_three_parts = three_parts


def refused(make: Callable[[], Any], *mentions: str) -> str:
    """The message, in three parts, with which a call is refused."""
    with pytest.raises((TypeError, ValueError)) as raised:
        make()
    assert_three_parts(raised.value, *mentions)
    return str(raised.value)


def assert_same(a: Any, b: Any) -> None:
    """Asserts that two trees agree in structure, dtypes and every bit."""
    same(a, b, "two trees")


def assert_close(a: Any, b: Any, rtol: float = 2e-6, least: float = 0.0) -> None:
    """Asserts that two trees agree up to rounding, each array to a share of its largest entry.

    `least` is what differs for other reasons, such as rounding that is remembered.
    """
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(leaves(a), jax.tree.leaves(b), strict=True):
        assert apart(x, y) <= rtol * size(y) + least, (path, x, y)


def counting_traces(function: Any) -> tuple[Any, list[None]]:
    """`jax.jit(function)` and a list that gets one entry for every trace."""
    traced, traces = _counting(function)
    return jax.jit(traced), traces


def zeros(values: Any) -> Any:
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), values)


def assert_finite(values: Any) -> None:
    finite(values, "this is not finite")


update_as_data = jax.jit(update)  # the optimizer is an argument: one trace for all its numbers
