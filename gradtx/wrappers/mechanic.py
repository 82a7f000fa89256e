"""A learning rate learned on the fly for any transformation: `mechanic`."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.rule import Copy, HyperField, JointRule, NormOf, Step
from gradtx.struct import within
from gradtx.tree import norm
from gradtx.wrappers.base import Wrapper

N = 6
DECAYS = tuple(1 - 0.1**i for i in range(1, N + 1))


MechanicGlobals = namedtuple(  # what each of the learners remembers, of v its root
    "MechanicGlobals", [f"{name}{i}" for name in "rmvs" for i in range(1, N + 1)]
)


class MechanicSums(NamedTuple):
    gradient: Array  # |g|
    parameter: Array  # |x|
    back: Array  # <g, x0 - x>
    along: Array  # <x, x0 - x>


class _mechanic(JointRule, called="mechanic"):
    """Measures the gradients that come in and scales the steps that `inner` makes of them."""

    weight_decay: HyperField
    eps: HyperField
    s_init: HyperField

    class Slots(NamedTuple):
        x0: Copy

    Globals = MechanicGlobals
    Sums = MechanicSums
    needs: ClassVar[tuple[str, ...]] = ("params",)

    def init_globals(self) -> Any:
        return MechanicGlobals(*[0.0] * (3 * N), *[self.s_init] * N)

    def measure_leaf(self, g: Array, slots: Slots, p: Array, known: Any) -> MechanicSums:
        # Written unlike what Adam and `update_leaf` make of them: what two passes have in common,
        # XLA would store.
        norms: tuple[Any, Any] = NormOf(g), NormOf(p)
        away, twice = p - slots.x0, 2 * slots.x0 - 2 * p
        if jnp.iscomplexobj(g):
            g, p = jnp.conj(g), jnp.conj(p)
        return MechanicSums(*norms, -jnp.sum((g * away).real), jnp.sum((p * twice).real) / 2)

    def decide(self, sums: MechanicSums, globals_: Any, t: Array, **extra: Any) -> tuple[Any, Any]:
        r, m, v, s = (jnp.stack(globals_[k * N : (k + 1) * N]) for k in range(4))
        decays = jnp.asarray(DECAYS, r.dtype)
        total = jnp.sum(s)
        pull = self.weight_decay * total * sums.gradient / (sums.parameter + self.eps)
        h = (sums.back + pull * sums.along) / (total + self.eps)
        reward = jnp.clip(h, -m, m) * s
        m = jnp.maximum(decays * m, jnp.abs(h) + self.eps)
        v = norm(jnp.stack([decays * v, jnp.full_like(v, h)]), (0,))[0]
        r = jnp.maximum(decays * r + reward, 0)
        s = (self.s_init / N * m + r) / (v + self.eps)
        new = MechanicGlobals(*(x[i] for x in (r, m, v, s) for i in range(N)))
        scale = jnp.sum(s)
        return new, (1 - scale / (total + self.eps), scale)

    def update_leaf(self, g: Array, slots: Slots, p: Array, step: Step) -> tuple[Array, Slots]:
        back, scale = step.shared
        return back * (slots.x0 - p) + scale * g, slots


class mechanic(Wrapper):
    """Learns the scale of the steps that `inner` takes: x = x0 + S sum of u.

    S is the sum over decays b = 1 - 0.1^i, i = 1 ... 6 of s = (s_init / 6 m + r) / (sqrt(v) + eps)
    with m = max(b m, |h| + eps), v = b^2 v + h^2, r = max(b r + clip(h, -m, m) s, 0) (m and s the
    old ones), h = <g + weight_decay S ||g|| / ||x|| x, x0 - x> / (S + eps). Cutkosky, Defazio &
    Mehta 2023, 2306.00144. Give `inner` a learning rate of 1, or a schedule that falls from 1.
    """

    _: KW_ONLY
    weight_decay: HyperField = within("[0, inf)", default=1e-2)
    eps: HyperField = within("(0, inf)", default=1e-8)
    # The scale before the first step, for every decay.
    s_init: HyperField = within("(0, inf)", default=1e-6)

    after = _mechanic
    needs: ClassVar[tuple[str, ...]] = ("params",)
