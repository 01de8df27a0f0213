"""Rho-1: what is kept, how excess loss becomes weight, and that both sides are read alike."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.weighting import WeightingError, reference_loss_diff, rho1_weights, token_weights

POLICY = np.array([[9.0, 2.0, 0.5, 3.0], [1.0, 1.0, 0.1, 7.0]], np.float32)
REFERENCE = np.array([[0.0, 1.0, 1.5, 0.5], [1.0, 0.5, 0.1, 0.0]], np.float32)
MASK = np.array([[0, 1, 1, 1], [1, 1, 1, 0]], bool)
# Excess over the mask, in flat order: 1, -1, 2.5, 0, .5, 0.
TOP_K = {"mode": "top_k", "temperature": 1.0, "keep_fraction": 0.5, "clip": None}
WEIGHTED = {"mode": "weighted", "temperature": 1.0, "keep_fraction": 0.6, "clip": None}

keep = {
    fraction: jax.jit(functools.partial(rho1_weights, **{**TOP_K, "keep_fraction": fraction}))
    for fraction in (0.3, 0.5, 0.6, 0.7)
}


def test_top_k_by_hand():
    np.testing.assert_array_equal(rho1_weights(POLICY, REFERENCE, MASK, **TOP_K), [[0, 1, 0, 1], [0, 1, 0, 0]])


def test_ties_go_to_the_first_in_flat_order_and_signed_zeros_are_ties():
    excess = np.array([[1.0, -0.0, 0.0], [0.0, -0.0, -3.0]], np.float32)
    kept = rho1_weights(excess, np.zeros_like(excess), np.ones((2, 3)), **TOP_K)
    np.testing.assert_array_equal(kept, [[1, 1, 1], [0, 0, 0]])


@given(st.integers(0, 40), st.sampled_from([0.3, 0.5, 0.6, 0.7]), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=200)
def test_top_k_keeps_exactly_the_stated_number_and_the_largest(n_tokens, fraction, seed):
    rng = np.random.default_rng(seed)
    mask = (rng.permutation(40) < n_tokens).reshape(4, 10)
    # Few distinct values, so that ties are the rule.
    policy, reference = (rng.integers(0, 4, (4, 10)).astype(np.float32) for _ in range(2))
    kept = np.asarray(keep[fraction](policy, reference, mask))
    n_kept = round(fraction * n_tokens)
    assert kept.sum() == n_kept
    excess = policy - reference
    order = sorted(np.flatnonzero(mask), key=lambda i: (-excess.flat[i], i))
    np.testing.assert_array_equal(np.flatnonzero(kept), sorted(order[:n_kept]))


@pytest.mark.parametrize("n_tokens", [1, 5, 15, 25, 35, 45, 10_005])
@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_halves_round_to_even_as_python_rounds(n_tokens, fraction):
    nll = np.zeros((1, n_tokens), np.float32)
    kept = rho1_weights(nll, nll, np.ones((1, n_tokens)), **{**TOP_K, "keep_fraction": fraction})
    assert kept.sum() == round(fraction * n_tokens)


def test_weighted_by_hand():
    excess = np.array([1.0, -1.0, 2.5, 0.0, 0.5, 0.0])
    expected = 6 * np.exp(excess / 2) / np.exp(excess / 2).sum()
    actual = rho1_weights(POLICY, REFERENCE, MASK, **{**WEIGHTED, "temperature": 2.0})
    np.testing.assert_allclose(actual[MASK], expected, rtol=1e-5)
    np.testing.assert_array_equal(actual[~MASK], 0.0)


def test_weighted_is_clipped_with_mean_one():
    clip = (0.25, 2.0)
    actual = np.asarray(rho1_weights(POLICY, REFERENCE, MASK, **{**WEIGHTED, "clip": clip}))
    assert actual[MASK].max() == 2.0
    np.testing.assert_allclose(actual[MASK].mean(), 1.0, rtol=1e-6)
    expected = token_weights(
        POLICY - REFERENCE, MASK, normalization="none", temperature=1.0, entropy_floor=0.0, clip=clip
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize("chosen", [WEIGHTED, {**TOP_K, "keep_fraction": 1.0}], ids=["weighted", "top_k"])
def test_a_policy_as_good_as_the_reference_everywhere_gives_the_baseline(chosen):
    np.testing.assert_array_equal(rho1_weights(POLICY, POLICY, MASK, **chosen), MASK)


@pytest.mark.parametrize("chosen", [WEIGHTED, TOP_K], ids=["weighted", "top_k"])
def test_what_lies_outside_the_mask_does_not_matter_and_nan_inside_shows(chosen):
    expected = rho1_weights(POLICY, REFERENCE, MASK, **chosen)
    outside = np.where(MASK, POLICY, np.nan)
    np.testing.assert_array_equal(rho1_weights(outside, REFERENCE, MASK, **chosen), expected)
    np.testing.assert_array_equal(rho1_weights(POLICY, REFERENCE, np.zeros_like(MASK), **chosen), np.zeros((2, 4)))
    inside = REFERENCE.copy()
    inside[1, 1] = np.nan
    poisoned = np.asarray(rho1_weights(POLICY, inside, MASK, **chosen))
    assert np.all(np.isnan(poisoned[MASK]))
    np.testing.assert_array_equal(poisoned[~MASK], 0.0)


@pytest.mark.parametrize("chosen", [WEIGHTED, TOP_K], ids=["weighted", "top_k"])
def test_no_gradient(chosen):
    total = lambda policy, reference: (rho1_weights(policy, reference, MASK, **chosen) * jnp.arange(4.0)).sum()
    for gradient in jax.grad(total, argnums=(0, 1))(jnp.asarray(POLICY), jnp.asarray(REFERENCE)):
        np.testing.assert_array_equal(gradient, np.zeros((2, 4)))


def test_reference_loss_diff_by_hand():
    np.testing.assert_allclose(reference_loss_diff(POLICY, REFERENCE, MASK), 3.0 / 6, rtol=1e-6)
    assert reference_loss_diff(POLICY, REFERENCE, np.zeros_like(MASK)) == 0.0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mode": "topk"}, "mode is 'topk', expected 'weighted' or 'top_k'"),
        ({"mode": "top_k", "keep_fraction": 0.0}, r"keep_fraction is 0\.0"),
        ({"mode": "top_k", "keep_fraction": 1.2}, r"keep_fraction is 1\.2"),
        ({"temperature": 0}, "temperature is 0"),
        ({"clip": (0.5, 1.0)}, "clip is"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(changes, sentence):
    with pytest.raises(WeightingError, match=sentence):
        rho1_weights(POLICY, REFERENCE, MASK, **{**WEIGHTED, **changes})
