"""A correct and an incorrect solution of one problem, side by side; on request so that length tells nothing."""

import itertools
from collections.abc import Iterator

import numpy as np

from wmtp_jax.data.errors import DataError
from wmtp_jax.data.examples import Examples
from wmtp_jax.data.large import count, narrow, rows_where
from wmtp_jax.data.matching import nearest
from wmtp_jax.data.plan import permutation

# A pair whose correct side is d tokens longer is balanced by one whose incorrect side is d -+ d / 10 longer.
_TOLERANCE = 10
_ROWS_AT_ONCE = 1 << 17


def random_pairs(examples: Examples, rows: np.ndarray, *, seed: int, stream: int, epoch: int) -> np.ndarray:
    """Pairs solutions at random: as many pairs per problem as its scarcer label has solutions.

    Args:
        examples: The data set.
        rows: The example numbers to choose from.
        seed: The run's seed.
        stream: Which stream of random numbers to use.
        epoch: Every epoch has other partners, so that all solutions of a problem are seen in turn.

    Returns:
        int32 [P, 2], (correct, incorrect) example numbers, no example twice. P and the problem of pair i are the same
        in every epoch.
    """
    shuffled = rows[permutation(len(rows), seed, stream, epoch)]
    pairs = []
    for by_problem in _some_problems(examples, shuffled):
        # A solution's key is its problem and its rank among the problem's solutions of its label.
        sides = {}
        for label in (1, 0):
            side = by_problem[examples.is_correct[by_problem] == label]
            problems = examples.problems[side].astype(np.int64)
            rank = np.arange(len(side)) - np.searchsorted(problems, problems)
            sides[label] = side, problems * len(rows) + rank
        (correct, correct_keys), (incorrect, incorrect_keys) = sides[1], sides[0]
        _, left, right = np.intersect1d(correct_keys, incorrect_keys, assume_unique=True, return_indices=True)
        pairs.append(np.stack([correct[left], incorrect[right]], axis=1).astype(rows.dtype))
    return np.concatenate([np.zeros((0, 2), rows.dtype), *pairs])


def length_balanced_pairs(
    examples: Examples, *, rows: np.ndarray | None = None, groups: np.ndarray | None = None
) -> np.ndarray:
    """Pairs solutions so that their length does not tell which one is correct.

    First every problem's correct and incorrect solutions are matched one to one, the nearest lengths first. Then each
    pair whose correct side is d tokens longer is matched with one whose incorrect side is longer by d, give or take a
    tenth; pairs without such a counterpart are dropped, pairs of equal length stay. So the longer side is the correct
    one in exactly half of the pairs that differ.

    Args:
        examples: The data set; unlabelled examples are passed over.
        rows: The example numbers to choose from; None takes all.
        groups: [n], a number per example; the balance holds among the pairs of each group (that of the correct side).
            None balances over all.

    Returns:
        int32 [P, 2], (correct, incorrect) example numbers in the order of the correct ones, no example twice.

    Raises:
        DataError: No problem has both labels, or one label's solutions are always the longer ones.
    """
    rows = narrow(np.arange(len(examples)), len(examples)) if rows is None else rows
    pairs = _nearest_in_each_problem(examples, rows)
    if not len(pairs):
        raise no_pairs()
    lengths = examples.lengths
    difference = (lengths[pairs[:, 0]] - lengths[pairs[:, 1]]).astype(np.int32)
    del lengths
    group_of_pair = np.zeros(len(pairs), np.int16) if groups is None else groups[pairs[:, 0]]
    kept = [rows_where(difference == 0)]
    for group in np.unique(group_of_pair):
        here = group_of_pair == group
        longer, shorter = rows_where((difference > 0) & here), rows_where((difference < 0) & here)
        opposite = nearest(difference[longer], -difference[shorter])
        both = np.stack([longer[opposite[:, 0]], shorter[opposite[:, 1]]], axis=1)
        gaps = np.abs(difference[both])
        larger, smaller = gaps.max(axis=1), gaps.min(axis=1)
        kept.append(both[larger - smaller <= larger // _TOLERANCE].ravel())
    chosen = pairs[np.concatenate(kept)]
    if not len(chosen):
        raise DataError(
            f"none of the {len(pairs)} pairs of a correct and an incorrect solution can be balanced by length: one "
            "label is always the longer one; expected both cases, so bring more solutions or drop length_balanced."
        )
    return chosen[np.argsort(chosen[:, 0], kind="stable")]


def no_pairs() -> DataError:
    """What is said when there is nothing to pair."""
    return DataError(
        "no problem has both a correct and an incorrect solution, so there are no pairs; expected task ids "
        "NAME_correct_N and NAME_incorrect_N of one NAME, so bring such data or drop pairs."
    )


def _nearest_in_each_problem(examples: Examples, rows: np.ndarray) -> np.ndarray:
    pairs = []
    for solutions in _some_problems(examples, rows):
        correct, incorrect = (solutions[examples.is_correct[solutions] == label] for label in (1, 0))
        lengths = [examples.lengths[side] for side in (correct, incorrect)]
        matches = nearest(*lengths, examples.problems[correct], examples.problems[incorrect])
        pairs.append(np.stack([correct[matches[:, 0]], incorrect[matches[:, 1]]], axis=1).astype(rows.dtype))
    pairs = np.concatenate([np.zeros((0, 2), rows.dtype), *pairs])
    return pairs[np.argsort(pairs[:, 0])]


def _some_problems(examples: Examples, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows ordered by problem, otherwise as they come; some whole problems at a time, which bounds memory."""
    if not len(rows):
        return
    problems = examples.problems[rows]
    # Problems from one edge to the next have about so many solutions.
    ends = np.cumsum(count(problems, int(problems.max()) + 1))
    edges = np.unique(np.searchsorted(ends, np.arange(0, len(rows), _ROWS_AT_ONCE), side="right"))
    for first, last in itertools.pairwise([*edges.tolist(), len(ends)]):
        some = rows[(problems >= first) & (problems < last)]
        yield some[np.argsort(examples.problems[some], kind="stable")]
