"""Law 9b: what is drawn differs between parts, arrays and steps; the order of arrays is nothing."""

from __future__ import annotations

import numpy as np

from gradtx.chain import chain
from gradtx.testing.compare import plain, require, same
from gradtx.testing.evidence import Evidence, draws
from gradtx.testing.laws.law import law


@law(9)
def arrays_and_steps_draw_different_numbers(e: Evidence) -> None:
    """Another array, another step: other numbers; more arrays beside it: the same ones."""
    if e.drawn is None:
        return
    (both, later), (alone, _) = e.drawn, draws(e.tx, ("b",))
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
    if e.drawn is None:
        return
    two, _ = draws(chain(e.tx, e.tx), ("a",))
    grown = float(np.std(plain(two["a"])) / np.std(plain(e.drawn[0]["a"])))
    require(grown < 1.6, "how much more noise two parts make than one, 1.41 is right", grown)
