"""How a call from outside comes in: compiled, with the arguments in their place and order."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.core import Tracer

from gradtx.engine.nodes import naming_nodes
from gradtx.engine.refusals import refuse_misplaced, refuse_no_arrays
from gradtx.struct import NUMBERS, Struct, Table

Transformation = Any
"""A `gradtx.transform.GradientTransformation`, which is built on this module."""

_MODELS = {"updates": "updates", "grads": "gradients", "params": "parameters"}
_DATA = (jax.Array, np.ndarray, np.generic, *NUMBERS)
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Runs `function` as one cached compiled function when it is called outside of any trace.

    Under a trace, or with an argument that is not data (a function, a shape), it runs as it is;
    Python numbers among the parameters are not traced. Of a transformation it hands on those extra
    arguments only that a part of it asks for, so that others change neither numbers nor speed;
    dicts among them keep their order, and those whose order counts arrive as a `Table`.
    """
    parameters = inspect.signature(function).parameters
    is_update = "state" in parameters and not parameters.keys().isdisjoint(("updates", "grads"))
    place = [*parameters].index("params")

    @functools.wraps(function)
    def in_order(*args: Any, **kwargs: Any) -> Any:
        tables = args[0].table_extras if is_update else ()
        return function(
            *args,
            **{name: x if name in tables else _unordered(x) for name, x in kwargs.items()},
        )

    def with_numbers(*args: Any, **kwargs: Any) -> Any:
        return _fixed(in_order(*_unfixed(args), **_unfixed(kwargs)))

    jitted, jitted_with_numbers = jax.jit(in_order), jax.jit(with_numbers)

    def refuse_strange(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = {**dict(zip(parameters, args, strict=False)), **kwargs}
        for name, of in _MODELS.items():
            owner = given.get("self", "gradtx")
            refuse_no_arrays(owner, given.get(name), function.__name__, of)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if is_update:
            _refuse_misplaced(args, kwargs)
            kwargs = _wanted(args[0], kwargs, parameters)
        ordered = {name: _ordered(x) for name, x in kwargs.items()}
        leaves = jax.tree.leaves((args, ordered))
        if not all(isinstance(x, _DATA) and not isinstance(x, Tracer) for x in leaves):
            refuse_strange(args, kwargs)
            return function(*args, **kwargs)
        params = (args[place : place + 1], {k: x for k, x in ordered.items() if k == "params"})
        try:
            if not any(type(x) in NUMBERS for x in jax.tree.leaves(params)):
                return jitted(*args, **ordered)
            given, named = _fixed(params)
            fixed = (*args[:place], *given, *args[place + 1 :])
            return _unfixed(jitted_with_numbers(*fixed, **{**ordered, **named}))
        except (TypeError, ValueError) as error:
            failed = error
        refuse_strange(args, kwargs)
        raise as_typed(function, args, kwargs) or failed

    takes = (name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY)
    return asking(*takes)(naming_nodes(call))  # pyright: ignore[reportReturnType]


def asking(*names: str) -> Callable[[F], F]:
    """Declares the extra arguments that an `update` takes, besides those of parts inside it.

    An `update` of which nothing is declared gets them all.
    """

    def declare(function: F) -> F:
        function.takes = frozenset(names)  # pyright: ignore[reportFunctionMemberAccess]
        return function

    return declare


def _refuse_misplaced(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    self, *given = args
    names = ("grads" if "grads" in kwargs else "updates", "state", "params")
    updates, state, params = (
        given[i] if i < len(given) else kwargs.get(name) for i, name in enumerate(names)
    )
    refuse_misplaced(self, updates, state, params)


def _wanted(
    tx: Transformation, kwargs: dict[str, Any], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Those keyword arguments for which there is a use."""
    if kwargs.keys() <= parameters.keys() or tx.wanted_extras is None:
        return kwargs
    wanted = tx.wanted_extras | parameters.keys()
    return {name: value for name, value in kwargs.items() if name in wanted}


class _Number:
    """A Python number on its way through `jax.jit`, which would make it an array."""

    def __init__(self, value: Any) -> None:
        self.value = value


jax.tree_util.register_pytree_node(
    _Number, lambda x: ((), (type(x.value), x.value)), lambda aux, _: _Number(aux[1])
)


def _fixed(tree: Any) -> Any:
    """The tree with its Python numbers as they are on their way through `jax.jit`."""
    return jax.tree.map(lambda x: _Number(x) if type(x) in NUMBERS else x, tree)


def _unfixed(tree: Any) -> Any:
    """What `_fixed` was given."""
    return jax.tree.map(
        lambda x: x.value if isinstance(x, _Number) else x,
        tree,
        is_leaf=lambda x: isinstance(x, _Number),
    )


class _Ordered(Table):
    """A dict on its way through `jax.jit`, which would sort its keys."""


jax.tree_util.register_pytree_node(
    _Ordered, lambda t: (t._values, t._keys), lambda keys, values: _Ordered.rebuilt(keys, values)
)


def _ordered(tree: Any) -> Any:
    return jax.tree.map(
        lambda x: _Ordered({k: _ordered(v) for k, v in x.items()}) if type(x) is dict else x,
        tree,
        is_leaf=lambda x: type(x) is dict,
    )


def _unordered(tree: Any) -> Any:
    return jax.tree.map(
        lambda x: {k: _unordered(v) for k, v in x.items()} if isinstance(x, _Ordered) else x,
        tree,
        is_leaf=lambda x: isinstance(x, _Ordered),
    )


def as_typed(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Exception | None:
    """The error that a call raises when its transformation keeps its numbers, as one typed it."""
    tx, *rest = args
    if not isinstance(tx, Struct):
        return None
    try:
        jax.eval_shape(lambda *given: function(tx, *given, **kwargs), *rest)
    except (TypeError, ValueError) as error:
        return error
    return None
