"""Places that the seeds can tell apart, and methods that are one and the same here.

A run is decided by its seed: all optimizers start from the same parameters and see the same
mini-batches. So losses are compared seed by seed, by Wilcoxon's signed-rank test (exact), which
asks how often one is ahead and by how much beside the other differences: one bad seed does not
decide it. All comparisons on a problem share an error of 5 % (Holm 1979).
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
from scipy.stats import wilcoxon

ERROR = 0.05  # the chance that on a problem some two are told apart that are alike


def places(losses: np.ndarray) -> list[int]:
    """The place of each row of final losses [K, S]: those that are not told apart share one.

    The best by its median, and all that the seeds do not set apart from it, come first; the same
    again for the rest. Losses may be infinite.
    """
    order = sorted(range(len(losses)), key=lambda i: (float(np.median(losses[i])), i))
    apart = _told_apart(losses, order)
    found, place = [0] * len(losses), 1
    while order:
        first = order[0]
        group = [i for i in order if frozenset((first, i)) not in apart]
        for i in group:
            found[i] = place
        place += len(group)
        order = [i for i in order if i not in group]
    return found


def _told_apart(losses: np.ndarray, order: Sequence[int]) -> set[frozenset[int]]:
    """The pairs of rows that differ, by Holm's rule: of all pairs where so many seeds can tell that
    many apart, else of those with the first in `order`.
    """
    pairs = list(combinations(order, 2))
    if 2.0 ** (1 - losses.shape[1]) > ERROR / max(len(pairs), 1):
        pairs = [(order[0], i) for i in order[1:]]
    chance = {pair: p_value(*losses[list(pair)]) for pair in pairs}
    apart: set[frozenset[int]] = set()
    for done, pair in enumerate(sorted(pairs, key=chance.__getitem__)):
        if chance[pair] > ERROR / (len(pairs) - done):
            break
        apart.add(frozenset(pair))
    return apart


def p_value(one: np.ndarray, other: np.ndarray) -> float:
    """Of the losses [S] of two optimizers: the chance of such differences if they were alike."""
    with np.errstate(invalid="ignore"):
        change = np.asarray(other, np.float64) - np.asarray(one, np.float64)
    change[np.isnan(change)] = 0.0  # both are infinite
    finite = np.abs(change[np.isfinite(change)])
    change = np.clip(change, *(np.array([-1, 1]) * (2 * finite.max(initial=0.0) + 1)))
    if not change.any():
        return 1.0
    found: Any = wilcoxon(change, zero_method="zsplit", method=_method(change))
    return float(found.pvalue)


def _method(change: np.ndarray) -> Literal["exact", "auto"]:
    """Exact where no two differences have one size, as the tables of the test are."""
    sizes = np.abs(change)
    return "exact" if len(np.unique(sizes)) == len(sizes) and sizes.all() else "auto"


def needed(others: int) -> int:
    """How many seeds can tell an optimizer from so many others: 6 from one, 9 from seven."""
    return 1 + math.ceil(math.log2(others / ERROR))


def doubles(runs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[int | None]:
    """For each of several `(rates [R], losses [R, S, E])` an earlier one that it is the same as.

    That is so where they share two learning rates or more, and the losses there differ by no more
    than rounding: Muon on a problem without matrices is the Adam that it leaves the rest to.
    """
    found: list[int | None] = []
    for i, (rates, losses) in enumerate(runs):
        same = None
        for j, (other_rates, other) in enumerate(runs[:i]):
            shared, mine, theirs = np.intersect1d(rates, other_rates, return_indices=True)
            if found[j] is None and len(shared) >= min(2, len(rates)):
                seeds = min(losses.shape[1], other.shape[1])
                a, b = losses[mine, :seeds], other[theirs, :seeds]
                if np.allclose(a, b, rtol=1e-5, atol=0, equal_nan=True) and np.isfinite(a).any():
                    same = j
                    break
        found.append(same)
    return found
