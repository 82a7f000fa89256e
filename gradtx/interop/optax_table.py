"""Which fields of Optax's states become which slots of ours.

A state of Optax is known by the fields that it has: those of several links are the same, and ours
decides which it is. `momentum` lies before the learning rate in `sgd`, behind it in `rmsprop`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradtx.interop.conversion import Entry, Here, by_sides, row

SCALARS = {
    *("count", "count_m2", "step_count", "mini_step", "gradient_step", "t"),
    *("b1", "weight_sum", "max_lr", "ns_coeffs", "estim_lr", "numerator_weighted"),
    *("is_initial_step", "skip_state", "notfinite_count", "last_finite", "total_notfinite"),
}
"""Fields that are no trees like the parameters."""

BELOW = {"inner_opt_state", "base_optimizer_state", "inner_state", "inner_states"}
"""Fields with other states in them."""

OPTIONAL = {"skip_state", "hyperparams_states"}

COUNTS = ("count", "gradient_step", "t")


def _trace(entry: Entry, here: Here) -> Any:
    return here.moved(entry["trace"])


def _begun(entry: Entry, here: Here) -> Any:
    return np.ones((), entry["nu"].dtype) * (here.steps != 0)


def _not_initial(entry: Entry, here: Here) -> Any:
    return 1 - np.asarray(entry["is_initial_step"]).astype(here.row.leaf["begun"].dtype)


def _root_nu(entry: Entry, here: Here) -> Any:
    return np.sqrt(entry["nu"])


def _factored(name: str) -> Any:
    def found(entry: Entry, here: Here) -> Any:
        p, part = here.row.p, here.row.part
        whole = len(p.shape) < 2 or entry["v"].shape == tuple(p.shape)
        if name == "v" or whole:
            return entry["v"] if name == "v" and whole else None
        smaller, larger = map(int, np.argsort(p.shape)[-2:])  # as they choose
        return by_sides(part, p, (entry["v_row"], entry["v_col"]), (smaller, larger)).get(name)

    return found


def _total(entry: Entry, here: Here) -> Any:
    """They keep the mean so far, we the sum."""
    part: Any = here.row.part
    return entry["acc_grads"] * (int(entry["mini_step"]) if part.reduce == "mean" else 1)


def _micro_steps(entry: Entry) -> Any:
    return entry["mini_step"]


def _zero(entry: Entry) -> Any:
    return np.zeros(())


MOMENTS = "count mu nu"

TABLE = (
    row("scale_by_momentum", "trace", {"trace": _trace}),
    row("scale_by_adam", MOMENTS, "mu nu"),
    row("scale_by_nadam", MOMENTS, "mu nu"),
    row("scale_by_adamax", MOMENTS, "mu nu"),
    row("scale_by_belief", MOMENTS, "mu nu"),
    row(
        "scale_by_yogi",
        MOMENTS,
        "mu nu",
        settings={"bias_correction": True},
        because="that of Optax corrects the bias of both",
    ),
    row(
        "scale_by_radam",
        MOMENTS,
        "mu nu",
        settings={"threshold": 5},
        because="that of Optax, unless told otherwise, waits for a rho of 5",
    ),
    row(
        "scale_by_amsgrad",
        "count mu nu nu_max",
        "mu nu nu_max",
        settings={"form": "max_of_corrected"},
        because="that of Optax is the largest corrected mean square",
    ),
    row("scale_by_lion", "count mu", "mu"),
    row("average_updates", "count ema", {"mu": "ema"}),
    row(
        "scale_by_rms",
        "nu",
        "nu",
        settings={"bias_correction": False},
        because="a state without a count has no bias corrected",
    ),
    row(
        "scale_by_rms",
        "count nu",
        "nu",
        settings={"bias_correction": True},
        because="a state with a count is one whose bias is corrected",
    ),
    row(
        "scale_by_stddev",
        "mu nu",
        "mu nu",
        settings={"bias_correction": False},
        because="a state without a count has no bias corrected",
    ),
    row(
        "scale_by_stddev",
        MOMENTS,
        "mu nu",
        settings={"bias_correction": True},
        because="a state with a count is one whose bias is corrected",
    ),
    row(
        "scale_by_adagrad",
        "sum_of_squares",
        "sum_of_squares",
        note="eps is inside of the root in Optax, outside of it here",
    ),
    row("scale_by_adadelta", "e_g e_x", "e_g e_x"),
    row("scale_by_novograd", MOMENTS, {"mu": "mu", "nu": _root_nu, "begun": _begun}),
    row(
        "scale_by_factored_rms",
        "count v_row v_col v",
        {name: _factored(name) for name in ("v_row", "v_col", "v")},
        settings={"clipping_threshold": None},
        because="in Optax a link of its own clips: chain clip_by_block_rms behind it",
    ),
    row(
        "scale_by_muon",
        "count mu ns_coeffs",
        "mu",
        settings={"momentum": "corrected"},
        because="that of Optax corrects the bias of its momentum",
    ),
    row("scale_by_ademamix", "count count_m2 m1 m2 nu", {"mu": "m1", "mu_slow": "m2", "nu": "nu"}),
    row(
        "scale_by_optimistic_gradient",
        "is_initial_step previous_gradient",
        {"previous": "previous_gradient", "begun": _not_initial},
    ),
    row(
        "accumulate",
        "mini_step gradient_step inner_opt_state acc_grads",
        {"total": _total},
        numbers={"mini_step": _micro_steps, "weight": _micro_steps, "value": _zero},
    ),
    row(
        "schedule_free",
        "b1 weight_sum step_count max_lr base_optimizer_state z",
        {"z": "z"},
        numbers={
            "peak": lambda entry: entry["max_lr"],
            "weight_sum": lambda entry: entry["weight_sum"],
        },
        moving="with a warm-up Optax weighs by the learning rate of the step after",
    ),
    row(
        "apply_if_finite",
        "notfinite_count last_finite total_notfinite inner_state",
        numbers={
            "notfinite_count": lambda entry: entry["notfinite_count"],
            "total_notfinite": lambda entry: entry["total_notfinite"],
            "frozen": _zero,
        },
        note="that of Optax lets in what is not finite where ours freezes",
    ),
    # What cannot be carried over -----------------------------------------------------------------
    row(
        "scale_by_rprop",
        "step_sizes prev_updates",
        refused="that of Optax applies the update of the step before, and remembers no gradient",
    ),
    row(
        "scale_by_prodigy",
        "exp_avg exp_avg_sq grad_sum params0 estim_lr numerator_weighted count",
        refused="that of Optax always corrects the bias, and has NaN after a gradient of zeros",
    ),
    row(
        "scale_by_dadapt_adam",
        "exp_avg exp_avg_sq grad_sum estim_lr numerator_weighted count",
        refused="that of Optax always corrects the bias, and has NaN after a gradient of zeros",
    ),
    row(
        "scale_by_adan",
        "m v n g t",
        refused="that of Optax averages changes times 1 - b2 where the paper has b2",
    ),
    row(
        "scale_by_sophia",
        "count mu nu hessian_fn_state",
        refused="that of Optax divides by the curvature before it is renewed",
    ),
)
