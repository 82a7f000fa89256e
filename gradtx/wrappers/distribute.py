"""Matrices shared out over the devices of a mesh: `distribute`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any

from jax.sharding import AbstractMesh, Mesh

from gradtx.engine.owners import Owners
from gradtx.engine.step import At
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
        axes = (self.owners,) if isinstance(self.owners, str) else tuple(self.owners)
        return at._replace(owners=Owners(axes, self.mesh))

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
