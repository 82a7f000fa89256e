"""Every wrapper, around an optimizer that makes it work."""

from functools import partial

from gradtx.catalogue.row import Row, table
from gradtx.optimizers.adam import adam
from gradtx.wrappers.accumulate import accumulate
from gradtx.wrappers.average import ema, lookahead, polyak_average
from gradtx.wrappers.conditional import conditionally_mask, conditionally_transform, every
from gradtx.wrappers.guard import apply_if_finite, dynamic_loss_scale, skip_outliers
from gradtx.wrappers.monitor import monitor
from gradtx.wrappers.offload import offload
from gradtx.wrappers.outer import diloco, ema_nesterov
from gradtx.wrappers.partition import masked, partition
from gradtx.wrappers.precision import kahan, master_weights, stochastic_rounding
from gradtx.wrappers.schedule_free import gpa, schedule_free
from gradtx.wrappers.sharpness import asam, opaque_sam, sam
from gradtx.wrappers.store import blockwise, store


def at_even_steps(count):
    return count % 2 == 0


wrappers = table(
    Row(
        "partition",
        "wrappers",
        "every array has an optimizer of its own",
        partial(partition, {"*": adam(0.1)}),
    ),
    Row("masked", "wrappers", "moves some arrays only", partial(masked, adam(0.1), "*")),
    Row("ema", "wrappers", "evaluates the newest parameters, averaged", partial(ema, adam(0.1))),
    Row(
        "polyak_average",
        "wrappers",
        "evaluates the mean of the parameters",
        partial(polyak_average, adam(0.1)),
    ),
    Row("lookahead", "wrappers", "goes back half of the way", partial(lookahead, adam(0.1), 2)),
    Row(
        "schedule_free",
        "wrappers",
        "trains between iterates and their mean",
        partial(schedule_free, adam(0.1, b1=0.0)),
        temporary_bytes=4,  # the step, of which both the parameters and z are made
    ),
    Row(
        "gpa",
        "wrappers",
        "trains between iterates and their average",
        partial(gpa, adam(0.1)),
        temporary_bytes=4,  # as schedule_free
    ),
    Row(
        "diloco",
        "wrappers",
        "steps along the way that many steps went",
        partial(diloco, adam(0.1), 2),
        temporary_bytes=8,  # the step and the way back, which go into a branch
    ),
    Row(
        "ema_nesterov",
        "wrappers",
        "looks ahead along the average step",
        partial(ema_nesterov, adam(0.1)),
        temporary_bytes=4,  # the step, of which both the parameters and the average are made
    ),
    Row(
        "sam",
        "wrappers",
        "steps with the gradient from uphill",
        partial(sam, adam(0.1)),
        temporary_bytes=4,  # the update, which comes out of a branch
    ),
    Row(
        "asam",
        "wrappers",
        "the same, as far as the parameters",
        partial(asam, adam(0.1)),
        temporary_bytes=4,  # as sam
    ),
    Row(
        "opaque_sam",
        "wrappers",
        "asks for the gradient from uphill",
        partial(opaque_sam, adam(0.1)),
    ),
    Row(
        "accumulate",
        "wrappers",
        "one step for the mean of many gradients",
        partial(accumulate, adam(0.1), 2),
        temporary_bytes=4,  # the update, which is zero or not
    ),
    Row(
        "accumulate_and_look",
        "wrappers",
        "the same, with an eye on noise and on what is not finite",
        partial(accumulate, adam(0.1), 2, nonfinite="skip", noise_scale=True),
        temporary_bytes=4,  # the update, which is zero or not
    ),
    Row(
        "apply_if_finite",
        "wrappers",
        "leaves out what is not finite",
        partial(apply_if_finite, adam(0.1), 5),
        temporary_bytes=4,  # the update, which is zero or not
    ),
    Row(
        "skip_outliers",
        "wrappers",
        "leaves out norms far above the usual",
        partial(skip_outliers, adam(0.1)),
        temporary_bytes=4,  # the update, which is zero or not
    ),
    Row(
        "skip_loss_outliers",
        "wrappers",
        "leaves out losses far above the usual",
        partial(skip_outliers, adam(0.1), watch="value"),
        temporary_bytes=4,  # the update, which is zero or not
    ),
    Row(
        "dynamic_loss_scale",
        "wrappers",
        "divides by the scale of the loss",
        partial(dynamic_loss_scale, adam(0.1)),
        temporary_bytes=4,  # the update, which is zero or not
    ),
    Row(
        "every",
        "wrappers",
        "moves at some steps only",
        partial(every, 2, adam(0.1)),
        temporary_bytes=4,  # the update, which is zero or not
    ),
    Row(
        "conditionally_transform",
        "wrappers",
        "transforms where a function says so",
        partial(conditionally_transform, adam(0.1), at_even_steps),
        temporary_bytes=4,  # the update, which is that of one branch
    ),
    Row(
        "conditionally_mask",
        "wrappers",
        "moves where a function says so",
        partial(conditionally_mask, adam(0.1), at_even_steps),
        temporary_bytes=4,  # the update, which is zero or not
    ),
    Row(
        "monitor",
        "wrappers",
        "keeps numbers of the last step",
        partial(monitor, adam(0.1)),
        temporary_bytes=12,  # the update, from which norms are taken, its root and the squares
    ),
    Row(
        "store_bfloat16",
        "wrappers",
        "slots in half the memory",
        partial(store, adam(0.1), {"mu": "bfloat16", "nu": "bfloat16"}),
        temporary_bytes=4,  # the old slots, which are read once more
    ),
    Row(
        "store_int8",
        "wrappers",
        "slots as 8-bit codes by block",
        partial(store, adam(0.1), dict.fromkeys(("mu", "nu"), blockwise(min_size=0))),
        temporary_bytes=10.1,  # the moments, of which the largest of a block is found first
    ),
    Row(
        "store_companded",
        "wrappers",
        "slots as 8-bit codes on a bent scale",
        partial(store, adam(0.1), dict.fromkeys(("mu", "nu"), blockwise("companded", min_size=0))),
        temporary_bytes=14,  # as above
    ),
    Row(
        "store_float8",
        "wrappers",
        "slots as small floating numbers scaled by block",
        partial(
            store,
            adam(0.1),
            {
                "mu": blockwise("float8_e4m3fn", block=2, min_size=0),
                "nu": blockwise("float8_e5m2", block=2, min_size=0),
            },
        ),
        temporary_bytes=14.1,  # as above
    ),
    Row(
        "kahan",
        "wrappers",
        "adds what rounding lost to the next step",
        partial(kahan, adam(0.1)),
        temporary_bytes=4.1,  # the old parameter, for what is lost on the way to the new one
    ),
    Row(
        "stochastic_rounding",
        "wrappers",
        "rounds parameters at random",
        partial(stochastic_rounding, adam(0.1)),
    ),
    Row(
        "master_weights",
        "wrappers",
        "steps in a float32 copy",
        partial(master_weights, adam(0.1)),
    ),
    Row(
        "master_weights_split",
        "wrappers",
        "bfloat16 parameters and the 16 bits below",
        partial(master_weights, adam(0.1), split=True),
    ),
    Row("offload", "wrappers", "state in host memory", partial(offload, adam(0.1))),
)
