"""Matrices shared out over the devices of a mesh: `distribute`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh

from gradtx.clocked import FRONT
from gradtx.engine.owners import Owners, Shared
from gradtx.engine.step import At
from gradtx.paths import Route
from gradtx.struct import static
from gradtx.transform import State
from gradtx.tree import Tree
from gradtx.wrappers.transparent import Transparent


class distribute(Transparent):
    """Shares out the matrices that `inner` works on over the devices along axes of a mesh.

    All matrices of one shape (n, m) go to their owners in one move, B of them to S devices as
    [B / S, n, m], and the results back in another; in between no device waits for another. Zeros
    fill up what is not a multiple of S; a shape with too few matrices for sharing to spare any
    stays as it is. Numbers do not depend on S. `owners` names the axes, of the mesh given or of
    `jax.set_mesh`. State and methods that have no matrices are left as they are.
    """

    owners: str | tuple[str, ...] = static(default="data")
    _: KW_ONLY
    mesh: Mesh | AbstractMesh | None = static(default=None)

    def around_at(self, at: At) -> At:
        return at._replace(owners=self._owners)

    @property
    def _owners(self) -> Owners:
        axes = (self.owners,) if isinstance(self.owners, str) else tuple(self.owners)
        return Owners(axes, self.mesh)

    def shared(self, params: Tree) -> list[Shared]:
        """Who works on what: nothing is computed, and shapes are enough."""
        owners = self._owners._replace(ledger=[])

        def note(params: Tree) -> Tree:
            at = FRONT._replace(owners=owners)
            return self.inner.update_alone(params, self.inner.init(params), params, at, {})[0]

        jax.eval_shape(note, params)
        return owners.ledger or []

    def routes(self, params: Tree) -> list[Route]:
        """With how many matrices of an array's shape each device works on, bytes and operations."""
        found, number = Transparent.routes(self, params), self._owners.number
        for one in self.shared(params):
            n, m = one.shape
            said = f"{one.matrices} of {one.of} matrices {n} x {m}, {one.each} to each of {number}"
            said += " devices" if one.each < one.of else " devices: too few to share"
            said += f"; {sized(one.moved)}B moved, {sized(one.flops * one.each)}flops a device"
            found[one.array] = found[one.array].because(said)
        return found

    def around_init(self, init: Callable[..., State], params: Tree) -> State:
        return init(params)

    def around_update(
        self, update: Callable[..., Any], updates: Tree, state: State, params: Tree | None
    ) -> tuple[Tree, State]:
        return update(updates, state, params)

    def around_step(
        self, step: Callable[..., Any], grads: Tree, state: State, params: Tree
    ) -> tuple[Tree, State]:
        return step(grads, state, params)

    def around_eval(self, eval_params: Callable[..., Any], state: State, params: Tree) -> Tree:
        return eval_params(state, params)


def sized(number: float) -> str:
    """A number with a prefix of a thousand: 1.2 M."""
    power = min(4, int(math.log10(max(number, 1))) // 3)
    return f"{number / 1000**power:.3g} {['', 'k', 'M', 'G', 'T'][power]}"
