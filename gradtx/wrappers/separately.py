"""Every array by itself: `separately`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from gradtx.clocked import Clocked, refuse_other_parts
from gradtx.engine.beside import alike, as_they_came
from gradtx.engine.step import At
from gradtx.foreign import as_transformation
from gradtx.paths import Route, bare_paths
from gradtx.struct import converted, value_error
from gradtx.transform import GradientTransformation, Inside, State
from gradtx.tree import Extra, Tree, is_inexact, is_none
from gradtx.wrappers.partition import seen


class separately(Clocked):
    """Runs `inner` for every array by itself, with a state and a count of its own.

    The count of an array stands still while its gradient is `None`: an array that joins late has
    the bias corrections and schedules of a fresh one, where arrays that share a count have those of
    the optimizer. Norms and other joint decisions of `inner` are of one array, which it sees as
    `{path: array}`. It takes longer to trace: where few groups join late, take `partition`.
    """

    inner: GradientTransformation = converted(converter=as_transformation, hyperparameter=False)

    _part_names: ClassVar[tuple[str, ...]] = ("arrays",)

    def init_part(self, params: Tree, at: At) -> State:
        # For what is wrong with the whole, such as a pattern that no array uses.
        jax.eval_shape(lambda: self.inner.init_part(params, at))
        each = at._replace(whole=False)
        return {
            "arrays": {
                path: self.inner.init_alone({path: x}, each.inside(path))
                for path, x in self._moved(params).items()
            }
        }

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        refuse_other_parts(self, state, self._part_names)
        given = params is not None
        came, (updates, model) = updates, seen(self, updates, params)
        gs, treedef = jax.tree.flatten(updates, is_leaf=is_none)
        states, moved = dict(state["arrays"]), self._moved(model)
        # Without parameters nobody knows of an array that has no gradient.
        refuse_other_parts(self, states, moved if given else {**states, **moved})
        own = {
            name: alike(self, name, extra[name], model)
            for name in self.tree_extras
            if extra.get(name) is not None
        }
        functions = {
            f"{name}_fn": extra[f"{name}_fn"]
            for name in self.tree_extras
            if extra.get(f"{name}_fn") is not None
        }
        for i, (path, p) in enumerate(_named(model)):
            if not is_inexact(p):
                continue
            more = {**extra, **{name: {path: values[i]} for name, values in own.items()}}
            more |= {name: self._one(name, f, model, path, i) for name, f in functions.items()}
            one, here = {path: p} if given else None, at.inside(path)
            u, states[path] = self.inner.update_alone({path: gs[i]}, states[path], one, here, more)
            gs[i] = u[path]
        return as_they_came(treedef.unflatten(gs), came), {"arrays": states}

    def eval_part(self, state: State, params: Tree, at: At) -> Tree:
        states = state["arrays"]
        moved = self._moved(params)
        refuse_other_parts(self, states, moved, "eval_params")
        shown = {
            path: self.inner.eval_alone(states[path], {path: x}, at.inside(path))[path]
            for path, x in moved.items()
        }
        leaves = [shown.get(path, x) for path, x in _named(params)]
        return jax.tree.structure(params, is_leaf=is_none).unflatten(leaves)

    def _one(self, name: str, function: Any, model: Tree, path: str, i: int) -> Any:
        """A function that gives one array's part of what `function` gives for all."""
        return lambda *args: {path: alike(self, name, function(*args), model)[i]}

    def _moved(self, tree: Tree) -> dict[str, Any]:
        """The arrays by path. Raises `ValueError` for two of the same."""
        found: dict[str, Any] = {}
        for path, x in _named(tree):
            if path in found:
                twice = f"two arrays have the path {path!r}"
                raise value_error(self, twice, "Give one of them another key")
            if is_inexact(x):
                found[path] = x
        return found

    def moments(
        self, at: At, state: State | None = None
    ) -> Iterator[tuple[GradientTransformation, At]]:
        """Those inside have a count for each array, all at one place."""
        yield self, at
        inside = at.inside("inner")
        if state is None:
            yield from self.inner.moments(inside)
            return
        refuse_other_parts(self, state, self._part_names, "hyperparameters")
        for one in state["arrays"].values():
            yield from self.inner.moments_alone(inside, one)

    def in_state(self, state: State) -> Self:
        """Numbers that differ between arrays have an axis in front for these."""
        each = [self.inner.in_state(one) for one in state["arrays"].values()]
        if not each:
            return self
        return self.with_fields(inner=jax.tree.map(_stacked, *each))

    def insides(self, state: State, params: Tree) -> list[Inside]:
        return [
            Inside(self.inner, ("arrays", path), {path: x}, path)
            for path, x in self._moved(params).items()
        ]

    def frozen(self, params: Tree) -> list[bool]:
        return self.inner.frozen(params)

    def routes(self, params: Tree) -> list[Route]:
        name = type(self).__name__
        return [r._replace(by=f"{name}({r.by})") for r in self.inner.routes(params)]


def _stacked(*numbers: Any) -> Any:
    """The numbers along a new axis, unless they are one and the same."""
    return numbers[0] if all(x is numbers[0] for x in numbers) else jnp.stack(numbers)


def _named(tree: Tree) -> list[tuple[str, Any]]:
    return [("/".join(path), x) for path, x in bare_paths(tree, is_none)]
