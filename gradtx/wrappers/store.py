"""Slots in less memory: `store`, and the formats for a slot.

rounded("bfloat16")        a narrow array
blockwise("dynamic")       8-bit codes and the largest entry of every block
blockwise("companded")     the same with even levels of a nonlinear scale, for small blocks
blockwise("float8_e4m3fn") narrow floating numbers, scaled by block ("float8_e5m2", "float16")
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx.engine.codes import (
    Companded,
    Dynamic,
    Floats,
    RandomCompanded,
    RandomDynamic,
    RandomFloats,
    RandomlyRounded,
    Stored,
    scales_shape,
)
from gradtx.engine.host import on_device
from gradtx.engine.keys import salt
from gradtx.engine.placement import on_any_mesh, ordered_after
from gradtx.engine.rounding import is_narrow, seed
from gradtx.engine.slots import Declared, is_stored, map_slots, separate, together
from gradtx.rule import register_for_export
from gradtx.struct import Struct, Table, converted, static, type_error, value_error
from gradtx.transform import State
from gradtx.tree import Tree, as_came, is_inexact, is_none, listed, wide
from gradtx.wrappers.transparent import Transparent

for kind in (
    *(RandomlyRounded, Floats, RandomFloats),
    *(Dynamic, RandomDynamic, Companded, RandomCompanded),
):
    register_for_export(kind)


class Format(Struct, abc.ABC):
    """How the arrays of a slot are compressed."""

    @abc.abstractmethod
    def kind(self, square: bool) -> Any:
        """The type of `Stored` for such a slot, or another type for plain arrays."""

    @abc.abstractmethod
    def blank(self, square: bool, shape: tuple[int, ...]) -> Any:
        """What an array becomes, as shapes; `None` where it is not compressed."""


_CODES = {
    "dynamic": (Dynamic, RandomDynamic, 256),
    "companded": (Companded, RandomCompanded, 32),
    "float8_e4m3fn": (Floats, RandomFloats, 256),
    "float8_e5m2": (Floats, RandomFloats, 256),
    "float16": (Floats, RandomFloats, 256),
}


class rounded(Format):
    """Keeps a slot in a narrow dtype; rounded at random if `stochastic`, as squares are.

    "float16" here is zero below 6e-8: for squares take `blockwise("float16")`.
    """

    dtype: str = static(default="bfloat16", among=("bfloat16", "float16"))
    stochastic: bool | None = static(default=None)  # None: for slots of squares

    def kind(self, square: bool) -> Any:
        at_random = square if self.stochastic is None else self.stochastic
        return RandomlyRounded if at_random else Array

    def blank(self, square: bool, shape: tuple[int, ...]) -> Any:
        narrow, kind = jax.ShapeDtypeStruct(shape, jnp.dtype(self.dtype)), self.kind(square)
        return RandomlyRounded(narrow) if kind is RandomlyRounded else narrow


class blockwise(Format):
    """Keeps a slot as codes, shares of the largest entry of their block, which is kept in float32.

    Codes: "dynamic" (8 bits, blocks of 256; Dettmers+ 2021, 2110.02861), "companded" (8 bits,
    blocks of 32; FlashOptim 2026, 2602.23349), "float8_e4m3fn", "float8_e5m2" or "float16" (256).
    Blocks run along the last axis. Squares have codes without a sign and are rounded at random,
    but never to zero: beside a momentum that is not zero that would make a giant step. Differs
    from bitsandbytes in both.
    """

    code: str = static(default="dynamic", among=_CODES)
    block: int | None = static(default=None, within="[1, inf)")  # entries that share a scale
    signed: bool | None = static(default=None)  # None: unless the slot holds squares
    stochastic: bool | None = static(default=None)  # None: for slots of squares
    min_size: int = static(default=4096, within="[0, inf)")  # smaller arrays are kept as they are

    def kind(self, square: bool) -> Any:
        at_random = square if self.stochastic is None else self.stochastic
        return _CODES[self.code][at_random]

    def blank(self, square: bool, shape: tuple[int, ...]) -> Any:
        if math.prod(shape) < self.min_size:
            return None
        kind, signed = self.kind(square), not square if self.signed is None else self.signed
        codes = self.code if kind in (Floats, RandomFloats) else "int8" if signed else "uint8"
        scales = scales_shape(shape, _CODES[self.code][2] if self.block is None else self.block)
        return kind(
            jax.ShapeDtypeStruct(shape, jnp.dtype(codes)),
            jax.ShapeDtypeStruct(scales, np.dtype(np.float32)),
        )


_SHORT = {
    "bfloat16": rounded("bfloat16"),
    "int8": blockwise("dynamic"),
    **{code: blockwise(code) for code in _CODES},
}


def _as_formats(formats: Mapping[str, Any], called: str = "store") -> Table:
    if not isinstance(formats, Mapping):
        raise type_error(
            called,
            f"the formats are {formats!r}",
            'Pass a dict of slots, such as {"mu": "bfloat16", "nu": "int8"}',
        )
    return Table({slot: _as_format(called, format) for slot, format in formats.items()})


def _as_format(called: str, format: Any) -> Format:
    if isinstance(format, Format):
        return format
    try:
        name = format if isinstance(format, str) else jnp.dtype(format).name
    except TypeError:
        name = format
    if not isinstance(name, str) or name not in _SHORT:
        names = ", ".join(map(repr, [*_SHORT, rounded(), blockwise()]))
        raise value_error(called, f"{format!r} is no format", f"Known are {names}")
    return _SHORT[name]


class store(Transparent):
    """Keeps slots of another transformation in less memory: `store(adam(1e-3), {"nu": "int8"})`.

    The keys are names of slots, or ends of their paths in `tx.memory(params)`; the values formats:
    "bfloat16", "int8" (8-bit dynamic codes), "float16", "float8_e4m3fn", "float8_e5m2" (both scaled
    by block), or `rounded` and `blockwise` with arguments. Arithmetic stays in float32. Complex,
    scalar and empty arrays stay as they are. The state is that of `inner`, compressed.
    """

    formats: Mapping[str, Format] = converted(converter=_as_formats)

    def around_init(self, init: Callable[..., State], params: Tree) -> State:
        state = init(params)
        unused, seen = set(self.formats), set()

        def keep(path: str, slot: Any, known: Declared) -> Any:
            seen.add(path)
            key = self._key_of(path)
            unused.discard(key)
            if key is None:
                return slot
            if is_stored(slot):
                raise value_error(
                    f"{self}.init",
                    f"another store inside keeps the slot {path!r} already",
                    "Give one of them the format of this slot",
                )
            return _kept(self.formats[key], known.kind == "square", slot)

        state = map_slots(keep, state)
        if unused:
            ends = {path.rsplit("/", 1)[-1] for path in seen} - {"count"}
            names = ", ".join(map(repr, sorted(ends))) or "none"
            raise value_error(
                f"{self}.init",
                f"no state has a slot {listed(unused)}",
                f"Name slots that there are: {names}",
            )
        return state

    def around_update(
        self, update: Callable[..., Any], updates: Tree, state: State, params: Tree | None
    ) -> tuple[Tree, State]:
        steps, new = update(updates, self._opened(state), params)
        return as_came(steps, updates), self._closed(new, state)

    def around_step(
        self, step: Callable[..., Any], grads: Tree, state: State, params: Tree
    ) -> tuple[Tree, State]:
        params, new = step(grads, self._opened(state), params)
        return params, self._closed(new, state)

    def around_eval(self, eval_params: Callable[..., Any], state: State, params: Tree) -> Tree:
        return eval_params(map_slots(lambda _, slot, __: _decoded(slot), state), params)

    def _key_of(self, path: str) -> Any:
        fitting = (key for key in self.formats if f"/{path}".endswith(f"/{key}"))
        return max(fitting, key=len, default=None)

    def _opened(self, state: State) -> State:
        """The state with plain wide arrays where it is not the engine that reads it."""

        def opened(path: str, slot: Any, known: Declared) -> Any:
            return slot if known.by_engine or self._key_of(path) is None else _decoded(slot)

        return map_slots(opened, state)

    def _closed(self, new: State, old: State) -> State:
        """What `_opened` opened in `old` kept as it was there."""
        before: dict[str, Any] = {}
        map_slots(lambda path, slot, _: before.setdefault(path, slot), old)

        def closed(path: str, slot: Any, known: Declared) -> Any:
            if known.by_engine or self._key_of(path) is None:
                return slot
            return _encoded(path, before[path], slot)

        return map_slots(closed, new)


def _decoded(slot: Any) -> Any:
    """The slot as a tree of plain wide arrays."""

    def decode(x: Any) -> Any:
        if isinstance(x, Stored):
            return on_any_mesh(
                lambda x: x.decode(np.dtype(np.float32)), x, like=lambda: jax.tree.leaves(x)[0]
            )
        return x.astype(wide(x.dtype)) if is_inexact(x) and is_narrow(x.dtype) else x

    treedef = _structure(slot)
    arrays = separate("store", treedef, slot)
    return treedef.unflatten(on_device(decode, x) for x in arrays)


def _encoded(path: str, old: Any, new: Any) -> Any:
    """A tree of plain arrays as a slot like `old`."""

    def encode(x: Any, y: Any) -> Any:
        if not isinstance(x, Stored):
            return y.astype(x.dtype) if is_inexact(x) else y
        # The state of another library may have no count, so its bits tell one step from the next.
        bits = lax.bitcast_convert_type(y.astype(np.float32), np.uint32)
        source = seed(salt((), (path,)), jnp.sum(bits, dtype=np.uint32), path)
        return on_any_mesh(lambda x, y: x.encode(y, source), x, y, like=lambda: x)

    treedef = _structure(old)
    xs, ys = separate("store", treedef, old), separate("store", treedef, new)
    kept = [on_device(encode, x, y) for x, y in zip(xs, ys, strict=True)]
    return together(type(old), treedef, kept)


def _structure(slot: Any) -> Any:
    return jax.tree.structure(slot[0] if is_stored(slot) else slot, is_leaf=is_none)


def _kept(format: Format, square: bool, slot: Any) -> Any:
    """A tree of new arrays as a slot in this format."""

    def keep(x: Any) -> Any:
        if not is_inexact(x) or jnp.iscomplexobj(x) or x.ndim == 0 or x.size == 0:
            return x
        blank = format.blank(square, x.shape)
        return x if blank is None else on_device(lambda x: place(x, blank), x)

    def place(x: Array, blank: Any) -> Any:
        def like() -> Any:
            return jax.tree.map(lambda y: x if y.shape == x.shape else None, blank)

        kept = on_any_mesh(lambda x: _encode(x, blank), x, like=like)
        bound = (ordered_after(x, y) if y.shape == x.shape else y for y in jax.tree.leaves(kept))
        return jax.tree.unflatten(jax.tree.structure(kept), bound)

    treedef = _structure(slot)
    return together(format.kind(square), treedef, [keep(x) for x in treedef.flatten_up_to(slot)])


def _encode(x: Array, blank: Any) -> Any:
    return blank.encode(x, None) if isinstance(blank, Stored) else x.astype(blank.dtype)
