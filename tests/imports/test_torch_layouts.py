"""Shapes of states of PyTorch, names, axes, counts: what is read, and what is refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from laws.cases import refused
from states.models import assert_bits
from torch import nn, optim
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

import gradtx as gx
from gradtx.interop import from_torch_state

RATE = 0.1


def model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.Conv2d(2, 3, (1, 2)))


PATHS = {
    "0.weight": "dense/kernel",
    "0.bias": "dense/bias",
    "1.weight": "conv/kernel",
    "1.bias": "conv/bias",
}

LAYOUT = {"dense/kernel": "oi", "conv/kernel": "oihw"}


def after(make: Any, net: Any = None, steps: int = 3, **options: Any) -> tuple[Any, Any]:
    net = model() if net is None else net
    optimizer = make(net.named_parameters(), lr=RATE, **options)
    for k in range(steps):
        torch.manual_seed(k + 1)
        for p in net.parameters():
            p.grad = torch.randn_like(p)
        optimizer.step()
    return optimizer, net


def params(net: Any = None) -> Any:
    """Parameters of the model as Flax has them."""
    found = {k: x.detach().numpy() for k, x in (net or model()).named_parameters()}
    return {
        "dense": {"kernel": jnp.asarray(found["0.weight"].T), "bias": jnp.asarray(found["0.bias"])},
        "conv": {
            "kernel": jnp.asarray(found["1.weight"].transpose(2, 3, 1, 0)),
            "bias": jnp.asarray(found["1.bias"]),
        },
    }


def imported(tx: Any, state: Any, **options: Any) -> Any:
    given: dict[str, Any] = {"names": PATHS, "layout": LAYOUT, **options}
    return from_torch_state(tx, state, params(), **given)


def by_names(state: Any) -> Any:
    """As FSDP and distributed checkpoints have it."""
    (group,) = state["param_groups"]
    names = dict(zip(group["params"], group["param_names"], strict=True))
    rest = {k: x for k, x in group.items() if k not in ("params", "param_names")}
    return {
        "state": {names[k]: slots for k, slots in state["state"].items()},
        "param_groups": [{**rest, "params": [*names.values()]}],
    }


def flat(state: Any) -> Any:
    found = by_names(state)
    (group,) = found["param_groups"]
    return {
        **{f"state.{n}.{k}": x for n, slots in found["state"].items() for k, x in slots.items()},
        **{
            f"param_groups.{n}.{k}": x
            for n in group["params"]
            for k, x in group.items()
            if k != "params"
        },
    }


def without_names(state: Any) -> Any:
    (group,) = state["param_groups"]
    groups = [{k: x for k, x in group.items() if k != "param_names"}]
    return {"state": state["state"], "param_groups": groups}


FORMS: dict[str, Any] = {
    "plain": lambda state: state,
    "a checkpoint": lambda state: {"optimizer": state, "epoch": 3},
    "by names": by_names,
    "flat": flat,
    "groups by names": lambda state: {
        "state": by_names(state)["state"],
        "param_groups": {n: by_names(state)["param_groups"][0] for n in PATHS},
    },
    "arrays of NumPy": lambda state: {
        "state": {
            n: {k: np.asarray(x) for k, x in slots.items()}
            for n, slots in by_names(state)["state"].items()
        }
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_all_shapes_give_the_same_state(form: str) -> None:
    state = after(optim.AdamW, weight_decay=1e-4)[0].state_dict()
    expected, _ = imported(gx.adamw(RATE), state)
    got, report = imported(gx.adamw(RATE), FORMS[form](state))
    assert_bits(got, expected)
    assert not report.hyperparameters
    assert report.renamed["scale_by_adam/mu/conv/kernel"] == "1.weight exp_avg"
    there = state["state"][2]["exp_avg"].numpy()
    assert_bits(got["scale_by_adam"].mu["conv"]["kernel"], jnp.asarray(there.transpose(2, 3, 1, 0)))


def test_numbers_in_the_place_of_names() -> None:
    state = after(optim.AdamW, weight_decay=1e-4)[0].state_dict()
    expected, _ = imported(gx.adamw(RATE), state)
    plain = without_names(state)
    for names in (
        [*PATHS.values()],
        dict(enumerate(PATHS.values())),
        lambda name: [*PATHS.values()][int(name)],
        lambda name: PATHS[[*PATHS][int(name)]],
    ):
        assert_bits(imported(gx.adamw(RATE), plain, names=names)[0], expected)
    seen = refused(lambda: imported(gx.adamw(RATE), plain, names=None))
    assert "numbers in the place of names" in seen


def test_names_in_order_are_those_of_the_groups() -> None:
    """Whatever the order in which states came to be, and where some have none."""
    optimizer, _ = after(optim.Adam)
    (group,) = optimizer.state_dict()["param_groups"]
    state = without_names(optimizer.state_dict())["state"]
    swapped = {k: state[k] for k in (3, 1, 2)}  # that of the first has none
    plain = {k: x for k, x in group.items() if k not in ("params", "param_names")}
    groups = [{**plain, "params": [0, 1]}, {**plain, "params": [2, 3]}]
    given = {"state": swapped, "param_groups": groups}
    got, report = imported(gx.adam(RATE), given, names=[*PATHS.values()], missing="fresh")
    assert report.fresh == ("scale_by_adam/mu/dense/kernel", "scale_by_adam/nu/dense/kernel")
    assert_bits(got["scale_by_adam"].mu["conv"]["bias"], jnp.asarray(state[3]["exp_avg"].numpy()))
    two = [{"state": {k: state[k]}, "param_groups": [{"params": [k]}]} for k in (0, 1)]
    seen = refused(lambda: imported(gx.adam(RATE), two, names=["dense/bias"]))
    assert "there are 2 parameters, and 1 names" in seen


@pytest.mark.filterwarnings("ignore")  # of PyTorch
@pytest.mark.parametrize("flat", [False, True])
def test_distributed_checkpoints(flat: bool) -> None:
    optimizer, net = after(optim.AdamW, weight_decay=1e-4)
    expected, _ = imported(gx.adamw(RATE), optimizer.state_dict())
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    state = get_optimizer_state_dict(net, optimizer, options=options)
    got, report = imported(gx.adamw(RATE), state)
    assert_bits(got, expected)
    assert not report.hyperparameters


def test_usual_names_and_axes_nobody_named() -> None:
    """weight becomes kernel where that is there, and only with the axes said: 3 x 3 fits both."""
    net = nn.ModuleDict({"dense": nn.Linear(3, 3), "norm": nn.LayerNorm(3)})
    state = after(optim.Adam, net)[0].state_dict()
    weights = {k: jnp.asarray(x.detach().numpy()) for k, x in net.named_parameters()}
    tree = {
        "dense": {"kernel": weights["dense.weight"].T, "bias": weights["dense.bias"]},
        "norm": {"scale": weights["norm.weight"], "bias": weights["norm.bias"]},
    }
    tx = gx.adam(RATE)
    seen = refused(lambda: from_torch_state(tx, state, tree))
    assert (
        "'dense.weight' becomes 'dense/kernel', and weights of PyTorch lie (outputs, inputs)"
        in seen
    )
    there = state["state"][0]["exp_avg"].numpy()
    for layout, expected in (
        ("oi", there.T),
        ({"*/kernel": "oi"}, there.T),
        ({"*/kernel": "io"}, there),
        ({"*/kernel": None}, there),
        ("oi->io", there.T),
        (lambda path, x: x.T if x.ndim == 2 else x, there.T),
    ):
        got, report = from_torch_state(tx, state, tree, layout=layout)
        assert_bits(got["scale_by_adam"].mu["dense"]["kernel"], jnp.asarray(expected))
        assert any("axes are turned" in note for note in report.notes) == (expected is not there)
    same = {"dense": {"weight": weights["dense.weight"], "bias": weights["dense.bias"]}}
    names = {"norm.weight": None, "norm.bias": None}
    got, report = from_torch_state(tx, state, same, names=names)  # as Equinox has them
    assert_bits(got["scale_by_adam"].mu["dense"]["weight"], jnp.asarray(there))
    assert not report.notes


def test_names_with_wrappers_in_them() -> None:
    """Of DDP, torch.compile and FSDP."""
    slots = {"step": 3, "exp_avg": np.ones(3), "exp_avg_sq": np.ones(3)}
    tree = {"layers": {"0": {"bias": jnp.ones(3)}, "module": {"scale": jnp.ones(3)}}}
    for bias, scale in (
        ("module.layers.0.bias", "module.layers.module.weight"),
        ("_orig_mod.layers.0.bias", "_orig_mod.layers.module.weight"),
        ("module._orig_mod.layers.0._fsdp_wrapped_module.bias", "layers.module.scale"),
    ):
        state = {"state": {bias: slots, scale: slots}}
        got, report = from_torch_state(gx.adam(RATE), state, tree)
        assert float(got["scale_by_adam"].mu["layers"]["0"]["bias"][0]) == 1
        assert report.renamed["scale_by_adam/nu/layers/module/scale"] == f"{scale} exp_avg_sq"


def test_a_step_of_the_transposed_model() -> None:
    """Rows and columns of Adafactor change places with the axes."""
    net = nn.Linear(4, 6, bias=False).double()
    optimizer, net = after(optim.Adafactor, net)
    kernel = {"kernel": jnp.asarray(net.weight.detach().numpy().T.copy())}
    tx = gx.adafactor(RATE)
    names = {"weight": "kernel"}
    state, report = from_torch_state(tx, optimizer.state_dict(), kernel, names=names, layout="oi")
    assert any("not exact" in note for note in report.notes)
    torch.manual_seed(9)
    net.weight.grad = torch.randn_like(net.weight)
    grads = {"kernel": jnp.asarray(net.weight.grad.numpy().T)}
    new, _ = tx.step(grads, state, kernel)
    optimizer.step()
    theirs = net.weight.detach().numpy().T
    np.testing.assert_allclose(new["kernel"], theirs, rtol=1e-12)
    seen = refused(
        lambda: from_torch_state(
            tx, optimizer.state_dict(), kernel, names=names, layout=lambda path, x: x.T
        )
    )
    assert "which no function turns" in seen


def test_no_memory_is_shared() -> None:
    """On the CPU an array of NumPy from a tensor is the tensor: its next step is in place."""
    optimizer, net = after(optim.AdamW)
    state, _ = imported(gx.adamw(RATE), optimizer.state_dict())
    before = jax.tree.map(np.array, state)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert_bits(state, jax.tree.map(jnp.asarray, before))


def test_narrow_tensors() -> None:
    net = model().bfloat16()
    optimizer, net = after(optim.Adam, net)
    tree = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params())
    options: dict[str, Any] = {"names": PATHS, "layout": LAYOUT}
    state, report = from_torch_state(gx.adam(RATE), optimizer.state_dict(), tree, **options)
    there = optimizer.state_dict()["state"][1]["exp_avg"].float().numpy()
    assert_bits(state["scale_by_adam"].mu["dense"]["bias"].astype(jnp.float32), jnp.asarray(there))
    assert not report.converted or {*report.converted.values()} == {"bfloat16 -> float32"}


def test_two_optimizers_for_one() -> None:
    """Muon moves matrices alone in PyTorch: the rest is in a second state."""
    net = nn.Linear(4, 6)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    named = dict(net.named_parameters())
    muon = optim.Muon([("weight", named["weight"])], lr=RATE)
    adam = optim.AdamW([("bias", named["bias"])], lr=RATE)
    muon.step(), adam.step()
    tree = {"kernel": jnp.asarray(net.weight.detach().numpy().T.copy()), "bias": jnp.ones(6)}
    tx = gx.muon(RATE, matrices="kernel", auxiliary=gx.adamw(RATE, weight_decay=0.01))
    states = [muon.state_dict(), adam.state_dict()]
    options: dict[str, Any] = {"names": {"weight": "kernel"}, "layout": "oi"}
    got, report = from_torch_state(tx, states, tree, **options)
    flat = gx.state_dict(tx, got, tree)
    there = muon.state_dict()["state"][0]["momentum_buffer"].numpy()
    assert_bits(flat["scale_by_muon/mu/kernel"], jnp.asarray(there.T))
    assert int(flat["count[rest]"]) == 1
    assert not report.hyperparameters
    seen = refused(lambda: from_torch_state(tx, [*states, states[1]], tree, **options))
    assert "two states keep something for 'bias'" in seen
