"""The order of batches: a pure function of (seed, step), in arrays of one epoch at a time.

Each bucket of lengths has an endless sequence of its own, epoch after epoch in another order. Which bucket a batch is
taken from follows a sequence that visits each as often as its share of the data says, so after T batches of B rows an
example of n has been seen T B / n times, give or take 4.

Ours, not grain's: its shuffling costs 50 microseconds per row on thousands of rows and 8 ms on four, its mixing has
shares in whole percents of the smallest and a sequence for each mixture; here two mixtures in one batch (correct and
incorrect solutions) take the same place of the sequence, so that short ones meet short ones.
"""

import bisect
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from wmtp_jax.data.memory import return_freed_memory, stable_order

# 2^32 / golden ratio: the multiples modulo 2^32 are spread most evenly.
_MODULUS, _STRIDE = 1 << 32, 0x9E3779B9
_MANY = 1 << 18


@dataclasses.dataclass(frozen=True)
class Stream:
    """What a fixed part of every batch is drawn from, one item after the other.

    Attributes:
        items: int32 [n, w], items of w example numbers that stay side by side in a batch.
        share: Items per batch, at most n.
        weights: float64 [n], how often each item is drawn relative to the others; None draws each equally often.
        rounds: int32 [n], items of one round come before those of the next; None is one round.
    """

    items: np.ndarray
    share: int
    weights: np.ndarray | None = None
    rounds: np.ndarray | None = None

    @property
    def n_items(self) -> float:
        """Items of an epoch: of a round, on average."""
        return len(self.items) / (1 if self.rounds is None else int(self.rounds.max()) + 1)


def batch_order(
    streams: Sequence[Stream], lengths: np.ndarray, *, buckets: Sequence[int], seed: int
) -> Callable[[int], np.ndarray]:
    """Which examples (or packed rows) of these lengths make up each batch.

    A stream's part of a batch is of one bucket, but for items that fill up one that has less than a batch.

    Returns:
        From a step, counted from 0, to int32 [rows of a batch]: the rows of an item side by side, the items of several
        streams mixed.
    """
    parts = [_mixed_buckets(stream, lengths, buckets, f"{seed}/{i}") for i, stream in enumerate(streams)]

    def rows_of(step: int) -> np.ndarray:
        rows = np.concatenate([items_of(step).ravel() for items_of in parts])
        # Mixed, so that a process or a micro-batch that takes a part of the rows gets some of each stream.
        return rows if len(parts) == 1 else rows[permutation(len(rows), seed, f"places/{step}")]

    return rows_of


def permutation(n: int, seed: int | str, purpose: str) -> np.ndarray:
    """int32 [n], an order of 0..n-1 that is the same on every machine and with every version of numpy.

    `Generator.permutation` may change between versions; the raw output of Philox may not.
    """
    key = int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:16], "little")
    return stable_order(np.random.Philox(key=key).random_raw(n))


def _mixed_buckets(
    stream: Stream, lengths: np.ndarray, buckets: Sequence[int], name: str
) -> Callable[[int], np.ndarray]:
    """From a step to int32 [share, w], items of one bucket.

    Step s takes the bucket at place frac(s / golden ratio) of the line on which the buckets' shares lie side by side.
    """
    longest = lengths[stream.items].max(axis=1)
    order = stable_order(longest)
    parts = [order[begin:end] for begin, end in _bucket_ranges(longest[order], buckets, stream.share)]
    endless = [_shuffled(stream, part, f"{name}/{i}") for i, part in enumerate(parts)]
    ends = np.cumsum([len(part) if stream.weights is None else stream.weights[part].sum() for part in parts])
    edges = [0, *(round(end / ends[-1] * _MODULUS) for end in ends[:-1]), _MODULUS]

    def items_of(step: int) -> np.ndarray:
        bucket = bisect.bisect_right(edges, step * _STRIDE % _MODULUS) - 1
        begin, end = edges[bucket : bucket + 2]
        # How many earlier steps took the bucket: s stride mod m is in [begin, end) where
        # floor((s stride - begin) / m) and floor((s stride - end) / m) differ.
        return endless[bucket](_floor_sum(step, _MODULUS - begin) - _floor_sum(step, _MODULUS - end))

    return items_of


def _bucket_ranges(longest: np.ndarray, buckets: Sequence[int], share: int) -> list[tuple[int, int]]:
    """(begin, end) of each bucket among items sorted by length; none has fewer than a batch takes."""
    begins = [0, *np.searchsorted(longest, buckets[:-1], side="right").tolist()]
    ranges, end = [], len(longest)
    for begin in reversed(begins):
        if begin < end:
            begin = max(min(begin, end - share), 0)
            begin = begin if begin >= share else 0
            ranges.append((begin, end))
            end = begin
    return ranges[::-1]


def _shuffled(stream: Stream, part: np.ndarray, name: str) -> Callable[[int], np.ndarray]:
    """From the number of a batch of this part to int32 [share, w], shuffled anew in each epoch."""
    n = len(part)

    @functools.lru_cache(maxsize=1)
    def epoch(number: int) -> np.ndarray:
        drawn = part
        if stream.weights is not None:
            # Systematic sampling: n evenly spaced points pick from the line on which the weights lie side by side. From
            # epoch to epoch the points move by the golden ratio, which evens out the rounding.
            ends = np.cumsum(stream.weights[part])
            ends /= ends[-1]
            ends *= n
            ends -= number * _STRIDE % _MODULUS / _MODULUS
            drawn = np.repeat(part, np.diff(np.ceil(ends, out=ends).astype(np.int32), prepend=np.int32(0)))
            del ends
        drawn = drawn[permutation(n, name, str(number))]
        if stream.rounds is not None:
            drawn = drawn[stable_order(stream.rounds[drawn])]
        if n > _MANY:
            return_freed_memory()
        return drawn

    def items_of(batch: int) -> np.ndarray:
        number, begin = divmod(batch * stream.share, n)
        drawn = epoch(number)[begin : begin + stream.share]
        if len(drawn) < stream.share:
            drawn = np.concatenate([drawn, epoch(number + 1)[: stream.share - len(drawn)]])
        return stream.items[drawn]

    return items_of


def _floor_sum(n: int, offset: int) -> int:
    """Sum of floor((i * stride + offset) / modulus) over i < n, in logarithmic time (Euclid's algorithm)."""
    total, a, b, m = 0, _STRIDE, offset, _MODULUS
    while n:
        total += n * (n - 1) // 2 * (a // m) + n * (b // m)
        a, b = a % m, b % m
        last = a * n + b
        n, b = divmod(last, m)
        a, m = m, a
    return total
