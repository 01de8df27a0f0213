"""Pairs are of one problem, use no solution twice, and on request length does not tell which side is correct."""

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.data import DataError, length_balanced_pairs
from wmtp_jax.data.matching import nearest
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


numbers = st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 30)), max_size=25)


@given(left=numbers, right=numbers)
@settings(deadline=None)
def test_nearest_takes_the_closest_free_two_each_time(left, right):
    columns = [np.array(side, int).reshape(-1, 2).T for side in (left, right)]
    (left_groups, left_values), (right_groups, right_values) = columns
    matches = nearest(left_values, right_values, left_groups, right_groups)
    for group in range(4):
        free_left, free_right = (
            set(np.flatnonzero(groups == group).tolist()) for groups in (left_groups, right_groups)
        )
        for i, j in matches[left_groups[matches[:, 0]] == group].tolist():
            closest = min(abs(left_values[a] - right_values[b]) for a in free_left for b in free_right)
            assert abs(left_values[i] - right_values[j]) == closest
            free_left.remove(i)
            free_right.remove(j)
        assert not (free_left and free_right)


def test_balanced_by_hand(solutions):
    # Differences: a 5 - 5 = 0; b 9 - 6 = +3; c 4 - 7 = -3; d 20 - 10 = +10, e 10 - 21 = -11: a tenth apart;
    # f 8 - 4 = +4 has no counterpart and is dropped.
    examples = solutions([([5], [5]), ([9], [6]), ([4], [7]), ([20], [10]), ([10], [21]), ([8], [4])])
    assert length_balanced_pairs(examples).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_a_problem_gives_its_nearest_lengths(solutions):
    examples = solutions([([10, 30, 50], [31, 12, 90]), ([12, 31], [10, 30])])
    # 30-31, 10-12 and, without a counterpart, 50-90; in the other problem the same differences the other way round.
    assert length_balanced_pairs(examples).tolist() == [[0, 4], [1, 3], [6, 8], [7, 9]]


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
    # Of 1,800 possible ones; where one label is mostly longer, few have a counterpart.
    assert len(pairs) > 400
    if lengthening != 1:
        assert abs(before - 0.5) > 0.1


@settings(deadline=None)
@given(problem_lengths, st.integers(0, 2**40), st.integers(0, 3))
def test_random_pairs_are_as_many_as_the_scarcer_label_allows(solutions, lengths, seed, epoch):
    examples = solutions(lengths)
    pairs = random_pairs(examples, np.arange(len(examples), dtype=np.int32), seed=seed, stream=5, epoch=epoch)
    assert_pairs(examples, pairs)
    per_problem = collections.Counter(examples.problems[pairs[:, 0]].tolist())
    solved = [(len(correct), len(incorrect)) for correct, incorrect in lengths if correct or incorrect]
    assert per_problem == collections.Counter({i: min(sides) for i, sides in enumerate(solved) if min(sides)})
    # Ordered by problem, so a pair's weight is the same in every epoch.
    np.testing.assert_array_equal(np.diff(examples.problems[pairs[:, 0]]) >= 0, True)


def test_partners_change_and_all_solutions_come_up(solutions):
    examples = solutions([([5] * 2, [5] * 6), ([7] * 3, [7])])
    epochs = [random_pairs(examples, np.arange(12), seed=0, stream=5, epoch=epoch) for epoch in range(30)]
    assert len({pairs.tobytes() for pairs in epochs}) > 10
    assert len(np.unique(np.concatenate(epochs))) == 12


def test_a_choice_of_rows_is_kept_to(solutions):
    examples = solutions([([5, 5], [5, 5]), ([5], [5])])
    rows = np.array([0, 2, 4])
    assert length_balanced_pairs(examples, rows=rows).tolist() == [[0, 2]]
    assert random_pairs(examples, rows, seed=0, stream=5, epoch=0).tolist() == [[0, 2]]


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
