"""Every wrapper, around an optimizer that makes it work."""

from functools import partial

from gradtx.catalogue.row import family, row
from gradtx.optimizers.adam import adam
from gradtx.optimizers.diloco import diloco
from gradtx.solve.search import backtracking, hager_zhang, wolfe
from gradtx.tree import global_norm
from gradtx.wrappers.accumulate import accumulate
from gradtx.wrappers.average import ema, lookahead, polyak_average
from gradtx.wrappers.conditional import conditionally_mask, conditionally_transform, every
from gradtx.wrappers.distribute import distribute
from gradtx.wrappers.flatten import flatten
from gradtx.wrappers.guard import apply_if_finite, dynamic_loss_scale, skip_if, skip_outliers
from gradtx.wrappers.inject import inject_hyperparams
from gradtx.wrappers.monitor import monitor
from gradtx.wrappers.offload import offload
from gradtx.wrappers.outer import ema_nesterov
from gradtx.wrappers.partition import masked, partition
from gradtx.wrappers.precision import kahan, master_weights, stochastic_rounding
from gradtx.wrappers.schedule_free import gpa, schedule_free
from gradtx.wrappers.separately import separately
from gradtx.wrappers.sharpness import asam, opaque_sam, sam
from gradtx.wrappers.store import blockwise, store


def at_even_steps(count):
    return count % 2 == 0


def are_long(updates, count, params):
    return global_norm(updates) > 10


wrappers = family(
    "wrappers",
    row(partial(partition, {"*": adam(0.1)}), "every array has an optimizer of its own"),
    row(partial(separately, adam(0.1)), "every array has a count of its own"),
    row(partial(flatten, adam(0.1)), "all arrays are one vector"),
    row(partial(masked, adam(0.1), "*"), "moves some arrays only"),
    row(partial(ema, adam(0.1)), "evaluates the newest parameters, averaged"),
    row(partial(inject_hyperparams, adam(0.1)), "hyperparameters in the state"),
    row(partial(polyak_average, adam(0.1)), "evaluates the mean of the parameters"),
    row(partial(lookahead, adam(0.1), 2), "goes back half of the way"),
    # Temporary: the step, of which both the parameters and z are made
    row(
        partial(schedule_free, adam(0.1, b1=0.0)),
        "trains between iterates and their mean",
        temporary_bytes=4,
    ),
    # Temporary: as schedule_free
    row(partial(gpa, adam(0.1)), "trains between iterates and their average", temporary_bytes=4),
    # Temporary: the step and the way back, which go into a branch
    row(
        partial(diloco, adam(0.1), 2),
        "momentum of the displacement over many steps",
        temporary_bytes=8,
    ),
    # Temporary: the step, of which both the parameters and the average are made
    row(partial(ema_nesterov, adam(0.1)), "looks ahead along the average step", temporary_bytes=4),
    # Temporary: the update, which comes out of a branch
    row(partial(sam, adam(0.1)), "steps with the gradient from uphill", temporary_bytes=4),
    # Temporary: as sam
    row(partial(asam, adam(0.1)), "the same, as far as the parameters", temporary_bytes=4),
    # Temporary: the base and the direction, which come out of a branch
    row(partial(wolfe, adam(0.1)), "searches along the step", temporary_bytes=8.1),
    # Temporary: as wolfe
    row(partial(hager_zhang, adam(0.1)), "searches along it by secants", temporary_bytes=8.1),
    # Temporary: as wolfe
    row(partial(backtracking, adam(0.1)), "goes back along the step", temporary_bytes=8.1),
    row(partial(opaque_sam, adam(0.1)), "asks for the gradient from uphill"),
    # Temporary: the update, which is zero or not
    row(
        partial(accumulate, adam(0.1), 2),
        "one step for the mean of many gradients",
        temporary_bytes=4,
    ),
    # Temporary: the update, which is zero or not
    row(
        partial(accumulate, adam(0.1), 2, nonfinite="skip", noise_scale=True),
        "the same, with an eye on noise and on what is not finite",
        name="accumulate_and_look",
        temporary_bytes=4,
    ),
    # Temporary: the update, which is zero or not
    row(partial(apply_if_finite, adam(0.1), 5), "leaves out what is not finite", temporary_bytes=4),
    # Temporary: the update, which is zero or not
    row(
        partial(skip_if, adam(0.1), are_long),
        "leaves out what a function refuses",
        temporary_bytes=4,
    ),
    # Temporary: the update, which is zero or not
    row(
        partial(skip_outliers, adam(0.1)), "leaves out norms far above the usual", temporary_bytes=4
    ),
    # Temporary: the update, which is zero or not
    row(
        partial(skip_outliers, adam(0.1), watch="value"),
        "leaves out losses far above the usual",
        name="skip_loss_outliers",
        temporary_bytes=4,
    ),
    # Temporary: the update, which is zero or not
    row(
        partial(dynamic_loss_scale, adam(0.1)),
        "divides by the scale of the loss",
        temporary_bytes=4,
    ),
    # Temporary: the update, which is zero or not
    row(partial(every, 2, adam(0.1)), "moves at some steps only", temporary_bytes=4),
    # Temporary: the update, which is that of one branch
    row(
        partial(conditionally_transform, adam(0.1), at_even_steps),
        "transforms where a function says so",
        temporary_bytes=4,
    ),
    # Temporary: the update, which is zero or not
    row(
        partial(conditionally_mask, adam(0.1), at_even_steps),
        "moves where a function says so",
        temporary_bytes=4,
    ),
    # Temporary: the update, from which norms are taken, its root and the squares
    row(partial(monitor, adam(0.1)), "keeps numbers of the last step", temporary_bytes=12),
    # Temporary: the old slots, which are read once more
    row(
        partial(store, adam(0.1), {"mu": "bfloat16", "nu": "bfloat16"}),
        "slots in half the memory",
        name="store_bfloat16",
        temporary_bytes=4,
    ),
    # Temporary: the moments, of which the largest of a block is found first
    row(
        partial(store, adam(0.1), dict.fromkeys(("mu", "nu"), blockwise(min_size=0))),
        "slots as 8-bit codes by block",
        name="store_int8",
        temporary_bytes=10.1,
    ),
    # Temporary: as above
    row(
        partial(store, adam(0.1), dict.fromkeys(("mu", "nu"), blockwise("companded", min_size=0))),
        "slots as 8-bit codes on a bent scale",
        name="store_companded",
        temporary_bytes=14,
    ),
    # Temporary: as above
    row(
        partial(
            store,
            adam(0.1),
            {
                "mu": blockwise("float8_e4m3fn", block=2, min_size=0),
                "nu": blockwise("float8_e5m2", block=2, min_size=0),
            },
        ),
        "slots as small floating numbers scaled by block",
        name="store_float8",
        temporary_bytes=14.1,
    ),
    # Temporary: the old parameter, for what is lost on the way to the new one
    row(partial(kahan, adam(0.1)), "adds what rounding lost to the next step", temporary_bytes=4.1),
    row(partial(stochastic_rounding, adam(0.1)), "rounds parameters at random"),
    row(partial(master_weights, adam(0.1)), "steps in a float32 copy"),
    row(
        partial(master_weights, adam(0.1), split=True),
        "bfloat16 parameters and the 16 bits below",
        name="master_weights_split",
    ),
    row(partial(offload, adam(0.1)), "state in host memory"),
    row(partial(distribute, adam(0.1)), "matrices shared out over a mesh"),
)
