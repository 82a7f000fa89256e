"""Momentum over the diagonal of the Hessian, of which an average is kept that is seldom renewed.

    sophia        mu / max(gamma h, eps), clipped: negative curvature counts as none
    adahessian    mu^ / sqrt(nu^), where nu averages the squares of the diagonal

The diagonal is an estimate, such as `hutchinson` or `gauss_newton_bartlett` makes. `update` is
given a function of a random key, which it calls at every `update_interval`-th step only, or the
diagonal itself, where there is one. The first is one compiled step, in which nothing is computed
that is not called for; the second is two. The function may close over what it likes, and returns a
tree for all parameters; every group of a `partition` calls it.

`state.evaluations` counts the estimates. Where that of an array is not finite, it is left out.
"""

from __future__ import annotations

import abc
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx.axes import unstacked_axes
from gradtx.clocked import Clocked
from gradtx.engine.hyperparameters import one_number
from gradtx.engine.keys import array_key, random_key
from gradtx.engine.placement import zero_count
from gradtx.engine.refusals import refuse_other_state
from gradtx.engine.run import Running, run
from gradtx.engine.slots import Declared, declared
from gradtx.engine.step import At, next_count
from gradtx.hyper import AxesField, AxesOf, Hyper, HyperField, OptionalHyperField
from gradtx.optimizers.decoupled import decoupled
from gradtx.paths import Labels
from gradtx.rule import Rule, Square, Step, state_types
from gradtx.struct import static, value_error, whole, within
from gradtx.transform import GradientTransformation, State
from gradtx.tree import (
    Extra,
    Tree,
    is_inexact,
    modulus,
    one_minus_power,
    over,
    real_dtype,
    real_zeros_like,
    root,
)
from gradtx.wrappers.average import whole_number
from gradtx.wrappers.choice import either


class _Direction(Rule):
    """What becomes of one array, and how its averages are renewed where it gets a diagonal."""

    _: KW_ONLY
    only_renews: bool = static(default=False)  # whether it leaves all else as it is

    cut: ClassVar[bool | None] = False
    wants: ClassVar[tuple[str, ...]] = ("hessian_diag",)
    trees: ClassVar[tuple[str, ...]] = ("hessian_diag",)
    averages: ClassVar[tuple[str, ...]]  # the slots that are renewed

    @abc.abstractmethod
    def renewed(self, slots: Any, diagonal: Array) -> Any:
        """The slots with an estimate, which is finite."""

    @abc.abstractmethod
    def moved(self, g: Array, slots: Any, step: Step) -> tuple[Array, Any]:
        """The update by averages that are renewed already, and the new slots."""

    def update_leaf(self, g: Array, slots: Any, p: Array, step: Step) -> tuple[Array, Any]:
        diagonal = step.extra.get("hessian_diag")
        if diagonal is not None:
            diagonal = _judged(diagonal, g)
            # Summed as numbers, which needs no array of flags: inf - inf and NaN - NaN are NaN.
            finite = jnp.isfinite(jnp.sum(diagonal - diagonal))
            new = self.renewed(slots, jnp.where(finite, diagonal, 0))
            slots = jax.tree.map(lambda x, y: jnp.where(finite, x, y), new, slots)
        return (g, slots) if self.only_renews else self.moved(g, slots, step)


def _judged(diagonal: Any, g: Array) -> Array:
    """The diagonal of an array as real numbers. Raises for one that is not."""
    if jnp.shape(diagonal) != g.shape:
        raise ValueError(
            f"hessian_diag has shape {list(jnp.shape(diagonal))}. Pass a tree like the parameters, "
            "such as gradtx.hutchinson makes"
        )
    if jnp.iscomplexobj(diagonal):
        raise TypeError("hessian_diag is complex. Pass real numbers, as gradtx.hutchinson makes")
    return jnp.asarray(diagonal).astype(real_dtype(g.dtype))


class Curved(Clocked):
    """A rule whose averages are renewed by a diagonal of the Hessian, where there is one.

    A subclass names the `direction`, which has its hyperparameters of the same names.
    """

    _: KW_ONLY
    # Steps from one call of `hessian_diag_fn` to the next; the first step has one.
    update_interval: HyperField = whole(default=10, within="[1, inf)")
    key: int | Array = random_key(default=0)  # of the keys that `hessian_diag_fn` gets

    direction: ClassVar[Any]
    needs: ClassVar[tuple[str, ...]] = ("hessian_diag",)
    wants: ClassVar[tuple[str, ...]] = ("hessian_diag_fn",)
    trees: ClassVar[tuple[str, ...]] = ("hessian_diag",)
    State: ClassVar[Any]
    Part: ClassVar[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        fields = {"evaluations": Declared("number"), **declared(cls.direction.Slots)}
        cls.State, cls.Part = state_types(cls, fields)

    def init_part(self, params: Tree, at: At) -> State:
        one_number(self, "update_interval", at.count)
        return self.Part(zero_count(params), *self._rule().init_part(params, at))

    def update_part(
        self, updates: Tree, state: State, params: Tree | None, at: At, extra: Extra
    ) -> tuple[Tree, State]:
        refuse_other_state(self, state, self.Part)
        self._refuse_none(updates, extra)
        given, function = extra.get("hessian_diag"), extra.get("hessian_diag_fn")
        count, slots = state.evaluations, self.direction.Part(*state[1:])
        interval = whole_number(one_number(self, "update_interval", at.count))
        if function is not None:
            now = at.count % interval == 0
            slots = self._renewed(now, function, updates, slots, params, at)
            count = jnp.where(now, next_count(count), count)
        elif given is not None:
            count = next_count(count)
        running = [Running(self._rule(), slots, at)]
        updates, (slots,) = run(running, updates, params, {"hessian_diag": given})
        return updates, self.Part(count, *slots)

    def _renewed(
        self,
        now: Array,
        function: Any,
        updates: Tree,
        slots: Any,
        params: Tree | None,
        at: At,
    ) -> Any:
        """The slots, with their averages renewed where it is time."""
        names = self.direction.averages

        def averages(part: Any) -> list[Tree]:
            return [getattr(part, name) for name in names]

        def renew() -> list[Tree]:
            key = jax.random.fold_in(array_key(self.key, type(self).__name__, at, ()), at.count)
            only = [Running(self._rule(only_renews=True), slots, at)]
            _, (part,) = run(only, updates, params, {"hessian_diag": function(key)})
            return averages(part)

        new = either(now, renew, lambda: averages(slots))
        return slots._replace(**dict(zip(names, new, strict=True)))

    def _rule(self, only_renews: bool = False) -> Any:
        """The direction, with the hyperparameters of this one."""
        kind = self.direction
        rule = kind._rebuilt((only_renews,), [getattr(self, name) for name in kind._leaves])
        rule.__dict__["_arguments"] = self._arguments  # errors print what was typed
        return rule

    def _refuse_none(self, updates: Tree, extra: Extra) -> None:
        names = ("hessian_diag", "hessian_diag_fn")
        if {*names} <= {name for name, value in extra.items() if value is not None}:
            raise value_error(
                f"{self}.update", "both hessian_diag and hessian_diag_fn are given", "Pass one"
            )
        if any(map(is_inexact, jax.tree.leaves(updates))) and not {*names} & {*extra}:
            raise value_error(
                f"{self}.update",
                "'hessian_diag' is missing",
                "Pass hessian_diag_fn=lambda key: gradtx.hutchinson(loss, params, key), or "
                "hessian_diag=..., which is None at steps without one",
            )

    def _with_count(self, count: Array, part: State) -> State:
        return self.State(count, *part)

    def _without_count(self, state: State, method: str = "update") -> tuple[Array, State]:
        refuse_other_state(self, state, self.State, method)
        return state.count, self.Part(*state[1:])


class SophiaSlots(NamedTuple):
    mu: Array
    hessian: Array  # the average of the diagonal


class _sophia(_Direction, called="scale_by_sophia"):
    b1: HyperField
    b2: HyperField
    eps: HyperField
    gamma: HyperField
    clip_threshold: OptionalHyperField

    Slots = SophiaSlots
    averages: ClassVar[tuple[str, ...]] = ("hessian",)

    def init_leaf(self, p: Array) -> SophiaSlots:
        return SophiaSlots(jnp.zeros_like(p), real_zeros_like(p))

    def renewed(self, slots: SophiaSlots, diagonal: Array) -> SophiaSlots:
        return slots._replace(hessian=self.b2 * slots.hessian + (1 - self.b2) * diagonal)

    def moved(self, g: Array, slots: SophiaSlots, step: Step) -> tuple[Array, SophiaSlots]:
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        divisor = jnp.maximum(self.gamma * slots.hessian, self.eps)
        new = slots._replace(mu=mu)
        if self.clip_threshold is None:
            return mu / divisor, new
        # What will be clipped is not divided: it might overflow, and so might its derivative.
        near = modulus(mu) < self.clip_threshold * divisor
        return jnp.where(
            near, mu / jnp.where(near, divisor, 1), self.clip_threshold * lax.sign(mu)
        ), new


class scale_by_sophia(Curved):
    """Momentum over an average of the Hessian's diagonal, clipped: mu / max(gamma h, eps).

    mu = b1 mu + (1 - b1) g; where there is a diagonal d, h = b2 h + (1 - b2) d before it is used;
    u is cut to [-clip_threshold, clip_threshold] (of a complex entry the modulus). Where the
    curvature is not positive, u is the sign of mu. Liu+ 2023, 2305.14342, algorithm 3. Differs from
    Optax, which corrects the bias of mu, as the paper does not, and divides by the h before.
    """

    b1: HyperField = within("[0, 1)", default=0.965)  # decay of mu
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.99)  # decay of h, from one diagonal to the next
    eps: HyperField = within("(0, inf)", default=1e-12)  # the least divisor
    # How much of the curvature is divided by: 0.05 for `gauss_newton_bartlett`. More clips less.
    gamma: HyperField = within("(0, inf)", default=0.01)
    clip_threshold: OptionalHyperField = within("(0, inf)", default=1.0)  # None does not clip

    direction: ClassVar[Any] = _sophia


class AdaHessianSlots(NamedTuple):
    mu: Array
    nu: Square  # the average of squares of the diagonal
    weight: Array  # the sum of the weights in it, one number


class _adahessian(_Direction, called="scale_by_adahessian"):
    b1: HyperField
    b2: HyperField
    eps: HyperField
    hessian_power: HyperField
    axes: AxesField

    Slots = AdaHessianSlots
    averages: ClassVar[tuple[str, ...]] = ("nu", "weight")

    def init_leaf(self, p: Array) -> AdaHessianSlots:
        nu = real_zeros_like(p)
        return AdaHessianSlots(jnp.zeros_like(p), self._mean(nu), jnp.zeros((), nu.dtype))

    def _mean(self, x: Array) -> Array:
        if self.axes is None:
            return x
        unstacked_axes(self.axes, x.ndim)  # refuses another number of axes
        return jnp.mean(x, self.axes.of("i"), keepdims=True)

    def shared(self, t: Array) -> Array:
        return one_minus_power(self.b1, t)

    def renewed(self, slots: AdaHessianSlots, diagonal: Array) -> AdaHessianSlots:
        most = float(jnp.finfo(diagonal.dtype).max) ** 0.5 / 2  # what can be squared
        size = self._mean(jnp.minimum(jnp.abs(diagonal), most))
        return slots._replace(
            nu=self.b2 * slots.nu + (1 - self.b2) * lax.square(size),
            weight=self.b2 * slots.weight + (1 - self.b2),
        )

    def moved(self, g: Array, slots: AdaHessianSlots, step: Step) -> tuple[Array, AdaHessianSlots]:
        mu = self.b1 * slots.mu + (1 - self.b1) * g
        seen = slots.weight > 0
        size = root(slots.nu / jnp.where(seen, slots.weight, 1))
        some = size > 0
        power = jnp.where(some, jnp.where(some, size, 1) ** self.hessian_power, 0)
        u = jnp.where(seen, over(mu / step.shared, power + self.eps), 0)
        return u, slots._replace(mu=mu)


class scale_by_adahessian(Curved):
    """Adam with the diagonal of the Hessian in the place of the gradient below the fraction.

    mu = b1 mu + (1 - b1) g; where there is a diagonal d, nu = b2 nu + (1 - b2) mean(|d|)^2 before
    it is used; u = mu^ / (sqrt(nu^)^hessian_power + eps), both bias-corrected, and zero before the
    first diagonal. Yao+ 2020, 2006.00719. The mean is over the input axes of `axes`, if these are
    given: `Axes("iioo")` takes it over the window of a convolution, as the authors do for arrays of
    four axes by themselves. A diagonal at every step costs about two gradients more.
    """

    b1: HyperField = within("[0, 1)", default=0.9)  # decay of mu
    _: KW_ONLY
    b2: HyperField = within("[0, 1)", default=0.999)  # decay of nu, from one diagonal to the next
    eps: HyperField = within("[0, inf)", default=1e-4)  # added to the root
    hessian_power: HyperField = within("[0, 1]", default=1.0)
    axes: AxesField = None  # an `Axes`: the mean is over its inputs
    update_interval: HyperField = whole(default=1, within="[1, inf)")

    direction: ClassVar[Any] = _adahessian


def sophia(
    learning_rate: Hyper,
    b1: Hyper = 0.965,
    b2: Hyper = 0.99,
    eps: Hyper = 1e-12,
    weight_decay: Hyper = 1e-4,
    *,
    mask: Labels | None = None,
    gamma: Hyper = 0.01,
    clip_threshold: Hyper | None = 1.0,
    update_interval: Hyper = 10,
    key: int | Array = 0,
) -> GradientTransformation:
    """Sophia: `scale_by_sophia`, decoupled weight decay (0.2 in the paper), learning rate.

    `step` gets a function, called at every `update_interval`-th step, or what such a one returned:

        tx.step(g, state, p, hessian_diag_fn=lambda key: gx.hutchinson(loss, p, key, batch))
        tx.step(g, state, p, hessian_diag=diagonal)  # None at steps without one

    That is Sophia-H; with gamma=0.05 and `gauss_newton_bartlett` it is Sophia-G. `mask` as in
    `adamw`. Differs from Optax, which asks for the objective, and in what `scale_by_sophia` says.
    """
    direction = scale_by_sophia(
        b1,
        b2=b2,
        eps=eps,
        gamma=gamma,
        clip_threshold=clip_threshold,
        update_interval=update_interval,
        key=key,
    )
    return decoupled(direction, learning_rate, weight_decay, mask)


def adahessian(
    learning_rate: Hyper,
    *,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-4,
    hessian_power: Hyper = 1.0,
    weight_decay: Hyper = 0.0,
    mask: Labels | None = None,
    update_interval: Hyper = 1,
    axes: AxesOf = None,
    key: int | Array = 0,
) -> GradientTransformation:
    """AdaHessian: `scale_by_adahessian`, decoupled weight decay, learning rate (0.15 in the paper).

    `step` gets `hessian_diag_fn` or `hessian_diag`, as that of `sophia`. `mask` as in `adamw`.
    """
    direction = scale_by_adahessian(
        b1,
        b2=b2,
        eps=eps,
        hessian_power=hessian_power,
        axes=axes,
        update_interval=update_interval,
        key=key,
    )
    return decoupled(direction, learning_rate, weight_decay, mask)
