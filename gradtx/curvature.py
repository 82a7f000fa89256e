"""Curvature of a loss, for rules that ask for `hessian_diag`: functions of trees.

hvp                      the Hessian times a vector
hutchinson               the diagonal of the Hessian, from products with random signs
gauss_newton_bartlett    that of the Gauss-Newton matrix, from labels that the model draws

Trees may hold what is not differentiated: `None` and functions come back as they are, of integers
zeros. A complex array is two real ones: a product follows the convention of gradients, real and
imaginary part of what is asked of both, and a diagonal is real, the mean of both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx.engine.beside import aligned
from gradtx.engine.keys import as_key, salt
from gradtx.engine.placement import on_any_mesh
from gradtx.struct import value_error
from gradtx.tree import P, Tree, abs2, inverse, is_data, is_inexact, is_none, real_dtype, root, wide

Loss = Callable[..., Any]
"""A function of parameters and other arguments: a real scalar, or with `has_aux` a pair of that
and anything."""


class _Arrays:
    """The arrays of a tree that are differentiated, and the tree around them."""

    def __init__(self, tree: Tree) -> None:
        flat, self.treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)
        self.leaves = [x for _, x in flat]
        self.places = [i for i, x in enumerate(self.leaves) if is_inexact(x)]
        self.arrays = [jnp.asarray(self.leaves[i]) for i in self.places]
        self.paths = [flat[i][0] for i in self.places]

    def tree(self, arrays: list[Array]) -> Tree:
        """The tree with other arrays."""
        leaves = list(self.leaves)
        for i, x in zip(self.places, arrays, strict=True):
            leaves[i] = x
        return self.treedef.unflatten(leaves)

    def result(self, arrays: list[Any]) -> Tree:
        """The same as something that belongs to each array, and zeros for integers."""
        return jax.tree.map(_of_a_constant, self.tree(arrays), is_leaf=is_none)

    def gradient(self, loss: Callable[[Tree], Any]) -> Callable[[list[Array]], list[Array]]:
        """The direction of ascent, of complex arrays too: the conjugate of what JAX gives."""
        slope = jax.grad(lambda arrays: loss(self.tree(arrays)))
        return lambda arrays: [jnp.conj(g) for g in slope(arrays)]


def _of_a_constant(x: Any) -> Any:
    if is_inexact(x) or not is_data(x):
        return x
    dtype = jnp.result_type(x)
    return x if jnp.issubdtype(dtype, jax.dtypes.extended) else jnp.zeros(np.shape(x), dtype)


def _first(function: Loss, args: tuple[Any, ...], has_aux: bool) -> Callable[[Tree], Any]:
    """`function` of the parameters alone, without what it returns beside."""

    def value(params: Tree) -> Any:
        found = function(params, *args)
        return found[0] if has_aux else found

    return value


def hvp(loss: Loss, params: P, vector: Tree, *args: Any, has_aux: bool = False) -> P:
    """The Hessian of `loss(params, *args)` times `vector`, a tree like the parameters.

    Forward over reverse: about the time of two gradients, and no matrix. A `None` of `vector`
    counts as zeros. What `loss` returns beside its value (`has_aux`) is dropped.
    """
    inside = _Arrays(params)
    found = aligned("hvp", inside.treedef, vector, "vector", "parameters")
    along = [
        _tangent(path, x, found[i])
        for path, x, i in zip(inside.paths, inside.arrays, inside.places, strict=True)
    ]
    return inside.result(_product(inside, _first(loss, args, has_aux), along))


def _tangent(path: Any, x: Array, v: Any) -> Array:
    if v is None:
        return jnp.zeros_like(x)
    if np.shape(v) != x.shape:
        where = jax.tree_util.keystr(path, simple=True, separator="/")
        raise value_error(
            "hvp",
            f"at {where!r} the vector has shape {list(np.shape(v))}, the parameter {list(x.shape)}",
            "Pass a vector with the shapes of the parameters",
        )
    if jnp.iscomplexobj(v) and not jnp.iscomplexobj(x):
        raise value_error(
            "hvp",
            "the vector is complex where the parameters are real",
            "Take its real part",
        )
    return jnp.asarray(v).astype(x.dtype)


def _product(inside: _Arrays, loss: Callable[[Tree], Any], along: list[Array]) -> list[Array]:
    return jax.jvp(inside.gradient(loss), (inside.arrays,), (along,))[1] if along else []


def hutchinson(
    loss: Loss,
    params: P,
    key: Any,
    *args: Any,
    has_aux: bool = False,
    samples: int = 1,
) -> P:
    """An unbiased estimate of the diagonal of the Hessian of `loss(params, *args)`: u * H u.

    u has random signs, which for an array depend on `key` and its path, not on the other arrays.
    It is exact where the Hessian is diagonal; the error falls with the root of `samples`, each of
    them one `hvp`. Real, at least float32. Hutchinson 1990; Bekas, Kokiopoulou & Saad 2007.
    """
    if samples < 1:
        raise value_error("hutchinson", f"samples is {samples}", "Ask for at least one")
    inside, value = _Arrays(params), _first(loss, args, has_aux)
    keys = [jax.random.fold_in(_key(key), salt(("hutchinson",), path)) for path in inside.paths]

    def estimate(number: Any) -> list[Array]:
        drawn = [
            _signs(jax.random.fold_in(own, number), x)
            for own, x in zip(keys, inside.arrays, strict=True)
        ]
        products = _product(inside, value, drawn)
        return [_real_part(u, h) for u, h in zip(drawn, products, strict=True)]

    total = estimate(0)
    if samples > 1:

        def more(number: Array, total: list[Array]) -> list[Array]:
            return [a + b for a, b in zip(total, estimate(number), strict=True)]

        total = [x / samples for x in lax.fori_loop(1, samples, more, total)]
    return inside.result(total)


def _key(key: Any) -> Array:
    return as_key(key) if isinstance(key, int) else key


def _signs(key: Array, x: Array) -> Array:
    """Random signs for an array, of a complex one for both parts."""
    parts = (2,) if jnp.iscomplexobj(x) else ()

    def draw(key: Array, x: Array) -> Array:
        # From bits, which are the same in every precision.
        bits = jax.random.bits(key, (*parts, *x.shape), jnp.uint8) & jnp.uint8(1)
        signs = 1 - 2 * bits.astype(real_dtype(x.dtype))
        return lax.complex(signs[0], signs[1]) if parts else signs

    return on_any_mesh(draw, key, x, like=lambda: x)


def _real_part(u: Array, h: Array) -> Array:
    """The real part of u* h; of complex numbers half of it, the mean of both parts."""
    u, h = u.astype(wide(u.dtype)), h.astype(wide(h.dtype))
    if jnp.iscomplexobj(u):
        return (lax.real(u) * lax.real(h) + lax.imag(u) * lax.imag(h)) / 2
    return u * h


def gauss_newton_bartlett(
    logits_fn: Loss,
    params: P,
    key: Any,
    *args: Any,
    weights: Any = None,
    has_aux: bool = False,
) -> P:
    """An unbiased estimate of the diagonal of the Gauss-Newton matrix of a mean cross-entropy.

    `logits_fn(params, *args)` gives logits [..., classes] of independent examples or tokens;
    `weights` [...] weigh them, zeros for padding, and the loss is sum w l / sum w. It is g * g of
    g = sum sqrt(w / sum w) grad l at labels drawn from the softmax: for equal weights B g^ * g^ of
    the mean gradient, Liu+ 2023, 2305.14342, algorithm 2. Never negative, and as costly as one
    gradient. Real, at least float32. Where `logits_fn` returns a pair (`has_aux`), its first.
    """
    inside, logits_of = _Arrays(params), _first(logits_fn, args, has_aux)

    def loss(params: Tree) -> Array:
        logits = logits_of(params)
        logits = logits.astype(wide(logits.dtype))
        if logits.ndim < 1 or jnp.iscomplexobj(logits):
            raise value_error(
                "gauss_newton_bartlett",
                f"the logits are {logits.dtype}{list(logits.shape)}",
                "Let logits_fn return real logits [..., classes]",
            )
        shares = _shares(weights, logits)

        def of_labels(logits: Array, shares: Array, key: Array) -> Array:
            labels = jax.random.categorical(key, lax.stop_gradient(logits))
            chosen = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
            logs = jax.nn.log_softmax(logits)
            return -jnp.sum(shares * jnp.sum(jnp.where(chosen > 0, logs, 0), axis=-1))

        return on_any_mesh(of_labels, logits, shares, _key(key), like=lambda: None)

    slopes = inside.gradient(loss)(inside.arrays) if inside.arrays else []
    return inside.result([_square(g) for g in slopes])


def _shares(weights: Any, logits: Array) -> Array:
    """The roots of the shares of the examples in the mean."""
    shape = logits.shape[:-1]
    if weights is None:
        weights = jnp.ones(shape, logits.dtype)
    if np.shape(weights) != shape:
        raise value_error(
            "gauss_newton_bartlett",
            f"the weights have shape {list(np.shape(weights))}, the logits {list(logits.shape)}",
            "Pass one weight for each row of logits",
        )
    weights = jnp.asarray(weights).astype(logits.dtype)
    return root(weights * inverse(jnp.sum(weights)))


def _square(g: Array) -> Array:
    g = g.astype(wide(g.dtype))
    return abs2(g) / 2 if jnp.iscomplexobj(g) else abs2(g)
