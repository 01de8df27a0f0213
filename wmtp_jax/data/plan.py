"""Which rows make up the batch of a step: a pure function of (seed, step)."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from wmtp_jax.data.errors import DataError
from wmtp_jax.data.large import narrow, rows_where

# Independent streams of random numbers.
_PACKING, ROWS, _BATCHES, _INSIDE, INCORRECT, PARTNERS = range(6)
_DRAWN_AT_ONCE = _SORTED_AT_ONCE = 1 << 18
_LEADING_BITS = 4


def permutation(n: int, seed: int, stream: int, epoch: int) -> np.ndarray:
    """A random order that stays the same on every machine and with every version of numpy.

    `Generator.permutation` may change between versions of numpy; the raw output of Philox may not.

    Args:
        n: Number of things to order.
        seed: The run's seed, not negative.
        stream: Which use of the seed this is.
        epoch: Which repetition.

    Returns:
        int32 [n] (int64 where n is larger than that holds), a permutation of 0..n-1.
    """
    drawn = np.random.Philox(np.random.SeedSequence([seed, stream, epoch])).random_raw(n)
    if n <= _SORTED_AT_ONCE:
        return narrow(np.argsort(drawn, kind="stable"), n)
    # The same order, sorted in parts by the leading bits, which takes less memory.
    leading = (drawn >> np.uint64(64 - _LEADING_BITS)).astype(np.uint8)
    parts = (rows_where(leading == part) for part in range(1 << _LEADING_BITS))
    return np.concatenate([part[np.argsort(drawn[part], kind="stable")] for part in parts])


def packing_order(n: int, seed: int) -> np.ndarray:
    """The order in which documents are packed; one for all epochs.

    Args:
        n: Number of documents.
        seed: The run's seed.

    Returns:
        int32 [n], a permutation of 0..n-1.
    """
    return permutation(n, seed, _PACKING, 0)


def weighted_draw(weights: np.ndarray, epoch: int) -> np.ndarray:
    """Draws as many things as there are, each as often as its weight says, by systematic sampling.

    The weights are laid out on a line and n evenly spaced points pick from it, so in each epoch thing i is drawn
    n w_i / sum(w) times, rounded down or up. From epoch to epoch the points move by the golden ratio, which evens out
    the rounding.

    Args:
        weights: float64 [n], positive.
        epoch: Which repetition.

    Returns:
        int32 [n], what is drawn, ascending.
    """
    ends = np.cumsum(weights)
    # 2^64 / golden ratio; 53 bits fit a float exactly, so the phase is below 1.
    phase = (epoch * 0x9E3779B97F4A7C15 % 2**64 >> 11) / 2**53
    drawn = np.zeros(len(weights), np.int32)
    for begin in range(0, len(weights), _DRAWN_AT_ONCE):
        numbers = np.arange(begin, min(begin + _DRAWN_AT_ONCE, len(weights)))
        points = (numbers + phase) * (ends[-1] / len(weights))
        drawn[numbers] = np.minimum(np.searchsorted(ends, points, side="right"), len(weights) - 1)
    return drawn


@dataclasses.dataclass(frozen=True)
class Stream:
    """What a fixed part of every batch is drawn from, one unit after the other.

    Attributes:
        units: From the stream's epoch to int32 [n, w]: units of w rows that stay side by side in a batch.
        n: Number of units, the same in every epoch; at least `share`.
        share: Units per batch.
        number: Which stream of random numbers orders the units.
        weights: float64 [n], how often each unit is drawn relative to the others; None draws each once per epoch.
    """

    units: Callable[[int], np.ndarray]
    n: int
    share: int
    number: int = ROWS
    weights: np.ndarray | None = None

    def between(self, begin: int, end: int, seed: int) -> np.ndarray:
        """The units that come begin-th to end-th (exclusive) in the endless sequence of shuffled epochs.

        Args:
            begin: First position.
            end: Position after the last, more than `begin`.
            seed: The run's seed.

        Returns:
            int32 [end - begin, w].
        """
        parts = []
        for epoch in range(begin // self.n, -(-end // self.n)):
            order = permutation(self.n, seed, self.number, epoch)[max(begin - epoch * self.n, 0) : end - epoch * self.n]
            drawn = order if self.weights is None else weighted_draw(self.weights, epoch)[order]
            parts.append(self.units(epoch)[drawn])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class ShuffledPlan:
    """An endless stream of batches of rows, another order in each epoch, all rows of a batch padded to one bucket.

    The units of each stream follow each other without end, epoch after epoch, each epoch in another order. A window of
    batches, as many as all units fill once, takes the next part of that sequence. With one stream of equal weights
    this means: after any number of windows every row has been seen as often as every other, except that fewer than
    `batch_size` rows are one visit behind. Within a window each stream's units are grouped by bucket; a batch has the
    bucket of its longest row, so where buckets or streams do not come out even some rows are padded further.
    """

    def __init__(
        self,
        row_lengths: np.ndarray,
        *,
        batch_size: int,
        buckets: tuple[int, ...],
        seed: int,
        streams: Sequence[Stream] | None = None,
    ):
        """Plans batches.

        Args:
            row_lengths: [R], tokens per row.
            batch_size: Rows per batch.
            buckets: Padded lengths, ascending; the last holds the longest row.
            seed: The run's seed.
            streams: What batches are made of, together `batch_size` rows; None draws from all rows alike.

        Raises:
            DataError: There are fewer rows than a batch takes.
        """
        if streams is None:
            n_rows = len(row_lengths)
            if n_rows < batch_size:
                raise DataError(
                    f"batch_size is {batch_size} but the data fill only {n_rows} rows; "
                    "expected at least one full batch, so lower batch_size or bring more data."
                )
            streams = [Stream(lambda epoch: np.arange(n_rows, dtype=np.int32)[:, None], n=n_rows, share=batch_size)]
        self._streams = streams
        self._n_units = sum(stream.n for stream in streams)
        self._units_per_batch = sum(stream.share for stream in streams)
        self._batch_size = batch_size
        self._buckets = buckets
        self._bucket_of_row = np.zeros(len(row_lengths), np.int16)
        for bucket in buckets:
            self._bucket_of_row += row_lengths > bucket
        self._seed = seed
        self._planned: tuple[int, np.ndarray] | None = None

    @property
    def steps_per_epoch(self) -> float:
        """Batches that hold as many units as there are."""
        return self._n_units / self._units_per_batch

    def batch(self, step: int) -> tuple[np.ndarray, int]:
        """The rows of one batch.

        Args:
            step: Number of the batch, from 0.

        Returns:
            int32 [batch_size] row numbers, the rows of a unit side by side, and the length to which they are padded.
        """
        # Window w ends with batch floor(units (w + 1) / units per batch) - 1.
        window = -(-self._units_per_batch * (step + 1) // self._n_units) - 1
        planned = self._planned
        if planned is None or planned[0] != window:
            planned = self._planned = (window, self._plan_window(window))
        rows = planned[1][step - self._n_units * window // self._units_per_batch]
        if len(self._streams) > 1:
            # Mixed, so that a process or a micro-batch that takes a part of the rows gets some of each stream.
            rows = rows[permutation(self._batch_size, self._seed, _INSIDE, step)]
        return rows, self._buckets[self._bucket_of_row[rows].max()]

    def _plan_window(self, window: int) -> np.ndarray:
        first, last = (self._n_units * edge // self._units_per_batch for edge in (window, window + 1))
        parts = []
        for stream in self._streams:
            units = stream.between(stream.share * first, stream.share * last, self._seed)
            bucket = self._bucket_of_row[units].max(axis=1)
            by_bucket = [units[rows_where(bucket == number)] for number in range(len(self._buckets))]
            del units
            parts.append(np.concatenate(by_bucket).reshape(last - first, -1))
        order = permutation(last - first, self._seed, _BATCHES, window)
        return (parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))[order]
