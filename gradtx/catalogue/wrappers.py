"""Every wrapper, around an optimizer that makes it work."""

from functools import partial

from gradtx.catalogue.row import Row, table
from gradtx.optimizers.adam import adam
from gradtx.wrappers.offload import offload
from gradtx.wrappers.partition import masked, partition
from gradtx.wrappers.precision import kahan, master_weights, stochastic_rounding
from gradtx.wrappers.store import blockwise, store

wrappers = table(
    Row(
        "partition",
        "wrappers",
        "every array has an optimizer of its own",
        partial(partition, {"*": adam(0.1)}),
    ),
    Row("masked", "wrappers", "moves some arrays only", partial(masked, adam(0.1), "*")),
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
