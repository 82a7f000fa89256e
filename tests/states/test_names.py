"""What a state is saved as: names and contents that say what arrays mean, not how they lie."""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx

from .models import arrays, model, trained

KERNEL, BIAS, SCALE = "dense/kernel", "dense/bias", "scale"


def saved(tx: Any, steps: int = 3, params: Any = None) -> dict[str, np.ndarray]:
    params, state = trained(tx, steps, params)
    return arrays(gx.state_dict(tx, state, params))


def of(link: str, *slots: str, paths: Any = (KERNEL, BIAS, SCALE)) -> set[str]:
    return {f"{link}/{slot}/{path}" for slot in slots for path in paths}


ADAM = of("scale_by_adam", "mu", "nu")

NAMED: dict[str, tuple[Any, set[str]]] = {
    "adamw": (gx.adamw(0.1), {"count", *ADAM}),
    "a rule alone": (gx.scale_by_adam(), {"count", *ADAM}),
    "no memory": (gx.sgd(0.1), {"count"}),
    "another link in front": (
        gx.chain(gx.clip_by_global_norm(1.0), gx.adam(0.1)),
        {"count", *ADAM},
    ),
    "a wrapper": (gx.ema(gx.adam(0.1)), {"count", *ADAM, *of("ema", "average", "reached")}),
    "a wrapper that skips": (
        gx.apply_if_finite(gx.adam(0.1), 5),
        {
            *("count", "apply_if_finite/gradient_step", "apply_if_finite/frozen", *ADAM),
            *("apply_if_finite/notfinite_count", "apply_if_finite/total_notfinite"),
        },
    ),
    "groups": (
        gx.partition({"*/bias": gx.sgd(0.1, momentum=0.9), "*": gx.adam(0.1)}),
        {
            *("count", "count[*/bias]", "count[*]", f"scale_by_momentum/trace/{BIAS}"),
            *of("scale_by_adam", "mu", "nu", paths=(KERNEL, SCALE)),
        },
    ),
    "groups of one link": (
        gx.partition({"*/bias": gx.adam(0.2), "*": gx.adam(0.1)}),
        {"count", "count[*/bias]", "count[*]", *ADAM},
    ),
    "numbers of a group": (
        gx.partition({"scale": gx.sgd(0.1), "*": gx.prodigy(1.0)}),
        {
            *("count", "count[scale]", "count[*]"),
            *(f"scale_by_prodigy[*]/{x}" for x in ("estim_lr", "estim_max", "numerator")),
            *of("scale_by_prodigy", "mu", "nu", "s", "x0", paths=(KERNEL, BIAS)),
        },
    ),
    "twice": (
        gx.chain(gx.scale_by_momentum(0.9), gx.clip(1.0), gx.scale_by_momentum(0.5)),
        {"count", *of("scale_by_momentum", "trace"), *of("scale_by_momentum_2", "trace")},
    ),
    "twice by keyword": (
        gx.chain(a=gx.adam(0.1), b=gx.adam(0.1)),
        {"count", *of("scale_by_adam[a]", "mu", "nu"), *of("scale_by_adam[b]", "mu", "nu")},
    ),
    "a count for each": (
        gx.separately(gx.sgd(0.1, momentum=0.9)),
        {
            *("count", f"count[{KERNEL}]", f"count[{BIAS}]", f"count[{SCALE}]"),
            *of("scale_by_momentum", "trace"),
        },
    ),
    "rows and columns": (
        gx.adafactor(0.1),
        {
            *("count", f"scale_by_factored_rms/v/{BIAS}", f"scale_by_factored_rms/v/{SCALE}"),
            *of("scale_by_factored_rms", "v_row", "v_col", paths=(KERNEL,)),
        },
    ),
    "one vector": (gx.flatten(gx.adam(0.1)), {"count", "scale_by_adam/mu", "scale_by_adam/nu"}),
}


@pytest.mark.parametrize("name", NAMED)
def test_names(name: str) -> None:
    tx, expected = NAMED[name]
    assert set(saved(tx)) == expected


BLOCKS = gx.blockwise(min_size=0)
ALIKE: dict[str, tuple[Any, Any]] = {
    "alone and in a chain": (gx.scale_by_adam(), gx.chain(gx.scale_by_adam())),
    "a link more": (gx.adam(0.1), gx.chain(gx.clip(1e9), gx.adam(0.1))),
    "a schedule": (gx.adam(0.1), gx.adam(gx.constant_schedule(0.1))),
    "a mask": (gx.adam(0.1), gx.masked(gx.adam(0.1), "*")),
    "by keyword": (gx.adam(0.1), gx.chain(mine=gx.adam(0.1))),
    "offloaded": (gx.adam(0.1), gx.offload(gx.adam(0.1), where="unpinned_host")),
}


@pytest.mark.parametrize("name", ALIKE)
def test_two_forms_of_one_optimizer_are_saved_alike(name: str) -> None:
    one, other = map(saved, ALIKE[name])
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_master_weights_are_saved_whole() -> None:
    """Split or not, the file has a master in float32."""
    params = model(0, jnp.bfloat16)
    whole, split = (gx.master_weights(gx.adam(0.1), split=s) for s in (False, True))
    one, other = (saved(tx, 3, params) for tx in (whole, split))
    assert one.keys() == other.keys()
    for key in one:
        assert one[key].dtype == other[key].dtype
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_stacked_layers_are_saved_by_sides() -> None:
    """Rows and columns of every layer, wherever the stacked axis is."""
    params = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 6)), jnp.float32)}
    tx = gx.scale_by_factored_rms(axes=gx.Axes("ibo"))
    _, state = tx.update(params, tx.init(params), params)
    flat = arrays(gx.state_dict(tx, state, params))
    squares = np.square(np.asarray(params["w"], np.float64))
    np.testing.assert_allclose(flat["scale_by_factored_rms/v_row/w"], squares.mean(2).T, rtol=1e-5)
    np.testing.assert_allclose(flat["scale_by_factored_rms/v_col/w"], squares.mean(0), rtol=1e-5)


def test_compressed_slots_are_saved_as_they_are() -> None:
    tx = gx.store(gx.adam(0.1), {"mu": "bfloat16", "nu": BLOCKS})
    flat = saved(tx)
    assert flat[f"scale_by_adam/mu/{KERNEL}"].dtype == jnp.bfloat16
    assert flat[f"scale_by_adam/nu/{KERNEL}#dynamic"].dtype == np.uint8
    assert flat[f"scale_by_adam/nu/{KERNEL}#scales"].dtype == np.float32
    assert f"scale_by_adam/nu/{KERNEL}" not in flat


def test_the_schema_is_json_with_who_wrote_it() -> None:
    tx = gx.accumulate(gx.adamw(0.1), 2)
    params, state = trained(tx)
    schema = json.loads(gx.state_dict(tx, state, params)["#schema"])
    assert schema["version"] == 1
    assert schema["optimizer"] == repr(tx)
    assert 0.1 in schema["hyperparameters"].values()
    assert schema["clocks"]["accumulate/gradient_step"][0] == "scale_by_adam"


def test_paths_that_are_spelt_alike_are_both_saved() -> None:
    """`{"a/b": x}` beside `{"a": {"b": y}}`."""
    params = {"a/b": jnp.ones(2), "a": {"b": jnp.zeros(3)}}
    tx = gx.sgd(0.1, momentum=0.9)
    state = tx.init(params)
    flat = gx.state_dict(tx, state, params)
    assert {x.shape for name, x in arrays(flat).items() if name != "count"} == {(2,), (3,)}
    back, _ = gx.load_state(tx, flat, params)
    assert back["scale_by_momentum"].trace["a/b"].shape == (2,)


def test_a_state_of_another_library_inside() -> None:
    optax = pytest.importorskip("optax")
    tx = gx.chain(gx.clip(1.0), optax.adam(0.1))
    with jax.numpy_dtype_promotion("standard"):
        params, state = trained(tx)
    flat = gx.state_dict(tx, state, params)
    assert f"foreign/0/mu/{KERNEL}" in flat
    assert gx.load_state(tx, flat, params)[1].fresh == ()
