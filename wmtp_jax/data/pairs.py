"""A correct and an incorrect solution of one problem, side by side; on request so that length tells nothing."""

import numpy as np

from wmtp_jax.data.errors import DataError
from wmtp_jax.data.examples import Examples
from wmtp_jax.data.memory import stable_order
from wmtp_jax.data.order import permutation

# A pair whose correct side is d tokens longer is balanced by one whose incorrect side is d -+ d / 10 longer.
_TOLERANCE = 10
_LEAST_ROUNDS = 8
_MOST_PAIRS = 1 << 22


def random_pairs(examples: Examples, rows: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs solutions at random, in rounds of as many pairs per problem as its scarcer label has solutions.

    From round to round the partners change, and of the label that has more solutions the next ones come. There are as
    many rounds as it takes until every solution has come, at least 8; fewer where that were over 4 million pairs.

    Args:
        examples: The data set.
        rows: int32, the example numbers to choose from.
        seed: The run's seed.

    Returns:
        int32 [P, 2], (correct, incorrect) example numbers, no example twice in a round; int32 [P], the round of each.

    Raises:
        DataError: No problem has both labels.
    """
    sides = _Sides(examples, rows[permutation(len(rows), seed, "partners")])
    n_pairs, larger = len(sides.problem), np.maximum(*sides.counts)
    if not n_pairs:
        raise _no_pairs()
    needed = int(np.max(-(-larger // np.maximum(sides.pairs, 1)), where=sides.pairs > 0, initial=_LEAST_ROUNDS))
    n_rounds = min(needed, max(1, _MOST_PAIRS // n_pairs))
    n = sides.pairs[sides.problem]
    pairs = np.zeros((n_rounds, n_pairs, 2), np.int32)
    for number in range(n_rounds):
        pairs[number] = sides.pick(number * n + sides.slot, number * n + (sides.slot + number) % n)
    return pairs.reshape(-1, 2), np.repeat(np.arange(n_rounds, dtype=np.int32), n_pairs)


def length_balanced_pairs(
    examples: Examples, *, rows: np.ndarray | None = None, groups: np.ndarray | None = None
) -> np.ndarray:
    """Pairs solutions so that their length does not tell which one is correct.

    First every problem's correct and incorrect solutions are paired by their rank in length; of the label that has
    more solutions, evenly spread ranks are taken. Then each pair whose correct side is d tokens longer is matched with
    one whose incorrect side is longer by d, give or take a tenth; pairs without such a counterpart are dropped, pairs
    of equal length stay. So the longer side is the correct one in exactly half of the pairs that differ.

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
    rows = np.arange(len(examples), dtype=np.int32) if rows is None else rows
    sides = _Sides(examples, rows[stable_order(examples.lengths[rows])])
    n = sides.pairs[sides.problem]
    pairs = sides.pick(*((2 * sides.slot + 1) * count[sides.problem] // (2 * n) for count in sides.counts))
    if not len(pairs):
        raise _no_pairs()
    difference = examples.lengths[pairs[:, 0]] - examples.lengths[pairs[:, 1]]
    group_of_pair = np.zeros(len(pairs), np.int32) if groups is None else groups[pairs[:, 0]]
    kept = [np.flatnonzero(difference == 0)]
    for group in np.unique(group_of_pair):
        here = np.flatnonzero((group_of_pair == group) & (difference != 0))
        here = here[stable_order(np.abs(difference[here]))]
        kept.append(_balanced(here[difference[here] > 0], here[difference[here] < 0], np.abs(difference)))
    chosen = pairs[np.concatenate(kept)]
    if not len(chosen):
        raise DataError(
            f"none of the {len(pairs)} pairs of a correct and an incorrect solution can be balanced by length: one "
            "label is always the longer one; expected both cases, so bring more solutions or drop length_balanced."
        )
    return chosen[stable_order(chosen[:, 0])]


def _no_pairs() -> DataError:
    return DataError(
        "no problem has both a correct and an incorrect solution, so there are no pairs; expected task ids "
        "NAME_correct_N and NAME_incorrect_N of one NAME, so bring such data or drop pairs."
    )


def _balanced(longer: np.ndarray, shorter: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """As many of both kinds as can be matched one to one within the tolerance; both come in the order of their gaps."""
    i, j = 0, 0
    left, right = memoryview(gaps[longer]), memoryview(gaps[shorter])  # lists of numbers take ten times the memory
    keep_left, keep_right = np.zeros(len(left), bool), np.zeros(len(right), bool)
    while i < len(left) and j < len(right):
        if abs(left[i] - right[j]) <= max(left[i], right[j]) // _TOLERANCE:
            keep_left[i] = keep_right[j] = True
            i, j = i + 1, j + 1
        elif left[i] < right[j]:
            i += 1
        else:
            j += 1
    return np.concatenate([longer[keep_left], shorter[keep_right]])


class _Sides:
    """The correct and the incorrect solutions of every problem, in the order in which the rows come.

    Attributes:
        counts: (correct, incorrect) solutions of each problem.
        pairs: How many pairs each problem gives.
        problem: Of each pair of a round.
        slot: The number of each pair of a round among those of its problem.
    """

    def __init__(self, examples: Examples, rows: np.ndarray):
        n = int(examples.problems.max(initial=-1)) + 1
        rows = rows[stable_order(examples.problems[rows])]
        self._rows = [rows[examples.is_correct[rows] == label] for label in (1, 0)]
        self.counts = [np.bincount(examples.problems[side], minlength=n) for side in self._rows]
        self.pairs = np.minimum(*self.counts)
        self.problem = np.repeat(np.arange(n), self.pairs)
        self.slot = np.arange(len(self.problem)) - (np.cumsum(self.pairs) - self.pairs)[self.problem]

    def pick(self, correct: np.ndarray, incorrect: np.ndarray) -> np.ndarray:
        """int32 [pairs of a round, 2], the solutions of these numbers in each pair's problem, counted in turns."""
        picked = np.zeros((len(self.problem), 2), np.int32)
        for i, number in enumerate((correct, incorrect)):
            first = np.cumsum(self.counts[i]) - self.counts[i]
            picked[:, i] = self._rows[i][first[self.problem] + number % self.counts[i][self.problem]]
        return picked
