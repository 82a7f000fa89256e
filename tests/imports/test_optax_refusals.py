"""What of Optax is refused or told, and why."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws.cases import refused
from optax import contrib
from states.models import assert_bits

import gradtx as gx
from gradtx.interop import from_optax_state

from .test_optax_shapes import RATE, after, flat as flattened, params

REFUSED: dict[str, tuple[Any, Any, str]] = {
    "rprop": (optax.rprop(RATE), gx.rprop(RATE), "applies the update of the step before"),
    "prodigy": (contrib.prodigy(RATE), gx.prodigy(RATE), "NaN after a gradient of zeros"),
    "dadapt": (contrib.dadapt_adamw(RATE), gx.dadapt_adamw(RATE), "NaN after a gradient of zeros"),
    "adan": (optax.adan(RATE), gx.adan(RATE), "1 - b2 where the paper has b2"),
    "yogi": (optax.yogi(RATE), gx.yogi(RATE), "Pass an optimizer with bias_correction=True"),
    "radam": (optax.radam(RATE), gx.radam(RATE), "Pass an optimizer with threshold=5"),
    "radam with a schedule of its threshold": (
        optax.radam(RATE),
        gx.radam(RATE, threshold=gx.linear_schedule(4.0, 5.0, 3)),
        "Pass an optimizer with threshold=5",
    ),
    "amsgrad, as in the paper": (
        optax.amsgrad(RATE),
        gx.amsgrad(RATE),
        "with form='max_of_corrected'",
    ),
    "amsgrad, as in PyTorch": (
        optax.amsgrad(RATE),
        gx.amsgrad(RATE, form="torch"),
        "with form='max_of_corrected'",
    ),
    "a mean square whose bias is not corrected": (
        optax.rmsprop(RATE),
        gx.rmsprop(RATE, bias_correction=True),
        "with bias_correction=False",
    ),
    "one whose bias is": (
        optax.rmsprop(RATE, bias_correction=True),
        gx.rmsprop(RATE),
        "with bias_correction=True",
    ),
    "clipping inside of the link": (
        optax.scale_by_factored_rms(),
        gx.scale_by_factored_rms(),
        "with clipping_threshold=None",
    ),
    "momentum behind a rate that moves": (
        optax.rmsprop(optax.linear_schedule(RATE, 0.2, 5), momentum=0.9),
        gx.rmsprop(gx.linear_schedule(RATE, 0.2, 5), momentum=0.9),
        "which is a schedule here",
    ),
    "no count where one is read": (
        optax.sgd(RATE, 0.9),
        gx.sgd(gx.linear_schedule(RATE, 0.2, 5), 0.9),
        "Pass count=",
    ),
    "nothing of it": (optax.adam(RATE), gx.sgd(RATE, 0.9), "nothing is found for"),
    "an unknown one": (contrib.momo(RATE), gx.adam(RATE), "nothing is found for"),
    "two there": (
        optax.chain(optax.scale_by_adam(), optax.adam(RATE)),
        gx.adam(RATE),
        "could be 0 or 1/0",
    ),
    "two here": (
        optax.adam(RATE),
        gx.chain(gx.scale_by_adam(), gx.adam(RATE)),
        "could be 0",
    ),
    "more there": (
        optax.chain(optax.trace(0.9), optax.adam(RATE)),
        gx.adam(RATE),
        "the optimizer has no '0/trace/dense/bias'",
    ),
    "more here": (
        optax.adam(RATE),
        gx.chain(gx.scale_by_momentum(), gx.adam(RATE)),
        "what is loaded has no 'scale_by_momentum/trace/dense/bias'",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    theirs, ours, seen = REFUSED[what]
    tree = params()
    state = theirs.init(tree)
    assert seen in refused(lambda: from_optax_state(ours, state, tree))


def test_refused_inputs() -> None:
    tree, adam = params(), after(optax.adam(RATE))
    for given, seen in (
        (None, "holds no arrays"),
        ({"state": {}, "param_groups": []}, "holds no arrays"),
        ({"state": {0: {"step": jnp.ones(())}}, "param_groups": []}, "state of PyTorch"),
        ({"generator": {"opt_state": adam}, "critic": {"opt_state": adam}}, "there are 2 states"),
    ):
        assert seen in refused(lambda given=given: from_optax_state(gx.adam(RATE), given, tree))


def test_a_fuzzed_array_is_named() -> None:
    """One that is gone, one of another shape, one more."""
    tree, tx = params(), gx.adam(RATE)
    flat = {f"0/{k}": x for k, x in _flat(after(optax.adam(RATE))).items()}
    name = "0/mu/dense/kernel"
    gone = {k: x for k, x in flat.items() if k != name}
    assert "scale_by_adam/mu/dense/kernel" in refused(lambda: from_optax_state(tx, gone, tree))
    _, report = from_optax_state(tx, gone, tree, missing="fresh")
    assert report.fresh == ("scale_by_adam/mu/dense/kernel",)
    turned = flat | {name: flat[name].T}
    seen = refused(lambda: from_optax_state(tx, turned, tree))
    assert "'scale_by_adam/mu/dense/kernel' is (4, 3) there, (3, 4) here" in seen
    more = flat | {"0/mu/dense/gain": jnp.ones(4)}
    assert "'0/mu/dense/gain'" in refused(lambda: from_optax_state(tx, more, tree))
    _, report = from_optax_state(tx, more, tree, unused="report")
    assert report.unused == ("0/mu/dense/gain",)


def _flat(state: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(state[0])
    return {jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in leaves}


def test_two_in_order() -> None:
    """As many here as there, in the same order, where each could be both."""
    tree = params()
    theirs = optax.chain(optax.scale_by_adam(), optax.clip(1.0), optax.scale_by_belief())
    ours = gx.chain(gx.scale_by_adam(), gx.scale_by_belief())
    state = after(theirs)
    got, _ = from_optax_state(ours, state, tree)
    assert_bits(got["scale_by_adam"].nu, state[0].nu)
    assert_bits(got["scale_by_belief"].nu, state[2].nu)


def test_positions_are_numbers() -> None:
    """The tenth comes behind the second, also where names were sorted as texts."""
    clips = [optax.clip(1.0)] * 7
    theirs = optax.chain(*clips[:2], optax.scale_by_adam(), *clips, optax.scale_by_belief())
    state = after(theirs)
    flat = dict(sorted(flattened(state).items()))
    assert next(iter(flat)).startswith("10/")
    got, _ = from_optax_state(gx.chain(gx.scale_by_adam(), gx.scale_by_belief()), flat, params())
    assert_bits(got["scale_by_adam"].nu, state[2].nu)
    assert_bits(got["scale_by_belief"].nu, state[10].nu)


def test_other_order() -> None:
    """Where each can be one only, order does not matter."""
    state = after(optax.chain(optax.scale_by_adam(), optax.trace(0.9), optax.scale(-RATE)))
    ours = gx.chain(gx.scale_by_momentum(), gx.scale_by_adam(), gx.scale_by_learning_rate(RATE))
    got, _ = from_optax_state(ours, state, params())
    assert_bits(got["scale_by_momentum"].trace, state[1].trace)


def test_counts() -> None:
    """Of a schedule where nothing else counts; given; of groups that differ."""
    tree = params()
    state = after(optax.sgd(optax.linear_schedule(RATE, 0.2, 9), 0.9))
    got, report = from_optax_state(gx.sgd(gx.linear_schedule(RATE, 0.2, 9), 0.9), state, tree)
    assert (int(got["count"]), report.notes) == (3, ())
    got, report = from_optax_state(gx.sgd(RATE, 0.9), after(optax.sgd(RATE, 0.9)), tree, count=7)
    assert (int(got["count"]), report.notes) == (7, ())
    halves = {"a": after(optax.adam(RATE), 2)[0], "b": after(optax.adam(RATE), 5)[0]}
    labels = {"dense/kernel": "a", "dense/bias": "b", "head/kernel": "b"}
    flat = {
        f"{group}/{name}": x
        for group, state in halves.items()
        for name, x in _flat((state,)).items()
        if labels.get(name.partition("/")[2], group) == group
    }
    seen = refused(lambda: from_optax_state(gx.adam(RATE), flat, tree))
    assert "the counts of steps differ" in seen
    groups = {"dense/kernel": gx.adam(RATE), "*": gx.adam(RATE)}
    tx = gx.partition(groups)
    got, _ = from_optax_state(tx, flat, tree)
    assert [int(got["gradient_step"][key]) for key in groups] == [2, 5]


def test_guards_and_other_wrappers() -> None:
    """`apply_if_finite` has its counts; what else is unknown around is left."""
    tree = params()
    theirs = optax.apply_if_finite(optax.adam(RATE), 5)
    state = after(theirs)
    bad = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), tree)
    _, state = theirs.update(bad, state, tree)
    tx = gx.apply_if_finite(gx.adam(RATE), 5)
    got, report = from_optax_state(tx, state, tree)
    flat = gx.state_dict(tx, got, tree)
    names = ("count", "apply_if_finite/gradient_step", "apply_if_finite/notfinite_count")
    assert [int(flat[name]) for name in names] == [4, 3, 1]
    assert report.notes == (
        "apply_if_finite: that of Optax lets in what is not finite where ours freezes",
    )
    plain, report = from_optax_state(gx.adam(RATE), state, tree, unused="report")
    assert_bits(plain["scale_by_adam"].mu, state.inner_state[0].mu)
    assert int(plain["count"]) == 3


def test_rows_and_columns_of_tall_matrices() -> None:
    """Optax has rows along the largest axis; stacks lie in front there and here."""
    random = np.random.default_rng(0)
    shapes = {"tall": (140, 130), "wide": (130, 140), "stack": (3, 130, 140), "small": (5, 6)}
    tree = {name: jnp.asarray(random.normal(size=shape)) for name, shape in shapes.items()}
    state = after(optax.scale_by_factored_rms(), 2, tree)
    tx = gx.scale_by_factored_rms(clipping_threshold=None, factor_small=False)
    got, _ = from_optax_state(tx, state, tree)
    flat = gx.state_dict(tx, got, tree)
    for name, first in (("tall", "v_col"), ("wide", "v_row"), ("stack", "v_row")):
        there = np.asarray(state.v_row[name])
        np.testing.assert_array_equal(flat[f"scale_by_factored_rms/{first}/{name}"], there)
    assert_bits(flat["scale_by_factored_rms/v/small"], state.v["small"].astype(jnp.float64))


def test_optax_is_not_imported() -> None:
    program = (
        "import sys, numpy as np, gradtx as gx\n"
        "from gradtx.interop import from_optax_state, from_torch_state\n"
        "p = {'w': np.ones(3, np.float32)}\n"
        "flat = {'0/count': 3, '0/mu/w': p['w'], '0/nu/w': p['w']}\n"
        "from_optax_state(gx.adam(0.1), flat, p)\n"
        "slots = {'step': 3, 'exp_avg': p['w'], 'exp_avg_sq': p['w']}\n"
        "from_torch_state(gx.adam(0.1), {'state': {'w': slots}}, p)\n"
        "assert not {'torch', 'optax', 'flax', 'orbax'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
