"""The figures, on losses whose answers can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gradtx.compare.summary import best_rate, diverged, final, smooth, summarize
from gradtx.compare.wording import sentence, verdict

from .conftest import course, falling, trial


def test_the_best_rate_has_the_lowest_mean_final_loss():
    losses = falling(0.9, 0.2, 0.4)
    found = summarize(one := trial(losses), course(one))
    assert found.rate == pytest.approx(1e-2)
    assert found.loss == pytest.approx(0.2)
    assert found.loss_deviation == pytest.approx(0, abs=1e-6)


def test_diverged_is_not_finite_or_far_above_the_start():
    losses = falling(0.5, 2.9, 3.1, 0.5, 0.5, seeds=1)
    losses[3, 0, 4] = np.nan
    losses[4, 0, -1] = np.inf
    assert diverged(losses)[:, 0].tolist() == [False, False, True, True, True]


def test_a_seed_that_diverged_is_shown_and_not_averaged():
    losses = falling(0.4, 0.1, seeds=3)
    losses[0, 2, 1:] = 1e9
    losses[1, 1, 5:] = np.nan
    alone = trial(losses[1:], rates=[0.1])
    found = summarize(alone, course(alone))
    assert found.loss == pytest.approx(0.1)
    assert (found.survivors, found.seeds, found.diverged) == (2, 3, 1)
    both = trial(losses)
    found = summarize(both, course(both))
    assert np.isfinite(found.loss)
    assert found.diverged == 2
    assert "1 of 3 seeds diverged" in sentence(found, [found], course(both))


def test_a_rate_at_which_a_seed_diverged_cannot_win_against_one_where_none_did():
    losses = falling(0.4, 0.1, seeds=3)
    losses[1, 0, 5:] = np.nan
    assert best_rate(losses, log=False)[0] == 0


def test_an_optimizer_of_which_nothing_survives():
    losses = np.full((3, 2, 11), np.nan)
    losses[:, :, 0] = 1
    one = trial(losses)
    found = summarize(one, course(one))
    assert found.survivors == 0
    assert np.isnan(found.loss)
    assert found.decades == 0
    assert sentence(found, [found], course(one)).startswith("Diverged")
    assert "diverged" in verdict([found], course(one))


def test_usable_decades_are_interpolated_between_the_rates_tried():
    # Start 1, best 0: usable up to 0.1, which lies halfway to 0.2 and a quarter of the way to 0.4.
    one = trial(falling(0.9, 0.2, 0.0, 0.4, 0.9))
    found = summarize(one, course(one))
    assert found.decades == pytest.approx(0.5 + 0.25, rel=1e-5)
    assert found.usable == pytest.approx((10**-1.5, 10**-0.75), rel=1e-5)
    assert not found.open_ended


def test_nothing_is_claimed_towards_a_rate_that_diverged_or_beyond_the_sweep():
    losses = falling(0.9, 0.2, 0.0, 0.4)
    losses[3] = np.nan
    one = trial(losses)
    found = summarize(one, course(one))
    assert found.decades == pytest.approx(0.5, rel=1e-5)
    assert not found.open_ended
    cut = trial(falling(0.9, 0.2, 0.0))
    found = summarize(cut, course(cut))
    assert found.decades == pytest.approx(0.5, rel=1e-5)
    assert found.open_ended
    assert found.at_edge


def test_logarithmic_problems_are_compared_by_the_logarithm():
    losses = falling(1e-2, 1e-6, 1e-5)
    losses[1, 0, -2:], losses[1, 1, -2:] = 1e-4, 1e-8
    one = trial(losses)
    found = summarize(one, course(one, log=True))
    assert found.loss == pytest.approx(1e-6, rel=1e-4)
    assert found.loss_deviation == pytest.approx(2, rel=1e-4)
    # 10 % of six decades of progress is 0.6 of the one decade to the next rate.
    assert found.usable[1] == pytest.approx(10**-1.4, rel=1e-4)


def test_steps_to_the_target_are_interpolated_and_counted_by_seed():
    losses = falling(0.0, seeds=2)  # falls by 1/8 every 10 steps
    losses[0, 1] = 1.0
    one = trial(losses)
    found = summarize(one, course(one, target=0.5))
    assert found.steps_to_target == pytest.approx(40)
    assert (found.reached, found.seeds) == (1, 2)
    assert summarize(one, course(one, target=-1)).reached == 0


def test_the_last_smoothed_value_is_the_final_one():
    values = np.random.default_rng(0).normal(size=(2, 3, 51))
    assert smooth(values).shape == values.shape
    assert smooth(values)[..., -1] == pytest.approx(final(values))


def test_each_is_told_where_it_did_well():
    first = trial(falling(0.9, 0.2, 0.9), name="deep")
    wide = trial(falling(0.3, 0.3, 0.3), name="wide")
    last = trial(falling(0.9, 0.48, 0.9), name="last")
    all_of = course(first, wide, last)
    found = [summarize(t, all_of) for t in all_of.trials]
    said = [sentence(s, found, all_of) for s in found]
    assert said[0].startswith("Lowest training loss (0.2), best held-out loss (0.2) and first to")
    assert said[1].startswith("Least sensitive to the learning rate (≥ 2.0 decades")
    assert said[2].startswith("Second of 3 in the width of usable learning rates (0.2 decades)")
    assert "third in training loss (0.48)" in said[2]
    assert verdict(found, all_of).startswith("deep reached the lowest training loss, 0.2 at")


def test_a_lead_within_the_spread_is_called_level():
    losses = falling(0.2, seeds=2)
    losses[:, 0, -2:], losses[:, 1, -2:] = 0.1, 0.3
    wide, near = trial(losses, name="wide"), trial(falling(0.25), name="near")
    far = trial(falling(0.45), name="far")
    all_of = course(wide, near, far)
    found = [summarize(t, all_of) for t in all_of.trials]
    said = [sentence(s, found, all_of) for s in found]
    assert said[0].startswith("Lowest training loss")
    assert said[1].startswith("Level with wide")
    assert "Level" not in said[2]
