"""Metrics of weights and critic by hand; the AUC against counting pairs, by simulation; warnings on what they name."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.weighting import (
    WeightingError,
    area_under_curve,
    collapse_warnings,
    explained_variance,
    td_error_metrics,
    weight_metrics,
)

MASK = np.array([[0, 1, 1, 1, 1]], bool)


def test_weight_metrics_by_hand():
    # Normalised entropy .7781 of these weights: FACTS, numbers for tests.
    weights = np.array([[0.0, 0.985761, 0.625638, 2.245523, 0.143078]], np.float32)
    metrics = jax.jit(lambda w: weight_metrics(w, MASK, clip=(0.143078, 5.0)))(weights)
    w = weights[MASK].astype(np.float64)
    expected = {
        "weight_mean": 1.0,
        "weight_std": w.std(),
        "weight_min": 0.143078,
        "weight_max": 2.245523,
        "weight_clip_share": 0.25,
        "weight_entropy": 0.7781,
        "effective_sample_size": 16 / (w**2).sum(),
        "effective_sample_share": 4 / (w**2).sum(),
        "weight_position_correlation": np.corrcoef(w, np.arange(4))[0, 1],
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, atol=1e-4, err_msg=name)


def test_position_counts_from_the_first_to_the_last_token_of_each_response():
    # Weight grows by the same steps within each response, whatever its length and place.
    mask = np.array([[0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 0]], bool)
    weights = np.array([[0, 0, 1, 2, 0, 0], [0, 0, 0, 0, 0, 2], [0, 0.5, 1, 1.5, 2, 0]], np.float32)
    np.testing.assert_allclose(weight_metrics(weights, mask, clip=None)["weight_position_correlation"], 1.0, atol=1e-5)
    falling = np.where(mask, 3 - weights, 0)
    np.testing.assert_allclose(weight_metrics(falling, mask, clip=None)["weight_position_correlation"], -1.0, atol=1e-5)


def test_entropy_and_effective_size_do_not_depend_on_the_scale_of_the_weights():
    weights = np.random.default_rng(0).lognormal(size=(4, 32)).astype(np.float32)
    mask = np.ones((4, 32), bool)
    one, ten = (weight_metrics(scale * weights, mask, clip=None) for scale in (1.0, 10.0))
    for name in ("weight_entropy", "effective_sample_size", "weight_position_correlation"):
        np.testing.assert_allclose(one[name], ten[name], rtol=1e-4)
    p = weights.astype(np.float64).ravel() / weights.sum(dtype=np.float64)
    np.testing.assert_allclose(one["weight_entropy"], -(p * np.log(p)).sum() / np.log(p.size), rtol=1e-5)


def test_extremes_stay_finite():
    cases = {
        "uniform": (np.ones((2, 4), np.float32), np.ones((2, 4), bool), 1.0, 8.0),
        "one has all": (np.eye(1, 8, dtype=np.float32).reshape(2, 4) * 8, np.ones((2, 4), bool), 0.0, 1.0),
        "one token": (np.ones((2, 4), np.float32), np.eye(2, 4, dtype=bool) & (np.arange(2) == 0)[:, None], 1.0, 1.0),
        "no token": (np.zeros((2, 4), np.float32), np.zeros((2, 4), bool), 1.0, 0.0),
    }
    for name, (weights, mask, entropy, size) in cases.items():
        metrics = weight_metrics(weights, mask, clip=None)
        assert all(np.isfinite(value) for value in metrics.values()), name
        np.testing.assert_allclose(metrics["weight_entropy"], entropy, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(metrics["effective_sample_size"], size, atol=1e-5, err_msg=name)
        assert metrics["weight_clip_share"] == 0, name


def test_td_error_metrics_by_hand():
    metrics = td_error_metrics(np.array([[7.0, 0.1, -0.2, 0.5, 0.1]], np.float32), MASK)
    np.testing.assert_allclose(metrics["td_error_mean"], 0.125, atol=1e-6)
    np.testing.assert_allclose(metrics["td_error_std"], np.std([0.1, -0.2, 0.5, 0.1]), atol=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 1, 0, 1], 1.0), ([0.5, 0.5, 0.5, 0.5], 0.0), ([1, 0, 1, 0], -3.0), ([0.25, 0.75, 0.25, 0.75], 0.75)],
)
def test_explained_variance_by_hand(values, expected):
    values = np.array([[np.nan, *values]], np.float32)
    targets = np.array([[5, 0, 1, 0, 1]], np.float32)
    np.testing.assert_allclose(explained_variance(values, targets, MASK), expected, atol=1e-6)


def test_nothing_to_explain_is_zero():
    assert explained_variance(np.zeros((1, 5), np.float32), np.ones((1, 5), np.float32), MASK) == 0


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
)
@settings(deadline=None)
def test_auc_counts_pairs_and_a_tie_as_half(correct, incorrect):
    pairs = [0.5 * (c == i) + (c > i) for c in correct for i in incorrect]
    scores = np.array(correct + incorrect, float)
    outcomes = np.array([1] * len(correct) + [0] * len(incorrect))
    area = area_under_curve(scores, outcomes)
    assert area.value == pytest.approx(np.mean(pairs), abs=1e-12)
    assert 0 <= area.low <= area.value <= area.high <= 1
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


@pytest.mark.parametrize(
    ("scores", "outcomes", "message"),
    [
        ([0, 1, 2], [0, 0, 0], "needs correct and incorrect solutions, got 0 correct and 3"),
        ([0, 1, 2], [1, 1, 1], "needs correct and incorrect solutions, got 3 correct and 0"),
        ([0.1, np.nan, np.inf, 0.2], [0, 1, 0, 1], "2 of 4 scores are NaN or infinite"),
        ([1, 2, 3], [0, 1], "3 scores for 2 outcomes"),
    ],
)
def test_scores_without_an_auc_are_refused(scores, outcomes, message):
    with pytest.raises(WeightingError, match=message):
        area_under_curve(scores, outcomes)


HEALTHY = {
    "effective_sample_share": 0.6,
    "weight_position_correlation": -0.2,
    "value_auc": 0.9,
    "value_auc_low": 0.85,
    "untrained_auc": 0.7,
}


def test_silent_when_all_is_well_or_nothing_is_known():
    assert collapse_warnings(HEALTHY) == []
    assert collapse_warnings({}) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"effective_sample_share": 0.05}, "collapsed: they act as if only 5.0% of the tokens"),
        ({"weight_position_correlation": 0.9}, "+0.90, so late tokens"),
        ({"weight_position_correlation": -0.9}, "-0.90, so early tokens"),
        ({"value_auc": 0.52, "value_auc_low": 0.45, "untrained_auc": 0.4}, "no better than chance"),
        ({"untrained_auc": 0.95}, "does not clearly beat the untrained score"),
        ({"untrained_auc": 0.87}, "AUC 0.900, interval from 0.850) does not clearly beat the untrained score"),
    ],
)
def test_each_warning_names_its_number(change, words):
    (warning,) = collapse_warnings({**HEALTHY, **change})
    assert words in warning
    assert warning.endswith(".")
