"""Nodes of a user that refuse what JAX puts into them: named with their path."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

from gradtx.struct import type_error
from gradtx.tree import Tree, path_string

F = TypeVar("F", bound=Callable[..., Any])


def naming_nodes(call: F) -> F:
    """Explains an error of a node of the user, which takes nothing but arrays of some shape.

    Trees with `None` for arrays that are somebody else's, or with a number for each array, are
    rebuilt from the nodes of the parameters.
    """

    @functools.wraps(call)
    def explained(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except Exception as error:
            if _is_ours(error):
                raise
            found = next(_refusing((args[1:], kwargs), type(error)), None)
            if found is None:
                raise
            path, kind = found
            first, *_ = str(error).splitlines() or ["without a message"]
            raise type_error(
                f"{args[0]}.{call.__name__}",
                f"{kind}, the node at {path!r}, raised {type(error).__name__} when it was rebuilt "
                f"with None or a number in the place of an array: {first}",
                "Let its constructor take any object, as JAX asks of nodes: check in a function "
                "of its own, or register it with an unflatten function that checks nothing",
            ) from error

    return explained  # pyright: ignore[reportReturnType]


def _is_ours(error: Exception) -> bool:
    """Whether an error comes from this library, so that it says what is wrong already."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return frames[-1][0].f_globals.get("__name__", "").split(".")[0] == __name__.split(".")[0]


def _refusing(tree: Tree, error: type[Exception]) -> Iterator[tuple[str, str]]:
    """The path and type of each node that raises such an error for what is no array of its own."""
    waiting = [((), tree)]
    while waiting:
        path, node = waiting.pop()
        one_level, treedef = jax.tree_util.tree_flatten_with_path(
            node, is_leaf=lambda x, node=node: x is not node
        )
        if jax.tree_util.treedef_is_leaf(treedef):
            continue
        for stand_in in (None, np.float32(0)):
            try:
                treedef.unflatten([stand_in] * len(one_level))
            except Exception as raised:  # whatever the user checks
                if type(raised) is error:
                    # Without the place of the argument in the call.
                    yield path_string(path[2:]), type(node).__name__
        waiting += [((*path, *key), child) for key, child in one_level]
