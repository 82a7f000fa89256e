"""The runs of a trial spread over devices, each of which trains some of them."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def usable() -> Sequence[Any]:
    """All devices; of a CPU one, since several are threads on the same cores."""
    devices = jax.devices()
    return devices[:1] if jax.default_backend() == "cpu" else devices


class Spread:
    """Where stacks of so many rows lie: on as many of the devices as divide them evenly."""

    def __init__(self, rows: int, devices: Sequence[Any]) -> None:
        self.devices = max(n for n in range(1, len(devices) + 1) if rows % n == 0)
        mesh = Mesh(np.asarray(devices[: self.devices]), ("runs",))
        self.rows = NamedSharding(mesh, PartitionSpec("runs"))
        self.everywhere = NamedSharding(mesh, PartitionSpec())

    def put(self, stacked: Any) -> Any:
        return jax.device_put(stacked, self.rows) if self.devices > 1 else stacked

    def share(self, tree: Any) -> Any:
        """What all runs need."""
        return jax.device_put(tree, self.everywhere) if self.devices > 1 else tree

    @property
    def out(self) -> dict[str, Any]:
        """Arguments of `jax.jit`, so that results stay where their rows are."""
        return {"out_shardings": self.rows} if self.devices > 1 else {}
