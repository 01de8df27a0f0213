"""Packing: every document once and whole, no row too full, little space wasted."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.data.packing import first_fit


def packed(lengths, order, capacity):
    """The documents of each row."""
    documents, edges = first_fit(lengths, order, capacity)
    return [documents[begin:end].tolist() for begin, end in itertools.pairwise(edges)]


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=400), extra=st.integers(0, 60), seed=st.integers(0, 99)
)
def test_every_document_stands_in_one_row_that_holds_it(lengths, extra, seed):
    capacity = max(lengths) + extra
    rows = packed(np.array(lengths), np.random.default_rng(seed).permutation(len(lengths)), capacity)
    assert sorted(itertools.chain(*rows)) == list(range(len(lengths)))
    assert all(0 < sum(lengths[document] for document in row) <= capacity for row in rows)


def test_by_hand():
    # Longest first: 6 | 5 joins no row | 5 fills the second | 4 fills the first | 3 and 1 share a third.
    assert packed(np.array([6, 5, 4, 3, 5, 1]), np.arange(6), 10) == [[0, 2], [1, 4], [3, 5]]


def test_little_is_wasted():
    lengths = np.random.default_rng(0).integers(50, 512, 5000)
    assert len(packed(lengths, np.arange(5000), 512)) * 512 < 1.05 * lengths.sum()
