"""A batch in slices, one after the other, in the memory of one: `microbatch`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx.struct import value_error
from gradtx.tree import Tree, is_inexact, named_leaves, wide

WAYS = ("mean", "sum", "concat", "stack")


def microbatch(
    function: Callable[..., Any],
    argnums: int | Sequence[int] = 1,
    *,
    size: int | None = None,
    steps: int | None = None,
    reduce: Tree = "mean",
    axis: int = 0,
    key_argnum: int | None = None,
) -> Callable[..., Any]:
    """`function`, such as `jax.value_and_grad(loss)`, of a batch in `steps` slices, or of a `size`.

    The arrays in the arguments `argnums` are cut along `axis`, a last smaller slice counts by its
    size. Results are put together by `reduce`, a way or a prefix tree of them for what `function`
    returns: "mean" and "sum" are added up in at least float32, "concat" has the rows in their
    order, "stack" a slice for each step. A random key in `key_argnum` is another for each slice.
    Slice i has the rows i, i + steps, ...: an axis that is laid over devices stays where it is.
    The memory is that of one slice, and `function` is traced once for every size.
    """
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if (size is None) == (steps is None) or (size or steps or 0) < 1:
        seen = f"size is {size}, steps is {steps}"
        raise value_error("microbatch", seen, "Pass one of them, a whole number from 1 on")
    for path, way in named_leaves(reduce):
        if way not in WAYS:
            where = f" at {path!r}" if path else ""
            do = f"Pass one of {', '.join(map(repr, WAYS))}, or a tree of them"
            raise value_error("microbatch", f"reduce is {way!r}{where}", do)
    jitted = jax.jit(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        rows = _rows(args, numbers, axis)
        count = rows // size if size is not None else steps
        each = size if size is not None else rows // (steps or 1)
        if count is None or count < 1 or each < 1 or (size is None and count * each != rows):
            _refuse_rows(rows, size, steps)
        whole = {i: _cut(args[i], axis, count, each) for i in numbers}

        def of(step: Any, slices: dict[int, Any]) -> Any:
            given = [slices.get(i, arg) for i, arg in enumerate(args)]
            if key_argnum is not None:
                given[key_argnum] = jax.random.fold_in(args[key_argnum], step)
            return jitted(*given, **kwargs)

        def one(sums: list[Any], step: Array) -> tuple[list[Any], list[Any]]:
            out = of(step, {i: _picked(tree, axis, step) for i, tree in whole.items()})
            parts = zip(_ways(reduce, out), jax.tree.leaves(out), strict=True)
            split = [(_added(s, x), None) if _adds(way) else (None, x) for s, (way, x) in
                     zip(sums, parts, strict=True)]  # fmt: skip
            return [s for s, _ in split], [x for _, x in split]

        shapes = jax.eval_shape(
            lambda: of(np.int32(0), {i: _picked(t, axis, np.int32(0)) for i, t in whole.items()})
        )
        ways = _ways(reduce, shapes)
        start = [_zeros(w, x) for w, x in zip(ways, jax.tree.leaves(shapes), strict=True)]
        sums, kept = lax.scan(one, start, jnp.arange(count, dtype=np.int32))
        last = None
        if count * each < rows:
            rest = {i: _rest(args[i], axis, count * each) for i in numbers}
            last = jax.tree.leaves(of(np.int32(count), rest))
        found = [
            _whole(way, shape, sums[k], kept[k], None if last is None else last[k],
                   (count, each, rows))
            for k, (way, shape) in enumerate(zip(ways, jax.tree.leaves(shapes), strict=True))
        ]  # fmt: skip
        return jax.tree.structure(shapes).unflatten(found)

    return call


# Slices ------------------------------------------------------------------------------------------


def _rows(args: Sequence[Any], numbers: Sequence[int], axis: int) -> int:
    """How many rows the batched arguments have, which is the same for all."""
    found: dict[str, Any] = {}
    for i in numbers:
        if i >= len(args):
            seen = f"argnums has {i}, given are {len(args)} arguments"
            raise value_error("microbatch", seen, "Pass the batch by position")
        for path, x in named_leaves(args[i]):
            if x is None:
                continue
            name = "/".join(filter(None, (f"argument {i}", path)))
            if np.ndim(x) <= axis:
                seen = f"{name} has shape {np.shape(x)}, the batch is along axis {axis}"
                raise value_error("microbatch", seen, "Leave it out of argnums, or give axis=")
            found[name] = np.shape(x)[axis]
    if not found:
        seen = f"the arguments {list(numbers)} have no arrays"
        raise value_error("microbatch", seen, "Name those with the batch in argnums")
    if len(set(found.values())) > 1:
        seen = ", ".join(f"{name} has {n} rows" for name, n in list(found.items())[:4])
        raise value_error("microbatch", seen, "Give all arrays of a batch the same number of rows")
    return next(iter(found.values()))


def _refuse_rows(rows: int, size: int | None, steps: int | None) -> NoReturn:
    if size is not None:
        do = f"Give a size of at most {rows}"
        raise value_error("microbatch", f"the batch has {rows} rows, size is {size}", do)
    seen = f"the batch has {rows} rows, which {steps} steps do not share evenly"
    raise value_error("microbatch", seen, "Give size=, of which the last slice may be smaller")


def _cut(tree: Tree, axis: int, count: int, each: int) -> Tree:
    """Arrays with the axis as (rows of a slice, slices)."""

    def cut(x: Any) -> Array:
        x = lax.slice_in_dim(jnp.asarray(x), 0, count * each, axis=axis)
        return x.reshape(*x.shape[:axis], each, count, *x.shape[axis + 1 :])

    return jax.tree.map(cut, tree)


def _picked(tree: Tree, axis: int, step: Any) -> Tree:
    return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, step, axis + 1, keepdims=False), tree)


def _rest(tree: Tree, axis: int, begin: int) -> Tree:
    return jax.tree.map(lambda x: lax.slice_in_dim(jnp.asarray(x), begin, None, axis=axis), tree)


# Results -----------------------------------------------------------------------------------------


def _ways(reduce: Tree, out: Tree) -> list[str]:
    """How each array of the results is put together."""
    ways, prefix = jax.tree.flatten(reduce)
    try:
        parts = prefix.flatten_up_to(out)
    except (ValueError, TypeError, KeyError) as error:
        do = "Pass one way for all, or a tree like what the function returns"
        raise value_error("microbatch", f"reduce does not fit the results: {error}", do) from None
    found = []
    for way, part in zip(ways, parts, strict=True):
        for path, x in named_leaves(part):
            if way == "mean" and not is_inexact(x):
                seen = f"the result {path!r} is {x.dtype}, of which there is no mean"
                raise value_error("microbatch", seen, 'Give it reduce="sum", "concat" or "stack"')
            found += [way] if x is not None else []
    return found


def _adds(way: str) -> bool:
    return way in ("mean", "sum")


def _zeros(way: str, x: Any) -> Any:
    if not _adds(way):
        return None
    return jnp.zeros(x.shape, wide(x.dtype) if is_inexact(x) else x.dtype)


def _added(total: Array, x: Array) -> Array:
    return total + x.astype(total.dtype)


def _whole(
    way: str, like: Any, total: Any, kept: Any, last: Any, sizes: tuple[int, int, int]
) -> Array:
    """One result of all slices; `last` is that of the smaller one."""
    count, each, rows = sizes
    if way == "sum":
        return (total if last is None else _added(total, last)).astype(like.dtype)
    if way == "mean":
        if last is None:
            return (total / count).astype(like.dtype)
        part = last.astype(total.dtype) * (rows - count * each)
        return ((total * each + part) / rows).astype(like.dtype)
    if way == "stack":
        if last is not None:
            seen = "a last slice is smaller than the others, and cannot be stacked with them"
            raise value_error("microbatch", seen, "Give a size that divides the rows")
        return kept
    if kept.ndim < 2 or kept.shape[1] != each:
        seen = f"a result of a slice of {each} rows has shape {kept.shape[1:]}"
        raise value_error("microbatch", seen, 'Give it reduce="stack", or "mean"')
    joined = kept.swapaxes(0, 1).reshape(count * each, *kept.shape[2:])
    return joined if last is None else jnp.concatenate([joined, last])
