"""Which rows make up the batch of a step: a pure function of (seed, step)."""

import numpy as np

from wmtp_jax.data.errors import DataError

# Independent streams of random numbers.
_PACKING, _ROWS, _BATCHES = range(3)


def permutation(n: int, seed: int, stream: int, epoch: int) -> np.ndarray:
    """A random order that stays the same on every machine and with every version of numpy.

    `Generator.permutation` may change between versions of numpy; the raw output of Philox may not.

    Args:
        n: Number of things to order.
        seed: The run's seed, not negative.
        stream: Which use of the seed this is.
        epoch: Which repetition.

    Returns:
        int64 [n], a permutation of 0..n-1.
    """
    bits = np.random.Philox(np.random.SeedSequence([seed, stream, epoch]))
    return np.argsort(bits.random_raw(n), kind="stable")


def packing_order(n: int, seed: int) -> np.ndarray:
    """The order in which documents are packed; one for all epochs.

    Args:
        n: Number of documents.
        seed: The run's seed.

    Returns:
        int64 [n], a permutation of 0..n-1.
    """
    return permutation(n, seed, _PACKING, 0)


class ShuffledPlan:
    """An endless stream of batches of rows, another order in each epoch, all rows of a batch from one bucket.

    Every epoch is a permutation of all rows. Cut into batches it leaves less than a batch over; those last rows of
    the permutation come first among the next epoch's rows. So after any number of epochs every row has been seen as
    often as every other, except that fewer than `batch_size` rows are one visit behind until the next epoch. Within
    an epoch the rows are grouped by bucket; what does not fill a batch of its bucket moves up to the next larger one.
    """

    def __init__(self, row_lengths: np.ndarray, *, batch_size: int, buckets: tuple[int, ...], seed: int):
        """Plans batches.

        Args:
            row_lengths: [R], tokens per row.
            batch_size: Rows per batch.
            buckets: Padded lengths, ascending; the last holds the longest row.
            seed: The run's seed.

        Raises:
            DataError: There are fewer rows than a batch takes.
        """
        self.n_rows = len(row_lengths)
        if self.n_rows < batch_size:
            raise DataError(
                f"batch_size is {batch_size} but the data fill only {self.n_rows} rows; "
                "expected at least one full batch, so lower batch_size or bring more data."
            )
        self._batch_size = batch_size
        self._buckets = buckets
        self._bucket_of_row = np.searchsorted(np.array(buckets), row_lengths)
        self._seed = seed
        self._planned: tuple[int, list[tuple[np.ndarray, int]]] | None = None

    def batch(self, step: int) -> tuple[np.ndarray, int]:
        """The rows of one batch.

        Args:
            step: Number of the batch, from 0.

        Returns:
            int64 [batch_size] row numbers, and the length to which they are padded.
        """
        # Epoch e ends with batch floor(R (e + 1) / B) - 1.
        epoch = -(-self._batch_size * (step + 1) // self.n_rows) - 1
        planned = self._planned
        if planned is None or planned[0] != epoch:
            planned = self._planned = (epoch, self._plan_epoch(epoch))
        return planned[1][step - self.n_rows * epoch // self._batch_size]

    def _plan_epoch(self, epoch: int) -> list[tuple[np.ndarray, int]]:
        late = self.n_rows * epoch % self._batch_size
        left_over = self.n_rows * (epoch + 1) % self._batch_size
        rows = permutation(self.n_rows, self._seed, _ROWS, epoch)[: self.n_rows - left_over]
        if late:
            rows = np.concatenate([permutation(self.n_rows, self._seed, _ROWS, epoch - 1)[-late:], rows])
        bucket_of_row = self._bucket_of_row[rows]
        batches: list[tuple[np.ndarray, int]] = []
        waiting = rows[:0]
        for index, bucket in enumerate(self._buckets):
            waiting = np.concatenate([waiting, rows[bucket_of_row == index]])
            full = len(waiting) // self._batch_size * self._batch_size
            batches += [(batch, bucket) for batch in waiting[:full].reshape(-1, self._batch_size)]
            waiting = waiting[full:]
        order = permutation(len(batches), self._seed, _BATCHES, epoch)
        return [batches[i] for i in order]
