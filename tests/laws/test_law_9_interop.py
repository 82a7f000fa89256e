"""Law 9 beside Optax itself: ours in its chains and wrappers, its own in a chain of ours."""

from __future__ import annotations

import functools
import inspect
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx.interop import from_optax, to_optax

from .cases import (
    arrays,
    assert_close,
    assert_same,
    assert_three_parts,
    avals,
    build,
    extras,
    needs,
    over_few,
    over_kinds_of_optimizers,
    some,
    update,
)


def _assert_runs(tx, params, in_memory=False, **more):
    """Two updates under trace: avals of state and updates are those of the start.

    Shapes do not say in which memory arrays are: where that counts, `in_memory` makes them.
    """
    state = tx.init(params) if in_memory else jax.eval_shape(tx.init, params)
    for _ in range(2):
        updates, new = jax.eval_shape(
            lambda g, s, p: tx.update(g, s, p, **more), params, state, params
        )
        assert avals(new) == avals(state)
        assert avals(updates) == avals(params)


@over_few
def test_in_an_optax_chain(row):
    """Between Optax's own links it computes what it computes alone."""
    tx, params, grads = build(row), arrays(0), arrays(1)
    state = tx.init(params)
    expected = update(tx, grads, state, params)
    for own in (tx, to_optax(tx)):
        if own is tx and needs(tx) - {"params"}:
            continue  # Optax hands extra arguments to its own types only
        outer = optax.chain(optax.identity(), own, optax.identity())
        found, new = outer.update(grads, outer.init(params), params, **extras(tx, params, grads))
        assert_same(found, expected[0])
        assert_same(new[1], expected[1])


WRAPPERS = {
    "chain": lambda tx: optax.chain(optax.clip(1.0), tx, optax.scale(0.5)),
    "named_chain": lambda tx: optax.named_chain(("first", tx), ("second", optax.scale(0.5))),
    "masked": lambda tx: optax.masked(tx, {"dense": True, "scale": False}),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 2),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "partition": lambda tx: optax.partition(
        {"a": tx, "b": optax.set_to_zero()}, {"dense": "a", "scale": "b"}
    ),
    "conditionally_transform": lambda tx: optax.conditionally_transform(
        tx, should_transform_fn=lambda step: step < 2
    ),
    "flatten": optax.flatten,
}


@pytest.mark.usefixtures("standard_promotion")
@over_few
@pytest.mark.parametrize("wrapper", some(WRAPPERS, {"masked", "MultiSteps", "flatten"}))
def test_in_optax_wrappers(row, wrapper):
    """Optax's wrappers take it bare and as `to_optax` makes it; states stay stable."""
    tx, params = build(row), arrays(0)
    if wrapper == "flatten" and tx.tree_extras & needs(tx):
        return  # it makes one vector of the parameters, and not of what is like them
    more, in_memory = extras(tx, params, params), isinstance(tx, gradtx.offload)
    _assert_runs(WRAPPERS[wrapper](to_optax(tx)), params, in_memory, **more)
    if not more:
        _assert_runs(WRAPPERS[wrapper](tx), params, in_memory)


@pytest.mark.usefixtures("standard_promotion")
def test_numbers_in_optax_wrappers():
    """MultiSteps and partition around ours give what they give around Optax's AdamW."""
    params, grads = arrays(0), arrays(1)
    ours, theirs = gradtx.adamw(1e-2), optax.adamw(1e-2)
    for wrapper in ("chain", "masked", "MultiSteps", "partition"):
        results = []
        for inner in (ours, to_optax(ours), theirs):
            tx = WRAPPERS[wrapper](inner)
            state = tx.init(params)
            for _ in range(3):
                updates, state = jax.jit(tx.update)(grads, state, params)
            results.append(updates)
        assert_close(results[0], results[2], rtol=1e-4)
        assert_same(results[0], results[1])


@over_few
def test_optax_objects_in_our_chain(row):
    """Optax's links stand in a chain of ours, which still compares, prints and traces as one."""
    tx, clip = build(row), optax.clip_by_global_norm(1.0)
    behind = () if tx.searches else (optax.scale(0.5),)  # nothing comes behind a search
    both = gradtx.chain(clip, tx, *behind)
    params = arrays(0)
    _assert_runs(both, params, **extras(tx, params, params))
    again = gradtx.chain(optax.clip_by_global_norm(1.0), tx, *behind)
    assert both.replace({}) == both
    assert again != both  # another closure is another link
    assert hash(both) == hash(jax.tree.map(lambda x: x, both))


@pytest.mark.usefixtures("standard_promotion")
def test_numbers_of_optax_objects_in_our_chain():
    """The same numbers in our chain as in Optax's, extra arguments included."""
    params, grads = arrays(0), arrays(1)
    parts = optax.clip_by_global_norm(0.1), optax.scale_by_adam(), optax.scale(-0.1)
    ours, theirs = gradtx.chain(*parts), optax.chain(*parts)
    found, _ = ours.update(grads, ours.init(params), params)
    expected, _ = theirs.update(grads, theirs.init(params), params)
    assert_close(found, expected)
    needy = gradtx.chain(gradtx.scale(1.0), optax.polyak_sgd())
    value = jnp.float32(0.3)
    found, _ = needy.update(grads, needy.init(params), params, value=value)
    alone = optax.polyak_sgd()
    expected, _ = alone.update(grads, alone.init(params), params, value=value)
    assert_close(found, expected)


def _injectable(row):
    """What makes the row, as an Optax object where extra arguments have to reach it."""
    if not needs(build(row)) - {"params"}:
        return row.make
    return functools.wraps(row.make)(lambda *args, **named: to_optax(row.make(*args, **named)))


def _sizes(row):
    """The arguments that are the size of something, which Optax is told not to make an array of."""
    return [name for name in ("memory_size",) if name in inspect.signature(row.make).parameters]


@over_kinds_of_optimizers
def test_inject_hyperparams(row):
    """`optax.inject_hyperparams(gradtx.adam)(learning_rate=...)` makes the rate part of a state."""
    factory = optax.inject_hyperparams(_injectable(row), static_args=_sizes(row))
    injected, tx = factory(learning_rate=row.learning_rate), build(row)
    params, grads = arrays(0), arrays(1)
    state = injected.init(params)
    assert float(state.hyperparams["learning_rate"]) == np.float32(row.learning_rate)
    more = extras(tx, params, grads)
    functions = {name: x for name, x in more.items() if callable(x)}
    values = {name: x for name, x in more.items() if not callable(x)}
    jitted = jax.jit(functools.partial(injected.update, **functions))
    updates, new = jitted(grads, state, params, **values)
    assert avals(new) == avals(state)
    assert_close(updates, update(tx, grads, tx.init(params), params)[0], rtol=2e-5)
    differ = []
    for before in (new, state):  # a first step may only look, and a search reads it there only
        updates, _ = jitted(grads, before, params, **values)
        before.hyperparams["learning_rate"] = before.hyperparams["learning_rate"] / 2
        slower, _ = jitted(grads, before, params, **values)
        differ.append((slower["dense"]["kernel"] != updates["dense"]["kernel"]).any())
    assert any(differ)


@pytest.mark.usefixtures("standard_promotion")
@over_kinds_of_optimizers
def test_inject_hyperparams_with_schedules_and_narrow_parameters(row):
    """A function of the count is evaluated by Optax, also for bfloat16 parameters."""
    falling = optax.linear_schedule(0.1, 0.0, 9)
    factory = optax.inject_hyperparams(_injectable(row), static_args=_sizes(row))
    injected = factory(learning_rate=falling)
    tx, params = build(row), arrays(0, "bfloat16")
    _assert_runs(injected, params, **extras(tx, params, params))


@over_few
def test_map_params(row):
    """`optax.tree.map_params` finds every slot that is like the parameters, and no other."""
    tx, params = build(row), arrays(0)
    if isinstance(tx, gradtx.separately):
        pytest.skip("its slots are by array: none is like the parameters")
    state = tx.init(params)
    marked = optax.tree.map_params(
        tx, lambda _: "slot", state, transform_non_params=lambda _: "other"
    )
    shapes = {p.shape for p in jax.tree.leaves(params)} - {()}
    for (path, leaf), mark in zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(marked), strict=True
    ):
        if leaf.shape in shapes:
            assert mark == "slot", path
        if path[-1] == jax.tree_util.GetAttrKey("count"):
            assert mark == "other", path


@over_few
def test_tree_get_and_set(row):
    """`optax.tree.get` finds slots by their names and `optax.tree.set` replaces them."""
    state = build(row).init(arrays(0))
    named = jax.tree.leaves(state, is_leaf=lambda x: hasattr(x, "_fields"))
    for part in named:
        for name in getattr(part, "_fields", ()):
            found = [value for _, value in optax.tree.get_all_with_path(state, name)]
            assert any(value is getattr(part, name) for value in found)
            new = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), getattr(part, name))
            if any(avals(value) != avals(new) for value in found):
                continue  # parts for different arrays have slots of this name
            others = optax.tree.set(state, **{name: new})
            assert avals(others) == avals(state)
            assert all(x is new for _, x in optax.tree.get_all_with_path(others, name))


def test_tree_get_of_adam():
    """The example of the documentation: one `mu`, found by its name alone."""
    tx, params = gradtx.adam(1e-3), arrays(0)
    state = tx.init(params)
    assert optax.tree.get(state, "mu") is state["scale_by_adam"].mu


ONE_CLOCK = {
    "adam": lambda: gradtx.adam(1e-3),
    "adamw": lambda: gradtx.adamw(1e-3),
    "schedule": lambda: gradtx.adamw(gradtx.cosine_decay_schedule(1e-3, 10)),
    "muon": lambda: gradtx.muon(1e-3, matrices="*/kernel"),
    "partition": lambda: gradtx.partition({"*/bias": gradtx.adam(0.1), "*": gradtx.adamw(0.1)}),
    "partition of muon": lambda: gradtx.partition(
        {"dense/*": gradtx.muon(1e-3, matrices="*/kernel"), "*": gradtx.adam(0.1)}
    ),
}


@pytest.mark.parametrize("name", ONE_CLOCK)
def test_one_count(name):
    """Links that always step together have one clock: `optax.tree.get` finds one `count`."""
    tx, params = ONE_CLOCK[name](), arrays(0)
    state = tx.init(params)
    for expected in (0, 1):
        count = optax.tree.get(state, "count")  # raises where there are more
        assert (count.dtype, count.shape, int(count)) == (jnp.int32, (), expected)
        _, state = tx.update(params, state, params)


class TestToOptax:
    """`to_optax` makes a real Optax object out of comparable, picklable callables."""

    @over_few
    def test_is_an_optax_object(self, row):
        tx = build(row)
        made = to_optax(tx)
        assert isinstance(made, optax.GradientTransformationExtraArgs)
        assert made == to_optax(jax.tree.map(lambda x: x, tx))
        assert hash(made) == hash(to_optax(tx))
        assert made != to_optax(gradtx.chain(gradtx.scale(0.123), tx))
        back = pickle.loads(pickle.dumps(made))
        assert back == made
        params = arrays(0)
        assert_same(back.init(params), tx.init(params))

    @over_few
    def test_round_trip(self, row):
        """To Optax and back it still computes the same."""
        tx, params, grads = build(row), arrays(0), arrays(1)
        back = from_optax(to_optax(tx))
        assert isinstance(back, gradtx.GradientTransformation)
        assert_same(
            update(back, grads, back.init(params), params)
            if not extras(tx, params, grads)
            else back.update(grads, back.init(params), params, **extras(tx, params, grads)),
            update(tx, grads, tx.init(params), params),
        )

    def test_keeps_extra_arguments(self):
        """Extra arguments pass through Optax's chain and wrappers to the part that needs them."""
        seen = []

        class spy(gradtx.identity):
            def update(self, updates, state, params=None, **extra):
                seen.append(sorted(extra))
                return updates, state

        params = arrays(0)
        tx = optax.chain(optax.masked(to_optax(spy()), {"dense": True, "scale": False}))
        tx.update(params, tx.init(params), params, value=1.0, grad=params)
        assert seen == [["grad", "value"]]

    def test_is_static_argument(self):
        """Equal optimizers hit one jit cache entry as static arguments."""
        traces = []

        def run(tx, x):
            traces.append(None)
            return tx.update(x, tx.init(x))[0]

        jitted = jax.jit(run, static_argnums=0)
        for rate in (0.1, 0.1, 0.2):
            jitted(to_optax(gradtx.sgd(rate)), jnp.ones(3))
        assert len(traces) == 2


def test_from_optax_refuses_what_is_none():
    """A function that makes a transformation is not one, and the message says so."""
    for wrong in (optax.adam, gradtx.adam, 3, None, "adam"):
        with pytest.raises(TypeError) as raised:
            from_optax(wrong)
        assert_three_parts(raised.value, "from_optax", "not a gradient transformation")


def test_optax_is_imported_lazily():
    """`import gradtx` loads JAX and NumPy, none of the libraries that it works with."""
    code = (
        "import gradtx, gradtx.interop, sys;"
        "print([m for m in ('optax', 'flax', 'equinox', 'torch', 'orbax') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip()) == (0, "[]"), result.stderr
