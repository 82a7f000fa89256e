"""The plan changes in the middle of a run: another link, group, wrapper, format, optimizer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx

from .models import assert_bits, model, said, trained

KERNEL = "dense/kernel"


def moved(old: Any, new: Any, steps: int = 3, **options: Any) -> tuple[Any, Any, gx.Report]:
    params, state = trained(old, steps)
    return (params, *gx.migrate(old, state, new, params, **options))


def slots(tx: Any, params: Any, state: Any) -> dict[str, np.ndarray]:
    flat = gx.state_dict(tx, state, params)
    return {k: np.asarray(x) for k, x in flat.items() if k != "#schema" and np.ndim(x)}


def counts(tx: Any, params: Any, state: Any) -> dict[str, int]:
    flat = gx.state_dict(tx, state, params)
    names = ("count", "gradient_step", "steps")
    return {k: int(flat[k]) for k in flat if k.split("[")[0].split("/")[-1] in names}


# Without a word ----------------------------------------------------------------------------------

SILENT = {
    "a clip in front": (gx.adamw(0.1), gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(0.1))),
    "a clip less": (gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(0.1)), gx.adamw(0.1)),
    "a schedule": (
        gx.sgd(0.1, momentum=0.9),
        gx.sgd(gx.linear_schedule(0.1, 0.0, 9), momentum=0.9),
    ),
    "from a rule to a chain": (gx.scale_by_adam(), gx.adam(0.1)),
    "a stateless wrapper": (gx.adam(0.1), gx.masked(gx.adam(0.1), "*")),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_means_the_same_is_loaded_without_a_word(name: str) -> None:
    old, new = SILENT[name]
    params, state = trained(old)
    back, report = gx.load_state(new, gx.state_dict(old, state, params), params)
    assert said(report).keys() <= {"hyperparameters"}  # a schedule has other numbers
    assert slots(old, params, state).keys() == slots(new, params, back).keys()
    for key, x in slots(old, params, state).items():
        np.testing.assert_array_equal(slots(new, params, back)[key], x)
    assert jax.tree.structure(back) == jax.tree.structure(new.init(params))


# Counts ------------------------------------------------------------------------------------------

GROUPS = gx.partition({"*/bias": gx.adam(0.1), "*": gx.chain(gx.clip(1.0), gx.adam(0.2))})
COUNTS: dict[str, tuple[Any, Any, dict[str, int]]] = {
    "into a wrapper that skips": (
        gx.adam(0.1),
        gx.accumulate(gx.adam(0.1), 2),
        {"count": 4, "accumulate/gradient_step": 4},
    ),
    # Four calls were two steps of Adam.
    "out of a wrapper that skips": (gx.accumulate(gx.adam(0.1), 2), gx.adam(0.1), {"count": 2}),
    "into groups": (gx.adam(0.1), GROUPS, {"count": 4, "count[*/bias]": 4, "count[*]": 4}),
    "out of groups": (GROUPS, gx.adam(0.1), {"count": 4}),
    "into a count for each": (
        gx.adam(0.1),
        gx.separately(gx.adam(0.1)),
        {"count": 4, "count[dense/kernel]": 4, "count[dense/bias]": 4, "count[scale]": 4},
    ),
    "roles": (
        gx.adamw(0.1),
        gx.muon(0.1, matrices=KERNEL),
        {"count": 4, "count[matrices]": 4, "count[rest]": 4},
    ),
    "a part with a count of its own": (
        gx.adam(0.1),
        gx.chain(gx.masked(gx.scale_by_adam(), "*"), gx.scale_by_learning_rate(0.1)),
        {"count": 4, "masked/count": 4},
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_goes_with_the_links_that_run_by_it(name: str) -> None:
    old, new, expected = COUNTS[name]
    params, state, report = moved(old, new, 4)
    assert counts(new, params, state) == expected
    assert set(report.renamed) <= set(expected)


def test_counts_of_groups_differ() -> None:
    """The group whose gradients came late keeps its own count, and Adam goes by that of its own."""
    tx = gx.partition({"*/bias": gx.sgd(0.1), "*": gx.adam(0.1)})
    params, state = trained(tx, 3)
    grads = model(9)
    grads["dense"]["bias"] = None
    params, state = tx.step(grads, state, params)
    assert counts(tx, params, state) == {"count": 4, "count[*/bias]": 3, "count[*]": 4}
    back, _ = gx.migrate(tx, state, gx.adam(0.1), params)
    assert int(back["count"]) == 4


def test_counts_restart_on_demand() -> None:
    params, state, _ = moved(gx.adam(0.1), gx.adam(0.2), counts="restart")
    assert counts(gx.adam(0.1), params, state) == {"count": 0}
    assert float(jnp.abs(state["scale_by_adam"].mu["dense"]["kernel"]).max()) > 0


def test_a_link_that_begins_anew_late_is_told_of() -> None:
    *_, report = moved(gx.sgd(0.1), gx.adam(0.1))
    assert "scale_by_adam" in report.notes[0]
    assert "counts" in report.notes[0]


# Another optimizer -------------------------------------------------------------------------------


def test_from_adamw_to_muon() -> None:
    """Adam's slots stay for the rest; its momentum is Muon's where the user says so."""
    old, new = gx.adamw(0.1), gx.muon(0.1, matrices=KERNEL)
    _, state, report = moved(old, new)
    params, before = trained(old)
    was = before["scale_by_adam"]
    np.testing.assert_array_equal(
        state["rest"]["scale_by_adam"].nu["dense"]["bias"], was.nu["dense"]["bias"]
    )
    assert report.fresh == (f"scale_by_muon/mu/{KERNEL}",)
    assert set(report.unused) == {f"scale_by_adam/{slot}/{KERNEL}" for slot in ("mu", "nu")}
    rename = {"scale_by_adam/mu": "scale_by_muon/mu"}
    state, report = gx.migrate(old, before, new, params, rename=rename)
    np.testing.assert_array_equal(
        state["matrices"]["scale_by_muon"].mu["dense"]["kernel"], was.mu["dense"]["kernel"]
    )
    assert report.renamed[f"scale_by_muon/mu/{KERNEL}"] == f"scale_by_adam/mu/{KERNEL}"
    assert report.fresh == ()


def test_nothing_loaded_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"nothing would be loaded.*scale_by_lion/mu"):
        moved(gx.adamw(0.1), gx.lion(0.1))
    tx = gx.adam(0.1)
    with pytest.raises(ValueError, match="nothing would be loaded"):
        gx.load_state(tx, {}, model(), missing="fresh", unused="report")


def test_hyperparameters_that_differ_are_listed() -> None:
    *_, report = moved(gx.adamw(0.1), gx.adamw(0.3, b2=0.9))
    assert sorted(report.hyperparameters.values()) == [(0.1, 0.3), (0.999, 0.9)]
    assert "0.999 -> 0.9" in repr(report)


# Formats of slots --------------------------------------------------------------------------------

BLOCKS = gx.blockwise(min_size=0)
FORMATS: dict[str, Any] = {
    "plain": gx.adam(0.1),
    "bfloat16": gx.store(gx.adam(0.1), {"mu": "bfloat16", "nu": "bfloat16"}),
    "dynamic": gx.store(gx.adam(0.1), {"mu": BLOCKS, "nu": BLOCKS}),
    "companded": gx.store(
        gx.adam(0.1), dict.fromkeys(("mu", "nu"), gx.blockwise("companded", min_size=0))
    ),
    "blocks of 2": gx.store(
        gx.adam(0.1), dict.fromkeys(("mu", "nu"), gx.blockwise(block=2, min_size=0))
    ),
}


@pytest.mark.parametrize("new", FORMATS)
@pytest.mark.parametrize("old", FORMATS)
def test_a_slot_in_any_format_is_read_by_any_other(old: str, new: str) -> None:
    """Within what both formats can tell apart."""
    params, state = trained(FORMATS[old])
    flat = gx.state_dict(FORMATS[old], state, params)
    back, report = gx.load_state(FORMATS[new], flat, params)
    assert jax.tree.structure(back) == jax.tree.structure(FORMATS[new].init(params))
    assert bool(report.converted) == (old != new)
    plain = gx.adam(0.1)
    there, _ = gx.load_state(plain, flat, params)
    here, _ = gx.load_state(plain, gx.state_dict(FORMATS[new], back, params), params)
    for x, y in zip(jax.tree.leaves(there), jax.tree.leaves(here), strict=True):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        assert np.abs(x - y).max() <= (0.02 * np.abs(x).max() if old != new else 0)


def test_slots_of_rows_and_columns_in_a_format() -> None:
    """What is saved otherwise than it lies is saved plain."""
    narrow = gx.store(gx.adafactor(0.1), {"means": "bfloat16"})
    params, state = trained(narrow)
    flat = gx.state_dict(narrow, state, params)
    assert_bits(gx.load_state(narrow, flat, params)[0], state)
    plain, report = gx.load_state(gx.adafactor(0.1), flat, params)
    assert report.fresh == ()
    assert plain["scale_by_factored_rms"].means["dense"]["kernel"].dtype == jnp.float32


@pytest.mark.parametrize("split", [False, True])
def test_master_weights_into_either_form(split: bool) -> None:
    one, other = (gx.master_weights(gx.adam(0.1), split=s) for s in (split, not split))
    params, state = trained(one, 3, model(0, jnp.bfloat16))
    back, report = gx.load_state(other, gx.state_dict(one, state, params), params)
    assert said(report).keys() <= {"hyperparameters"}
    grads = model(7, jnp.bfloat16)
    after, again = (tx.step(grads, s, params)[0] for tx, s in ((one, state), (other, back)))
    assert_bits(after, again)


def test_master_weights_from_none() -> None:
    """There is no master in the file: it begins as the parameters are."""
    params, state = trained(gx.adam(0.1), 3, model(0, jnp.bfloat16))
    tx = gx.master_weights(gx.adam(0.1))
    back, report = gx.migrate(gx.adam(0.1), state, tx, params)
    assert all(name.startswith("master_weights/master/") for name in report.fresh)
    np.testing.assert_array_equal(back.master["scale"], params["scale"].astype(jnp.float32))
    np.testing.assert_array_equal(
        back.inner["scale_by_adam"].mu["scale"], state["scale_by_adam"].mu["scale"]
    )
