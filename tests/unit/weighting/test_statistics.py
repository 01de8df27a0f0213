"""Running moments: by hand, against a float64 loop, and read before they are updated."""

import jax
import numpy as np
import pytest

from wmtp_jax.weighting import (
    WeightingError,
    init_statistics,
    read_statistics,
    token_weights,
    update_statistics,
)

SETTINGS = {"normalization": "zscore", "temperature": 1.0, "entropy_floor": 0.0, "clip": None}


def test_the_first_batch_is_read_back_unbiased():
    # Moments of [1, 3]: mean 2, variance 1. Without correction a decay of .99 would read 0.02.
    statistics = update_statistics(init_statistics(), np.array([[1.0, 3.0, 50.0]]), np.array([[1, 1, 0]]), decay=0.99)
    np.testing.assert_allclose(read_statistics(statistics), (2.0, 1.0), rtol=1e-5)


def test_two_batches_by_hand():
    # decay .5: means 2 then 4 -> (.25 * 2 + .5 * 4) / .75 = 10/3; second moments 5 and 16 -> 37/3; variance 11/9.
    statistics = init_statistics()
    for batch in ([[1.0, 3.0]], [[4.0, 4.0]]):
        statistics = update_statistics(statistics, np.array(batch), np.ones((1, 2)), decay=0.5)
    np.testing.assert_allclose(read_statistics(statistics), (10 / 3, 11 / 9), rtol=1e-5)


def test_agrees_with_a_float64_loop():
    rng = np.random.default_rng(0)
    update = jax.jit(update_statistics)
    statistics, first, second, weight = init_statistics(), 0.0, 0.0, 0.0
    for _ in range(50):
        scores = rng.normal(0.3, 0.7, (4, 16)).astype(np.float32)
        mask = rng.random((4, 16)) < 0.5
        statistics = update(statistics, scores, mask, decay=0.9)
        x = scores[mask].astype(np.float64)
        first, second, weight = (
            0.9 * a + 0.1 * b for a, b in ((first, x.mean()), (second, (x**2).mean()), (weight, 1))
        )
    mean = first / weight
    np.testing.assert_allclose(read_statistics(statistics), (mean, second / weight - mean**2), rtol=1e-4)


def test_weights_use_the_statistics_as_they_were():
    scores, mask = np.array([[0.0, 1.0, 3.0]], np.float32), np.ones((1, 3), bool)
    statistics = update_statistics(
        init_statistics(), np.array([[-1.0, 3.0]]), np.ones((1, 2)), decay=0.9
    )  # mean 1, std 2
    expected = np.exp((scores - 1) / 2)
    actual = token_weights(scores, mask, **SETTINGS, statistics=statistics)
    np.testing.assert_allclose(actual, 3 * expected / expected.sum(), rtol=1e-5)
    assert not np.allclose(actual, token_weights(scores, mask, **SETTINGS))


def test_statistics_that_have_seen_nothing_leave_the_batch_to_itself():
    scores, mask = np.array([[0.0, 1.0, 3.0]], np.float32), np.ones((1, 3), bool)
    fresh = token_weights(scores, mask, **SETTINGS, statistics=init_statistics())
    np.testing.assert_array_equal(fresh, token_weights(scores, mask, **SETTINGS))
    assert read_statistics(init_statistics()) == (0.0, 0.0)


def test_a_batch_without_tokens_changes_nothing():
    before = update_statistics(init_statistics(), np.array([[1.0, 3.0]]), np.ones((1, 2)), decay=0.9)
    after = update_statistics(before, np.array([[np.nan, 7.0]]), np.zeros((1, 2)), decay=0.9)
    assert before == after


def test_a_decay_out_of_range_is_refused():
    with pytest.raises(WeightingError, match=r"decay is 1\.0, expected"):
        update_statistics(init_statistics(), np.ones((1, 2)), np.ones((1, 2)), decay=1.0)
