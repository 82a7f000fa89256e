"""Both rounds of a trial in one shape: which run is where."""

import numpy as np
import pytest

from gradtx.compare.grid import grid, rows_for


@pytest.mark.parametrize(("rates", "seeds"), [(9, 3), (3, 12), (3, 10), (1, 12), (2, 2)])
def test_every_run_is_found_where_it_was_put(rates, seeds):
    chosen = np.arange(rates, dtype=np.float32) + 1
    of = grid(chosen, list(range(100, 100 + seeds)), columns=3 if seeds > 2 else 2, rows=12)
    assert of.seeds.shape[0] == len(of.rates) == 12
    runs = of.runs({"rate": np.repeat(of.rates[:, None], of.seeds.shape[1], 1), "seed": of.seeds})
    np.testing.assert_array_equal(runs["rate"], np.repeat(chosen[:, None], seeds, 1))
    np.testing.assert_array_equal(runs["seed"], np.tile(np.arange(100, 100 + seeds), (rates, 1)))


def test_one_shape_unless_it_wastes_much():
    assert rows_for(9, 12, 3) == 12
    assert rows_for(12, 9, 3) == 12
    assert rows_for(21, 12, 3) == 0
    assert grid(np.ones(9), [1, 2, 3], 3, 12).seeds.shape == (12, 3)
