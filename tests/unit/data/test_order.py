"""The order of batches: every row as often as every other, one bucket per batch, a pure function of seed and step."""

import numpy as np
import pytest

from wmtp_jax.data.order import Stream, batch_order, permutation

BUCKETS = (30, 60, 90)
RNG = np.random.default_rng(0)
# Many and few rows of each bucket, fewer than a batch among them; and one bucket alone.
DATA = {
    "even": RNG.integers(1, 91, 200),
    "few long": np.concatenate([RNG.integers(1, 31, 150), RNG.integers(31, 61, 40), [70, 75, 90]]),
    "few short": np.concatenate([RNG.integers(61, 91, 150), [3, 10, 50, 60]]),
    "one bucket": np.full(59, 10),
}
EVERY_DATA = pytest.mark.parametrize("lengths", DATA.values(), ids=DATA)


def order_of(lengths, batch_size=8, seed=5):
    stream = Stream(np.arange(len(lengths), dtype=np.int32)[:, None], batch_size)
    return batch_order([stream], lengths, buckets=BUCKETS, seed=seed)


@EVERY_DATA
@pytest.mark.parametrize("batch_size", [1, 8, 13])
def test_every_row_is_seen_as_often_as_every_other(lengths, batch_size):
    order, visits = order_of(lengths, batch_size), np.zeros(len(lengths), int)
    for step in range(400 // batch_size):
        np.add.at(visits, order(step), 1)
        assert (np.abs(visits - (step + 1) * batch_size / len(lengths)) <= 4).all()
    assert visits.max() > 1


@EVERY_DATA
def test_rows_of_a_batch_are_of_one_bucket_but_for_those_that_fill_it_up(lengths):
    order, bucket_of = order_of(lengths), np.searchsorted(BUCKETS, lengths)
    for step in range(100):
        rows = order(step)
        assert rows.shape == (8,)
        assert rows.dtype == np.int32
        largest = bucket_of[rows].max()
        if (bucket_of[rows] < largest).any():
            # The longest of the lower bucket, or the shortest where too few would be left.
            assert np.sum(bucket_of == largest) < 8 or np.sum(bucket_of < largest) < 8


def test_any_order_of_asking_gives_the_same_batches():
    one, other = order_of(DATA["even"]), order_of(DATA["even"])
    expected = [one(step) for step in range(60)]
    for step in RNG.permutation(60):
        np.testing.assert_array_equal(other(step), expected[step])


def test_epochs_and_seeds_differ():
    orders = [
        np.concatenate([order_of(np.full(40, 10), 4, seed)(step) for step in range(first, first + 10)])
        for seed, first in [(0, 0), (0, 10), (0, 20), (1, 0), (1, 10)]
    ]
    assert len({order.tobytes() for order in orders}) == 5
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(40))


def test_buckets_are_spread_evenly_over_the_epoch():
    lengths = np.repeat([10, 50], 100)
    buckets = [int(lengths[order_of(lengths, 4)(step)].max()) for step in range(200)]
    assert all(3 <= part.count(50) <= 7 for part in [buckets[i : i + 10] for i in range(0, 200, 10)])


def test_short_rows_of_two_streams_meet():
    """Both are of three lengths, in other shares: as many rows as can be are beside rows of their own length."""
    lengths = np.repeat([10, 50, 80, 10, 50, 80], [60, 20, 20, 30, 40, 30])
    rows = np.arange(200, dtype=np.int32)[:, None]
    order = batch_order([Stream(rows[:100], 2), Stream(rows[100:], 2)], lengths, buckets=BUCKETS, seed=0)
    drawn = np.stack([order(step) for step in range(400)])
    first, second = (np.where(side, lengths[drawn], 0).max(axis=1) for side in (drawn < 100, drawn >= 100))
    # Shares of lengths (0.6, 0.2, 0.2) and (0.3, 0.4, 0.3): in common 0.3 + 0.1 + 0.2 when sorted side by side.
    assert np.mean(first == second) == pytest.approx(0.6, abs=0.02)


def test_items_of_a_round_come_before_those_of_the_next():
    items, rounds = np.arange(60, dtype=np.int32).reshape(30, 2), np.repeat([0, 1, 2], 10)
    stream = Stream(items, share=5, rounds=rounds)
    order = batch_order([stream], np.full(60, 10), buckets=BUCKETS, seed=0)
    assert stream.n_items == 10
    epochs = [np.concatenate([order(step) for step in (2 * epoch, 2 * epoch + 1)]) for epoch in range(6)]
    for epoch, seen in enumerate(epochs):
        np.testing.assert_array_equal(np.sort(seen), items[rounds == epoch % 3].ravel())
        np.testing.assert_array_equal(seen[1::2], seen[::2] + 1)
    assert epochs[0].tolist() != epochs[3].tolist()


def test_items_are_drawn_by_weight():
    weights = np.repeat([0.5, 1.0, 4.0], 400)
    stream = Stream(np.arange(1200, dtype=np.int32)[:, None], 8, weights)
    order = batch_order([stream], np.tile([20, 20, 20, 50], 300), buckets=BUCKETS, seed=0)
    visits = np.bincount(np.concatenate([order(step) for step in range(500)]), minlength=1200)
    expected = 4000 * weights / weights.sum()
    assert (np.abs(visits - expected) <= 4).all()
    np.testing.assert_allclose(visits.reshape(3, 400).sum(axis=1), expected.reshape(3, 400).sum(axis=1), rtol=0.02)


def test_the_order_is_the_same_everywhere():
    """With every version of numpy, or runs could not be continued after an update."""
    assert permutation(12, seed=7, purpose="a").tolist() == [6, 8, 11, 5, 3, 0, 2, 9, 1, 7, 4, 10]
    order = order_of(np.arange(1, 91), 3, seed=2**40)
    assert [order(step).tolist() for step in (0, 1, 1000)] == [[12, 19, 26], [30, 47, 45], [21, 20, 18]]
