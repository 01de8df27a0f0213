"""The order of batches: grain shuffles, repeats, mixes and batches numbers; a pure function of (seed, step).

Each bucket of lengths has an endless data set of its own, epoch after epoch in another order. Which bucket a batch is
taken from follows a sequence that visits each as often as its share of the data says, so after T batches of B rows an
example of n has been seen T B / n times, give or take 4. Grain's own mixing has shares in whole percents of the
smallest and a sequence for each mixture; here two mixtures in one batch (correct and incorrect solutions) take the same
place of the sequence, so that short ones meet short ones.
"""

import bisect
import dataclasses
import hashlib
import sys
from collections.abc import Sequence

import numpy as np

# 2^32 / golden ratio: the multiples modulo 2^32 are spread most evenly.
_MODULUS, _STRIDE = 1 << 32, 0x9E3779B9


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


def batch_order(streams: Sequence[Stream], lengths: np.ndarray, *, buckets: Sequence[int], seed: int):
    """Which examples (or packed rows) make up each batch.

    Args:
        streams: What batches are made of.
        lengths: int [n], tokens of each example or row.
        buckets: Padded lengths, ascending; the items of a stream's part of a batch are of one bucket, but for those
            that fill up a batch of the next larger one, which would have less than a batch.
        seed: The run's seed.

    Returns:
        A grain.MapDataset without end: int32 [rows of a batch] of each step, the rows of an item side by side, the
        items of several streams mixed.
    """
    import grain  # brings jax along, which reading records must not

    parts = [_mixed_buckets(stream, lengths, buckets, f"{seed}/{i}") for i, stream in enumerate(streams)]
    if len(parts) == 1:
        return parts[0].map(np.ravel)

    def join(step: int, groups: tuple[np.ndarray, ...]) -> np.ndarray:
        rows = np.concatenate([group.ravel() for group in groups])
        # Mixed, so that a process or a micro-batch that takes a part of the rows gets some of each stream.
        return rows[permutation(len(rows), seed, f"places/{step}")]

    return grain.experimental.ZipMapDataset(parts).map_with_index(join)


def permutation(n: int, seed: int, purpose: str) -> np.ndarray:
    """int64 [n], an order of 0..n-1 that is the same on every machine and with every version of numpy.

    `Generator.permutation` may change between versions; the raw output of Philox may not.
    """
    return np.argsort(np.random.Philox(key=seed_of(f"{seed}/{purpose}")).random_raw(n), kind="stable")


def seed_of(text: str) -> int:
    """A number below 2^32 for each use of a seed: grain counts epochs up from its seeds, so neighbours would meet."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def _mixed_buckets(stream: Stream, lengths: np.ndarray, buckets: Sequence[int], name: str):
    """A grain.MapDataset without end: int32 [share, w] of each step."""
    import grain

    longest = lengths[stream.items].max(axis=1)
    order = np.argsort(longest, kind="stable").astype(np.int32)
    parts = [order[begin:end] for begin, end in _bucket_ranges(longest[order], buckets, stream.share)]
    shuffled = [_shuffled(stream, part, f"{name}/{i}") for i, part in enumerate(parts)]
    return grain.MapDataset.select_from_datasets(
        [dataset.batch(stream.share, drop_remainder=True) for dataset in shuffled],
        _Proportions([len(part) if stream.weights is None else stream.weights[part].sum() for part in parts]),
    )


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


def _shuffled(stream: Stream, part: np.ndarray, name: str):
    """A grain.MapDataset without end: int32 [w], the items of a part, shuffled anew in each epoch."""
    import grain

    datasets, shares = [], []
    for weight, of_weight in _by_value(stream.weights, part, 1.0):
        rounds = [
            grain.MapDataset.source(stream.items[items]).shuffle(seed=seed_of(f"{name}/{weight}/{number}"))
            for number, items in _by_value(stream.rounds, of_weight, 0)
        ]
        datasets.append(grain.MapDataset.concatenate(rounds).repeat())
        shares.append(len(of_weight) * weight)
    return datasets[0] if len(datasets) == 1 else grain.MapDataset.mix(datasets, shares)


def _by_value(values: np.ndarray | None, part: np.ndarray, default: float) -> list[tuple[float, np.ndarray]]:
    """Each value of a part's items and the items that have it; without values, all of them under the default."""
    if values is None:
        return [(default, part)]
    return [(value, part[values[part] == value]) for value in np.unique(values[part]).tolist()]


class _Proportions:
    """grain's selection map: step -> (data set, its element), each data set as often as its share says.

    Step s takes the data set at place frac(s / golden ratio) of the line on which the shares lie side by side; the
    element is the number of earlier steps that took it.
    """

    def __init__(self, shares: Sequence[float]):
        ends = np.cumsum(shares)
        self._edges = [0, *(round(end / ends[-1] * _MODULUS) for end in ends[:-1]), _MODULUS]

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, step: int) -> tuple[int, int]:
        number = bisect.bisect_right(self._edges, step * _STRIDE % _MODULUS) - 1
        begin, end = self._edges[number : number + 2]
        # s stride mod m is in [begin, end) where floor((s stride - begin) / m) and floor((s stride - end) / m) differ.
        return number, _floor_sum(step, _MODULUS - begin) - _floor_sum(step, _MODULUS - end)


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
