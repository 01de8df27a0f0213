"""Padded or packed, a document keeps its tokens and its targets."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.data.batches import collate


def test_by_hand(numbered):
    examples = numbered([3, 2, 4], prompt_lengths=[1, 1, 2])
    batch = collate(examples, [np.array([0]), np.array([1, 2]), np.array([], int)], row_length=7)
    np.testing.assert_array_equal(
        batch["tokens"], [[1, 1, 1, 0, 0, 0, 0], [2, 2, 3, 3, 3, 3, 0], [0, 0, 0, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        batch["segment_ids"], [[1, 1, 1, 0, 0, 0, 0], [1, 1, 2, 2, 2, 2, 0], [0, 0, 0, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        batch["target_mask"], [[0, 1, 1, 0, 0, 0, 0], [0, 1, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(batch["is_correct"], [1, -1, -1])
    np.testing.assert_array_equal(batch["rows"], [0, -1, -1])
    assert {name: array.dtype.name for name, array in batch.items()} == {
        "tokens": "int32",
        "segment_ids": "int32",
        "target_mask": "bool",
        "is_correct": "int8",
        "rows": "int32",
    }


def test_scores_stand_over_their_tokens(numbered, with_scores):
    examples = with_scores(numbered([3, 2, 4]))
    batch = collate(examples, [np.array([0]), np.array([1, 2]), np.array([], int)], row_length=7)
    expected = [[0.01, 0.02, 0.03, 0, 0, 0, 0], [1.01, 1.02, 2.01, 2.02, 2.03, 2.04, 0], [0] * 7]
    np.testing.assert_array_equal(batch["reference_nll"], np.array(expected, np.float32), strict=True)


def documents(batch):
    """What stands in a batch, as a sorted list of (tokens, targets, scores)."""
    found = []
    names = ("tokens", "segment_ids", "target_mask", "reference_nll")
    for tokens, segments, targets, scores in zip(*(batch[name] for name in names), strict=True):
        assert not scores[segments == 0].any()
        assert not targets[segments == 0].any()
        assert not tokens[segments == 0].any()
        # Documents stand one after the other from the left, padding at the right.
        np.testing.assert_array_equal(segments[segments > 0], np.sort(segments[segments > 0]))
        assert not segments[np.argmin(segments > 0) :].any() or (segments > 0).all()
        for segment in range(1, segments.max(initial=0) + 1):
            here = segments == segment
            found.append((tuple(tokens[here]), tuple(targets[here]), tuple(scores[here])))
    return sorted(found)


@settings(deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=20),
    seed=st.integers(0, 1000),
    extra=st.integers(0, 5),
)
def test_packed_and_padded_rows_hold_the_same_documents_and_targets(numbered, with_scores, sizes, seed, extra):
    examples = with_scores(numbered([prompt + response for prompt, response in sizes], [prompt for prompt, _ in sizes]))
    n = len(examples)
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, n + 1, 3))
    packed_rows = np.split(rng.permutation(n), cuts)
    longest = max(int(examples.lengths[row].sum()) for row in packed_rows)
    packed = collate(examples, packed_rows, longest + extra)
    padded = collate(examples, [np.array([i]) for i in range(n)], int(examples.lengths.max()) + extra)
    assert documents(packed) == documents(padded)
    assert padded["target_mask"].sum() == sum(response for _, response in sizes)
