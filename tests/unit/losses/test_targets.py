"""Masks and normalisers: where MTP goes wrong silently."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.losses import coefficients, head_targets, target_weights, valid_targets


def test_hand_computed_masks_of_two_documents_and_padding():
    tokens = jnp.array([[1, 11, 12, 2, 1, 21, 2, 0]])
    segments = jnp.array([[1, 1, 1, 1, 2, 2, 2, 0]])
    targets = jnp.array([[0, 0, 1, 1, 0, 1, 1, 0]], bool)
    valid = valid_targets(targets, segments, 3)
    assert valid.astype(int).tolist() == [
        [[0, 1, 1, 0, 1, 1, 0, 0]],
        [[1, 1, 0, 0, 1, 0, 0, 0]],
        [[1, 0, 0, 0, 0, 0, 0, 0]],
    ]
    assert head_targets(tokens, 3)[1].tolist() == [[12, 2, 1, 21, 2, 0, 0, 0]]


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_valid_is_the_definition(data):
    n_heads, length = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 12))
    segments = np.array(data.draw(st.lists(st.integers(0, 3), min_size=length, max_size=length)))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=length, max_size=length)))
    valid = np.asarray(valid_targets(jnp.array(mask[None]), jnp.array(segments[None]), n_heads))
    for k in range(1, n_heads + 1):
        for t in range(length):
            j = t + k
            expected = j < length and segments[t] == segments[j] != 0 and mask[j]
            assert valid[k - 1, 0, t] == expected


def test_a_weight_belongs_to_its_target_token():
    valid = valid_targets(jnp.ones((1, 5), bool), jnp.ones((1, 5), int), 2)
    weights = target_weights(jnp.array([[10.0, 11.0, 12.0, 13.0, 14.0]]), valid)
    assert weights.tolist() == [[[11, 12, 13, 14, 0]], [[12, 13, 14, 0, 0]]]


def test_coefficients_of_each_head_sum_to_its_share_and_an_empty_head_gives_zero():
    valid = valid_targets(jnp.array([[False, True, False, False]]), jnp.ones((1, 4), int), 4)
    weights = target_weights(jnp.full((1, 4), 0.3), valid)
    result = coefficients(weights, jnp.full(4, 0.25), weights.sum((1, 2)))
    np.testing.assert_allclose(result.sum((1, 2)), [0.25, 0.0, 0.0, 0.0])
    assert np.all(np.isfinite(result))
