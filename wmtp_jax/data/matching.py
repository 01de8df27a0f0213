"""Matches numbers of two kinds one to one, always the closest two that are still free, in many groups at once.

Equal numbers of a group count as one point with so many members. Points stand on a line, linked to the next point on
either side; the closest two of opposite sides are always neighbours. So candidates are neighbours of opposite sides,
sorted into buckets by their gap, and all buckets are emptied from the smallest gap on, every step over all groups
together: no step of Python is spent on a single number.
"""

import collections

import numpy as np


def nearest(
    left: np.ndarray,
    right: np.ndarray,
    left_groups: np.ndarray | None = None,
    right_groups: np.ndarray | None = None,
) -> np.ndarray:
    """Matches two lists of whole numbers one to one within each group, the smallest gaps first.

    Args:
        left: int [m].
        right: int [n].
        left_groups: int [m], the group of each; None is one group.
        right_groups: int [n].

    Returns:
        int64 [matches, 2], positions in left and in right, in the order of their gaps; in each group as many as its
        scarcer side has numbers.
    """
    if not (len(left) and len(right)):
        return np.zeros((0, 2), np.int64)
    lowest = min(int(left.min()), int(right.min()))
    span = max(int(left.max()), int(right.max())) - lowest + 1
    keys = [np.subtract(side, lowest, dtype=np.int64) for side in (left, right)]
    for key, groups in zip(keys, (left_groups, right_groups), strict=True):
        if groups is not None:
            key += np.multiply(groups, span, dtype=np.int64)
    points = np.union1d(*keys)
    # Members of a point are taken one after the other, in the order of their positions.
    members = [np.argsort(key, kind="stable").astype(np.int32) for key in keys]
    counts = [np.bincount(np.searchsorted(points, key), minlength=len(points)) for key in keys]
    del keys
    first_member = [np.cumsum(count) - count for count in counts]
    equal = np.minimum(*counts)
    here = np.flatnonzero(equal)
    matched = [(here, here, np.zeros(len(here), np.int64), np.zeros(len(here), np.int64), equal[here])]
    matched += _unequal(points % span, points // span, counts[0] - equal, counts[1] - equal, equal)
    at_left, at_right, used_left, used_right, times = (np.concatenate(part) for part in zip(*matched, strict=True))
    inside = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    positions = [
        members[side][np.repeat(first_member[side][point] + used, times) + inside]
        for side, (point, used) in enumerate(((at_left, used_left), (at_right, used_right)))
    ]
    return np.stack(positions, axis=1)


def _unequal(values, groups, left_counts, right_counts, used) -> list[tuple[np.ndarray, ...]]:
    """The matches of different numbers: (left point, right point, members of each used before, how many)."""
    kept = np.flatnonzero(left_counts + right_counts)
    value, group = values[kept], groups[kept]
    is_left, free = left_counts[kept] > 0, (left_counts + right_counts)[kept]
    used = np.asarray(used[kept], np.int64)
    before, after = np.arange(len(kept)) - 1, np.arange(len(kept)) + 1
    buckets: dict[int, list[np.ndarray]] = collections.defaultdict(list)

    def add(i: np.ndarray, j: np.ndarray) -> None:
        """Sorts neighbours into buckets, if they can be matched."""
        inside = (i >= 0) & (j < len(kept))
        i, j = i[inside], j[inside]
        i = i[(is_left[i] != is_left[j]) & (group[i] == group[j])]
        if not len(i):
            return
        gap = value[after[i]] - value[i]
        order = np.argsort(gap, kind="stable")
        different, begins = np.unique(gap[order], return_index=True)
        for one, candidates in zip(different.tolist(), np.split(i[order], begins[1:]), strict=True):
            buckets[one].append(candidates)

    add(np.arange(len(kept) - 1), np.arange(1, len(kept)))
    matches = []
    while buckets:
        gap = min(buckets)
        i = np.unique(np.concatenate(buckets.pop(gap)))
        while True:
            # Of the candidates, those that still stand: both free, neighbours, and this far apart.
            i = i[free[i] > 0]
            i = i[after[i] < len(kept)]
            j = after[i]
            stands = (is_left[i] != is_left[j]) & (group[i] == group[j]) & (value[j] - value[i] == gap)
            i, j = i[stands], j[stands]
            if not len(i):
                break
            # Candidates that touch are matched from the left on; the first of every row of such is safe now.
            touches = np.zeros(len(i), bool)
            touches[1:] = (i[1:] == j[:-1]) | (before[i[1:]] == j[:-1])
            later, i, j = i[touches], i[~touches], j[~touches]
            times = np.minimum(free[i], free[j])
            left_first = is_left[i]
            at_left, at_right = np.where(left_first, i, j), np.where(left_first, j, i)
            matches.append((kept[at_left], kept[at_right], used[at_left], used[at_right], times))
            for point in (i, j):
                used[point] += times
                free[point] -= times
            # Links close over points that are used up.
            new_before = np.where(free[i] > 0, i, before[i])
            new_after = np.where(free[j] > 0, j, after[j])
            after[new_before[new_before >= 0]] = new_after[new_before >= 0]
            before[new_after[new_after < len(kept)]] = new_before[new_after < len(kept)]
            add(new_before, new_after)
            i = later
    return matches
