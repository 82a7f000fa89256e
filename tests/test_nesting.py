"""Wrappers around wrappers: every pair, and triples that were drawn."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import pytest
from laws.cases import (
    FEW,
    ROWS,
    arrays,
    assert_close,
    assert_finite,
    assert_same,
    avals,
    step,
    update,
    zeros,
)

import gradtx
from gradtx.catalogue import wrappers
from gradtx.foreign import as_transformation

INNER = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(0.1))
VARIANTS = {"accumulate_and_look", "skip_loss_outliers", "store_companded", "store_float8", "asam"}
SHAPES = {"bias": (3,), "kernel": (4, 3)}


def around(name: str) -> Callable[[Any], Any]:
    """A row's wrapper, around something else than what the row has in it."""
    if name == "partition":
        return lambda inner: gradtx.partition({"*": inner})
    # What is inside may have several learning rates; the weights follow this one.
    more = {"weight_learning_rate": 0.1} if name == "schedule_free" else {}
    return lambda inner: wrappers[name].make().with_fields(inner=inner, **more)


MAKERS = {name: around(name) for name in wrappers if name in ROWS and name not in VARIANTS}


def nested(names: Any) -> Any:
    """The wrappers with these names, the first one outermost."""
    tx = INNER
    for name in reversed(names):
        tx = MAKERS[name](tx)
    return tx


OFTEN = [name for name in MAKERS if name in FEW]
REST = [name for name in MAKERS if name not in FEW]


@pytest.mark.parametrize(
    ("inside", "dtype"),
    [
        pytest.param(OFTEN, "bfloat16", id="often"),
        pytest.param(REST, "bfloat16", id="rest", marks=pytest.mark.slow),
        pytest.param([*OFTEN, *REST], "float32", id="float32", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("outer", MAKERS)
def test_every_pair_is_stable(outer: str, inside: list[str], dtype: str) -> None:
    """State and parameters keep tree, shapes and dtypes; `step` is `update` for every row."""
    params, grads = (arrays(seed, dtype, SHAPES) for seed in (0, 1))
    for inner in inside:
        tx = nested([outer, inner])
        if outer.startswith("store") and inner.startswith("store"):
            with pytest.raises(ValueError, match="another store inside keeps the slot"):
                tx.init(params)
            continue
        # Shapes would not tell which memory the arrays of `offload` are in.
        in_host = "offload" in (outer, inner)
        state = tx.init(params) if in_host else jax.eval_shape(tx.init, params)

        def calls(grads: Any, state: Any, params: Any, tx: Any = tx) -> Any:
            return *step(tx, grads, state, params), tx.eval_params(state, params)

        ps, after, shown = jax.eval_shape(calls, grads, state, params)
        assert avals(after) == avals(state), inner
        assert avals(ps) == avals(shown) == avals(params), inner


def drawn(number: int) -> list[tuple[str, ...]]:
    """Triples of different wrappers, always the same ones; a slot is stored once."""
    draw, found = random.Random(0), []
    while len(found) < number:
        names = tuple(draw.sample(sorted(MAKERS), 3))
        stores = [i for i, name in enumerate(names) if name.startswith("store")]
        if len(stores) < 2:
            found.append(names)
    return found


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(names, id="-".join(names), marks=[pytest.mark.slow] if number > 7 else [])
        for number, names in enumerate(drawn(16))
    ],
)
def test_drawn_triples(names: tuple[str, ...]) -> None:
    """`step` is update and apply; jit, scan and pickle change nothing; zeros are finite."""
    tx, params = nested(names), arrays(0, shapes=SHAPES)
    gs = [arrays(seed, shapes=SHAPES) for seed in (1, 2, 3, 4)]
    start = tx.init(params)
    p = q = params
    state = other = start
    for g in gs:
        p, state = step(tx, g, state, p)
        us, other = update(tx, g, other, q)
        q = gradtx.apply_updates(q, us)
    # What rounding lost is a part of the last digit of a parameter.
    assert_close((p, state), (q, other), rtol=1e-5, least=1e-7)
    assert_same(pickle.loads(pickle.dumps(state)), state)
    assert avals(tx.eval_params(state, p)) == avals(params)

    def body(carry: Any, g: Any) -> Any:
        p, state = carry
        return step(tx, g, state, p), None

    stacked = jax.tree.map(lambda *xs: np.stack(xs), *jax.device_get(gs))
    scanned, _ = jax.jit(lambda: jax.lax.scan(body, (params, start), stacked))()
    assert_close(scanned, (p, state), rtol=1e-5, least=1e-7)
    p, state = params, start
    for _ in range(3):
        p, state = step(tx, zeros(gs[0]), state, p)
    assert_finite((p, state))


@pytest.mark.parametrize("name", MAKERS)
@jax.numpy_dtype_promotion("standard")  # for Optax
def test_states_of_optax_keep_their_dtypes(name: str) -> None:
    """Wrappers compute in float32, and a state from elsewhere that would follow does not."""
    theirs = as_transformation(optax.adamw(0.1), "a test")
    tx = MAKERS[name](theirs)
    if name == "outer":
        tx = tx.with_fields(optimizer=theirs)
    params, grads = (arrays(seed, "bfloat16", SHAPES) for seed in (0, 1))
    state = tx.init(params)
    for run in (update, step):
        out, new = jax.eval_shape(lambda *a, run=run: run(tx, *a), grads, state, params)
        assert avals(new) == avals(state)
        assert avals(out) == avals(params)
