"""Pairs are of one problem, use no solution twice, and on request length does not tell which side is correct."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.data import DataError, length_balanced_pairs
from wmtp_jax.data.pairs import random_pairs

# Per problem: the lengths of its correct and of its incorrect solutions.
problem_lengths = st.lists(
    st.tuples(st.lists(st.integers(2, 60), max_size=5), st.lists(st.integers(2, 60), max_size=5)),
    min_size=1,
    max_size=25,
)


def auc(correct, incorrect):
    """Probability that a correct solution has the larger number, ties counted half."""
    difference = np.subtract.outer(correct, incorrect)
    return np.mean(difference > 0) + np.mean(difference == 0) / 2


def assert_pairs(examples, pairs):
    assert pairs.dtype == np.int32
    np.testing.assert_array_equal(examples.is_correct[pairs], np.tile([1, 0], (len(pairs), 1)))
    np.testing.assert_array_equal(examples.problems[pairs[:, 0]], examples.problems[pairs[:, 1]])
    assert len(np.unique(pairs)) == pairs.size


def test_balanced_by_hand(solutions):
    # Differences: a 5 - 5 = 0; b 9 - 6 = +3; c 4 - 7 = -3; d 20 - 10 = +10, e 10 - 21 = -11: a tenth apart;
    # f 8 - 4 = +4 has no counterpart and is dropped.
    examples = solutions([([5], [5]), ([9], [6]), ([4], [7]), ([20], [10]), ([10], [21]), ([8], [4])])
    assert length_balanced_pairs(examples).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_a_problem_is_paired_by_rank(solutions):
    examples = solutions([([30, 10, 50], [52, 12, 31]), ([12, 31, 52], [10, 50, 30])])
    # 10-12, 30-31 and 50-52; in the other problem the same differences the other way round.
    assert length_balanced_pairs(examples).tolist() == [[0, 5], [1, 4], [2, 3], [6, 9], [7, 11], [8, 10]]


def test_evenly_spread_ranks_of_the_label_that_has_more(solutions):
    # Ranks 1 and 4 of 0..5 for two pairs; the other problem balances them.
    examples = solutions([([20, 50], [10, 20, 30, 40, 50, 60]), ([20, 50], [20, 50])])
    assert length_balanced_pairs(examples).tolist() == [[0, 3], [1, 6], [8, 10], [9, 11]]


@settings(deadline=None)
@given(problem_lengths)
def test_as_many_pairs_are_balanced_as_can_be(solutions, lengths):
    """One pair per problem, against a maximum matching by augmenting paths."""
    examples = solutions([(correct[:1], incorrect[:1]) for correct, incorrect in lengths])
    try:
        found = len(length_balanced_pairs(examples))
    except DataError:
        found = 0
    differences = [c[0] - i[0] for c, i in lengths if c and i]
    longer, shorter = [d for d in differences if d > 0], [-d for d in differences if d < 0]
    partner: dict[int, int] = {}

    def augment(i, tried):
        for j, gap in enumerate(shorter):
            if j not in tried and abs(longer[i] - gap) <= max(longer[i], gap) // 10:
                tried.add(j)
                if j not in partner or augment(partner[j], tried):
                    partner[j] = i
                    return True
        return False

    matched = sum(augment(i, set()) for i in range(len(longer)))
    assert found == differences.count(0) + 2 * matched


@settings(deadline=None)
@given(problem_lengths, st.booleans())
def test_half_of_the_pairs_that_differ_have_the_longer_side_correct(solutions, lengths, grouped):
    examples = solutions(lengths)
    groups = examples.problems % 2 if grouped else np.zeros(len(examples), int)
    try:
        pairs = length_balanced_pairs(examples, groups=groups if grouped else None)
    except DataError:
        return
    assert_pairs(examples, pairs)
    difference = examples.lengths[pairs[:, 0]] - examples.lengths[pairs[:, 1]]
    for group in np.unique(groups):
        here = difference[groups[pairs[:, 0]] == group]
        longer, shorter = np.sort(here[here > 0]), np.sort(-here[here < 0])
        assert len(longer) == len(shorter)
        # Matched within a tenth one by one, hence also in sorted order and in the sum.
        assert (np.abs(longer - shorter) <= np.maximum(longer, shorter) / 10).all()


@pytest.mark.parametrize("lengthening", [0.8, 1.0, 1.3])
def test_length_tells_nothing_even_where_it_told_much(solutions, lengthening):
    rng = np.random.default_rng(0)
    base = rng.integers(60, 200, 600)
    examples = solutions(
        [(rng.normal(b * lengthening, b / 5, 3).astype(int), rng.normal(b, b / 5, 3).astype(int)) for b in base]
    )
    lengths = examples.lengths
    before = auc(lengths[examples.is_correct == 1], lengths[examples.is_correct == 0])
    pairs = length_balanced_pairs(examples)
    correct, incorrect = lengths[pairs].T
    assert abs(auc(correct, incorrect) - 0.5) < 0.03
    assert np.mean(correct > incorrect) == np.mean(correct < incorrect)
    # Of 1,800 possible ones; where one label is nearly always longer, few have a counterpart.
    assert len(pairs) > {0.8: 600, 1.0: 1700, 1.3: 200}[lengthening]
    if lengthening != 1:
        assert abs(before - 0.5) > 0.1


@settings(deadline=None)
@given(problem_lengths, st.integers(0, 2**40))
def test_a_round_has_as_many_random_pairs_as_the_scarcer_label_allows(solutions, lengths, seed):
    examples = solutions(lengths)
    if not any(correct and incorrect for correct, incorrect in lengths):
        with pytest.raises(DataError, match="no problem has both"):
            random_pairs(examples, np.arange(len(examples), dtype=np.int32), seed=seed)
        return
    pairs, rounds = random_pairs(examples, np.arange(len(examples), dtype=np.int32), seed=seed)
    solved = [(len(correct), len(incorrect)) for correct, incorrect in lengths if correct or incorrect]
    expected = collections.Counter({i: min(sides) for i, sides in enumerate(solved) if min(sides)})
    visits = np.bincount(pairs.ravel(), minlength=len(examples))
    for number in range(rounds.max() + 1):
        assert_pairs(examples, pairs[rounds == number])
        assert collections.Counter(examples.problems[pairs[rounds == number, 0]].tolist()) == expected
    # Each solution of a label of a problem comes as often as every other.
    for problem, label in itertools.product(expected, (0, 1)):
        of_label = visits[(examples.problems == problem) & (examples.is_correct == label)]
        assert of_label.min() >= 1
        assert of_label.max() - of_label.min() <= 1


def test_partners_change_from_round_to_round(solutions):
    pairs, rounds = random_pairs(solutions([([5] * 4, [5] * 4)]), np.arange(8), seed=0)
    partners = [frozenset(map(tuple, pairs[rounds == number].tolist())) for number in range(4)]
    assert rounds.max() + 1 == 8
    assert len(set(partners)) == 4


def test_a_choice_of_rows_is_kept_to(solutions):
    examples = solutions([([5, 5], [5, 5]), ([5], [5])])
    rows = np.array([0, 2, 4])
    assert length_balanced_pairs(examples, rows=rows).tolist() == [[0, 2]]
    assert set(map(tuple, random_pairs(examples, rows, seed=0)[0].tolist())) == {(0, 2)}


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ([([5], []), ([], [5])], "no problem has both a correct and an incorrect solution, so there are no pairs"),
        ([([9], [5]), ([8], [6])], "none of the 2 pairs .* can be balanced by length"),
    ],
)
def test_pairs_that_do_not_exist(solutions, lengths, said):
    with pytest.raises(DataError, match=said):
        length_balanced_pairs(solutions(lengths))
