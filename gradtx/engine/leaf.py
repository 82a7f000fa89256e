"""Rules applied to one array, as compiled functions.

They compute in at least float32, and return the dtypes that came in.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from gradtx.engine.codes import Stored
from gradtx.engine.hyperparameters import with_constants_outside
from gradtx.engine.placement import on_any_mesh, placed
from gradtx.engine.rounding import seed
from gradtx.engine.slots import kinds
from gradtx.engine.step import Step
from gradtx.tree import is_inexact, real_dtype, widest

Rule = Any
"""A `gradtx.rule.Rule`, which is built on this package."""

cast = lax.convert_element_type
T = TypeVar("T")


class Job(NamedTuple):
    """What is to be done for one array: the rules, and what they get."""

    rules: Sequence[Rule]
    steps: Sequence[Step]
    g: Array
    slots: Sequence[Any]
    p: Array | None
    salts: dict[int, tuple[np.uint32, Array]]


@jax.jit
def one_array(job: Job) -> tuple[Array, tuple[Any, ...]]:
    """The update of one array by all rules, and their new slots."""
    return on_any_mesh(_one_array, job, like=lambda: (job.g, tuple(job.slots)))


def _one_array(job: Job) -> tuple[Array, tuple[Any, ...]]:
    dtype = _dtype_of(job)
    with promotion(dtype):
        u, new = _through(job, range(len(job.rules)), cast(job.g, dtype), dtype)
    return cast(u, job.g.dtype), new


@functools.partial(jax.jit, static_argnums=0)
def before_batch(split: int, job: Job) -> tuple[list[Array], Any, tuple[Any, ...]]:
    """The rules before the batched one, and its `before_leaf`."""
    return _anywhere(_before_batch, split, job)


def _anywhere(function: Callable[..., T], split: int, job: Job, *args: Any) -> T:
    """`function(split, job, *args)` on any mesh."""
    return _near(functools.partial(function, split), (job, *args), (job.slots, job.g))


def _near(function: Callable[..., T], args: tuple[Any, ...], arrays: Any) -> T:
    """`function(*args)` on any mesh: what has the shape of one of the arrays lies as it does."""

    def like() -> Any:
        near = {x.shape: x for x in jax.tree.leaves(arrays)}
        plain = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
        return jax.tree.map(lambda x: near.get(x.shape), jax.eval_shape(function, *plain))

    return on_any_mesh(function, *args, like=like)


def _before_batch(split: int, job: Job) -> tuple[list[Array], Any, tuple[Any, ...]]:
    dtype = _dtype_of(job)
    with promotion(dtype):
        u, new = _through(job, range(split), cast(job.g, dtype), dtype)
        rule = with_constants_outside(job.rules[split])
        with jax.named_scope(type(rule).__name__):
            xs, kept = rule.before_leaf(cut(rule, u), *_arguments(job, split, dtype))
    kept = kept, u if is_cut(rule) else None
    return xs, kept, new


@jax.jit
def batched(rule: Rule, x: Any) -> Any:
    """`together` of a batched rule, of one array or (under `vmap`) of a batch of them."""
    dtype = widest([leaf for leaf in jax.tree.leaves(x) if is_inexact(leaf)])
    with jax.named_scope(type(rule).__name__), promotion(dtype):
        return _near(lambda x: together(rule, x), (x,), x)


def together(rule: Rule, x: Any) -> Any:
    """`rule.together(x)`, without the hyperparameters: the arrays of a batch may differ in them."""
    return type(rule).together(_Blind(rule), x)


class _Blind:
    """A rule that shows static fields only."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def __getattr__(self, name: str) -> Any:
        rule = self._rule
        if name in rule._leaves:
            raise TypeError(
                f"`together` of {type(rule).__name__} uses the hyperparameter {name!r}, in which "
                "the arrays of a batch may differ. Use it in before_leaf or after_leaf"
            )
        value = getattr(rule, name)
        if isinstance(value, types.MethodType) and value.__self__ is rule:
            return types.MethodType(value.__func__, self)
        return value


@functools.partial(jax.jit, static_argnums=0)
def after_batch(
    split: int, job: Job, results: list[Array], kept: Any, new: tuple[Any, ...]
) -> tuple[Array, tuple[Any, ...]]:
    """`after_leaf` of the batched rule, and the rules after it."""
    return _anywhere(_after_batch, split, job, results, kept, new)


def _after_batch(
    split: int, job: Job, results: list[Array], kept: Any, new: tuple[Any, ...]
) -> tuple[Array, tuple[Any, ...]]:
    dtype = _dtype_of(job)
    with promotion(dtype):
        rule = with_constants_outside(job.rules[split])
        kept, g = kept
        with jax.named_scope(type(rule).__name__):
            u, own = rule.after_leaf(results, kept)
        if g is not None:
            u = u - (g - g)
        own = _as_before(job, split, u, own)
        u, rest = _through(job, range(split + 1, len(job.rules)), u, dtype)
    return cast(u, job.g.dtype), (*new, own, *rest)


def _dtype_of(job: Job) -> Any:
    return widest([x for x in jax.tree.leaves((job.g, job.slots, job.p)) if is_inexact(x)])


def _through(
    job: Job, places: Sequence[int], u: Array, dtype: DTypeLike
) -> tuple[Array, tuple[Any, ...]]:
    """Some of the rules, one after the other."""
    kept = []
    for k in places:
        rule = with_constants_outside(job.rules[k])
        with jax.named_scope(type(rule).__name__):
            g, arguments = u, _arguments(job, k, dtype)
            u, new = rule.update_leaf(cut(rule, g), *arguments)
            if is_cut(rule):  # infinities show as NaN; of others 0 is subtracted, which keeps -0
                u = u - (g - g)
        kept.append(_as_before(job, k, u, new))
    return u, tuple(kept)


def _arguments(job: Job, k: int, dtype: DTypeLike) -> tuple[Any, Array | None, Step]:
    """The slots of rule `k` and the parameters, both wide, and the step."""
    p = None if job.p is None else cast(job.p, dtype)
    return wide_slots(job.slots[k], dtype), p, job.steps[k]


def is_cut(rule: Rule) -> bool:
    """Whether a rule gets its gradients cut to what can be squared."""
    return "square" in kinds(rule.Part) if rule.cut is None else rule.cut


def cut(rule: Rule, g: Array) -> Array:
    """`g` as `rule` gets it: where that keeps squares, cut to what can be squared and added up.

    One that overflows is infinite for ever, and if it is cut without its gradient, a step of any
    length follows.
    """
    if not is_cut(rule):
        return g
    # The squares of 2^24 entries can be added up, also of differences and with weights.
    most = 2.0 ** (jnp.finfo(g.dtype).maxexp // 2 - 12)
    if jnp.iscomplexobj(g):
        return jnp.where(jnp.abs(g) > most, most * lax.sign(g), g)
    return lax.clamp(jnp.asarray(-most, g.dtype), g, jnp.asarray(most, g.dtype))


def wide_slots(slots: Any, dtype: DTypeLike) -> Any:
    """Slots as arrays of at least float32; whole numbers stay as they are."""
    return type(slots)(*(_wide(slot, dtype) for slot in slots))


def _wide(slot: Any, dtype: DTypeLike) -> Array:
    if isinstance(slot, Stored):
        return slot.decode(real_dtype(dtype))
    if not is_inexact(slot):
        return slot
    is_complex = jnp.issubdtype(slot.dtype, jnp.complexfloating)
    return cast(slot, dtype if is_complex else real_dtype(dtype))


def promotion(dtype: DTypeLike) -> contextlib.AbstractContextManager[Any]:
    """Rules mix real numbers with complex arrays, which strict promotion would refuse."""
    mixed = jnp.issubdtype(dtype, jnp.complexfloating)
    return jax.numpy_dtype_promotion("standard") if mixed else contextlib.nullcontext()


def _as_before(job: Job, k: int, u: Array, new: Any) -> Any:
    """The new slots in the dtypes of the old ones, or stored as they; shapes must be the same."""
    if u.shape != job.g.shape:
        raise ValueError(f"the update would come out with shape {u.shape}")
    old, kept = job.slots[k], []
    for name, x, y in zip(old._fields, old, new, strict=True):
        if x.shape != y.shape:
            seen = f"slot {name!r} has shape {x.shape} and would become {y.shape}"
            if any(map(np.ndim, jax.tree.leaves(job.rules[k]))):
                seen += ". Give one number in the place of values along axes, which do not fit it"
            raise ValueError(seen)
        if isinstance(x, Stored):
            array, count = job.salts[k]
            new_slot = x.encode(y, seed(array, count, name) if x.random else None)
        else:
            new_slot = cast(y, x.dtype)
        # Where the old one lies; what is laid out like its parameter is there by itself.
        apart = isinstance(x, Stored) or x.shape != job.g.shape or job.rules[k].lies_apart
        kept.append(jax.tree.map(placed, x, new_slot) if apart and x.shape else new_slot)
    return type(old)(*kept)
