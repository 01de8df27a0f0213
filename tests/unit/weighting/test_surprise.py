"""Surprise, what a response has shown so far, and KL: by hand, against a loop, shifted by one, blind to the future."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmtp_jax.weighting import (
    SURPRISE_FEATURES,
    kl_divergence,
    next_token_surprise,
    running_surprise,
    token_surprise,
    untrained_score,
)


def test_features_by_hand():
    # p = (1/2, 1/4, 1/4) and then (1/8, 7/8, 0); the tokens that came are 2 and 0.
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.125, 0.875, 1e-38]], np.float32))
    assert SURPRISE_FEATURES == ("log_probability", "gap", "entropy")
    expected = [
        [np.log(1 / 4), np.log(2), 1.5 * np.log(2)],
        [np.log(1 / 8), np.log(7), -(np.log(1 / 8) + 7 * np.log(7 / 8)) / 8],
    ]
    np.testing.assert_allclose(token_surprise(logits, np.array([2, 0])), expected, atol=1e-5)


def test_the_best_token_has_no_gap_and_logits_may_be_shifted_or_forbid_tokens():
    logits = np.array([[5.0, 1.0, -np.inf, 0.0]], np.float32)
    features = token_surprise(logits, np.array([0]))
    assert np.all(np.isfinite(features))
    assert features[0, 1] == 0
    np.testing.assert_allclose(token_surprise(logits + 100, np.array([0])), features, atol=1e-5)


@pytest.mark.parametrize("chunk_length", [3, 128])
def test_each_token_read_is_compared_with_the_logits_before_it_and_passes_no_gradient(chunk_length):
    rng = np.random.default_rng(4)
    states, kernel = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((2, 9, 8), (8, 13)))
    tokens = jnp.asarray(rng.integers(0, 13, (2, 9)))

    def total(states, kernel):
        features = next_token_surprise(states, kernel, tokens, chunk_length)
        return features.sum(), features

    compute = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
    gradients, features = compute(states, kernel)
    np.testing.assert_array_equal(features[:, 0], 0.0)
    np.testing.assert_allclose(features[:, 1:], token_surprise((states @ kernel)[:, :-1], tokens[:, 1:]), atol=1e-5)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0.0)
    differs = np.any(compute(states.at[0, 3].add(1.0), kernel)[1] != features, axis=-1)
    np.testing.assert_array_equal(np.argwhere(differs), [[0, 4]])


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


def random_features():
    """Features and mask of three rows, of which the last has no response."""
    rng = np.random.default_rng(0)
    features = (np.abs(rng.normal(size=(3, 12, 3))) * [-1, 1, 1]).astype(np.float32)
    at, starts, ends = np.arange(12), np.array([[1], [4], [6]]), np.array([[12], [9], [6]])
    return features, (at >= starts) & (at < ends)


def test_running_surprise_agrees_with_a_loop_and_longer_padding_changes_nothing():
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
    longer = running_surprise(np.pad(features, ((0, 0), (0, 5), (0, 0))), np.pad(mask, ((0, 0), (0, 5))))
    np.testing.assert_allclose(longer[:, :12], actual, rtol=1e-6)


@pytest.mark.parametrize("t", [0, 5, 11])
def test_a_running_entry_depends_on_tokens_up_to_its_own(t):
    features, mask = random_features()
    changed = features.copy()
    changed[:, t] *= 3
    differs = np.any(np.asarray(running_surprise(changed, mask) != running_surprise(features, mask)), axis=-1)
    np.testing.assert_array_equal(differs[:, :t], False)
    np.testing.assert_array_equal(differs[:, t], mask[:, t])


def test_kl_by_hand():
    policy = np.log(np.array([[0.5, 0.5, 1e-30], [0.1, 0.1, 0.8]], np.float32))
    reference = np.log(np.array([[0.25, 0.5, 0.25], [0.1, 0.1, 0.8]], np.float32))
    np.testing.assert_allclose(kl_divergence(policy, reference), [0.5 * np.log(2), 0.0], atol=1e-6)


def test_shapes_and_dtypes_are_checked():
    zeros = np.zeros((1, 4, 3), np.float32)
    with pytest.raises(AssertionError, match="shape"):
        token_surprise(zeros, np.zeros((1, 5), int))
    with pytest.raises(AssertionError, match="type"):
        token_surprise(zeros, np.zeros((1, 4), np.float32))
    for compute in (running_surprise, untrained_score):
        with pytest.raises(AssertionError, match="shape"):
            compute(zeros, np.zeros((1, 5), bool))
