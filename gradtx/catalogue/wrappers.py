"""Every wrapper, around an optimizer that makes it work."""

from functools import partial

from gradtx.catalogue.row import Row, table
from gradtx.optimizers.adam import adam
from gradtx.wrappers.partition import masked, partition

wrappers = table(
    Row(
        "partition",
        "wrappers",
        "every array has an optimizer of its own",
        partial(partition, {"*": adam(0.1)}),
    ),
    Row("masked", "wrappers", "moves some arrays only", partial(masked, adam(0.1), "*")),
)
