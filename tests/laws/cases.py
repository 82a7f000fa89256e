"""What the laws share: the rows, small trees, bitwise comparison, counts of compilations."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx.catalogue import Row, links, optimizers, wrappers
from gradtx.struct import Struct, fields_below


def _keeps_host_memory() -> bool:
    """Whether what is compiled can leave arrays in host memory: on a CPU not before JAX 0.10."""
    moved = jax.jit(lambda x: jax.device_put(x, jax.memory.Space.Host))(jnp.ones(2))
    return moved.sharding.memory_kind == "pinned_host"


ROWS = {**optimizers, **links, **wrappers}
HAS_HOST_MEMORY = _keeps_host_memory()
if not HAS_HOST_MEMORY:
    del ROWS["offload"]
NARROW = ("float32", "bfloat16", "float16")
WIDE = (*NARROW, "float64")

over_rows = pytest.mark.parametrize("row", [pytest.param(r, id=r.name) for r in ROWS.values()])
over_optimizers = pytest.mark.parametrize(
    "row", [pytest.param(r, id=r.name) for r in optimizers.values()]
)


@functools.cache
def build(row: Row) -> Any:
    """The transformation of a row with its published defaults."""
    return row.make() if row.learning_rate is None else row.make(row.learning_rate)


def parts(value: Any) -> Iterator[Any]:
    """A transformation and all that are inside it."""
    if isinstance(value, Struct):
        yield value
        for name in value._leaves:
            yield from parts(getattr(value, name))
    elif isinstance(value, Mapping):
        for below in value.values():
            yield from parts(below)


def needs(tx: Any) -> set[str]:
    """What a transformation or a part of it cannot do without."""
    return {name for part in parts(tx) for name in getattr(part, "needs", ())}


def extras(tx: Any, params: Any, grads: Any) -> dict[str, Any]:
    """The extra arguments that a transformation needs, for the loss 1 + |p|^2 / 2."""

    def loss(params: Any) -> Any:
        leaves = jax.tree.leaves(gradtx.tree.sum_squares(params))
        return 1 + sum(leaves) / 2

    def slope(params: Any) -> Any:
        found = jax.grad(loss, allow_int=True)(params)
        # JAX gives the conjugate of the direction in which a complex parameter ascends.
        return jax.tree.map(lambda g: jnp.conj(g) if gradtx.tree.is_inexact(g) else g, found)

    known = {
        "value": lambda: loss(params),
        "grad": lambda: grads,
        "value_fn": lambda: loss,
        "grad_fn": lambda: slope,
        "key": lambda: jax.random.key(0),
        "max_logits": lambda: {"*": jnp.float32(150.0)},
    }
    return {name: known[name]() for name in needs(tx) - {"params"}}


def asks_functions(tx: Any) -> bool:
    """Whether an update needs a function, so that outside of jit it runs as it is."""
    return any(name.endswith("_fn") for name in needs(tx))


def update(tx: Any, grads: Any, state: Any, params: Any) -> Any:
    """`tx.update` with whatever it needs."""
    return tx.update(grads, state, params, **extras(tx, params, grads))


def step(tx: Any, grads: Any, state: Any, params: Any) -> Any:
    """`tx.step` with whatever it needs."""
    return tx.step(grads, state, params, **extras(tx, params, grads))


def remembers_values(tx: Any) -> bool:
    """Whether the state holds something of the values that the parameters had at the start."""
    states = (tx.init({"p": make(2)}) for make in (jnp.zeros, jnp.ones))
    ours, other = map(jax.tree.leaves, states)
    return any((x != y).any() for x, y in zip(ours, other, strict=True))


def init_on_shapes(tx: Any, shapes: Any) -> Any:
    """`tx.init(shapes)`, or None if it remembers values, which shapes have not: it says so."""
    if not remembers_values(tx):
        return tx.init(shapes)
    with pytest.raises(ValueError, match="remembers the values of the parameters") as raised:
        tx.init(shapes)
    assert_three_parts(raised.value, "shape", "Call init on arrays")
    return None


update_as_data = jax.jit(update)  # the optimizer is an argument: one trace for all its numbers


# Trees -----------------------------------------------------------------------------------------

SHAPES = {"dense": {"bias": (3,), "kernel": (4, 3)}, "scale": ()}


def tree(seed: int, dtype: Any = "float32", shapes: Any = SHAPES) -> Any:
    """A tree of NumPy arrays with normal entries."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: np.asarray(random.normal(size=shape), jnp.dtype(dtype)),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def arrays(seed: int, dtype: Any = "float32", shapes: Any = SHAPES) -> Any:
    """The same as JAX arrays."""
    return jax.tree.map(jnp.asarray, tree(seed, dtype, shapes))


def mixed(seed: int = 0) -> tuple[Any, Any]:
    """Parameters and gradients with an array for each narrow dtype and for mixed pairs."""
    random = np.random.default_rng(seed)
    pairs = ("bfloat16 bfloat16", "float16 float16", "float32 bfloat16", "bfloat16 float32")
    params, grads = {}, {}
    for pair in pairs:
        p, g = pair.split()
        params[pair] = jnp.asarray(random.normal(size=(4, 3)), p)
        grads[pair] = jnp.asarray(random.normal(size=(4, 3)), g)
    return params, grads


def zeros(values: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, values)


def with_floats(change: Callable[[float], Any], tx: Any) -> Any:
    """A transformation with every float hyperparameter changed, as JAX would rebuild it."""
    return jax.tree.map(lambda x: change(x) if type(x) is float else x, tx)


def at_random(tx: Any) -> bool:
    """Whether a transformation draws random numbers."""
    return any(getattr(part, "random", False) for part in parts(tx))


def hyperparameters(tx: Any) -> dict[str, Any]:
    """The fields of a transformation that hold numbers, by path, each with one that it takes."""
    return {
        ".".join(path): value if type(value) in (int, float) else 0.1
        for path, value, chooses_code in fields_below(tx)
        if not chooses_code and not isinstance(value, Struct)
    }


def hyperparameter_paths(tx: Any) -> list[str]:
    """The paths of the fields of a transformation that hold numbers."""
    return list(hyperparameters(tx))


# Comparison ------------------------------------------------------------------------------------


def avals(values: Any) -> tuple[Any, Any]:
    """Structure, shapes, dtypes and weakness of the types of a tree."""
    leaves, treedef = jax.tree.flatten(values)
    return treedef, [
        (np.shape(x), jnp.result_type(x), bool(getattr(x, "weak_type", False))) for x in leaves
    ]


def _bytes(x: Any) -> Any:
    if jnp.issubdtype(getattr(x, "dtype", np.dtype(float)), jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x).tobytes()


def assert_same(a: Any, b: Any) -> None:
    """Asserts that two trees agree in structure, dtypes and every bit."""
    (structure_a, avals_a), (structure_b, avals_b) = avals(a), avals(b)
    assert structure_a == structure_b
    assert [x[:2] for x in avals_a] == [x[:2] for x in avals_b]
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        assert _bytes(x) == _bytes(y), (jax.tree_util.keystr(path), x, y)


def assert_close(a: Any, b: Any, rtol: float = 2e-6, atol: float = 1e-7) -> None:
    """Asserts that two trees agree in structure and, up to rounding, in values."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        x, y = (np.asarray(v, complex if jnp.iscomplexobj(v) else float) for v in (x, y))
        np.testing.assert_allclose(x, y, rtol, atol, err_msg=jax.tree_util.keystr(path))


def assert_finite(values: Any) -> None:
    for path, x in jax.tree_util.tree_leaves_with_path(values):
        if gradtx.tree.is_inexact(x):
            assert np.isfinite(np.asarray(x, complex)).all(), (jax.tree_util.keystr(path), x)


def assert_three_parts(error: BaseException, *mentions: str) -> None:
    """Asserts that a message says what was called, by a public name, what was seen, what to do."""
    message = str(error)
    assert re.fullmatch(r"[^\s_].*: \S.*\. [A-Z].*[.?]", message, re.DOTALL), message
    for mention in mentions:
        assert mention in message, (mention, message)


# Counting --------------------------------------------------------------------------------------

_events: list[str] = []
jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: _events.append(event))


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """A list that gets one entry for every function handed to XLA inside the block."""
    start, found = len(_events), []
    yield found
    found += [e for e in _events[start:] if e == "/jax/core/compile/backend_compile_duration"]


def counting_traces(function: Callable[..., Any]) -> tuple[Any, list[None]]:
    """`jax.jit(function)` and a list that gets one entry for every trace."""
    traces: list[None] = []

    def traced(*args: Any) -> Any:
        traces.append(None)
        return function(*args)

    return jax.jit(traced), traces
