"""State that waits in host memory between updates: `offload`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.core import Tracer

from gradtx.engine.host import KINDS, put
from gradtx.struct import static, value_error
from gradtx.transform import State, compiled
from gradtx.tree import P, Tree, U
from gradtx.wrappers.transparent import Transparent


class offload(Transparent):
    """Keeps the state of another transformation in another memory, on the device while it updates.

    `where` is a memory kind of JAX: "pinned_host" or, outside of `jit` only, "unpinned_host". Under
    `jit` the transfers are part of the program, so that the compiler overlaps them with other work.
    Donate parameters and state together, in the order in which they are returned: JAX 0.10 pairs
    buffers by shape, without a look at their memory. Numbers, such as counts, stay on the device.
    Outermost is best: a wrapper around it that leaves out steps chooses between states in host
    memory.
    """

    where: str = static(default="pinned_host", among=("pinned_host", "unpinned_host", "device"))

    def around_init(self, init: Callable[..., State], params: Tree) -> State:
        return self.put(init(params), self.where)

    def around_update(
        self, update: Callable[..., Any], updates: Tree, state: State, params: Tree | None
    ) -> tuple[Tree, State]:
        updates, new = update(updates, self.put(state, "device"), params)
        return updates, self.put(new, self.where)

    def around_step(
        self, step: Callable[..., Any], grads: Tree, state: State, params: Tree
    ) -> tuple[Tree, State]:
        params, new = step(grads, self.put(state, "device"), params)
        return params, self.put(new, self.where)

    def around_eval(self, eval_params: Callable[..., Any], state: State, params: Tree) -> Tree:
        return eval_params(self.put(state, "device"), params)

    # A program cannot leave arrays in just any memory: these are moved outside of it.

    def init(self, params: Tree) -> State:
        return self.put(self.inner.init(params), self.where)

    def update(
        self, updates: U, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[U, State]:
        run = _updated if self.where == "unpinned_host" else _compiled_update
        return run(self, updates, state, params, **extra)

    def step(self, grads: Tree, state: State, params: P, **extra: Any) -> tuple[P, State]:
        run = _stepped if self.where == "unpinned_host" else _compiled_step
        return run(self, grads, state, params, **extra)

    def eval_params(self, state: State, params: P) -> P:
        return self.around_eval(self.inner.eval_params, state, params)

    def put(self, state: State, kind: str) -> State:
        """The state with its arrays in a kind of memory."""
        traced = any(isinstance(x, Tracer) for x in jax.tree.leaves(state))
        if traced and kind not in KINDS:
            raise value_error(
                self,
                f"under jit JAX cannot move arrays to {kind!r}",
                'Pass where="pinned_host", or call update outside of jit',
            )
        return jax.tree.map(lambda x: put(x, kind), state)


def _updated(
    tx: offload, updates: Tree, state: State, params: Tree | None, **extra: Any
) -> tuple[Tree, State]:
    return tx.around_update(partial(_with, tx.inner.update, extra), updates, state, params)


def _stepped(
    tx: offload, grads: Tree, state: State, params: Tree, **extra: Any
) -> tuple[Tree, State]:
    return tx.around_step(partial(_with, tx.inner.step, extra), grads, state, params)


def _with(call: Callable[..., Any], extra: dict[str, Any], *args: Any) -> Any:
    return call(*args, **extra)


_compiled_update, _compiled_step = compiled(_updated), compiled(_stepped)
