"""Law 9b: what is drawn differs between parts, arrays and steps; the order of arrays is nothing."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from gradtx.chain import chain
from gradtx.testing.ask import at_random, update
from gradtx.testing.compare import plain, require, same
from gradtx.testing.evidence import Evidence
from gradtx.testing.laws.law import law
from gradtx.transform import GradientTransformation

_SIZE = 4096


def _drawn(tx: GradientTransformation, names: tuple[str, ...]) -> tuple[Any, Any]:
    """What two updates add to nothing."""
    nothing = {name: np.zeros(_SIZE, np.float32) for name in names}
    call = jax.jit(lambda *args: update(tx, *args))
    first, state = call(nothing, tx.init(nothing), nothing)
    return first, call(nothing, state, nothing)[0]


@law(9)
def arrays_and_steps_draw_different_numbers(e: Evidence) -> None:
    """Another array, another step: other numbers; more arrays beside it: the same ones."""
    if not at_random(e.tx):
        return
    (both, later), (alone, _) = _drawn(e.tx, ("a", "b")), _drawn(e.tx, ("b",))
    for x, y, what in (
        (both["a"], both["b"], "two arrays"),
        (both["a"], later["a"], "two steps"),
    ):
        found = abs(np.corrcoef(plain(x), plain(y))[0, 1])
        require(found < 0.1, f"the correlation of the noise of {what}", found)
    same(both["b"], alone["b"], "the noise of an array with another array beside it")


@law(9)
def parts_draw_different_numbers(e: Evidence) -> None:
    """Twice in a chain it adds independent numbers: deviations of sqrt(2), not of twice as much."""
    if not at_random(e.tx):
        return
    (one, _), (two, _) = (_drawn(tx, ("a",)) for tx in (e.tx, chain(e.tx, e.tx)))
    grown = float(np.std(plain(two["a"])) / np.std(plain(one["a"])))
    require(grown < 1.6, "how much more noise two parts make than one, 1.41 is right", grown)
