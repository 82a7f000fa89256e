"""Training parameters that are kept in a narrow dtype, where most steps would round to nothing.

    stochastic_rounding    rounds to one of the two neighbours, right on average
    kahan                  remembers in float32 what rounding lost and adds it to the next step
    master_weights         a float32 copy takes the steps; the parameters follow it, rounded

The wrapped transformation gets gradients in float32 at least, so that no step is rounded before
it is added. What a wrapper remembers follows from where `apply_updates` really leads.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from gradtx.engine.beside import aligned, as_they_came, grown
from gradtx.engine.keys import array_key, random_key
from gradtx.engine.refusals import explained, refuse_mixed
from gradtx.engine.rounding import is_narrow, round_to, seed_from_key
from gradtx.engine.step import At
from gradtx.rule import Rule, Step
from gradtx.struct import static
from gradtx.transform import State
from gradtx.tree import Extra, Tree, is_inexact, is_none, widest
from gradtx.wrappers.base import Wrapper


class _Beside(NamedTuple):
    array: Array


class _beside(Rule, called="master_weights"):
    """What makes an array beside every parameter: zeros, zeros of 16 bits, or a copy."""

    content: str = static()

    Slots = _Beside

    def init_leaf(self, p: Array) -> _Beside:
        if self.content == "copy":
            return _Beside(p)
        return _Beside(jnp.zeros(p.shape, np.int16 if self.content == "bits" else p.dtype))

    def update_leaf(self, g: Array, slots: _Beside, p: Array, step: Step) -> tuple[Array, _Beside]:
        return g, slots


def _arrays_beside(params: Tree, at: At, content: Callable[[Any], str | None]) -> Tree:
    """New arrays beside those parameters for whose dtype there is a `content`."""
    leaves, treedef = jax.tree.flatten(params, is_leaf=is_none)
    contents = [content(jnp.result_type(p)) if is_inexact(p) else None for p in leaves]
    found = [None] * len(leaves)
    for kind in dict.fromkeys(c for c in contents if c is not None):
        chosen = [p if c == kind else None for p, c in zip(leaves, contents, strict=True)]
        new = _beside(kind).init_part(treedef.unflatten(chosen), at).array
        found = [
            x if y is None else y for x, y in zip(found, treedef.flatten_up_to(new), strict=True)
        ]
    return treedef.unflatten(found)


Move = Callable[[int, Array, Array, Any, Any], tuple[Array, Array, Any]]
"""From place, parameter, wide step, what is beside it and the dtype of the update: the update, the
parameter after it, and what is beside it then."""


def _moved(
    called: object,
    updates: Tree,
    steps: Tree,
    params: Tree,
    beside: Tree,
    move: Move,
    still: list[bool],
) -> tuple[Tree, Tree, Tree]:
    """Updates, new parameters and what is beside them, once `move` has seen all arrays."""
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    us = aligned(called, treedef, steps, "steps")
    ps = aligned(called, treedef, params, "parameters")
    owns = aligned(called, treedef, beside, "state")
    news = list(ps)
    for i, (g, p) in enumerate(zip(leaves, ps, strict=True)):
        if g is None or not is_inexact(g):
            continue
        if still[i]:
            us[i] = jnp.zeros_like(g)
            continue
        row = _Beside(p if owns[i] is None else owns[i])
        try:
            refuse_mixed(g, p, (row,))
            if row.array.shape != p.shape:
                raise ValueError("the shape of what is remembered of it differs")
            p = jnp.asarray(p)
            us[i], news[i], owns[i] = move(i, p, us[i], owns[i], jnp.result_type(g))
        except (TypeError, ValueError) as error:
            raise explained(called, updates, i, g, ps[i], (row,), error) from error
    return treedef.unflatten(us), treedef.unflatten(news), treedef.unflatten(owns)


_on_one_array = functools.partial(jax.jit, static_argnames="given")


def _led(p: Array, target: Array, given: Any) -> tuple[Array, Array]:
    """The update in dtype `given` that leads to `target`, and where it really leads."""
    u = round_to(target - p, given)
    return u, p + u


# Rounding at random -----------------------------------------------------------------------------


class Moving(Wrapper):
    """A wrapper that knows where the parameters land: its update is the way there.

    `kinds` names the one slot that lies beside every parameter, if there is one.
    """

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        updates, _, state = self._moved(updates, state, params, at, extra, to_master=False)
        return updates, state

    def step_part(
        self, grads: Tree, state: State, params: Tree, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        _, params, state = self._moved(grads, state, params, at, extra, to_master=True)
        return params, state

    def _moved(
        self,
        updates: Tree,
        state: State,
        params: Tree | None,
        at: At,
        extra: Extra,
        to_master: bool,
    ) -> tuple[Tree, Tree, Any]:
        """The updates, the parameters and the new state."""
        self.refuse(updates, state, params, extra)
        params = updates if params is None else params  # there is none to be moved
        self.still(updates, params)
        came, updates = updates, grown(updates, params)
        steps, inner = self.inner_update(updates, state, self._exact(params, state), at, extra)
        slot = next(iter(self.kinds), None)
        beside = getattr(state, slot) if slot else jax.tree.map(lambda _: None, updates)
        move = self._move(updates, at, to_master)
        still = self.still(updates, params)
        updates, params, beside = _moved(self, updates, steps, params, beside, move, still)
        updates = as_they_came(updates, came)
        return updates, params, state._replace(inner=inner, **({slot: beside} if slot else {}))

    def _exact(self, params: Tree, state: Any) -> Tree:
        """The parameters that the inner transformation sees."""
        return params

    @abc.abstractmethod
    def _move(self, updates: Tree, at: At, to_master: bool) -> Move:
        """How one array moves; `to_master`: no update has to lead there.

        Only `master_weights` tells the two apart.
        """


class stochastic_rounding(Moving):
    """Rounds parameters below float32 to one of their two neighbours, right on average.

    The update leads from p to the one above p + u with the probability (p + u - below) / (above -
    below). What is drawn follows from key, path and count. It is `apply_updates(params, updates,
    key=...)` without a key in the training loop. With narrow gradients `step` is exact; an update
    is rounded once more, to their dtype.
    """

    key: int | Array = random_key(default=0)

    def _move(self, updates: Tree, at: At, to_master: bool) -> Move:
        flat = jax.tree_util.tree_flatten_with_path(updates, is_leaf=is_none)[0]

        def move(i: int, p: Array, u: Array, own: None, given: Any) -> tuple[Array, Array, None]:
            key = None
            if is_narrow(p.dtype):
                source = array_key(self.key, type(self).__name__, at, flat[i][0])
                key = jax.random.fold_in(source, at.count)
            return *_rounded_at_random(p, u, key, given=given), None

        return move


@_on_one_array
def _rounded_at_random(p: Array, u: Array, key: Array | None, given: Any) -> tuple[Array, Array]:
    if key is None:
        return _plainly(p, u, given)
    dtype = widest([p, u])
    old = p.astype(dtype)
    target = round_to(old + u.astype(dtype), p.dtype, seed_from_key(key))
    return _led(old, target, given)[0].astype(given), target.astype(p.dtype)


def _plainly(p: Array, u: Array, given: Any) -> tuple[Array, Array]:
    """A parameter that is not narrow takes the step as it is."""
    dtype = widest([p, u])
    u = round_to(u.astype(dtype), given)
    return u.astype(given), (p.astype(dtype) + u).astype(p.dtype)


# Kahan's sum ------------------------------------------------------------------------------------


class KahanOwn(NamedTuple):
    """What `kahan` remembers."""

    lost: Any  # what rounding has lost so far


class kahan(Moving):
    """Remembers what was lost when updates were rounded, and adds it to the next ones.

    w = u + lost, p' = p + w rounded to the dtype of p, lost = w - (p' - p), in float32 at least:
    a bfloat16 compensation is biased. Kahan 1965. Costs 4 bytes a parameter, and makes float32
    parameters about as good as float64 ones too.
    """

    Own = KahanOwn
    kinds: ClassVar[Mapping[str, str]] = {"lost": "signed"}

    def init_own(self, params: Tree, at: At) -> KahanOwn:
        return KahanOwn(_arrays_beside(params, at, lambda _: "zeros"))

    def _move(self, updates: Tree, at: At, to_master: bool) -> Move:
        return lambda i, p, u, lost, given: _compensated(p, u, lost, given=given)


@_on_one_array
def _compensated(p: Array, u: Array, lost: Array, given: Any) -> tuple[Array, Array, Array]:
    dtype = widest([p, u])
    old = p.astype(dtype)
    wanted = u.astype(dtype) + lost.astype(dtype)
    u = round_to(wanted, given)
    new = round_to(old + u, p.dtype)
    return u.astype(given), new.astype(p.dtype), (wanted - (new - old)).astype(lost.dtype)


# Master weights ---------------------------------------------------------------------------------


class MasterOwn(NamedTuple):
    """What `master_weights` remembers."""

    master: Any  # what parameters lack of float32


class master_weights(Moving):
    """Lets a float32 copy of the parameters take the steps; they are that copy, rounded.

    With `split` a bfloat16 parameter is the upper half of its master, of which the state keeps the
    16 bits below: 2 bytes in the place of 4. Parameters of float32 or more have no copy. What else
    changes parameters than this wrapper is forgotten (without `split`) at the next step. With
    narrow gradients `step` is exact; an update is rounded once more, to their dtype.
    """

    split: bool = static(default=False)

    Own = MasterOwn
    kinds: ClassVar[Mapping[str, str]] = {"master": "copy"}

    def init_own(self, params: Tree, at: At) -> MasterOwn:
        def content(dtype: DTypeLike) -> str | None:
            if not is_narrow(dtype):
                return None
            return "bits" if self.split and dtype == jnp.bfloat16 else "copy"

        return MasterOwn(_arrays_beside(params, at, content))

    def saved_leaf(self, leaf: Mapping[str, Any], p: Any) -> Mapping[str, Any]:
        """The master itself, whether it is split or not."""
        return {"master": _joined(p, leaf["master"])}

    def loaded_leaf(self, saved: Mapping[str, Any], p: Any) -> Mapping[str, Any]:
        master = saved["master"]
        if not self.split or jnp.result_type(p) != jnp.bfloat16:
            return saved
        return {"master": _below(master, p.astype(master.dtype))}

    def _exact(self, params: Tree, state: Any) -> Tree:
        ps, treedef = jax.tree.flatten(params, is_leaf=is_none)
        owns = aligned(self, treedef, state.master, "state", "parameters")
        return treedef.unflatten(map(_joined, ps, owns))

    def _move(self, updates: Tree, at: At, to_master: bool) -> Move:
        return lambda i, p, u, own, given: _followed(p, u, own, given=given, to_master=to_master)


@functools.partial(jax.jit, static_argnames=("given", "to_master"))
def _followed(
    p: Array, u: Array, own: Array | None, given: Any, to_master: bool
) -> tuple[Array, Array, Array | None]:
    if own is None:
        return *_plainly(p, u, given), None
    master = _joined(p, own)
    master = (master.astype(u.dtype) + u).astype(master.dtype)
    split = own.dtype == np.int16
    target = _upper(master) if split else round_to(master, p.dtype)
    u, new = _led(p.astype(target.dtype), target, given)
    new = target if to_master else round_to(new, p.dtype)
    # Where an update was rounded, the half above can be another than that of the master.
    own = _below(master, new) if split else master
    return u.astype(given), target.astype(p.dtype), own


def _below(master: Array, upper: Array) -> Array:
    """The 16 bits of a master below a parameter."""
    return jnp.clip(_bits(master) - _bits(upper), -(2**15), 2**15 - 1).astype(np.int16)


def _bits(x: Array) -> Array:
    return lax.bitcast_convert_type(x, np.int32)


def _joined(p: Any, own: Array | None) -> Any:
    """The master of a parameter: what is kept, or the parameter and the 16 bits below it."""
    if own is None or own.shape != p.shape:  # which is refused with its path later
        return p
    if own.dtype != np.int16:
        return own
    return lax.bitcast_convert_type(_bits(p.astype(np.float32)) + own.astype(np.int32), np.float32)


def _upper(master: Array) -> Array:
    """The nearest bfloat16 number, the larger one of two, so that 16 bits tell the difference."""
    upper = (_bits(master) + np.int32(2**15)) & np.int32(-(2**16))
    return lax.bitcast_convert_type(upper, np.float32)
