"""Controls keep what they claim to keep and lose what they claim to lose."""

import jax
import numpy as np
import pytest

from wmtp_jax.weighting import (
    WeightingError,
    random_weights,
    shuffled_weights,
    solution_mean_weights,
    token_weights,
    uniform_weights,
)

MASK = np.random.default_rng(0).random((16, 64)) < 0.6
WEIGHTS = np.asarray(
    token_weights(
        np.random.default_rng(1).normal(size=MASK.shape).astype(np.float32),
        MASK,
        normalization="zscore",
        temperature=1.0,
        entropy_floor=0.0,
        clip=(0.1, 5.0),
    )
)


def test_uniform_is_the_mask():
    np.testing.assert_array_equal(uniform_weights(MASK), MASK.astype(np.float32))


def test_shuffled_is_a_permutation_of_the_mask_tokens():
    outside = np.where(MASK, WEIGHTS, np.nan)
    shuffled = np.asarray(shuffled_weights(jax.random.key(0), outside, MASK))
    np.testing.assert_array_equal(np.sort(shuffled[MASK]), np.sort(WEIGHTS[MASK]))
    np.testing.assert_array_equal(shuffled[~MASK], 0.0)
    assert abs(np.corrcoef(shuffled[MASK], WEIGHTS[MASK])[0, 1]) < 0.15


def test_every_place_is_as_likely_as_any_other():
    # Four tokens, 4,000 keys: each weight lands on each place 1,000 times, give or take 5 standard errors.
    mask = np.array([[1, 0, 1], [0, 1, 1]], bool)
    weights = np.array([[0, 9, 1], [9, 2, 3]], np.float32)
    keys = jax.random.split(jax.random.key(1), 4000)
    shuffled = np.asarray(jax.vmap(lambda key: shuffled_weights(key, weights, mask))(keys))[:, mask]
    counts = np.array([(shuffled == value).sum(axis=0) for value in range(4)])
    np.testing.assert_allclose(counts, 1000, atol=5 * np.sqrt(4000 * 0.25 * 0.75))


def test_random_has_the_stated_mean_and_variance_before_clipping():
    mask = np.ones((256, 1024), bool)
    weights = np.asarray(random_weights(jax.random.key(2), mask, mean=2.0, variance=1.0, clip=None))
    np.testing.assert_allclose(weights.mean(), 1.0, atol=1e-5)
    np.testing.assert_allclose(weights.var(), 0.25, rtol=0.02)  # relative to the mean, as weights of mean 1 are
    np.testing.assert_allclose(np.log(weights).std(), np.sqrt(np.log(1.25)), rtol=0.01)


def test_random_is_clipped_and_rescaled_as_a_critics_weights_are():
    clip = (0.1, 2.0)
    weights = np.asarray(
        random_weights(jax.random.key(3), MASK, mean=WEIGHTS[MASK].mean(), variance=WEIGHTS[MASK].var(), clip=clip)
    )
    np.testing.assert_allclose(weights[MASK].mean(), 1.0, atol=1e-5)
    assert weights[MASK].min() >= np.float32(0.1)
    assert weights[MASK].max() == 2.0
    np.testing.assert_array_equal(weights[~MASK], 0.0)
    assert abs(np.corrcoef(weights[MASK], WEIGHTS[MASK])[0, 1]) < 0.15


def test_random_without_variance_is_uniform():
    np.testing.assert_array_equal(random_weights(jax.random.key(4), MASK, mean=1.0, variance=0.0, clip=None), MASK)


def test_solution_mean_by_hand():
    weights = np.array([[0, 1, 3, np.nan], [0.5, 0.5, 0.5, 0], [9, 9, 9, 9]], np.float32)
    mask = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    expected = [[0, 2, 2, 0], [0.375, 0.375, 0.375, 0.375], [0, 0, 0, 0]]
    np.testing.assert_allclose(solution_mean_weights(weights, mask), expected)


def test_solution_mean_keeps_the_sum_of_every_solution():
    flat = np.asarray(solution_mean_weights(WEIGHTS, MASK))
    np.testing.assert_allclose(flat.sum(axis=1), WEIGHTS.sum(axis=1), rtol=1e-5)
    for row, mask in zip(flat, MASK, strict=True):
        assert len(np.unique(row[mask])) == 1


def test_no_tokens_give_zeros():
    nothing = np.zeros_like(MASK)
    key = jax.random.key(0)
    for weights in (
        uniform_weights(nothing),
        shuffled_weights(key, WEIGHTS, nothing),
        random_weights(key, nothing, mean=1.0, variance=1.0, clip=(0.1, 5.0)),
        solution_mean_weights(WEIGHTS, nothing),
    ):
        np.testing.assert_array_equal(weights, np.zeros(MASK.shape))


def test_bounds_without_room_for_mean_one_are_refused():
    with pytest.raises(WeightingError, match="clip is"):
        random_weights(jax.random.key(0), MASK, mean=1.0, variance=1.0, clip=(0.1, 1.0))
