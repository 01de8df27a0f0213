"""What a response has shown so far: by hand, causal, and blind to the prompt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmtp_jax.weighting import SURPRISE_FEATURES, running_surprise


def test_current_mean_and_worst_by_hand():
    assert SURPRISE_FEATURES == ("log_probability", "gap", "entropy")
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


def test_agrees_with_a_loop():
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
def test_an_entry_depends_on_tokens_up_to_its_own(t):
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


def test_shapes_are_checked():
    features, mask = random_features()
    with pytest.raises(AssertionError):
        running_surprise(features, mask[:, :-1])
