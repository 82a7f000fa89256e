"""Who moves which array, as what and why: the table that `tx.describe(params)` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gradtx.tree import Tree, is_inexact, named_leaves


class Route(NamedTuple):
    """What becomes of one array."""

    by: str  # the transformation that it goes to
    seen: str = ""  # what it is taken for, such as a stack of matrices
    why: str = ""

    def because(self, reason: str) -> Route:
        """This route with one more reason, before its own."""
        if reason in self.why:
            return self
        return self._replace(why=f"{reason}; {self.why}" if self.why else reason)


UNMOVED = Route("nothing", "", "no floating or complex array")


def table(params: Tree, routes: Sequence[Route]) -> str:
    """One line for each array, in columns."""
    rows: list[tuple[str, ...]] = [("array", "type", "moved by", "as", "why")]
    for (path, x), route in zip(named_leaves(params), routes, strict=True):
        if x is not None:
            rows.append((path, _type(x), *(route if is_inexact(x) else UNMOVED)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _type(x: Any) -> str:
    return f"{jnp.result_type(x)}{list(np.shape(x))}"
