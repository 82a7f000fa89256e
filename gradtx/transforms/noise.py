"""Random noise on the update.

add_noise                           of a variance that falls
differentially_private_aggregate    on the mean of clipped per-example gradients
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from gradtx.clocked import Clocked
from gradtx.engine.beside import aligned
from gradtx.engine.hyperparameters import for_all_arrays, narrowed
from gradtx.engine.keys import random_key
from gradtx.engine.placement import on_any_mesh
from gradtx.engine.refusals import refuse_missing
from gradtx.engine.run import Running, run
from gradtx.engine.step import At
from gradtx.rule import HyperField, Rule, Step
from gradtx.struct import static, value_error, within
from gradtx.transform import State
from gradtx.tree import (
    Extra,
    Tree,
    as_came,
    global_norm,
    is_inexact,
    is_none,
    named_leaves,
    root,
    widest,
)


class add_noise(Rule):
    """Adds Gaussian noise whose variance falls: u = g + n, n ~ N(0, eta / t^gamma).

    Neelakantan+ 2015, 1511.06807. The noise of an array depends on `key`, the step, the array's
    path and the place of this link in the optimizer, not on the other arrays. Each member of a
    stack of optimizers can have a key of its own. Differs from Optax, which keeps a key in the
    state and splits it.
    """

    eta: HyperField = within("[0, inf)")  # variance at the first step
    # The power of t by which the variance falls.
    gamma: HyperField = within("[0, inf)", default=0.55)
    key: int | Array = random_key(default=0)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        deviation = root(self.eta / step.t**self.gamma)
        return g + deviation * _normal(step.key, g), slots


def _normal(key: Array, g: Array) -> Array:
    """Normal numbers for `g`, drawn in float32, so that they are the same in every precision."""
    narrow = jnp.complex64 if jnp.iscomplexobj(g) else jnp.float32
    return jax.random.normal(key, g.shape, narrow).astype(g.dtype)


class _gaussian(Rule, called="differentially_private_aggregate"):
    """Adds normal noise of the deviation that all arrays share."""

    key: int | Array = random_key()

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        # Always true, but no constant, which the compiler would multiply into the noise early.
        deviation = jnp.where(step.t > 0, step.shared, 0)
        return g + deviation * _normal(step.key, g), slots


class differentially_private_aggregate(Clocked):
    """The mean of per-example gradients, each clipped, with noise: the sum that DP-SGD releases.

    u = (sum_i g_i min(1, c / |g_i|) + n) / B with n ~ N(0, (noise_multiplier c)^2) and
    c = `l2_norm_clip`, the norm being that of all arrays of an example. Abadi+ 2016, 1607.00133.
    Gradients have a leading axis of B examples more than parameters, or are those of one example
    with `per_example=False`. For a private step of k batches, put this without noise before
    `accumulate(chain(add_noise((noise_multiplier * c / (k * B)) ** 2, 0.0, key), optimizer), k)`.
    Differs from Optax in that `update` needs the parameters.
    """

    l2_norm_clip: HyperField = within("(0, inf)")
    noise_multiplier: HyperField = within("[0, inf)")
    # Without a default: noise that anybody can draw protects nobody.
    key: int | Array = random_key()
    _: KW_ONLY
    per_example: bool = static(default=True)

    needs: ClassVar[tuple[str, ...]] = ("params",)
    random: ClassVar[bool] = True

    def init_part(self, params: Tree, at: At) -> State:
        for_all_arrays(self, at.count)
        return {}

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        refuse_missing(self, updates, {"params": params})
        batch, size = self._examples(updates, params)
        arrays = [g for g in batch if is_inexact(g)]
        numbers = narrowed(for_all_arrays(self, at.count), widest(arrays))
        treedef = jax.tree.structure(updates, is_leaf=is_none)
        if arrays:
            lengths = on_any_mesh(jax.vmap(global_norm), arrays, like=lambda: None)
            share = numbers.l2_norm_clip / jnp.maximum(lengths, numbers.l2_norm_clip)
            batch = [_weighted(g, share / size) if is_inexact(g) else g for g in batch]
        deviation = numbers.noise_multiplier * numbers.l2_norm_clip / size
        noise = Running(_gaussian(self.key), _gaussian.Part(), at, deviation)
        noisy, _ = run([noise], treedef.unflatten(batch), params)
        return as_came(noisy, updates), state

    def _examples(self, updates: Tree, params: Tree | None) -> tuple[list[Any], int]:
        """The arrays with a leading axis of examples, and how many these are."""
        leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
        given = params is not None
        ps = aligned(self, treedef, params, "parameters") if given else [None] * len(leaves)
        named = zip(named_leaves(updates), ps, strict=True)
        pairs = [(path, g, p) for (path, g), p in named if p is not None and is_inexact(g)]
        odd = [
            f"at {path!r} it is {list(jnp.shape(g))}, the parameter {list(jnp.shape(p))}"
            for path, g, p in pairs
            if jnp.shape(g) != jnp.shape(p)
        ]
        if not odd and self.per_example:
            seen = "the gradients have the shapes of the parameters, and no axis of examples"
            do = "Pass jax.vmap(jax.grad(loss), (None, 0))(params, batch), or per_example=False"
            raise value_error(f"{self}.update", seen, do)
        if not odd:
            return [jnp.asarray(g)[None] if is_inexact(g) else g for g in leaves], 1
        sizes = {jnp.shape(g)[:1] for _, g, _ in pairs}
        if len(sizes) > 1 or any(jnp.shape(g)[1:] != jnp.shape(p) for _, g, p in pairs):
            seen = f"the update has no common axis of examples: {'; '.join(odd)}"
            do = "Pass gradients with one leading axis more, as jax.vmap(jax.grad(loss)) makes"
            raise value_error(f"{self}.update", seen, do)
        return leaves, next(iter(sizes))[0]


def _weighted(g: Array, weights: Array) -> Array:
    """The sum over the first axis with these weights, in wide arithmetic."""
    g = g.astype(widest([g]))
    weights = weights.astype(g.dtype).reshape([-1] + [1] * (g.ndim - 1))
    return jnp.sum(g * weights, axis=0)
