"""AUC against counting all pairs, its interval against the published definition and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.weighting import WeightingError, area_under_curve


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
)
@settings(deadline=None)
def test_counts_pairs_and_a_tie_as_half(correct, incorrect):
    pairs = [0.5 * (c == i) + (c > i) for c in correct for i in incorrect]
    scores = np.array(correct + incorrect, float)
    outcomes = np.array([1] * len(correct) + [0] * len(incorrect))
    area = area_under_curve(scores, outcomes)
    assert area.value == pytest.approx(np.mean(pairs), abs=1e-12)
    assert 0 <= area.low <= area.value <= area.high <= 1
    assert (area.n_correct, area.n_incorrect) == (len(correct), len(incorrect))
    # Turned round, correct and incorrect change places and the interval is mirrored.
    turned = area_under_curve(-scores, outcomes)
    assert (turned.value, turned.low, turned.high) == pytest.approx((1 - area.value, 1 - area.high, 1 - area.low))


def test_bounds_lie_1_96_of_their_own_standard_errors_away():
    rng = np.random.default_rng(0)
    area = area_under_curve(np.r_[rng.normal(1, 1, 30), rng.normal(0, 1, 50)], np.r_[np.ones(30), np.zeros(50)])
    star = (30 + 50) / 2 - 1
    for bound in (area.low, area.high):
        q1, q2 = bound / (2 - bound), 2 * bound**2 / (1 + bound)
        variance = (bound * (1 - bound) + star * (q1 - bound**2) + star * (q2 - bound**2)) / (30 * 50)
        assert abs(bound - area.value) == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-5)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    # Two unit normals one apart: the true area is Phi(1 / sqrt 2) = .7602. 1,000 draws: 95 % +- 2 %.
    rng = np.random.default_rng(1)
    truth, covered = 0.5 * (1 + math.erf(0.5)), 0
    for _ in range(1000):
        scores = np.r_[rng.normal(1, 1, 25), rng.normal(0, 1, 25)]
        area = area_under_curve(scores, np.arange(50) < 25)
        covered += area.low <= truth <= area.high
    assert 930 <= covered <= 980


def test_perfect_separation_keeps_an_interval():
    area = area_under_curve(np.arange(20), np.arange(20) >= 10)
    assert area.value == area.high == 1.0
    assert 0.7 < area.low < 0.95


@pytest.mark.parametrize("outcome", [0, 1])
def test_one_class_is_refused(outcome):
    with pytest.raises(WeightingError, match="needs correct and incorrect solutions, got"):
        area_under_curve(np.arange(3), np.full(3, outcome))


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(WeightingError, match="2 of 4 scores are NaN or infinite"):
        area_under_curve([0.1, np.nan, np.inf, 0.2], [0, 1, 0, 1])


def test_outcomes_must_match_scores():
    with pytest.raises(WeightingError, match="3 scores for 2 outcomes"):
        area_under_curve([1, 2, 3], [0, 1])
