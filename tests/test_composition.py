"""A different transformation, or number, for every array: chain, partition, masked, by_path."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws.cases import arrays, assert_close, assert_same, assert_three_parts, avals

import gradtx
from gradtx import by_path, chain, freeze, masked, partition

PATHS = ("dense/bias", "dense/kernel", "scale")


def moved(tx, grads=None, params=None, **extra):
    """The first updates of a transformation, by path."""
    params = arrays(0) if params is None else params
    grads = jax.tree.map(jnp.ones_like, params) if grads is None else grads
    updates, _ = tx.update(grads, tx.init(params), params, **extra)
    return dict(gradtx.tree.named_leaves(updates))


def factors(tx, **kwargs):
    """By how much a transformation multiplies gradients of ones, by path."""
    return {path: float(u.mean()) for path, u in moved(tx, **kwargs).items() if u is not None}


# chain -----------------------------------------------------------------------------------------


def test_parts_have_names():
    """A part is named after its class, numbered when it repeats, or by its keyword."""
    tx = chain(gradtx.clip(1.0), gradtx.scale(1.0), gradtx.scale(2.0), gradtx.scale(3.0))
    assert list(tx.parts) == ["clip", "scale", "scale_2", "scale_3"]
    tx = chain(gradtx.scale(1.0), scale=gradtx.scale(2.0), last=gradtx.clip(1.0))
    assert list(tx.parts) == ["scale_2", "scale", "last"]
    assert list(chain(first=gradtx.adam(1e-3)).parts) == ["first"]
    assert list(chain(optax.identity()).parts) == ["foreign"]


def test_state_is_keyed_by_names():
    """`state["scale_by_adam"].mu` is there whatever stands before it."""
    params = arrays(0)
    short, long = gradtx.adam(1e-3), chain(gradtx.clip(1.0), gradtx.adam(1e-3))
    assert set(long.init(params)) == {"count", "clip", "scale_by_adam", "scale_by_learning_rate"}
    for name, state in short.init(params).items():
        assert_same(long.init(params)[name], state)


def test_a_schedule_for_a_number_moves_no_path_of_the_state():
    """A checkpoint still fits when a number becomes a schedule, a table or a tree."""
    params = arrays(0)
    expected = avals(gradtx.adamw(1e-3).init(params))
    for rate in (
        gradtx.linear_schedule(1.0, 0.0, 10),
        by_path({"*/bias": 0.1, "*": 1.0}),
        {"dense": 0.1, "scale": gradtx.constant_schedule(1.0)},
        lambda count: 0.1,
    ):
        assert avals(gradtx.adamw(rate).init(params)) == expected


def test_nested_chains_are_flat():
    """A chain in a chain stands for its parts, names given by hand included."""
    inner = chain(gradtx.clip(1.0), mine=gradtx.scale(2.0))
    assert list(chain(inner, gradtx.scale(3.0)).parts) == ["clip", "mine", "scale"]
    assert list(chain(group=inner).parts) == ["group"]
    assert factors(chain(group=inner)) == factors(inner)


def test_order_counts():
    """Parts run first to last."""
    one = chain(gradtx.clip(1.0), gradtx.scale(3.0))
    other = chain(gradtx.scale(3.0), gradtx.clip(1.0))
    assert set(factors(one).values()) == {3.0}
    assert set(factors(other).values()) == {1.0}


def test_chain_passes_extra_arguments_to_every_part():
    """Each part sees them all, wrapped ones too."""
    seen = []

    class spy(gradtx.identity):
        def update(self, updates, state, params=None, **extra):
            seen.append(extra["value"])
            return updates, state

    tx = chain(spy(), partition({"*": chain(spy(), masked(spy(), "*/bias"))}))
    jax.eval_shape(lambda: moved(tx, value=2.0))
    assert seen == [2.0, 2.0, 2.0]


def test_optax_links_stand_anywhere():
    """In a chain, a partition and a mask: as positional part, by keyword, as the inner one."""
    double = optax.scale(2.0)
    for tx in (
        chain(double),
        chain(gradtx.scale(1.0), twice=double),
        partition({"*": double}),
        masked(double, True),
    ):
        assert set(factors(tx).values()) == {2.0}
        assert jax.tree.leaves(tx) in ([], [1.0])
        assert tx == jax.tree.map(lambda x: x, tx)
        jitted = jax.jit(lambda tx, g: tx.update(g, tx.init(g), g)[0])
        assert jitted(tx, jnp.ones(())) == 2.0


# partition -------------------------------------------------------------------------------------

ROUTES = {
    "patterns": lambda a, b: partition({"dense/*": a, "*": b}),
    "predicate": lambda a, b: partition(
        {"a": a, "b": b}, lambda path, x: "a" if path.startswith("dense/") else "b"
    ),
    "by shape": lambda a, b: partition({1: a, 2: b}, lambda path, x: 1 if x.ndim else 2),
    "prefix tree": lambda a, b: partition({"a": a, "b": b}, {"dense": "a", "scale": "b"}),
    "label tree": lambda a, b: partition(
        {"a": a, "b": b}, {"dense": {"bias": "a", "kernel": "a"}, "scale": "b"}
    ),
    "bools": lambda a, b: partition({True: a, False: b}, {"dense": True, "scale": False}),
}


@pytest.mark.parametrize("route", ROUTES)
def test_partition_routes(route):
    """By pattern, predicate, label tree or prefix of one, each array goes to its own."""
    tx = ROUTES[route](gradtx.scale(2.0), gradtx.scale(3.0))
    assert factors(tx) == {"dense/bias": 2.0, "dense/kernel": 2.0, "scale": 3.0}


def test_the_first_pattern_that_fits_counts():
    """Patterns are tried in the order in which they were given."""
    tx = partition({"*/bias": gradtx.scale(2.0), "dense/*": gradtx.scale(3.0), "*": freeze()})
    assert factors(tx) == {"dense/bias": 2.0, "dense/kernel": 3.0, "scale": 0.0}


def test_patterns():
    """`*` crosses slashes, a leading `*/` fits the top as well, `?` and `[]` work."""
    params = {"bias": jnp.ones(()), "a": {"b": [{"bias": jnp.ones(())}, jnp.ones(())]}}
    for pattern, fitting in {
        "*/bias": {"bias", "a/b/0/bias"},
        "a/*": {"a/b/0/bias", "a/b/1"},
        "a/b/?": {"a/b/1"},
        "a/b/[0-9]/bias": {"a/b/0/bias"},
        "bias": {"bias"},
        "*": {"bias", "a/b/0/bias", "a/b/1"},
        "nothing": set(),
    }.items():
        found = factors(masked(gradtx.scale(1.0), pattern), params=params)
        assert {path for path, factor in found.items() if factor} == fitting, pattern


def test_partition_state_is_keyed_by_its_entries():
    """Each entry remembers its own arrays only; what is frozen costs nothing."""
    tx = partition({"*/bias": gradtx.adam(1e-3), "*": freeze()})
    state = tx.init(arrays(0))
    assert set(state) == {"count", "*/bias", "*"}
    assert [x.shape for x in jax.tree.leaves(state["*/bias"]["scale_by_adam"].mu)] == [(3,)]
    assert jax.tree.leaves(state["*"]) == []


def test_frozen_arrays_get_zero_updates():
    """Not None, not the gradient: zeros, so that the tree of updates is whole."""
    updates = moved(partition({"*/bias": gradtx.scale(2.0), "*": freeze()}))
    assert set(updates) == set(PATHS)
    assert not updates["dense/kernel"].any()
    assert updates["dense/bias"].all()


def test_partition_without_an_entry():
    """Arrays that go nowhere are listed by path."""
    with pytest.raises(ValueError, match="no entry for") as raised:
        jax.eval_shape(partition({"dense/*": gradtx.scale(2.0)}).init, arrays(0))
    assert_three_parts(raised.value, "partition(", "'scale'", "'dense/*'")
    wrong = partition({"a": gradtx.scale(2.0)}, {"dense": "a", "scale": "b"})
    with pytest.raises(ValueError, match="no entry for 'scale'"):
        jax.eval_shape(wrong.init, arrays(0))


def test_partition_with_an_unused_entry():
    """A pattern that fits no array, or none that is left, is most often misspelt."""
    for table in (
        {"*/bais": gradtx.scale(2.0), "*": freeze()},
        {"*": gradtx.scale(2.0), "*/bias": freeze()},
    ):
        with pytest.raises(ValueError, match="no array goes to") as raised:
            jax.eval_shape(partition(table).init, arrays(0))
        assert_three_parts(raised.value, "dense/bias")
    wrong = partition({"a": freeze(), "b": freeze()}, lambda path, x: "a")
    with pytest.raises(ValueError, match="no array goes to 'b'"):
        jax.eval_shape(wrong.init, arrays(0))


def test_labels_that_do_not_fit():
    """A label tree of another model is refused with the paths, not by JAX's internals."""
    params = arrays(0)
    for tx in (
        partition({"a": gradtx.scale(1.0)}, {"dense": "a", "other": "a"}),
        masked(gradtx.scale(1.0), {"dense": True, "other": True}),
        gradtx.adamw(1e-3, mask={"dense": True, "other": True}),
    ):
        with pytest.raises((TypeError, ValueError)) as raised:
            jax.eval_shape(lambda p, tx=tx: tx.update(p, tx.init(p), p), params)
        assert_three_parts(raised.value, "other")


def test_state_of_another_partition():
    """A state without the entries is refused with both lists."""
    params = arrays(0)
    tx = partition({"*/bias": gradtx.sgd(0.1), "*": freeze()})
    for state in (partition({"*": gradtx.sgd(0.1)}).init(params), (), gradtx.sgd(0.1).init(params)):
        with pytest.raises(TypeError, match="state") as raised:
            jax.eval_shape(lambda p, s=state: tx.update(p, s, p), params)
        assert_three_parts(raised.value, "partition(", "init")


def test_gradients_of_another_tree():
    """Partition and masks name the arrays that only one of the trees has."""
    params = arrays(0)
    grads = {"dense": params["dense"]}
    for tx in (
        partition({"*/bias": gradtx.sgd(0.1), "*": freeze()}),
        masked(gradtx.scale(1.0), "*/bias"),
        freeze("*/bias"),
    ):
        with pytest.raises(ValueError, match="different trees") as raised:
            jax.eval_shape(lambda g, p, tx=tx: tx.update(g, tx.init(p), p), grads, params)
        assert_three_parts(raised.value, "'scale'")


def test_partition_leaves_other_leaves_alone():
    """None, integers and keys need no entry and keep their place."""
    params = {"p": jnp.ones(2), "none": None, "i": jnp.arange(2), "key": jax.random.key(0)}
    grads = {"p": jnp.ones(2), "none": None, "i": None, "key": None}
    tx = partition({"p": gradtx.scale(2.0)})
    updates, state = tx.update(grads, tx.init(params), params)
    assert_same(updates, {**grads, "p": jnp.full(2, 2.0)})
    assert_same(gradtx.apply_updates(params, updates), {**params, "p": jnp.full(2, 3.0)})
    assert avals(state) == avals(tx.init(params))


def test_partition_without_parameters():
    """Where no part needs the parameters, updates route themselves."""
    tx = partition({"*/bias": gradtx.scale(2.0), "*": freeze()})
    grads = arrays(1)
    state = tx.init(grads)
    assert_same(tx.update(grads, state), tx.update(grads, state, grads))


def test_partition_of_one_bare_array():
    """An array that is the whole tree has the empty path, which "*" fits."""
    tx = partition({"*": gradtx.adamw(1e-3)})
    params = jnp.ones(3)
    updates, _ = tx.update(params, tx.init(params), params)
    assert updates.shape == (3,)
    tx = masked(gradtx.adamw(1e-3), False)
    updates, _ = tx.update(params, tx.init(params), params)
    assert not updates.any()


def test_global_norm_of_a_partition_is_of_its_arrays():
    """What looks at all arrays sees only those that are its own."""
    tx = partition({"*/bias": gradtx.clip_by_global_norm(1.0), "*": gradtx.scale(1.0)})
    updates = moved(tx)
    np.testing.assert_allclose(jnp.linalg.norm(updates["dense/bias"]), 1.0, rtol=1e-6)
    assert (updates["dense/kernel"] == 1).all()


# masked and freeze -----------------------------------------------------------------------------

MASKS = {
    "pattern": "*/bias",
    "predicate": lambda path, x: path.endswith("bias"),
    "shape": lambda path, x: x.shape == (3,),
    "tree": {"dense": {"bias": True, "kernel": False}, "scale": False},
    "NumPy bools": {"dense": {"bias": np.True_, "kernel": np.False_}, "scale": np.False_},
}


@pytest.mark.parametrize("mask", MASKS)
def test_masked(mask):
    """Zero outside the mask unless told to pass; state inside only."""
    tx = masked(gradtx.scale_by_momentum(), MASKS[mask])
    assert factors(tx) == {"dense/bias": 1.0, "dense/kernel": 0.0, "scale": 0.0}
    passing = masked(gradtx.scale(2.0), MASKS[mask], outside="pass")
    assert factors(passing) == {"dense/bias": 2.0, "dense/kernel": 1.0, "scale": 1.0}
    slots = jax.tree.leaves(tx.init(arrays(0)).trace)
    assert [x.shape for x in slots] == [(3,)]


@pytest.mark.parametrize("mask", MASKS)
def test_freeze(mask):
    """Zero inside the mask, as they were outside, without a state."""
    tx = freeze(MASKS[mask])
    assert factors(tx) == {"dense/bias": 0.0, "dense/kernel": 1.0, "scale": 1.0}
    assert jax.tree.leaves(tx.init(arrays(0))) == []


def test_freeze_everything():
    """Without a mask nothing moves, not even along a gradient that is not finite."""
    grads = jax.tree.map(lambda x: x * jnp.nan, arrays(0))
    assert set(factors(freeze(), grads=grads).values()) == {0.0}
    assert set(factors(masked(gradtx.scale(1.0), False), grads=grads).values()) == {0.0}


def test_prefix_masks():
    """A flag for a subtree counts for all of it; one flag counts for everything."""
    tx = masked(gradtx.scale(2.0), {"dense": True, "scale": False})
    assert factors(tx) == {"dense/bias": 2.0, "dense/kernel": 2.0, "scale": 0.0}


def test_outside_is_checked():
    """A misspelt word is refused by the constructor."""
    with pytest.raises(ValueError, match="outside is 'keep'") as raised:
        masked(gradtx.scale(1.0), True, outside="keep")
    assert_three_parts(raised.value, "'zero'", "'pass'")


def test_masks_may_be_modules():
    """Label and mask trees made from an Equinox model are callable and are never called."""
    model = eqx.nn.MLP(2, 2, 3, 1, key=jax.random.key(0))
    params = eqx.filter(model, eqx.is_inexact_array)
    flags = jax.tree.map(lambda x: x.ndim == 2, params)
    labels = jax.tree.map(lambda x: "matrix" if x.ndim == 2 else "vector", params)
    for tx in (
        masked(gradtx.scale(1.0), flags),
        freeze(jax.tree.map(lambda flag: not flag, flags)),
        partition({"matrix": gradtx.scale(1.0), "vector": freeze()}, labels),
    ):
        found = factors(tx, params=params)
        assert {path.split("/")[-1] for path, x in found.items() if x} == {"weight"}
    state = gradtx.adamw(1e-3, mask=flags).init(params)
    assert len(jax.tree.leaves(state["scale_by_adam"].mu)) == 4


# Hyperparameters of one array ------------------------------------------------------------------

PER_ARRAY = {
    "by_path": by_path({"*/bias": 2.0, "dense/*": 3.0, "*": 4.0}),
    "labels": by_path({"b": 2.0, "k": 3.0, "s": 4.0}, lambda path, x: path.split("/")[-1][0]),
    "tree": {"dense": {"bias": 2.0, "kernel": 3.0}, "scale": 4.0},
    "schedules": {
        "dense": {"bias": gradtx.constant_schedule(2.0), "kernel": lambda count: 3.0},
        "scale": 4.0,
    },
    "schedules by path": by_path(
        {"*/bias": lambda count: 2.0, "dense/*": gradtx.linear_schedule(3.0, 0.0, 9), "*": 4.0}
    ),
    "arrays": {"dense": {"bias": jnp.float32(2), "kernel": np.float64(3)}, "scale": 4},
}
SIZES = {"dense/bias": 2.0, "dense/kernel": 3.0, "scale": 4.0}


@pytest.mark.parametrize("kind", PER_ARRAY)
def test_a_number_for_every_array(kind):
    """By pattern, label or tree, of numbers, arrays or schedules: the same result."""
    assert factors(gradtx.scale(PER_ARRAY[kind])) == SIZES


@pytest.mark.parametrize("kind", PER_ARRAY)
def test_a_number_for_every_array_under_jit(kind):
    """The same when the optimizer is an argument of a compiled function."""
    tx, params = gradtx.scale(PER_ARRAY[kind]), jax.tree.map(jnp.ones_like, arrays(0))
    updates = jax.jit(lambda tx, p: tx.update(p, tx.init(p), p)[0])(tx, params)
    assert {k: float(u.mean()) for k, u in gradtx.tree.named_leaves(updates)} == SIZES


def test_prefix_trees_of_numbers():
    """One number for a subtree; lists and tuples are trees as well."""
    assert factors(gradtx.scale({"dense": 2.0, "scale": 3.0})) == {
        "dense/bias": 2.0,
        "dense/kernel": 2.0,
        "scale": 3.0,
    }
    params = [jnp.ones(2), (jnp.ones(2), jnp.ones(2))]
    found = factors(gradtx.scale([2.0, (3.0, 4.0)]), params=params)
    assert found == {"0": 2.0, "1/0": 3.0, "1/1": 4.0}


def test_every_hyperparameter_may_differ_between_arrays():
    """Two numbers with different tables act as one optimizer for each array."""
    tx = gradtx.adamw(
        {"dense": 0.1, "scale": 0.2},
        b1=by_path({"*/bias": 0.5, "*": 0.9}),
        weight_decay=by_path({"*/kernel": 0.3, "*": 0.0}),
    )
    each = partition(
        {
            "*/bias": gradtx.adamw(0.1, b1=0.5, weight_decay=0.0),
            "*/kernel": gradtx.adamw(0.1, weight_decay=0.3),
            "*": gradtx.adamw(0.2, weight_decay=0.0),
        }
    )
    params, grads = arrays(0), arrays(1)
    state, states = tx.init(params), each.init(params)
    for _ in range(3):
        one, state = tx.update(grads, state, params)
        other, states = each.update(grads, states, params)
    assert_close(one, other)


def test_mask_of_adamw():
    """`mask` spares arrays the decay: a tree, a predicate, or a pattern table by hand."""
    params, zero = arrays(0), jax.tree.map(jnp.zeros_like, arrays(0))
    for tx in (
        gradtx.adamw(1.0, weight_decay=0.5, mask={"dense": True, "scale": False}),
        gradtx.adamw(1.0, weight_decay=0.5, mask=lambda path, x: x.ndim > 0),
        gradtx.adamw(1.0, weight_decay=by_path({"dense/*": 0.5, "*": 0.0})),
    ):
        updates = moved(tx, grads=zero, params=params)
        np.testing.assert_allclose(updates["dense/kernel"], -0.5 * params["dense"]["kernel"])
        assert updates["scale"] == 0


def test_initial_values_for_every_array():
    """A table reaches what init computes as well."""
    table = by_path({"*/bias": 1.0, "*": 2.0})
    state = gradtx.scale_by_adagrad(initial_accumulator_value=table).init(arrays(0))
    assert (state.sum_of_squares["dense"]["bias"] == 1).all()
    assert (state.sum_of_squares["dense"]["kernel"] == 2).all()


def test_schedules_of_the_parts_of_a_partition_count_alone():
    """Schedules see the number of updates done: 0 at the first."""
    tx = gradtx.scale(lambda count: count)
    params = jnp.ones(())
    state, seen = tx.init(params), []
    for _ in range(3):
        updates, state = tx.update(params, state, params)
        seen.append(float(updates))
    assert seen == [0.0, 1.0, 2.0]


def test_unused_and_missing_patterns():
    """The tables of a number are checked by init like those of a partition."""
    for table, match in (
        ({"*/bais": 0.0, "*": 1.0}, "no array goes to '\\*/bais'"),
        ({"*/bias": 0.0}, "no entry for"),
    ):
        with pytest.raises(ValueError, match=match) as raised:
            jax.eval_shape(gradtx.adamw(1e-3, weight_decay=by_path(table)).init, arrays(0))
        assert_three_parts(raised.value, "add_decayed_weights(weight_decay=by_path(")


def test_tables_are_data():
    """The numbers of a table can be swept and differentiated; their patterns are keys."""
    params = arrays(0)

    def first_update(tx):
        return tx.update(params, tx.init(params), params)[0]["scale"]

    tx = gradtx.scale(by_path({"dense/*": 2.0, "*": 3.0}))
    slope = jax.grad(first_update)(tx)
    assert slope.step_size.table["dense/*"] == 0.0
    np.testing.assert_allclose(slope.step_size.table["*"], params["scale"])
    stack = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), tx)
    found = jax.vmap(first_update)(stack)
    np.testing.assert_allclose(found, jnp.stack([3 * params["scale"], 6 * params["scale"]]))


# Noise -----------------------------------------------------------------------------------------


def test_noise_depends_on_path_step_and_key_alone():
    """Other arrays and their order do not matter; path, step and key do."""
    tx, zero = gradtx.add_noise(1.0), jnp.zeros(4)
    one, _ = tx.update({"a": zero, "b": zero}, tx.init({"a": zero, "b": zero}))
    more = {"A": zero, "a": zero, "b": zero}
    two, state = tx.update(more, tx.init(more))
    assert_same(one, {"a": two["a"], "b": two["b"]})
    assert (one["a"] != one["b"]).all()
    later, _ = tx.update(more, state)
    assert (later["a"] != two["a"]).all()
    for key in (1, jax.random.key(1)):
        other = tx.replace(key=key)
        assert (other.update(more, other.init(more))[0]["a"] != two["a"]).all()


def test_noise_of_a_stack():
    """Each member of a stack draws by its own key."""
    keys = jax.random.split(jax.random.key(0), 3)
    drawn = jax.vmap(
        lambda key: gradtx.add_noise(1.0, key=key).update(
            jnp.zeros(5), gradtx.add_noise(1.0).init(jnp.zeros(5))
        )[0]
    )(keys)
    assert len(np.unique(drawn)) == 15
