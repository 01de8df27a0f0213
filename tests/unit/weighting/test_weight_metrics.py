"""Metrics of weights and critic: by hand and against NumPy."""

import jax
import numpy as np
import pytest

from wmtp_jax.weighting import explained_variance, td_error_metrics, weight_metrics

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
