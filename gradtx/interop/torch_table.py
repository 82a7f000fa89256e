"""Which entries of PyTorch's states become which slots of ours; groups by our names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gradtx.interop.conversion import Entry, Here, by_sides, row

SIGNED = {"mu", "trace", "signs"}
"""Slots that turn where what is maximized is taken for what is minimized."""


def _trace(entry: Entry, here: Here) -> Any:
    """With dampening they add a part of the gradient, we all of it."""
    return here.moved(entry["momentum_buffer"]) / (1 - entry.get("dampening", 0))


def _reached(entry: Entry, here: Here) -> Any:
    return 1 - np.asarray(entry["mu_product"], np.float64)


def _step_sizes(entry: Entry, here: Here) -> Any:
    return entry["step_size"] / (2 * here.rate())


def _signs(entry: Entry, here: Here) -> Any:
    return np.sign(entry["prev"])


def _side(name: str) -> Any:
    def found(entry: Entry, here: Here) -> Any:
        if "row_var" not in entry or "col_var" not in entry:
            return None
        p, ndim = here.row.p, len(here.row.p.shape)
        axes = (here.turn(ndim - 2), here.turn(ndim - 1))
        means = (np.squeeze(entry["row_var"], -1), np.squeeze(entry["col_var"], -2))
        return by_sides(here.row.part, p, means, axes).get(name)

    return found


MOMENTS = {"mu": "exp_avg", "nu": "exp_avg_sq"}

EPS_OUTSIDE = "PyTorch adds eps to the root"

TABLE = (
    row("scale_by_momentum", "momentum_buffer", {"trace": _trace}),
    row("scale_by_adam", "exp_avg exp_avg_sq", MOMENTS),
    row(
        "scale_by_amsgrad",
        "exp_avg exp_avg_sq max_exp_avg_sq",
        {**MOMENTS, "nu_max": "max_exp_avg_sq"},
        settings={"form": "torch"},
        because="that of PyTorch corrects the bias of the largest mean square",
    ),
    row(
        "scale_by_warmed_nadam",
        "exp_avg exp_avg_sq mu_product",
        {**MOMENTS, "reached": _reached},
        note="mu_product has the digits of float32",
    ),
    row(
        "scale_by_nadam",
        "exp_avg exp_avg_sq mu_product",
        refused="the momentum of PyTorch's grows: pass nadam(..., momentum_decay=0.004)",
    ),
    row(
        "scale_by_radam",
        "exp_avg exp_avg_sq",
        MOMENTS,
        settings={"threshold": 5},
        because="that of PyTorch waits for a rho of 5",
        note="PyTorch adds eps before the bias is corrected",
    ),
    row("scale_by_adamax", "exp_avg exp_inf", {"mu": "exp_avg", "nu": "exp_inf"}),
    row("scale_by_adagrad", "sum", {"sum_of_squares": "sum"}),
    row("scale_by_adadelta", "square_avg acc_delta", {"e_g": "square_avg", "e_x": "acc_delta"}),
    row(
        "scale_by_rms",
        "square_avg",
        {"nu": "square_avg"},
        settings={"eps_in_sqrt": False, "bias_correction": False},
        because=EPS_OUTSIDE,
    ),
    row(
        "scale_by_stddev",
        "square_avg grad_avg",
        {"nu": "square_avg", "mu": "grad_avg"},
        settings={"eps_in_sqrt": False, "bias_correction": False},
        because=EPS_OUTSIDE,
    ),
    row("scale_by_rprop", "step_size prev", {"step_sizes": _step_sizes, "signs": _signs}),
    row(
        "scale_by_muon",
        "momentum_buffer",
        {"mu": "momentum_buffer"},
        settings={"momentum": "lerp"},
        because="the momentum of PyTorch is an average",
        note="PyTorch orthogonalizes in bfloat16",
    ),
    row(
        "scale_by_factored_rms",
        "row_var col_var",
        {"v_row": _side("v_row"), "v_col": _side("v_col"), "v": "variance"},
        note="not exact: PyTorch bounds squares from below where eps is added here",
    ),
    row(
        "scale_by_factored_rms",
        "variance",
        {"v": "variance"},
        note="not exact: PyTorch bounds squares from below where eps is added here",
    ),
)

BESIDE = {"step", "dampening"}
"""What an entry has for its steps and from its group."""

OTHERWISE = {"step", "mu_product", "row_var", "col_var"}
"""Entries that are not as the parameter is, whatever its axes are."""

REFUSED: tuple[tuple[frozenset[str], str, str], ...] = (
    (
        frozenset({"absmax1", "absmax2", "qmap1", "qmap2", "state1", "state2", "absmax", "qmap"}),
        "these are the 8-bit states of bitsandbytes",
        "Decode them there first: exp_avg is dequantize_blockwise(state1, absmax1, qmap1)",
    ),
    (
        frozenset({"old_dirs", "old_stps", "prev_flat_grad"}),
        "this is the state of LBFGS, whose pairs belong to all arrays as one vector",
        "Begin anew with tx.init(params): the memory of lbfgs fills in as many steps",
    ),
    (
        frozenset({"ax", "eta"}),
        "this is the state of ASGD, whose rate and average we do not have in this form",
        "Begin anew with tx.init(params): see polyak_average",
    ),
)
"""Entries by which a state is known that is not taken, why, and what to do."""

ZERO = {"zero_stage", "partition_count", "single_partition_of_fp32_groups", "ds_version"}
"""Keys of a checkpoint of DeepSpeed."""


def hyperparameters(group: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a group says, by our names."""
    if "lr" in group:
        yield "learning_rate", float(group["lr"]) * (1 - float(group.get("dampening", 0)))
    yield from zip(("b1", "b2"), group.get("betas", ()), strict=False)
    eps = group.get("eps")
    if isinstance(eps, tuple | list):  # of Adafactor: that of squares, and the smallest scale
        yield from ((n, x) for n, x in zip(("eps", "min_scale"), eps, strict=True) if x is not None)
    elif eps is not None and "ns_steps" not in group:
        yield "eps", eps
    if "momentum" in group:
        yield "beta" if "ns_steps" in group else "scale_by_momentum.decay", group["momentum"]
    if "alpha" in group and "centered" in group:
        link = "scale_by_stddev" if group["centered"] else "scale_by_rms"
        yield f"{link}.decay", group["alpha"]
    yield from zip(("eta_minus", "eta_plus"), group.get("etas", ()), strict=False)
    sizes = ("min_step_size", "max_step_size")
    yield from zip(sizes, group.get("step_sizes", ()), strict=False)
    if "beta2_decay" in group:
        yield "decay_rate", -group["beta2_decay"]
    if "d" in group:
        yield "clipping_threshold", group["d"]
    for name in ("weight_decay", "rho", "momentum_decay", "lr_decay"):
        if name in group:
            yield name, group[name]
