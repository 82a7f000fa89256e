"""The direction of Newton's method by conjugate gradients, which see the Hessian in products only.

The function that gives the gradient is differentiated once more, along one direction at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx.chain import chain
from gradtx.clocked import Clocked
from gradtx.engine.beside import aligned
from gradtx.engine.hyperparameters import for_all_arrays, narrowed
from gradtx.engine.placement import varying_as, zero_count
from gradtx.engine.refusals import refuse_missing, refuse_other_state
from gradtx.engine.run import Running, run
from gradtx.engine.slots import Declared
from gradtx.engine.step import At
from gradtx.rule import Hyper, HyperField, Rule, Step, state_types
from gradtx.solve.more_thuente import quotient
from gradtx.solve.search import wolfe
from gradtx.struct import value_error, whole, within
from gradtx.transform import State
from gradtx.transforms.scale import scale
from gradtx.tree import Extra, Tree, as_came, dot, global_norm, is_inexact, is_none, root, widest

MOST = 2**31 - 1  # what a count of products can hold


class _passed(Rule, called="scale_by_newton_cg"):
    """Passes gradients that fit the parameters."""

    needs: ClassVar[tuple[str, ...]] = ("params",)

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        return g, slots


class scale_by_newton_cg(Clocked):
    """Solves H u = g for the Hessian H by conjugate gradients, all arrays together.

    They end where |H u - g| <= min(rtol, |g|^(1/2)) |g|, after `max_cg_steps`, and where H is seen
    to bend down: with the u found so far, at the first with |g|^2 / |g'Hg| g. `update` needs
    `grad_fn`, which returns the gradients at given parameters, and which `minimize` supplies;
    `products` in the state counts products with H, each about two gradients. Derivatives of u are
    those of a solution. Dembo, Eisenstat & Steihaug 1982; Nocedal & Wright 2006, algorithm 7.1.
    """

    rtol: HyperField = within("(0, 1)", default=0.5)  # of the residual, while |g| is large
    _: KW_ONLY
    max_cg_steps: HyperField = whole(within="[1, inf)", default=200)

    needs: ClassVar[tuple[str, ...]] = ("params", "grad_fn")
    State: ClassVar[Any]
    Part: ClassVar[Any]

    def init_part(self, params: Tree, at: At) -> State:
        for_all_arrays(self, at.count)
        return self.Part(zero_count(params))

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        refuse_other_state(self, state, self.Part)
        self._refuse_no_function(updates, extra)
        refuse_missing(self, updates, {**extra, "params": params})
        running = Running(_passed(), _passed.Part(), at)
        leaves, treedef = jax.tree.flatten(run([running], updates, params)[0], is_leaf=is_none)
        moved = [i for i, g in enumerate(leaves) if is_inexact(g)]
        if not moved:
            return updates, state
        ps = aligned(self, treedef, params, "parameters")
        numbers = for_all_arrays(self, at.count)

        def gradients(xs: list[Array]) -> list[Array]:
            there = list(ps)
            for i, x in zip(moved, xs, strict=True):
                there[i] = x
            found = extra["grad_fn"](treedef.unflatten(there))
            news = aligned(self, treedef, found, "result of grad_fn")
            return [jnp.asarray(news[i]) for i in moved]

        here = [jnp.asarray(ps[i]) for i in moved]
        dtypes = [widest([leaves[i], p]) for i, p in zip(moved, here, strict=True)]

        def wide(arrays: list[Array]) -> list[Array]:
            pairs = zip(arrays, dtypes, strict=True)
            return [lax.convert_element_type(x, dtype) for x, dtype in pairs]

        grads = wide([leaves[i] for i in moved])

        def times_hessian(x: list[Array]) -> list[Array]:
            along = as_came(_joined(x, grads), here)
            return _apart(wide(jax.jvp(gradients, (here,), (along,))[1]))

        solution, products = _solved(times_hessian, _apart(grads), numbers)
        news = as_came(_joined(solution, grads), [leaves[i] for i in moved])
        for i, u in zip(moved, news, strict=True):
            leaves[i] = u
        total = jnp.minimum(state.products, MOST - products) + products
        return treedef.unflatten(leaves), self.Part(total)

    def _refuse_no_function(self, updates: Tree, extra: Extra) -> None:
        if extra.get("grad_fn") is None and any(map(is_inexact, jax.tree.leaves(updates))):
            raise value_error(
                f"{self}.update",
                "'grad_fn' is missing, the function whose derivatives are products with the "
                "Hessian",
                "Pass one that returns the gradients of the same loss at given parameters, "
                "update(grads, state, params, grad_fn=jax.grad(loss)), or call gx.minimize",
            )

    def _with_count(self, count: Array, part: State) -> State:
        return self.State(count, *part)

    def _without_count(self, state: State, method: str = "update") -> tuple[Array, State]:
        refuse_other_state(self, state, self.State, method)
        return state.count, self.Part(*state[1:])


_products = {"products": Declared("number")}
scale_by_newton_cg.State, scale_by_newton_cg.Part = state_types(scale_by_newton_cg, _products)


class _Solving(NamedTuple):
    """Where conjugate gradients stand, for a right-hand side of length one."""

    x: list[Array]
    residual: list[Array]
    direction: list[Array]
    square: Array  # of the residual
    products: Array
    ended: Array


def _solved(
    times: Callable[[list[Array]], list[Array]], b: list[Array], numbers: Any
) -> tuple[list[Array], Array]:
    """x where times(x) = b, so far as conjugate gradients get, and how many products that took."""
    numbers = jax.tree.map(lax.stop_gradient, numbers)  # a solution does not depend on them

    def solve(times: Any, b: list[Array]) -> tuple[list[Array], Array]:
        size = global_norm(b)
        limits = narrowed(numbers, size.dtype)
        tolerance = jnp.minimum(limits.rtol, root(size))
        right = [quotient(x, size.astype(x.dtype)) for x in b]  # so that no square underflows

        def goes_on(now: _Solving) -> Array:
            large = now.square > tolerance * tolerance
            more = now.products.astype(size.dtype) < limits.max_cg_steps
            return large & more & ~now.ended

        def one_more(now: _Solving) -> _Solving:
            d = now.direction
            image = times(d)
            curvature = dot(d, image)
            length = quotient(now.square, jnp.abs(curvature))
            up = (curvature > 0) & jnp.isfinite(length)
            a = jnp.where(up, length, 0)
            # g itself goes as far as if H bent up along it as much as it bends down.
            first = (now.products == 0) & ~up
            instead = jnp.where((length > 0) & jnp.isfinite(length), length, 1)
            taken = jnp.where(first, instead, a)
            x = [_plus(x, taken, d) for x, d in zip(now.x, d, strict=True)]
            residual = [_plus(r, -a, h) for r, h in zip(now.residual, image, strict=True)]
            square = jnp.where(up, dot(residual, residual), now.square)
            beta = quotient(square, now.square)
            direction = [_plus(r, beta, d) for r, d in zip(residual, d, strict=True)]
            return _Solving(x, residual, direction, square, now.products + 1, ~up)

        zeros = [varying_as(r, jnp.zeros_like(r)) for r in right]
        count, no = (varying_as(size, jnp.zeros((), t)) for t in (jnp.int32, bool))
        start = _Solving(zeros, right, right, dot(right, right), count, no)
        done = lax.while_loop(goes_on, one_more, start)
        # What is zero, or no number, stays what it is.
        none = done.products == 0
        x = [jnp.where(none, r, x * size.astype(x.dtype)) for x, r in zip(done.x, b, strict=True)]
        return x, done.products

    def tied(x: list[Array]) -> list[Array]:
        return _tied(times(x))

    x, products = lax.custom_linear_solve(tied, _tied(b), solve, symmetric=True, has_aux=True)
    return _tied(x), products


def _tied(arrays: list[Array]) -> list[Array]:
    """The arrays; of their derivatives either none or all are known to be zero.

    `custom_linear_solve` of JAX 0.10 raises errors where only some are.
    """
    return list(lax.optimization_barrier(tuple(arrays)))


def _plus(x: Array, factor: Array, y: Array) -> Array:
    return x + factor.astype(x.dtype) * y


def _apart(arrays: list[Array]) -> list[Array]:
    """Real arrays only: real and imaginary parts, of which gradients are vectors."""
    found = []
    for x in arrays:
        found += [x.real, x.imag] if jnp.iscomplexobj(x) else [x]
    return found


def _joined(parts: list[Array], like: list[Array]) -> list[Array]:
    """The arrays of which `_apart` makes these."""
    rest = iter(parts)
    return [
        lax.complex(next(rest), next(rest)) if jnp.iscomplexobj(x) else next(rest) for x in like
    ]


def newton_cg(
    learning_rate: Hyper = 1.0,
    *,
    rtol: Hyper = 0.5,
    max_cg_steps: Hyper = 200,
    slope_rtol: Hyper = 1e-4,
    curv_rtol: Hyper = 0.5,
    approx_dec_rtol: Hyper | None = None,
    max_linesearch_steps: Hyper = 20,
    max_learning_rate: Hyper = 1e10,
) -> wolfe:
    """Newton's method: the search `wolfe` along minus the direction of `scale_by_newton_cg`.

    The first trial is the whole step. `step` needs the loss as `value=` and `grad_fn`, as there;
    every call is one evaluation, and where a point is accepted the products with the Hessian come
    on top. `eval_params` is the best point.
    """
    return wolfe(
        chain(scale_by_newton_cg(rtol, max_cg_steps=max_cg_steps), scale(-1.0)),
        learning_rate=learning_rate,
        scale_init_step=False,
        slope_rtol=slope_rtol,
        curv_rtol=curv_rtol,
        approx_dec_rtol=approx_dec_rtol,
        max_linesearch_steps=max_linesearch_steps,
        max_learning_rate=max_learning_rate,
    )
