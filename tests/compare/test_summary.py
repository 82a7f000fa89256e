"""The figures, on losses whose answers can be worked out by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from gradtx.compare import ranks
from gradtx.compare.across import across
from gradtx.compare.race import around, merged
from gradtx.compare.results import Course
from gradtx.compare.summary import (
    best_rate,
    diverged,
    final,
    rate_losses,
    smooth,
    summarize,
    summarize_all,
)
from gradtx.compare.wording import held_alike, overall, place, verdict

from .conftest import course, falling, trial


def test_the_best_rate_has_the_lowest_median_final_loss():
    losses = falling(0.9, 0.2, 0.4, seeds=5)
    losses[1, 0, -2:] = 30 * losses[1, 0, 0] / 11  # one bad seed
    found = summarize(one := trial(losses), course(one))
    assert found.rate == pytest.approx(1e-2)
    assert found.loss.middle == pytest.approx(0.2)
    assert found.loss == pytest.approx((0.2, 0.2, 0.2))


def test_diverged_is_not_finite_or_far_above_the_start():
    losses = falling(0.5, 2.9, 3.1, 0.5, 0.5, seeds=1)
    losses[3, 0, 4] = np.nan
    losses[4, 0, -1] = np.inf
    assert diverged(trial(losses))[:, 0].tolist() == [False, False, True, True, True]


def test_a_seed_that_diverged_is_shown_and_counts_as_the_worst():
    losses = falling(0.4, 0.1, seeds=3)
    losses[0, 2, 1:] = 1e9
    losses[1, 1, 5:] = np.nan
    alone = trial(losses[1:], rates=[0.1])
    found = summarize(alone, course(alone))
    assert found.loss.middle == pytest.approx(0.1)
    assert math.isinf(found.loss.high)
    assert (found.survivors, found.seeds, found.diverged) == (2, 3, 1)
    both = trial(losses)
    found = summarize(both, course(both))
    assert np.isfinite(found.loss.middle)
    assert found.diverged == 2
    assert (found.survivors, found.seeds) == (2, 3)


def test_a_rate_at_which_a_seed_diverged_cannot_win_against_one_where_none_did():
    losses = falling(0.4, 0.1, seeds=3)
    losses[1, 0, 5:] = np.nan
    assert best_rate(trial(losses))[0] == 0


def test_an_optimizer_of_which_nothing_survives():
    losses = np.full((3, 2, 11), np.nan)
    losses[:, :, 0] = 1
    one = trial(losses)
    (found,) = summarize_all(course(one))
    assert found.survivors == 0
    assert np.isnan(found.loss.middle)
    assert found.decades == 0
    assert "diverged" in verdict([found], course(one))


def test_usable_decades_are_interpolated_between_the_rates_tried():
    """Start 1, best 0.01: usable up to a tenth of these two decades above it, of one to 0.1."""
    one = trial(falling(0.9, 0.1, 0.01, 0.1, 0.9))
    found = summarize(one, course(one))
    assert found.decades == pytest.approx(0.4, rel=1e-4)
    assert found.usable == pytest.approx((10**-1.2, 10**-0.8), rel=1e-4)
    assert not found.open_ended


def test_losses_below_zero_are_measured_as_they_are():
    """Start 1, best -1: usable up to -0.8, which lies a fifth of the way to 0."""
    one = trial(falling(0.9, 0.0, -1.0, 0.0, 0.9) - 1.0)
    found = summarize(one, course(one))
    assert found.decades == pytest.approx(0.4, rel=1e-4)


def test_nothing_is_claimed_towards_a_rate_that_diverged_or_beyond_the_sweep():
    losses = falling(0.9, 0.1, 0.01, 0.1)
    losses[3] = np.nan
    one = trial(losses)
    found = summarize(one, course(one))
    assert found.decades == pytest.approx(0.2, rel=1e-4)
    assert not found.open_ended
    cut = trial(falling(0.9, 0.1, 0.01))
    found = summarize(cut, course(cut))
    assert found.decades == pytest.approx(0.2, rel=1e-4)
    assert found.open_ended
    assert found.at_edge


def test_steps_to_the_target_are_interpolated_and_counted_by_seed():
    losses = falling(0.0, seeds=3)  # falls by 1/8 every 10 steps
    losses[0, 1] = 1.0
    one = trial(losses)
    found = summarize(one, course(one, target=0.5))
    assert found.steps_to_target == pytest.approx(40)
    assert (found.reached, found.seeds) == (2, 3)
    assert summarize(one, course(one, target=-1)).reached == 0


# Places ------------------------------------------------------------------------------------------


def rigged(rng: np.random.Generator, seeds: int = 12) -> np.ndarray:
    """Final losses of one that is 5 % better, three that are one and the same, and one of these
    with a bad seed. What the seed decides for all is much larger than what is each one's own."""
    of_seeds = rng.normal(size=seeds) * 0.3
    losses = np.exp(of_seeds + 0.01 * rng.normal(size=(5, seeds)))
    losses[0] *= 0.95
    losses[4, rng.integers(seeds)] *= 10
    return losses


def test_ties_are_ties_and_the_better_one_is_better():
    """In 19 of 20 repetitions at least."""
    rng = np.random.default_rng(0)
    found = [ranks.places(rigged(rng)) for _ in range(60)]
    assert found.count([1, 2, 2, 2, 2]) >= 57


@pytest.mark.parametrize("rows", [2, 6, pytest.param(14, marks=pytest.mark.slow)])
def test_those_that_are_alike_share_a_place(rows):
    """In 19 of 20 repetitions, however many there are; of 100 within two standard errors."""
    rng = np.random.default_rng(rows)
    losses = np.exp(rng.normal(size=(100, 1, 12)) + 0.02 * rng.normal(size=(100, rows, 12)))
    told_apart = sum(max(ranks.places(one)) > 1 for one in losses)
    assert told_apart <= 5 + 2 * 2.2


def test_groups_have_places_of_their_own():
    """Three that are alike, and three that are twice as far."""
    rng = np.random.default_rng(0)
    losses = np.exp(rng.normal(size=12) + 0.01 * rng.normal(size=(6, 12)))
    losses[3:] *= 2
    assert ranks.places(losses) == [1, 1, 1, 4, 4, 4]


def test_fewer_than_six_seeds_tell_nothing_apart():
    losses = np.array([[1.0] * 5, [2.0] * 5])
    assert ranks.places(losses) == [1, 1]
    assert ranks.places(np.array([[1.0] * 6, [2.0] * 6])) == [1, 2]
    assert ranks.needed(1) == 6


@pytest.mark.parametrize("rows", [3, 8, 70])
def test_as_many_seeds_as_are_needed_tell_the_first_from_all_others(rows):
    for seeds in (ranks.needed(rows - 1) - 1, ranks.needed(rows - 1)):
        losses = (
            np.arange(1.0, rows + 1)[:, None] + 0.01 * np.arange(seeds) * np.arange(rows)[:, None]
        )
        found = ranks.places(losses)
        assert (found.count(1) == 1) == (seeds == ranks.needed(rows - 1)), seeds


def test_runs_that_diverged_are_behind():
    losses = np.array([np.arange(1.0, 9), np.full(8, np.inf), np.arange(1.0, 9) + 0.5])
    assert ranks.places(losses) == [1, 3, 2]


def test_a_method_that_is_another_here_is_not_ranked():
    rng = np.random.default_rng(0)
    losses = rng.random((3, 12, 11))
    twin, other = trial(losses, name="muon"), trial(losses + 1, name="sgd")
    all_of = course(trial(losses, name="adam"), twin, other)
    found = summarize_all(all_of)
    assert [s.same_as for s in found] == [None, "adam", None]
    assert [place(s) for s in found] == ["1", "", "2"]
    assert "Muon is the same as adam here." in verdict(found, all_of)


def test_what_the_held_out_set_cannot_tell_is_level():
    """Of 359 images one is 0.28 %, the standard error at 97 % 0.9 points."""
    losses = falling(0.1, seeds=12)
    scores = [np.full(losses.shape, share, np.float32) for share in (0.97, 0.975, 0.95)]
    all_of = course(*(trial(losses, score=s) for s in scores), score="accuracy", held_out=359)
    one, best, far = summarize_all(all_of)
    assert held_alike(one, best, all_of)
    assert not held_alike(far, best, all_of)


def test_one_seed_has_no_spread_and_no_width_is_no_praise():
    one, two = trial(falling(0.9, 0.1, 0.9, seeds=1)), trial(falling(0.9, 0.2, 0.9, seeds=1))
    all_of = course(one, dataclasses.replace(two, optimizer="sgd"))
    found = [dataclasses.replace(s, decades=0.0) for s in summarize_all(all_of)]
    said = verdict(found, all_of)
    assert "cared least" not in said
    assert "one seed tells no two of" in said


# Several problems --------------------------------------------------------------------------------


def test_problems_are_seen_together():
    """By hand: on one problem "fast" takes 20 steps and "slow" 40, on the other 40 and 20."""
    fast, slow = falling(-1.0, seeds=6), falling(0.0, seeds=6)  # 0.5 after 20 and 40 steps
    stuck = falling(0.9, seeds=6)

    def three(name: str, a: np.ndarray, b: np.ndarray) -> Course:
        named = zip(("a", "b", "stuck"), (a, b, stuck), strict=True)
        return course(*(trial(losses, name=n) for n, losses in named), name=name, title=name)

    courses = [three("one", fast, slow), three("two", slow, fast), three("three", fast, slow)]
    found = across(courses, {c.name: summarize_all(c) for c in courses})
    assert found is not None
    assert list(found.cells) == ["a", "b", "stuck"]
    assert [found.share("a", factor, "steps") for factor in (1.0, 1.9, 2.0)] == [2 / 3, 2 / 3, 1.0]
    assert [found.share("b", factor, "steps") for factor in (1.0, 2.0)] == [1 / 3, 1.0]
    assert found.share("stuck", 16.0, "steps") == 0.0
    assert overall(found).startswith("a came nearest over 3 problems: on 100 %")
    assert across(courses[:1], {c.name: summarize_all(c) for c in courses}) is None


# Two rounds --------------------------------------------------------------------------------------


def test_the_second_round_lies_around_the_best_rate():
    rates = np.array([0.01, 0.1, 1.0], np.float32)
    half = 10**0.5
    np.testing.assert_allclose(around(rates, 1), [0.1 / half, 0.1, 0.1 * half], rtol=0.02)
    np.testing.assert_allclose(around(rates, 0), [0.001, 0.01 / half, 0.01], rtol=0.02)
    np.testing.assert_allclose(around(rates, 2), [1, half, 10], rtol=0.02)
    assert set(np.float32([0.1])) <= set(around(rates, 1))  # the best itself, to the bit


def test_both_rounds_are_one_trial():
    """The best rate is one that all seeds were run with; the others are as in the first round."""
    first = trial(falling(0.9, 0.2, 0.1, seeds=2), rates=[0.01, 0.1, 1.0])
    second = trial(falling(0.3, 0.25, 0.4, seeds=4), rates=[0.3, 1.0, 3.0])
    both = merged(first, second)
    np.testing.assert_allclose(both.rates, [0.01, 0.1, 0.3, 1.0, 3.0])
    assert both.ran.sum(1).tolist() == [2, 2, 4, 4, 4]
    assert both.runs == 16
    assert [round(s.middle, 3) for s in rate_losses(both)] == [0.9, 0.2, 0.3, 0.25, 0.4]
    assert float(both.rates[best_rate(both)[0]]) == 1.0
    assert not diverged(both).any()


def test_the_last_smoothed_value_is_the_final_one():
    values = np.random.default_rng(0).normal(size=(2, 3, 51))
    assert smooth(values).shape == values.shape
    assert smooth(values)[..., -1] == pytest.approx(final(values))
