"""State shared out over the devices of a mesh (ZeRO-1), as data that can be printed and verified.

`state_shardings` says where every array of a state is to lie, `verify` whether it does, and
`zero_step` is the step of training that goes with it.
"""

from gradtx.sharding.check import verify as verify
from gradtx.sharding.state import (
    Placed as Placed,
    StateShardings as StateShardings,
    state_shardings as state_shardings,
)
from gradtx.sharding.zero import zero_step as zero_step
