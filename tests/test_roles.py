"""Who moves what: matrices that are named, by one learning rate or two; what `describe` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx import Axes


def model() -> dict[str, Any]:
    return {
        "embed": {"table": jnp.ones((5, 4))},
        "layers": {"qkv": jnp.ones((2, 4, 12)), "bias": jnp.ones((2, 12))},
        "conv": {"kernel": jnp.ones((2, 2, 3, 4))},
        "up": {"kernel": jnp.ones((4, 6)), "bias": jnp.ones(6)},
    }


MATRICES = {"layers/qkv": Axes("bio", 3), "conv/kernel": "iiio", "*/kernel": "io"}


def with_momentum(state: Any) -> Any:
    parts = state.values() if isinstance(state, dict) else [state]
    return next(part for part in parts if "mu" in getattr(part, "_fields", ()))


def moved(state: Any) -> set[str]:
    """The paths of the arrays for which a state has a momentum."""
    return {path for path, mu in gradtx.tree.named_leaves(state.mu) if mu is not None}


@pytest.mark.parametrize(
    "make", [gradtx.muon, gradtx.normuon, gradtx.adamuon, gradtx.adago, gradtx.dion, gradtx.scion]
)
def test_matrices_are_those_that_are_named(make: Callable[..., Any]) -> None:
    """An embedding and a stack of biases have two axes and are no matrices."""
    tx = make(0.1, matrices=MATRICES)
    state = tx.init(model())
    inside, rest = (with_momentum(state[role]) for role in ("matrices", "rest"))
    assert moved(inside) == {"layers/qkv", "conv/kernel", "up/kernel"}
    assert moved(rest) == {"embed/table", "layers/bias", "up/bias"}
    u, _ = tx.update(model(), tx.init(model()), model())
    assert all(jnp.all(x < 0) for x in jax.tree.leaves(u))


def test_ways_to_name_matrices() -> None:
    """Patterns, exclusions, one pattern alone, labels as a predicate or a tree: the same."""
    params = {"a": {"kernel": jnp.ones((2, 3))}, "head": {"kernel": jnp.ones((3, 2))}}
    labels = {"a": {"kernel": "hidden"}, "head": {"kernel": "other"}}
    ways = [
        gradtx.muon(0.1, matrices="a/kernel"),
        gradtx.muon(0.1, matrices={"head/*": None, "*/kernel": Axes("io")}),
        gradtx.muon(0.1, matrices={"hidden": "io", "other": None}, labels=labels),
        gradtx.muon(
            0.1,
            matrices={"hidden": "io", "other": None},
            labels=lambda path, _: "other" if path.startswith("head") else "hidden",
        ),
    ]
    first, *others = (tx.update(params, tx.init(params), params)[0] for tx in ways)
    for u in others:
        assert all(map(np.array_equal, jax.tree.leaves(u), jax.tree.leaves(first)))
    assert not np.allclose(first["a"]["kernel"], first["head"]["kernel"].T)


@pytest.mark.parametrize(
    ("matrices", "seen"),
    [
        (None, "nobody said which arrays are matrices"),
        ({}, "nobody said which arrays are matrices"),
        ({"*": None}, "no matrix is named"),
        ("*/kernle", "no array goes to 'matrices'"),
        ({"up/kernle": "io", "*/kernel": "io", "conv/*": None}, "no array goes to 'up/kernle'"),
        ({"*/bias": "io"}, "at 'up/bias' the parameter is float32.6.: .* names 2 axes"),
    ],
)
def test_nothing_is_guessed(matrices: Any, seen: str) -> None:
    """What is not said, or said of no array, is an error that tells what to say."""
    with pytest.raises(ValueError, match=seen):
        gradtx.muon(0.1, matrices=matrices).init(model())


def test_one_learning_rate_or_an_auxiliary_optimizer() -> None:
    """Without an auxiliary optimizer one learning rate serves all arrays."""
    tx = gradtx.muon(0.1, matrices=MATRICES, weight_decay=0.0)
    params = model()
    full, half = (
        t.update(params, t.init(params), params)[0] for t in (tx, tx.replace(learning_rate=0.05))
    )
    for a, b in zip(jax.tree.leaves(full), jax.tree.leaves(half), strict=True):
        np.testing.assert_allclose(a, 2 * b, rtol=1e-6)
    own = gradtx.muon(0.1, matrices=MATRICES, weight_decay=0.0, auxiliary=gradtx.sgd(3.0))
    u, _ = own.update(params, own.init(params), params)
    np.testing.assert_array_equal(u["up"]["bias"], -3 * params["up"]["bias"])
    np.testing.assert_allclose(u["up"]["kernel"], full["up"]["kernel"], rtol=1e-6)


def test_learning_rates_by_path_reach_both_parts() -> None:
    """A pattern may be for arrays of one part only; one that is for none is refused."""
    params = model()
    usual = gradtx.muon(0.1, matrices=MATRICES)
    full, _ = usual.update(params, usual.init(params), params)
    rates = gradtx.by_path({"up/bias": 0.2, "up/kernel": 0.3, "*": 0.1})
    tx = gradtx.muon(rates, matrices=MATRICES)
    u, _ = tx.update(params, tx.init(params), params)
    np.testing.assert_allclose(u["up"]["bias"], 2 * full["up"]["bias"], rtol=1e-6)
    np.testing.assert_allclose(u["up"]["kernel"], 3 * full["up"]["kernel"], rtol=1e-6)
    wrong = gradtx.muon(gradtx.by_path({"up/bais": 0.2, "*": 0.1}), matrices=MATRICES)
    with pytest.raises(ValueError, match="no array goes to 'up/bais'"):
        wrong.init(params)


def test_describe(capsys: pytest.CaptureFixture[str]) -> None:
    """The table says where every array goes, as which matrices and why; shapes are enough."""
    params = {**model(), "index": jnp.arange(3), "none": None}
    tx = gradtx.chain(
        gradtx.clip(1.0),
        gradtx.muon(0.1, matrices={**MATRICES, "embed/*": None}, auxiliary=gradtx.freeze()),
    )
    tx.describe(jax.eval_shape(lambda: params))
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    table = {line[0]: [cell.strip() for cell in line[1:] if cell] for line in lines}
    muon = "clip > scale_by_muon > add_decayed_weights > scale_by_learning_rate"
    assert table == {
        "array": ["type", "moved by", "as", "why"],
        lines[1][0]: [],
        "conv/kernel": [
            "float32[2, 2, 3, 4]", muon, "(12 in, 4 out)", "fits 'conv/kernel'",
        ],
        "embed/table": ["float32[5, 4]", "clip > freeze", "fits 'embed/*'"],
        "index": ["int32[3]", "nothing", "no floating or complex array"],
        "layers/bias": ["float32[2, 12]", "clip > freeze", "fits '*'"],
        "layers/qkv": ["float32[2, 4, 12]", muon, "6 x (4 in, 4 out)", "fits 'layers/qkv'"],
        "up/bias": ["float32[6]", "clip > freeze", "fits '*'"],
        "up/kernel": ["float32[4, 6]", muon, "(4 in, 6 out)", "fits '*/kernel'"],
    }  # fmt: skip


def test_describe_goes_into_masks_and_wrappers(capsys: pytest.CaptureFixture[str]) -> None:
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    gradtx.masked(gradtx.mechanic(gradtx.sgd(0.1)), {"a": True, "b": False}).describe(params)
    a, b = capsys.readouterr().out.splitlines()[2:]
    assert "mechanic(scale_by_learning_rate)" in a
    assert "outside the mask" in b
    labels = gradtx.partition({"x": gradtx.sgd(0.1), "y": gradtx.freeze()}, {"a": "x", "b": "y"})
    labels.describe(params)
    assert "its label 'x'" in capsys.readouterr().out
