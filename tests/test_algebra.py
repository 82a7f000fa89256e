"""The algebra of transformations, for any composition that hypothesis makes up."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from laws.cases import (
    FEW,
    KINDS,
    ROWS,
    arrays,
    assert_close,
    assert_same,
    at_random,
    build,
    over,
    over_kinds,
    parts,
    tree,
    update,
    update_as_data,
)

import gradtx
from gradtx import chain, masked, partition
from gradtx.clocked import Clocked

few = settings(max_examples=12, deadline=None, derandomize=True, database=None)
numbers = st.floats(0.125, 2.0, width=32)

LINKS = {
    "scale": lambda x: gradtx.scale(x),
    "clip": lambda x: gradtx.clip(x),
    "clip_by_norm": lambda x: gradtx.clip_by_norm(x),
    "clip_by_global_norm": lambda x: gradtx.clip_by_global_norm(x),
    "scale_by_momentum": lambda x: gradtx.scale_by_momentum(x / 2.5),
    "scale_by_adam": lambda x: gradtx.scale_by_adam(x / 2.5),
    "add_decayed_weights": lambda x: gradtx.add_decayed_weights(x),
    "identity": lambda _: gradtx.identity(),
    "masked": lambda x: masked(gradtx.scale(x), "*/kernel", outside="pass"),
}
links = st.builds(lambda name, x: LINKS[name](x), st.sampled_from(sorted(LINKS)), numbers)
SMALL = {"dense": {"bias": (3,), "kernel": (2, 2)}}


def _steps(tx, steps=2):
    """The updates of some steps."""
    params, state, out = arrays(0, shapes=SMALL), None, []
    state = tx.init(params)
    for seed in range(1, steps + 1):
        updates, state = update(tx, arrays(seed, shapes=SMALL), state, params)
        out.append(updates)
    return out


def _assert_alike(one, other):
    assert_close(_steps(one), _steps(other), rtol=1e-5)


# Chains ----------------------------------------------------------------------------------------


@few
@given(st.lists(links, min_size=3, max_size=3))
def test_chain_is_associative(parts):
    """However a chain is bracketed, it is the same object with the same state and numbers."""
    a, b, c = parts
    flat = chain(a, b, c)
    assert chain(chain(a, b), c) == flat == chain(a, chain(b, c))
    assert hash(chain(chain(a, b), c)) == hash(flat)
    assert repr(chain(chain(a, b), c)) == repr(flat) == repr(chain(a, chain(b, c)))
    assert chain(flat) == flat


@few
@given(st.lists(links, min_size=1, max_size=4))
def test_chain_is_its_parts_one_by_one(parts):
    """A run of rules, fused into one function per array, computes what the rules do in turn."""
    params, whole = arrays(0, shapes=SMALL), chain(*parts)
    state = whole.init(params)
    states = [part.init(params) for part in parts]
    for seed in (1, 2):
        grads = arrays(seed, shapes=SMALL)
        updates, state = whole.update(grads, state, params)
        for index, part in enumerate(parts):
            grads, states[index] = part.update(grads, states[index], params)
        assert_close(updates, grads, rtol=1e-5)
    states = [_as_part(part, s) for part, s in zip(parts, states, strict=True)]
    assert_close([state[name] for name in whole.parts], states, rtol=1e-5)


ONE_STEP = {"count": np.int32(1), "gradient_step": {"*": np.int32(1)}}


def _as_part(tx, state):
    """The state that a transformation has in a chain, which counts for it."""
    return tx._without_count(state)[1] if isinstance(tx, Clocked) else state


@few
@given(links, st.integers(0, 1))
def test_identity_is_neutral(link, place):
    """Before or after anything `identity` changes nothing, and neither does an empty chain."""
    pair = [link]
    pair.insert(place, gradtx.identity())
    _assert_alike(chain(*pair), link)
    assert chain(chain(), link, chain()) == chain(link)


def test_the_empty_chain_is_the_identity():
    """No parts, no state but a count, no change."""
    params, tx = arrays(0), chain()
    state = tx.init(params)
    assert_same(state, {"count": np.int32(0)})
    assert_same(tx.update(params, state, params), (params, {"count": np.int32(1)}))


@few
@given(st.floats(-2, 2, width=32), st.floats(-2, 2, width=32))
def test_scales_multiply(a, b):
    """scale(a) then scale(b) is scale(ab)."""
    _assert_alike(chain(gradtx.scale(a), gradtx.scale(b)), gradtx.scale(float(np.float32(a) * b)))


@few
@given(st.floats(-2, 2, width=32))
def test_the_learning_rate_is_a_negative_scale(rate):
    """scale_by_learning_rate(x) is scale(-x); without flipping the sign it is scale(x)."""
    _assert_alike(gradtx.scale_by_learning_rate(rate), gradtx.scale(-rate))
    _assert_alike(gradtx.scale_by_learning_rate(rate, flip_sign=False), gradtx.scale(rate))


@few
@given(st.sampled_from(["clip", "clip_by_norm", "clip_by_global_norm"]), numbers)
def test_clipping_is_idempotent(name, limit):
    """Twice is once, and what is within the limit is not touched at all."""
    once = LINKS[name](limit)
    _assert_alike(chain(once, once), once)
    small = jax.tree.map(lambda x: x * 1e-4, arrays(1, shapes=SMALL))
    assert_same(once.update(small, once.init(small))[0], small)


@few
@given(st.lists(numbers, min_size=2, max_size=2, unique=True))
def test_clipping_twice_is_clipping_to_the_smaller(limits):
    """The order of two clips of a kind does not matter."""
    for name in ("clip", "clip_by_norm", "clip_by_global_norm"):
        both = chain(*(LINKS[name](limit) for limit in limits))
        _assert_alike(both, LINKS[name](min(limits)))


# Wrappers --------------------------------------------------------------------------------------


@few
@given(links)
def test_masked_everywhere_is_inner(link):
    """masked(inner, True) is inner, state included; masked nowhere gives zeros or passes."""
    params, grads = arrays(0, shapes=SMALL), arrays(1, shapes=SMALL)
    for mask in (True, "*", {"dense": True}, lambda path, x: True):
        _assert_alike(masked(link, mask), link)
        assert_same(masked(link, mask).init(params), link.init(params))
    for outside, expected in (("zero", jax.tree.map(jnp.zeros_like, grads)), ("pass", grads)):
        tx = masked(link, False, outside=outside)
        assert_same(tx.update(grads, tx.init(params), params)[0], expected)


@few
@given(links)
def test_partition_with_one_label_is_inner(link):
    """One pattern or one label for all arrays is the transformation itself."""
    params = arrays(0, shapes=SMALL)
    for tx in (
        partition({"*": link}),
        partition({"all": link}, "all"),
        partition({"all": link}, lambda path, x: "all"),
    ):
        _assert_alike(tx, link)
        (name,) = tx.transforms
        assert_same(tx.init(params)[name], _as_part(link, link.init(params)))


@few
@given(links, links)
def test_partition_is_a_mask_for_each(one, other):
    """Two entries are two masked transformations whose updates are added."""
    both = partition({"*/bias": one, "*": other})
    bias, kernel = masked(one, "*/bias"), masked(other, "*/kernel")
    added = jax.tree.map(jnp.add, _steps(bias), _steps(kernel))
    assert_close(_steps(both), added, rtol=1e-5)


@few
@given(links, links)
def test_wrappers_of_wrappers(one, other):
    """Masked in a partition in a chain in a mask: still the plain parts, array by array."""
    inner = chain(one, other)
    deep = masked(partition({"*/bias": masked(inner, "*"), "*": masked(inner, True)}), True)
    flat = partition({"*/bias": inner, "*": inner})
    _assert_alike(deep, flat)
    _assert_alike(masked(masked(one, "*/bias"), "*/bias"), masked(one, "*/bias"))


def test_masks_that_do_not_meet_give_zero():
    """masked(masked(tx, A), B) moves the arrays of A and B alone."""
    grads = arrays(1, shapes=SMALL)
    tx = masked(masked(gradtx.scale(2.0), "*/bias"), "*/kernel")
    updates, _ = tx.update(grads, tx.init(grads), grads)
    assert_same(updates, jax.tree.map(jnp.zeros_like, grads))


# Every row -------------------------------------------------------------------------------------


def _treats_arrays_alone(tx):
    """A rule, or a chain of rules."""
    whole = list(tx.parts.values()) if isinstance(tx, chain) else [tx]
    return all(isinstance(part, gradtx.Rule) for part in whole)


RULES = {name: row for name, row in ROWS.items() if _treats_arrays_alone(build(row))}


@over(RULES, KINDS)
def test_rules_commute_with_regrouping(row):
    """What treats every array alone gives an array the same update in any tree.

    What draws at random follows the path of an array, so it keeps its updates in any order only.
    Arrays that decide together add up in another order, which rounds differently.
    """
    tx = build(row)
    joint = any(isinstance(part, gradtx.JointRule) for part in parts(tx))
    check = assert_close if joint else assert_same
    shapes = {"a": (3,), "b": (3,), "c": (3,), "d": (3,)}
    params, grads = tree(0, shapes=shapes), tree(1, shapes=shapes)
    regroup = {
        "list": lambda t: [t["d"], t["b"], t["c"], t["a"]],
        "nested": lambda t: {"x": (t["c"], {"y": t["a"]}), "z": [t["b"], t["d"]]},
        "renamed": lambda t: {"w": t["a"], "v": t["b"], "u": t["c"], "t": t["d"]},
    }
    if at_random(tx):
        regroup = {"more": lambda t: {**t, "B": t["a"], "e": t["b"]}}
    updates, _ = update_as_data(tx, grads, tx.init(params), params)
    for change in regroup.values():
        other = change(params)
        found, _ = update_as_data(tx, change(grads), tx.init(other), other)
        expected = change(updates)
        if at_random(tx):
            found, expected = ({k: t[k] for k in shapes} for t in (found, expected))
        check(found, expected)


@over(ROWS, FEW | {"scale_by_dog", "clip_by_norm"})
def test_rows_wrap(row):
    """Each row in `masked(True)`, in a one-pattern `partition` and in a chain is itself."""
    tx, params, grads = build(row), arrays(0), arrays(1)
    expected, state = update(tx, grads, tx.init(params), params)
    wrapped = masked(tx, True)
    assert_same(update(wrapped, grads, wrapped.init(params), params), (expected, state))
    if isinstance(tx, gradtx.store) or any(
        getattr(p, "seed_field", "") or getattr(p, "random", False) for p in parts(tx)
    ):
        return  # what is drawn belongs to the place in the whole optimizer
    wrapped = partition({"*": tx})
    assert_same(
        update(wrapped, grads, wrapped.init(params), params),
        (expected, {**ONE_STEP, "*": _as_part(tx, state)}),
    )
    wrapped = chain(tx)
    assert_same(update(wrapped, grads, wrapped.init(params), params)[0], expected)


@over_kinds
def test_eval_params_pass_every_wrapper(row):
    """A chain, a mask and a partition show the evaluation parameters of what is inside them."""
    tx, params = build(row), arrays(0)
    expected = tx.eval_params(tx.init(params), params)
    for wrapped in (masked(tx, True), partition({"*": tx}), chain(gradtx.identity(), tx)):
        assert_same(wrapped.eval_params(wrapped.init(params), params), expected)


def test_apply_updates_adds_in_wide_arithmetic():
    """Narrow parameters are moved in float32 and rounded once; None and integers stay."""
    params = {"a": jnp.ones(2, jnp.bfloat16), "i": jnp.arange(2), "n": None, "m": jnp.ones(2)}
    updates = {"a": jnp.full(2, 2**-7), "i": jnp.ones(2, jnp.int32), "n": None, "m": None}
    moved = gradtx.apply_updates(params, updates)
    np.testing.assert_array_equal(np.asarray(moved["a"], np.float32), np.full(2, 1 + 2**-7))
    assert moved["a"].dtype == jnp.bfloat16
    assert_same((moved["i"], moved["n"], moved["m"]), (params["i"], None, params["m"]))


def test_hypothesis_sees_different_results():
    """The comparison behind these tests tells transformations apart."""
    with pytest.raises(AssertionError):
        _assert_alike(gradtx.scale(0.5), gradtx.scale(0.50002))
    with pytest.raises(AssertionError):
        assert_same(tree(0), tree(1))
