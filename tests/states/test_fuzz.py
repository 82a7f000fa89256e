"""One entry of a saved state is renamed, dropped or reshaped: exactly that one is named."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import gradtx as gx

from .models import assert_bits, model, said, trained

TXS = {
    "adamw": lambda: gx.adamw(0.1),
    "groups": lambda: gx.partition(
        {"*/bias": gx.sgd(0.1, momentum=0.9), "scale": gx.prodigy(1.0), "*": gx.adafactor(0.1)}
    ),
    "wrapped": lambda: gx.ema(gx.accumulate(gx.adam(0.1), 2)),
    "stored": lambda: gx.store(gx.adam(0.1), {"nu": gx.blockwise(min_size=0), "mu": "bfloat16"}),
}


@functools.cache
def saved(name: str) -> Any:
    tx = TXS[name]()
    params, state = trained(tx)
    return tx, params, state, gx.state_dict(tx, state, params)


def entries(flat: dict[str, Any], *, clocks: bool = False) -> list[str]:
    """The names of arrays; what is lost of a count is taken from the others."""
    counts = ("count", "gradient_step")
    names = [name for name in flat if name != "#schema"]
    return [n for n in names if clocks or n.split("[")[0].split("/")[-1] not in counts]


def both_ways(tx: Any, flat: dict[str, Any], params: Any) -> tuple[str, gx.Report]:
    """The error of a load that allows nothing, and the report of one that allows all."""
    with pytest.raises(ValueError, match="load_state: ") as raised:
        gx.load_state(tx, flat, params)
    return str(raised.value), gx.load_state(tx, flat, params, missing="fresh", unused="report")[1]


def only(text: str, name: str, flat: dict[str, Any]) -> None:
    named = [other for other in flat if f"'{other}'" in text]
    assert named in ([name], []), (named, name)
    assert f"'{name}'" in text, text


drawn = settings(max_examples=12, deadline=None)
some = given(st.sampled_from(sorted(TXS)), st.randoms(use_true_random=False))


@drawn
@some
def test_what_is_dropped_is_named(name: str, random: Any) -> None:
    tx, params, _, flat = saved(name)
    gone = random.choice(entries(flat))
    error, report = both_ways(tx, {k: x for k, x in flat.items() if k != gone}, params)
    only(error, gone, flat)
    assert report.fresh == (gone,)
    assert said(report).keys() <= {"fresh", "notes"}


@drawn
@some
def test_what_is_renamed_is_named_twice(name: str, random: Any) -> None:
    """As what is missing, and as what nobody asked for."""
    tx, params, _, flat = saved(name)
    old = random.choice(entries(flat))
    error, report = both_ways(
        tx, {(k if k != old else "x" + k): v for k, v in flat.items()}, params
    )
    only(error, old, flat)
    assert f"'x{old}'" in error
    assert (report.fresh, report.unused) == ((old,), (f"x{old}",))


@drawn
@some
def test_what_has_another_shape_is_named(name: str, random: Any) -> None:
    tx, params, _, flat = saved(name)
    whole = [n for n in entries(flat) if "#" not in n]
    odd = random.choice(whole)
    x = np.asarray(flat[odd])
    error, report = both_ways(tx, {**flat, odd: np.zeros((*x.shape, 2), x.dtype)}, params)
    only(error, odd, flat)
    assert str((*x.shape, 2)) in error
    assert list(report.reshaped) == [odd]
    assert not report.fresh


@drawn
@some
def test_what_is_too_much_is_named(name: str, random: Any) -> None:
    tx, params, _, flat = saved(name)
    more = f"scale_by_adam/mu/{random.choice(['extra', 'dense', 'dense/kernel/x'])}"
    error, report = both_ways(tx, {**flat, more: np.zeros(3, np.float32)}, params)
    assert f"'{more}'" in error
    assert report.unused == (more,)
    assert said(report).keys() == {"unused"}


@drawn
@some
def test_a_count_that_is_lost_is_taken_from_the_others(name: str, random: Any) -> None:
    """And told of; without any it is missing."""
    tx, params, _, flat = saved(name)
    clocks = [n for n in flat if n not in (*entries(flat), "#schema")]
    gone = random.choice(clocks)
    less = {k: x for k, x in flat.items() if k != gone}
    if len(clocks) == 1:
        error, _ = both_ways(tx, less, params)
        assert f"'{gone}'" in error
        return
    _, report = gx.load_state(tx, less, params)
    assert gone in report.renamed


KINDS: dict[str, Any] = {
    "integers": np.zeros((4, 6), np.int32),
    "complex": np.zeros((4, 6), np.complex64),
    "flags": np.zeros((4, 6), bool),
}


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_number_is_refused(kind: str) -> None:
    tx, params, _, flat = saved("adamw")
    with pytest.raises(ValueError, match=r"'scale_by_adam/mu/dense/kernel' is .* floating here"):
        gx.load_state(tx, {**flat, "scale_by_adam/mu/dense/kernel": KINDS[kind]}, params)


BAD: dict[str, tuple[Any, str]] = {
    "the state itself": (lambda flat: gx.adam(0.1).init(model()), "not an array"),
    "a list": (lambda flat: [1, 2], "dict of named arrays"),
    "a number": (lambda flat: {**flat, "count": 3}, "'count' is int"),
    "a later schema": (lambda flat: {**flat, "#schema": '{"version": 99}'}, "version 99"),
    "no JSON": (lambda flat: {**flat, "#schema": "what"}, "schema"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input(what: str) -> None:
    tx, params, _, flat = saved("adamw")
    make, seen = BAD[what]
    with pytest.raises((TypeError, ValueError), match=seen):
        gx.load_state(tx, make(flat), params)


@pytest.mark.parametrize("option", ["missing", "unused", "counts"])
def test_options_have_names(option: str) -> None:
    tx, params, _, flat = saved("adamw")
    with pytest.raises(ValueError, match=f"{option} is 'ignore'"):
        gx.load_state(tx, flat, params, **{option: "ignore"})  # pyright: ignore


def test_a_schema_that_is_lost_is_told_of() -> None:
    tx, params, state, flat = saved("wrapped")
    back, report = gx.load_state(tx, {k: x for k, x in flat.items() if k != "#schema"}, params)
    assert_bits(back, state)
    assert "schema" in report.notes[0]


def test_other_parameters_are_told_of() -> None:
    """Another model: what is missing, too much and of another shape, all in one error."""
    tx, _, _, flat = saved("adamw")
    other = {"dense": {"bias": jnp.zeros(7), "kernel": jnp.zeros((4, 6))}, "gain": jnp.zeros(())}
    with pytest.raises(ValueError, match="load_state") as raised:
        gx.load_state(tx, flat, other)
    for name in ("scale_by_adam/mu/gain", "scale_by_adam/nu/scale", "scale_by_adam/mu/dense/bias"):
        assert f"'{name}'" in str(raised.value)
