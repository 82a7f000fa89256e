"""A different transformation for different arrays: `partition`, `masked`, `freeze`.

Arrays that are not a transformation's business are `None` in the trees that it sees, so they cost
it no state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY
from typing import Any, Self

import jax
import jax.numpy as jnp

from gradtx.clocked import FRONT, Clocked, refuse_other_parts
from gradtx.engine.beside import aligned, as_they_came, grown, only, split, with_leaves
from gradtx.engine.placement import zero_count
from gradtx.engine.step import At, next_count
from gradtx.foreign import all_as_transformations
from gradtx.paths import (
    UNMOVED,
    Labels,
    Route,
    by_path,
    flags_of,
    reasons,
    refuse_idle,
    refuse_unused,
    route,
)
from gradtx.struct import Table, converted, static, type_error, value_error
from gradtx.struct.along import are_flags, where
from gradtx.transform import GradientTransformation, Inside, State, compiled, without_gradients
from gradtx.tree import Extra, Tree, U, is_inexact, is_none, named_leaves, path_string
from gradtx.wrappers.transparent import Transparent

CLOCKS = "gradient_step"
"""Where a state has the counts of its groups, as that of a wrapper that skips steps has its own."""


def moments_of(
    tx: GradientTransformation, key: Any, at: At, state: State | None
) -> Iterator[tuple[GradientTransformation, At]]:
    """`moments` of a group, from the state of the partition."""
    here = at.inside(key)
    if state is None:
        return tx.moments(here)
    return tx.moments(here._replace(count=state[CLOCKS][str(key)]), state[str(key)])


class partition(Clocked):
    """Routes every array to a transformation of its own.

    The keys of `transforms` are path patterns, of which the first that fits counts:
    `partition({"head/*": adam(1e-3), "*": freeze()})`. With `labels` they are labels, and `labels`
    is a (prefix) tree of them, a function `(path, array) -> label`, or one of the whole tree, as in
    Optax. The state is a dict with the same keys, as strings. Parts count steps of their own,
    `state["gradient_step"]`, which wait while none of their arrays has a gradient. Raises
    `ValueError` listing arrays without an entry and entries without an array, but for those that
    are `optional`. Differs from Optax, where entries without an array are no mistake.
    """

    transforms: Mapping[Any, GradientTransformation] = converted(converter=all_as_transformations)
    labels: Labels | None = static(default=None)
    _: KW_ONLY
    optional: tuple[Any, ...] = static(default=())  # entries that need no array

    def check(self) -> None:
        for name in ("count", CLOCKS):
            if name in self.transforms:
                raise value_error(
                    "partition",
                    f"an entry is named {name!r}, as a step count in the state is",
                    f'Name it otherwise: the pattern "*/{name}" fits the same arrays',
                )
        searching = [key for key, tx in self.transforms.items() if tx.searches]
        moving = [key for key, tx in self.transforms.items() if not isinstance(tx, freeze)]
        if searching and len(moving) > 1:
            other = next(key for key in moving if key != searching[0])
            raise value_error(
                "partition",
                f"{searching[0]!r} is a search for a lower loss, which the steps of {other!r} "
                "change meanwhile",
                "Freeze the other arrays, or fit the parts in turn",
            )

    @property
    def _part_names(self) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (CLOCKS, *map(str, self.transforms))

    def _keys(self, tree: Tree) -> list[Any]:
        """The entry for each leaf of `tree`, None for what nobody moves."""
        keys = route(self, self.transforms, self.labels, tree)
        for (path, _), key in zip(named_leaves(tree), keys, strict=True):
            if are_flags(key):
                raise value_error(
                    self,
                    f"the label at {path!r} is {key}, and an array goes to one entry as a whole",
                    "Move some rows of it with masked",
                )
        return keys

    def init_part(self, params: Tree, at: At) -> State:
        keys = self._keys(params)
        wanted = {key: tx for key, tx in self.transforms.items() if key not in self.optional}
        if at.whole:
            refuse_unused(self, wanted, keys, params)
            if isinstance(self.labels, by_path):
                refuse_idle(self, self.labels, params)
        start = {
            str(key): tx.init_part(
                only(params, keys, key), at.inside(key)._replace(count=zero_count(params))
            )
            for key, tx in self.transforms.items()
        }
        return {CLOCKS: {key: zero_count(params) for key in start}, **start}

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        refuse_other_parts(self, state, self._part_names)
        came, (updates, model) = updates, seen(self, updates, params)
        keys = self._keys(model)
        merged, new, clocks = updates, dict(state), dict(state[CLOCKS])
        for key, tx in self.transforms.items():
            name, part = str(key), only(updates, keys, key)
            if without_gradients(part):
                continue
            here = at.inside(key)._replace(count=clocks[name])
            own = split(self, tx.tree_extras, extra, model, keys, key)
            ps = only(params, keys, key)
            part, new[name] = tx.update_part(part, state[name], ps, here, own)
            clocks[name] = next_count(clocks[name])
            merged = with_leaves(merged, keys, key, part)
        return as_they_came(merged, came), {**new, CLOCKS: clocks}

    def routes(self, params: Tree) -> list[Route]:
        keys = self._keys(params)
        patterns = by_path(dict.fromkeys(self.transforms))
        why = reasons(self, patterns if self.labels is None else self.labels, params)
        found = [UNMOVED] * len(keys)
        for key, tx in self.transforms.items():
            inside = tx.routes(only(params, keys, key))
            for i, (k, route_) in enumerate(zip(keys, inside, strict=True)):
                found[i] = route_.because(why[i]) if k == key else found[i]
        return found

    def in_state(self, state: State) -> Self:
        transforms = {key: tx.in_state(state[str(key)]) for key, tx in self.transforms.items()}
        return self.with_fields(transforms=Table(transforms))

    def moments(
        self, at: At, state: State | None = None
    ) -> Iterator[tuple[GradientTransformation, At]]:
        if state is not None:
            refuse_other_parts(self, state, self._part_names, "hyperparameters")
        yield self, at
        for key, tx in self.transforms.items():
            yield from moments_of(tx, key, at, state)

    def insides(self, state: State, params: Tree) -> list[Inside]:
        named = ((str(key), tx) for key, tx in self.transforms.items())
        return [Inside(tx, (name,), params, name, (CLOCKS, name)) for name, tx in named]

    def bounds(self, params: Tree) -> tuple[Tree, Tree] | None:
        keys = self._keys(params)
        found = (tx.bounds(only(params, keys, key)) for key, tx in self.transforms.items())
        return next((both for both in found if both is not None), None)

    def frozen(self, params: Tree) -> list[bool]:
        keys = self._keys(params)
        found = [False] * len(keys)
        for key, tx in self.transforms.items():
            inside = tx.frozen(only(params, keys, key))
            found = [i if k == key else f for f, i, k in zip(found, inside, keys, strict=True)]
        return found

    def eval_part(self, state: State, params: Tree, at: At) -> Tree:
        keys = self._keys(params)
        for key, tx in self.transforms.items():
            here = at.inside(key)._replace(count=state[CLOCKS][str(key)])
            part = tx.eval_part(state[str(key)], only(params, keys, key), here)
            params = with_leaves(params, keys, key, part)
        return params


class masked(Transparent):
    """Applies `inner` to some arrays only; the update of the others is zero.

    `mask` is a path pattern, a (prefix) tree of bools, a function `(path, array) -> bool`, or one
    of the whole tree, as in Optax. Flags `along` axes choose rows of one array: `inner` sees zeros
    outside of them. With `outside="pass"` the other updates pass unchanged. Differs from Optax,
    which lets them pass.
    """

    mask: Labels = static()
    _: KW_ONLY
    outside: str = static(default="zero", among=("zero", "pass"))

    def check(self) -> None:
        if self.inner.searches and self.outside == "pass":
            seen = "inner is a search for a lower loss, which the updates outside change meanwhile"
            raise value_error("masked", seen, 'Leave outside="pass" out')

    def init_part(self, params: Tree, at: At) -> State:
        if at.whole:
            refuse_idle(self, self.mask, params)
        return Transparent.init_part(self, params, at)

    def around_init(self, init: Callable[..., State], params: Tree) -> State:
        return init(only(params, _touched(flags_of(self, self.mask, params)), True))

    def around_update(
        self, update: Callable[..., Any], updates: Tree, state: State, params: Tree | None
    ) -> tuple[Tree, State]:
        came, (updates, model) = updates, seen(self, updates, params)
        flags = flags_of(self, self.mask, model)
        touched, nothing = _touched(flags), zeros(updates)
        part = _inside(self, flags, updates, nothing)
        part, state = update(only(part, touched, True), state, only(params, touched, True))
        rest = updates if self.outside == "pass" else nothing
        whole = with_leaves(rest, touched, True, part)
        return as_they_came(_inside(self, flags, whole, rest), came), state

    def around_extra(self, extra: Extra, updates: Tree, params: Tree | None) -> Extra:
        if not self.tree_extras:
            return extra
        model = seen(self, updates, params)[1]
        touched = _touched(flags_of(self, self.mask, model))
        return split(self, self.tree_extras, extra, model, touched, True)

    def routes(self, params: Tree) -> list[Route]:
        flags = flags_of(self, self.mask, params)
        touched = _touched(flags)
        outside = Route("nothing", "", "outside the mask")
        inside = self.inner.routes(only(params, touched, True))
        found = [r if touch else outside for r, touch in zip(inside, touched, strict=True)]
        return [
            r.because(f"the rest of {flag} outside the mask") if are_flags(flag) else r
            for r, flag in zip(found, flags, strict=True)
        ]

    def bounds(self, params: Tree) -> tuple[Tree, Tree] | None:
        touched = _touched(flags_of(self, self.mask, params))
        return self.inner.bounds(only(params, touched, True))

    def frozen(self, params: Tree) -> list[bool]:
        touched = _touched(flags_of(self, self.mask, params))
        inside = self.inner.frozen(only(params, touched, True))
        zero = self.outside == "zero"
        return [i if touch else zero for i, touch in zip(inside, touched, strict=True)]

    def around_eval(self, eval_params: Callable[..., Any], state: State, params: Tree) -> Tree:
        flags = flags_of(self, self.mask, params)
        touched = _touched(flags)
        part = eval_params(state, only(params, touched, True))
        return _inside(self, flags, with_leaves(params, touched, True, part), params)


class freeze(GradientTransformation):
    """Makes the updates zero where `mask` holds (everywhere by default), without any state.

    In a `partition` it keeps arrays as they are; see `masked` for the forms of the mask. Differs
    from Optax in that no other state stands around its own, which is empty.
    """

    mask: Labels = static(default=True)

    def init(self, params: Tree) -> State:
        return self.init_part(params, FRONT)

    def init_part(self, params: Tree, at: At) -> State:
        if at.whole:
            refuse_idle(self, self.mask, params)
        return ()

    @compiled
    def update(
        self, updates: U, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[U, State]:
        came, (updates, model) = updates, seen(self, updates, params)
        flags = flags_of(self, self.mask, model)
        still = _inside(self, flags, zeros(updates), updates)
        return as_they_came(with_leaves(updates, _touched(flags), True, still), came), state

    def frozen(self, params: Tree) -> list[bool]:
        return [flag is True for flag in flags_of(self, self.mask, params)]


def zeros(updates: Tree) -> Tree:
    """Zero updates; what cannot be added stays."""
    return jax.tree.map(lambda u: jnp.zeros_like(u) if is_inexact(u) else u, updates)


def _touched(flags: list[Any]) -> list[bool]:
    """Which arrays a mask holds for, in part at least."""
    return [flag is True or are_flags(flag) for flag in flags]


def _inside(called: object, flags: list[Any], tree: Tree, otherwise: Tree) -> Tree:
    """The tree with what is `otherwise` outside of flags along axes of an array."""
    if not any(map(are_flags, flags)):
        return tree
    flat, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)
    rest = treedef.flatten_up_to(otherwise)
    return treedef.unflatten(
        where(called, path_string(path), flag, x, y) if are_flags(flag) and is_inexact(x) else x
        for flag, (path, x), y in zip(flags, flat, rest, strict=True)
    )


def seen(called: object, updates: Tree, params: Tree | None) -> tuple[Tree, Tree]:
    """The updates with a leaf for each parameter, and what arrays are told apart by.

    That is the parameters if given, of the same tree as the updates.
    """
    if params is None:
        return updates, updates
    treedef = jax.tree.structure(updates, is_leaf=is_none)
    ps = aligned(called, treedef, params, "parameters")
    for (path, g), p in zip(named_leaves(updates), ps, strict=True):
        if p is not None and is_inexact(g) and not is_inexact(p):
            raise type_error(
                f"{called}.update",
                f"at {path!r} the update is {jnp.result_type(g)}, the parameter "
                f"{jnp.result_type(p)}, which no optimizer moves",
                "Pass None or a zero of the parameter's dtype as its update",
            )
    return grown(updates, params), params
