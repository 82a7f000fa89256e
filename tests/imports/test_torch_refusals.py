"""What of PyTorch is refused or told, and why."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from laws.cases import refused
from states.models import assert_bits
from torch import nn, optim

import gradtx as gx
from gradtx.interop import from_torch_state

RATE = 0.1
TREE = {"weight": np.ones((2, 3)), "bias": np.ones(2)}


def params() -> Any:
    return {name: jnp.asarray(x) for name, x in TREE.items()}


def after(make: Any, steps: int = 3, **options: Any) -> tuple[Any, Any]:
    net = nn.Linear(3, 2).double()
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(torch.tensor(TREE[name]))
    optimizer = make(net.named_parameters(), lr=RATE, **options)
    more(optimizer, net, range(steps))
    return optimizer, net


def more(optimizer: Any, net: Any, steps: range) -> None:
    for k in steps:
        for p in net.parameters():
            p.grad = torch.full_like(p, 0.5 + k)
        optimizer.step()


REFUSED: dict[str, tuple[Any, dict[str, Any], Any, str]] = {
    "the form of amsgrad": (optim.Adam, {"amsgrad": True}, gx.amsgrad(RATE), "form='torch'"),
    "amsgrad for adam": (optim.Adam, {"amsgrad": True}, gx.adam(RATE), "weight.max_exp_avg_sq"),
    "nadam whose momentum is constant": (optim.NAdam, {}, gx.nadam(RATE), "momentum_decay=0.004"),
    "the threshold of radam": (optim.RAdam, {}, gx.radam(RATE), "threshold=5"),
    "eps in the root": (optim.RMSprop, {}, gx.rmsprop(RATE, 0.99), "eps_in_sqrt=False"),
    "the momentum of Muon": (
        optim.SGD,
        {"momentum": 0.9},
        gx.chain(gx.scale_by_muon(momentum="trace", axes=gx.Axes("oi")), gx.scale(-RATE)),
        "momentum='lerp'",
    ),
    "step sizes in units of a rate that moves": (
        optim.Rprop,
        {},
        gx.rprop(gx.linear_schedule(RATE, 0.2, 3)),
        "which is a schedule here",
    ),
    "ASGD": (optim.ASGD, {}, gx.sgd(RATE, 0.9), "this is the state of ASGD"),
    "momentum where there is none": (optim.SGD, {}, gx.sgd(RATE, 0.9), "nothing is found for"),
    "another optimizer's": (optim.Adagrad, {}, gx.adam(RATE), "nothing is found for"),
    "two links for one entry": (
        optim.Adam,
        {},
        gx.chain(gx.scale_by_adam(), gx.radam(RATE, threshold=5.0)),
        "could be for 'scale_by_adam', 'scale_by_radam'",
    ),
    "no count where one is read": (
        optim.SGD,
        {"momentum": 0.9},
        gx.sgd(gx.linear_schedule(RATE, 0.2, 3), 0.9),
        "Pass count=",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    make, options, ours, seen = REFUSED[what]
    state = after(make, **options)[0].state_dict()
    tree = params()
    if "Muon" in what:
        state["state"].pop(1)
        tree.pop("bias")
    assert seen in refused(lambda: from_torch_state(ours, state, tree))


X, ONE = np.ones((2, 3)), np.ones(())
ADAM = {"step": ONE, "exp_avg": X, "exp_avg_sq": X}

INPUTS: dict[str, tuple[Any, str]] = {
    "bitsandbytes": (
        {"state": {0: {"state1": X, "absmax1": X, "qmap1": X}}},
        "8-bit states of bitsandbytes",
    ),
    "DeepSpeed": (
        {"zero_stage": 2, "optimizer_state_dict": {"state": {}}},
        "a checkpoint of DeepSpeed, in partitions",
    ),
    "FSDP1": ({"state": {"layer._flat_param": ADAM}}, "a flat parameter of FSDP"),
    "LBFGS": ({"state": {0: {"old_dirs": [], "d": X}}}, "this is the state of LBFGS"),
    "SparseAdam": (
        {"state": {0: ADAM}, "param_groups": [{"params": [0], "betas": (0.9, 0.999), "lr": RATE}]},
        "this is the state of SparseAdam",
    ),
    "no state": ({"model": {}}, "it has no 'state'"),
    "an optimizer": (None, "Pass optimizer.state_dict()"),
    "unknown names": ({"state": {"w": ADAM}}, "no parameter is called as 'w'"),
}


@pytest.mark.parametrize("what", INPUTS)
def test_refused_inputs(what: str) -> None:
    state, seen = INPUTS[what]
    given = state if state is not None else after(optim.Adam)[0]
    text = refused(lambda: from_torch_state(gx.adam(RATE), given, params()), "from_torch_state")
    assert seen in text


def test_names_that_are_wrong() -> None:
    state = after(optim.Adam)[0].state_dict()
    for names, seen in (
        ({"wieght": "weight"}, "Did you mean weight"),
        ({"weight": "kernel"}, "names calls 'weight' 'kernel', which is no parameter"),
        ({"weight": "bias"}, "two parameters become 'bias'"),
        (["weight"], "there are 2 parameters, and 1 names"),
    ):
        assert seen in refused(
            lambda names=names: from_torch_state(gx.adam(RATE), state, params(), names=names)
        )
    for layout, seen in (
        ({"weight": "oihw"}, "which has 2 axes, is 'oihw'"),
        ({"weight": "ab"}, "is 'ab'"),
        ({"weight": "oi"}, "'scale_by_adam/mu/weight' is (3, 2) there, (2, 3) here"),
    ):
        assert seen in refused(
            lambda layout=layout: from_torch_state(gx.adam(RATE), state, params(), layout=layout)
        )


def test_steps_that_differ() -> None:
    """Within what shares a count; groups of a partition have their own."""
    optimizer, net = after(optim.Adam)
    net.weight.grad = torch.ones_like(net.weight)
    net.bias.grad = None
    optimizer.step()
    state, tree = optimizer.state_dict(), params()
    seen = refused(lambda: from_torch_state(gx.adam(RATE), state, tree))
    assert "the counts of steps differ" in seen
    assert "'bias: 3'" in seen or "'weight: 4'" in seen
    tx = gx.partition({"bias": gx.adam(RATE), "*": gx.adam(RATE)})
    got, _ = from_torch_state(tx, state, tree)
    assert {key: int(n) for key, n in got["gradient_step"].items()} == {"bias": 3, "*": 4}


def test_complex_parameters() -> None:
    """Squares of Adam are pairs there; momentum is the same."""
    p = nn.Parameter(torch.ones(3, dtype=torch.complex128))
    p.grad = torch.ones_like(p) * (1 + 2j)
    adam, sgd = optim.Adam([("w", p)], lr=RATE), optim.SGD([("w", p)], lr=RATE, momentum=0.9)
    adam.step(), sgd.step()
    tree = {"w": jnp.ones(3, jnp.complex128)}
    seen = refused(lambda: from_torch_state(gx.adam(RATE), adam.state_dict(), tree))
    assert "'w' is complex" in seen
    got, _ = from_torch_state(gx.sgd(RATE, 0.9), sgd.state_dict(), tree)
    assert_bits(got["scale_by_momentum"].trace["w"], jnp.full(3, 1 + 2j))


@pytest.mark.parametrize(
    ("make", "options", "ours"),
    [
        (optim.Adam, {}, gx.adam),
        (optim.SGD, {"momentum": 0.9}, lambda rate: gx.sgd(rate, 0.9)),
        (optim.Adagrad, {}, gx.adagrad),
    ],
)
def test_what_is_maximized(make: Any, options: dict[str, Any], ours: Any) -> None:
    """Ours climbs by a negative rate along the gradient, or gets the gradient turned."""
    optimizer, net = after(make, maximize=True, **options)
    tree = {name: jnp.asarray(p.detach().numpy().copy()) for name, p in net.named_parameters()}
    grads = {name: jnp.full_like(x, 0.5 + 3) for name, x in tree.items()}
    climbing, turned = ours(-RATE), ours(gx.linear_schedule(RATE, RATE, 9))
    first, one = from_torch_state(climbing, optimizer.state_dict(), tree)
    second, two = from_torch_state(turned, optimizer.state_dict(), tree, count=3)
    assert one.notes[0].startswith("maximize=True: momentum is turned")
    assert two.notes[0].startswith("maximize=True: momentum is of minus the gradient")
    up, _ = climbing.step(grads, first, tree)
    down, _ = turned.step({name: -g for name, g in grads.items()}, second, tree)
    more(optimizer, net, range(3, 4))
    for name, p in net.named_parameters():
        np.testing.assert_allclose(up[name], p.detach().numpy(), rtol=1e-13)
        np.testing.assert_allclose(down[name], p.detach().numpy(), rtol=1e-13)


def test_hyperparameters_that_differ() -> None:
    """Of the group and ours, by our names; a choice, too; and what we do not have."""
    state = after(optim.AdamW, betas=(0.8, 0.999), eps=1e-6)[0].state_dict()
    _, report = from_torch_state(gx.adam(0.2), state, params())
    found = {name.rpartition(".")[2]: pair for name, pair in report.hyperparameters.items()}
    assert found == {
        "learning_rate": (0.1, 0.2),
        "b1": (0.8, 0.9),
        "eps": (1e-6, 1e-8),
        "weight_decay": (0.01, None),
    }
    assert "weight_decay" in repr(report)
    state = after(optim.SGD, momentum=0.9, nesterov=True)[0].state_dict()
    _, report = from_torch_state(gx.sgd(RATE, 0.8), state, params())
    assert report.hyperparameters == {
        "decay": (0.9, 0.8),
        "scale_by_momentum.nesterov": (True, False),
    }


def test_hyperparameters_of_links() -> None:
    """Where two have one of the same name, and where we have none."""
    state = after(optim.RMSprop, momentum=0.9)[0].state_dict()
    tx = gx.rmsprop(RATE, 0.9, eps_in_sqrt=False, momentum=0.8)
    _, report = from_torch_state(tx, state, params())
    assert report.hyperparameters == {
        "scale_by_momentum.decay": (0.9, 0.8),
        "scale_by_rms.decay": (0.99, 0.9),
    }
    tx = gx.rmsprop(RATE, 0.99, eps_in_sqrt=False)
    _, report = from_torch_state(tx, state, params(), unused="report")
    assert report.hyperparameters == {"scale_by_momentum.decay": (0.9, None)}
    assert report.unused == ("weight.momentum_buffer", "bias.momentum_buffer")


def test_where_weight_decay_is_added() -> None:
    for make, ours, told in (
        (optim.Adam, gx.adamw(RATE, weight_decay=0.1), "to the gradient there, to the update here"),
        (optim.AdamW, gx.adamw(RATE, weight_decay=0.1), ""),
        (optim.Adam, gx.chain(gx.add_decayed_weights(0.1), gx.adam(RATE)), ""),
        (
            optim.AdamW,
            gx.chain(gx.add_decayed_weights(0.1), gx.adam(RATE)),
            "to the update there, to the gradient here",
        ),
    ):
        state = after(make, weight_decay=0.1)[0].state_dict()
        _, report = from_torch_state(ours, state, params())
        assert [*report.notes] == [n for n in report.notes if told and told in n]
        assert len(report.notes) == bool(told)


def test_steps_that_are_arrays() -> None:
    """As with `capturable` and `fused`."""
    state = after(optim.Adam, fused=True)[0].state_dict()
    for slots in state["state"].values():
        slots["step"] = slots["step"].reshape(1)
    got, _ = from_torch_state(gx.adam(RATE), state, params())
    assert int(got["count"]) == 3


def test_rprop_remembers_signs() -> None:
    state, _ = from_torch_state(gx.rprop(RATE), after(optim.Rprop)[0].state_dict(), params())
    assert np.all(np.asarray(state["scale_by_rprop"].signs["weight"]) == 1)


def test_parameters_without_state_begin_anew() -> None:
    state = after(optim.Adam)[0].state_dict()
    del state["state"][1]
    tree = params()
    seen = refused(lambda: from_torch_state(gx.adam(RATE), state, tree))
    assert "what is loaded has no 'scale_by_adam/mu/bias'" in seen
    got, report = from_torch_state(gx.adam(RATE), state, tree, missing="fresh")
    assert report.fresh == ("scale_by_adam/mu/bias", "scale_by_adam/nu/bias")
    assert not np.any(got["scale_by_adam"].mu["bias"])
