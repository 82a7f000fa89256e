"""Links from a function without a memory.

stateless                   of all updates together
stateless_with_tree_map     of every array alone
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from gradtx.engine.beside import aligned
from gradtx.rule import Rule, Step
from gradtx.struct import static, type_error, value_error
from gradtx.transform import GradientTransformation, State, compiled
from gradtx.tree import Tree, U, as_came, is_inexact, is_none, named_leaves


class stateless(GradientTransformation):
    """Applies a function to all updates: u = f(g, params), two trees, the second may be `None`.

    `f` gets updates in the dtypes in which they came, and returns a tree like theirs, which leaves
    in these dtypes. It is called when JAX traces the update. Raises `ValueError` where trees or
    shapes differ.
    """

    f: Callable[[Any, Any], Any] = static()

    def init(self, params: Tree) -> State:
        return ()

    @compiled
    def update(
        self, updates: U, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[U, State]:
        treedef = jax.tree.structure(updates, is_leaf=is_none)
        made = self.f(updates, params)
        new = aligned(f"{self}.update", treedef, made, "tree that f returned")
        for (path, g), u in zip(named_leaves(updates), new, strict=True):
            if is_inexact(g) and u is not None and jnp.shape(u) != jnp.shape(g):
                seen = f"at {path!r} f made {list(jnp.shape(u))} of {list(jnp.shape(g))}"
                raise value_error(f"{self}.update", seen, "Let f keep the shapes")
        arrays = [
            g if u is None or not is_inexact(g) else jnp.asarray(u)
            for (_, g), u in zip(named_leaves(updates), new, strict=True)
        ]
        return as_came(treedef.unflatten(arrays), updates), state


class stateless_with_tree_map(Rule):
    """Applies a function to every array: u = f(g, p), where p is `None` if `update` gets none.

    `f` gets a gradient in float32 at least, as any `Rule`, and keeps its shape. A `Rule` of your
    own can have hyperparameters and a memory besides.
    """

    f: Callable[[Any, Any], Any] = static()

    wants: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        u = self.f(g, p)
        if jnp.shape(u) != g.shape:
            seen = f"f made {list(jnp.shape(u))} of an array {list(g.shape)}"
            raise value_error(f"{self}.update", seen, "Let f keep the shape")
        if jnp.iscomplexobj(u) and not jnp.iscomplexobj(g):
            seen = "f made a complex array of a real one"
            raise type_error(f"{self}.update", seen, "Let it return real numbers")
        return jnp.asarray(u).astype(g.dtype), slots
