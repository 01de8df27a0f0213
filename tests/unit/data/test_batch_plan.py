"""The order of batches: every row as often as every other, one bucket per batch, a pure function of seed and step."""

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.data import DataError
from wmtp_jax.data import plan as planning
from wmtp_jax.data.plan import ShuffledPlan, permutation

plans = st.tuples(
    st.lists(st.integers(1, 90), min_size=8, max_size=60), st.integers(1, 8), st.integers(0, 2**40), st.integers(1, 5)
)


def plan(lengths, batch_size, seed):
    return ShuffledPlan(np.array(lengths), batch_size=batch_size, buckets=(30, 60, 90), seed=seed)


@settings(deadline=None)
@given(plans)
def test_every_row_is_seen_once_per_epoch(case):
    lengths, batch_size, seed, epochs = case
    one = plan(lengths, batch_size, seed)
    steps = len(lengths) * epochs // batch_size
    seen = collections.Counter({row: 0 for row in range(len(lengths))})
    for step in range(steps):
        seen.update(one.batch(step)[0].tolist())
    # Fewer than a batch of rows wait for the next epoch.
    late = [row for row, visits in seen.items() if visits != epochs]
    assert len(late) == len(lengths) * epochs - steps * batch_size < batch_size
    assert all(seen[row] == epochs - 1 for row in late)


@settings(deadline=None)
@given(plans)
def test_rows_fit_their_batch_and_rows_of_a_batch_share_a_bucket(case):
    lengths, batch_size, seed, epochs = case
    one = plan(lengths, batch_size, seed)
    moved_up = 0
    for step in range(len(lengths) * epochs // batch_size):
        rows, bucket = one.batch(step)
        assert rows.shape == (batch_size,)
        longest = max(lengths[row] for row in rows)
        assert longest <= bucket
        moved_up += sum(lengths[row] <= bucket - 30 for row in rows)
    # Only what does not fill a batch of its own bucket moves up: less than a batch from each of the lower two.
    assert moved_up <= 2 * (batch_size - 1) * epochs


@settings(deadline=None)
@given(plans, st.randoms())
def test_any_order_of_asking_gives_the_same_batches(case, random):
    lengths, batch_size, seed, epochs = case
    steps = list(range(len(lengths) * epochs // batch_size))
    one, other = plan(lengths, batch_size, seed), plan(lengths, batch_size, seed)
    in_order = {step: one.batch(step) for step in steps}
    random.shuffle(steps)
    for step in steps:
        rows, bucket = other.batch(step)
        np.testing.assert_array_equal(rows, in_order[step][0])
        assert bucket == in_order[step][1]


def test_epochs_and_seeds_differ():
    orders = [
        np.concatenate([plan([10] * 40, 4, seed).batch(step)[0] for step in range(first, first + 10)])
        for seed, first in [(0, 0), (0, 10), (0, 20), (1, 0)]
    ]
    assert len({order.tobytes() for order in orders}) == 4
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(40))


def test_batches_of_one_bucket_are_spread_over_the_epoch():
    buckets = [plan([10] * 100 + [50] * 100, 4, 0).batch(step)[1] for step in range(50)]
    assert buckets != sorted(buckets)
    assert buckets.count(30) == buckets.count(60) == 25


def test_a_large_permutation_is_sorted_in_parts_but_the_same(monkeypatch):
    n = 5000
    whole = permutation(n, seed=7, stream=1, epoch=3)
    assert sorted(whole.tolist()) == list(range(n))
    monkeypatch.setattr(planning, "_SORTED_AT_ONCE", n - 1)
    in_parts = permutation(n, seed=7, stream=1, epoch=3)
    assert in_parts.dtype == np.int32
    np.testing.assert_array_equal(in_parts, whole)


def test_the_permutation_is_the_same_everywhere():
    assert permutation(12, seed=7, stream=1, epoch=3).tolist() == [11, 5, 2, 9, 7, 8, 4, 10, 0, 1, 3, 6]


def test_less_than_a_batch_is_refused():
    with pytest.raises(DataError, match="batch_size is 8 but the data fill only 5 rows"):
        plan([10] * 5, 8, 0)
