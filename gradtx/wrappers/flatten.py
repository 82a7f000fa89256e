"""All arrays as one: `flatten`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx.clocked import Clocked, refuse_other_parts
from gradtx.engine.beside import alike, as_they_came
from gradtx.engine.placement import on_any_mesh
from gradtx.engine.refusals import explained, refuse_mixed
from gradtx.engine.run import no_update
from gradtx.engine.step import At
from gradtx.foreign import as_transformation
from gradtx.paths import Route
from gradtx.struct import converted
from gradtx.transform import GradientTransformation, Inside, State
from gradtx.tree import Extra, Tree, from_reals, is_inexact, is_none, real_dtype_of, reals
from gradtx.wrappers.partition import seen


class flatten(Clocked):
    """Runs `inner` on one vector that holds the numbers of all arrays.

    So a rule that treats every array alone, such as the dense matrix of `scale_by_bfgs`, sees the
    whole. Of complex arrays the vector holds the real parts, then the imaginary parts; it is
    float32 at least. `inner` has one array, so patterns of paths do not fit it. An array whose
    gradient is `None` has zeros there, and stands still.
    """

    inner: GradientTransformation = converted(converter=as_transformation, hyperparameter=False)

    _part_names: ClassVar[tuple[str, ...]] = ("inner",)

    def init_part(self, params: Tree, at: At) -> State:
        return {"inner": self.inner.init_part(_vector(params, params), at.inside("inner"))}

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        refuse_other_parts(self, state, self._part_names)
        came, (updates, model) = updates, seen(self, updates, params)
        self._refuse(updates, model)
        p = None if params is None else _vector(params, model)
        own = {
            name: _vector(_spread(alike(self, name, extra[name], model), model), model)
            for name in self.inner.tree_extras
            if extra.get(name) is not None
        }
        g, here = _vector(updates, model), at.inside("inner")
        u, inner = self.inner.update_part(g, state["inner"], p, here, {**extra, **own})
        still = jax.tree.map(
            lambda g: g if g is None or is_inexact(g) else no_update(g), updates, is_leaf=is_none
        )
        return as_they_came(_split(u, still, model), came), {"inner": inner}

    def _refuse(self, updates: Tree, model: Tree) -> None:
        """Raises for an array that does not fit its parameter."""
        leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
        for i, (g, p) in enumerate(zip(leaves, treedef.flatten_up_to(model), strict=True)):
            try:
                if g is not None and is_inexact(g):
                    refuse_mixed(g, p, ())
            except (TypeError, ValueError) as error:
                raise explained(self, updates, i, g, p, (), error) from error

    def eval_part(self, state: State, params: Tree, at: At) -> Tree:
        refuse_other_parts(self, state, self._part_names, "eval_params")
        here = at.inside("inner")
        shown = self.inner.eval_part(state["inner"], _vector(params, params), here)
        return _split(shown, params, params)

    def moments(
        self, at: At, state: State | None = None
    ) -> Iterator[tuple[GradientTransformation, At]]:
        if state is not None:
            refuse_other_parts(self, state, self._part_names, "hyperparameters")
        yield self, at
        inner = None if state is None else state["inner"]
        yield from self.inner.moments(at.inside("inner"), inner)

    def insides(self, state: State, params: Tree) -> list[Inside]:
        return [Inside(self.inner, ("inner",), _vector(params, params))]

    def in_state(self, state: State) -> Self:
        return self.with_fields(inner=self.inner.in_state(state["inner"]))

    def bounds(self, params: Tree) -> tuple[Tree, Tree] | None:
        vector = _vector(params, params)
        found = self.inner.bounds(vector)
        if found is None:
            return None
        lower, upper = (jnp.broadcast_to(x, vector.shape) for x in found)
        return _split(lower, params, params), _split(upper, params, params)

    def frozen(self, params: Tree) -> list[bool]:
        still = all(self.inner.frozen(jax.eval_shape(lambda: _vector(params, params))))
        return [still] * len(jax.tree.leaves(params, is_leaf=is_none))

    def routes(self, params: Tree) -> list[Route]:
        (route,) = self.inner.routes(jax.eval_shape(lambda: _vector(params, params)))
        route = route._replace(by=f"{type(self).__name__}({route.by})")
        return [route] * len(jax.tree.leaves(params, is_leaf=is_none))


def _vector(tree: Tree, model: Tree) -> Any:
    """The numbers of the arrays in `tree`, or the shape of that; zeros where it has none."""
    models, treedef = jax.tree.flatten(model, is_leaf=is_none)
    leaves, real = treedef.flatten_up_to(tree), real_dtype_of(model)
    pairs = [(x, m) for x, m in zip(leaves, models, strict=True) if is_inexact(m)]
    if any(isinstance(m, jax.ShapeDtypeStruct) for _, m in pairs):
        return jax.ShapeDtypeStruct((sum(_length(m) for _, m in pairs),), real)
    arrays = [jnp.zeros_like(m) if x is None else jnp.asarray(x) for x, m in pairs]

    def joined(*arrays: Array) -> Array:
        parts = [reals(x).astype(real) for x in arrays]
        return jnp.concatenate([jnp.zeros((0,), real), *parts])

    return on_any_mesh(joined, *arrays, like=lambda: None)


def _split(vector: Array, like: Tree, model: Tree) -> Tree:
    """The vector as arrays like those in `like`; what no optimizer moves is as it is there."""
    models, treedef = jax.tree.flatten(model, is_leaf=is_none)
    leaves = treedef.flatten_up_to(like)
    ends = np.cumsum([_length(m) if is_inexact(m) else 0 for m in models])
    wanted = [i for i, x in enumerate(leaves) if x is not None and is_inexact(x)]
    arrays = [jnp.asarray(leaves[i]) for i in wanted]

    def apart(vector: Array, *arrays: Array) -> list[Array]:
        return [
            from_reals(vector[ends[i] - _length(models[i]) : ends[i]], x).astype(x.dtype)
            for i, x in zip(wanted, arrays, strict=True)
        ]

    for i, x in zip(wanted, on_any_mesh(apart, vector, *arrays, like=lambda: arrays), strict=True):
        leaves[i] = x
    return treedef.unflatten(leaves)


def _length(x: Any) -> int:
    """How many real numbers an array holds."""
    return int(np.size(x)) * (2 if jnp.iscomplexobj(x) else 1)


def _spread(values: list[Any], model: Tree) -> Tree:
    """What is given for every array, as arrays of their shapes."""
    models, treedef = jax.tree.flatten(model, is_leaf=is_none)
    return treedef.unflatten(
        jnp.broadcast_to(jnp.asarray(x), np.shape(m)) if is_inexact(m) and x is not None else None
        for x, m in zip(values, models, strict=True)
    )
