"""Surprise, what a response has shown so far, and KL: by hand, against a loop, shifted by one, blind to the future."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmtp_jax.weighting import (
    SURPRISE_FEATURES,
    kl_divergence,
    running_surprise,
    surprise_features,
    token_surprise,
    untrained_score,
)


def test_features_by_hand():
    # p = (1/2, 1/4, 1/4) and then (1/8, 7/8, 0); the tokens read are 2 and 0.
    logits = np.log(np.array([[[0.5, 0.25, 0.25], [0.125, 0.875, 1e-38], [1 / 3, 1 / 3, 1 / 3]]], np.float32))
    features = np.asarray(surprise_features(logits, np.array([[1, 2, 0]])))
    assert SURPRISE_FEATURES == ("log_probability", "gap", "entropy")
    expected = [
        [0, 0, 0],
        [np.log(1 / 4), np.log(2), 1.5 * np.log(2)],
        [np.log(1 / 8), np.log(7), -(np.log(1 / 8) + 7 * np.log(7 / 8)) / 8],
    ]
    np.testing.assert_allclose(features[0], expected, atol=1e-5)


def test_the_best_token_has_no_gap_and_logits_may_be_shifted_or_forbid_tokens():
    logits = np.array([[5.0, 1.0, -np.inf, 0.0]], np.float32)
    features = token_surprise(logits, np.array([0]))
    assert np.all(np.isfinite(features))
    assert features[0, 1] == 0
    np.testing.assert_allclose(token_surprise(logits + 100, np.array([0])), features, atol=1e-5)


def test_chunks_give_what_the_whole_gives():
    rng = np.random.default_rng(0)
    logits, tokens = rng.normal(size=(2, 9, 7)).astype(np.float32), rng.integers(0, 7, (2, 9))
    whole = surprise_features(logits, tokens)
    chunks = [token_surprise(logits[:, a:b], tokens[:, a + 1 : b + 1]) for a, b in ((0, 3), (3, 8))]
    np.testing.assert_allclose(np.concatenate(chunks, axis=1), whole[:, 1:], atol=1e-6)


def test_a_feature_sees_the_logits_before_its_token_only_and_passes_no_gradient():
    rng = np.random.default_rng(0)
    logits, tokens = rng.normal(size=(1, 6, 5)).astype(np.float32), rng.integers(0, 5, (1, 6))
    changed = logits.copy()
    changed[0, 3] += rng.normal(size=5)
    differs = np.any(surprise_features(changed, tokens) != surprise_features(logits, tokens), axis=-1)
    np.testing.assert_array_equal(differs, [[False] * 4 + [True, False]])
    gradient = jax.grad(lambda x: surprise_features(x, tokens).sum())(jnp.asarray(logits))
    np.testing.assert_array_equal(gradient, np.zeros_like(logits))


def test_untrained_score_is_the_largest_gap_of_the_response():
    gaps = np.array([[9.0, 0.5, 2.0, 8.0], [9.0, 0.1, 0.2, 0.3], [1.0, 1.0, 1.0, 1.0]], np.float32)
    features = np.stack([-gaps, gaps, gaps], axis=-1)
    mask = np.array([[0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]])
    np.testing.assert_allclose(untrained_score(features, mask), [-2.0, -0.3, 0.0])


def test_running_surprise_is_current_mean_and_worst_by_hand():
    # A prompt token whose numbers must not count, three response tokens, padding.
    features = np.array([[[-9, 9, 9], [-1, 0.5, 2], [-3, 2.5, 1], [-2, 0, 3], [-9, 9, 9]]], np.float32)
    mask = np.array([[0, 1, 1, 1, 0]])
    current = [[0, 0, 0], [-1, 0.5, 2], [-3, 2.5, 1], [-2, 0, 3], [0, 0, 0]]
    mean = [[0, 0, 0], [-1, 0.5, 2], [-2, 1.5, 1.5], [-2, 1, 2], [-2, 1, 2]]
    worst = [[0, 0, 0], [-1, 0.5, 2], [-3, 2.5, 2], [-3, 2.5, 3], [-3, 2.5, 3]]
    actual = running_surprise(features, mask)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual[0], np.concatenate([current, mean, worst], axis=1), atol=1e-6)


def random_features(rows=3, length=12):
    rng = np.random.default_rng(0)
    features = np.abs(rng.normal(size=(rows, length, 3))).astype(np.float32) * [-1, 1, 1]
    starts, ends = np.array([[1], [4], [6]]), np.array([[12], [9], [6]])  # the last row has no response
    at = np.arange(length)
    return features.astype(np.float32), (at >= starts) & (at < ends)


def test_running_surprise_agrees_with_a_loop():
    features, mask = random_features()
    actual = np.asarray(jax.jit(running_surprise)(features, mask))
    for row in range(len(features)):
        seen = []
        for t in range(features.shape[1]):
            if mask[row, t]:
                seen.append(features[row, t])
                lowest, highest = np.min(seen, axis=0), np.max(seen, axis=0)
                expected = [*features[row, t], *np.mean(seen, axis=0), lowest[0], *highest[1:]]
                np.testing.assert_allclose(actual[row, t], expected, rtol=1e-5)
            elif not seen:
                np.testing.assert_array_equal(actual[row, t], 0)


@pytest.mark.parametrize("t", [0, 5, 11])
def test_a_running_entry_depends_on_tokens_up_to_its_own(t):
    features, mask = random_features()
    changed = features.copy()
    changed[:, t] *= 3
    differs = np.any(np.asarray(running_surprise(changed, mask) != running_surprise(features, mask)), axis=-1)
    np.testing.assert_array_equal(differs[:, :t], False)
    np.testing.assert_array_equal(differs[:, t], mask[:, t])


def test_longer_padding_changes_nothing():
    features, mask = random_features()
    longer = running_surprise(np.pad(features, ((0, 0), (0, 5), (0, 0))), np.pad(mask, ((0, 0), (0, 5))))
    np.testing.assert_allclose(longer[:, :12], running_surprise(features, mask), rtol=1e-6)


def test_kl_by_hand():
    policy = np.log(np.array([[0.5, 0.5, 1e-30], [0.1, 0.1, 0.8]], np.float32))
    reference = np.log(np.array([[0.25, 0.5, 0.25], [0.1, 0.1, 0.8]], np.float32))
    np.testing.assert_allclose(kl_divergence(policy, reference), [0.5 * np.log(2), 0.0], atol=1e-6)


def test_shapes_and_dtypes_are_checked():
    with pytest.raises(AssertionError):
        surprise_features(np.zeros((1, 4, 3), np.float32), np.zeros((1, 5), int))
    with pytest.raises(AssertionError):
        surprise_features(np.zeros((1, 4, 3), np.float32), np.zeros((1, 4), np.float32))
    with pytest.raises(AssertionError):
        running_surprise(np.zeros((1, 4, 3), np.float32), np.zeros((1, 5), bool))
