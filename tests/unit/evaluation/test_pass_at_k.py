"""pass@k against hand numbers, enumeration and simulation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_jax.evaluation import EvaluationError, bootstrap_interval, pass_at_k


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [(10, 3, 5, 0.916667), (200, 7, 100, 0.992991), (20, 1, 10, 0.5), (4, 2, 3, 1.0), (5, 0, 5, 0.0), (5, 5, 1, 1.0)],
)
def test_published_numbers(n, c, k, expected):
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=5e-7)


@settings(deadline=None)
@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_is_the_share_of_subsets_with_a_passing_sample(counts):
    n, c, k = counts
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


def test_large_counts_neither_cancel_nor_overflow():
    assert pass_at_k(10_000, 1, 1) == pytest.approx(1e-4, rel=1e-12)
    assert pass_at_k(np.int64(100_000), np.int64(50_000), np.int64(5_000)) == 1.0


@pytest.mark.parametrize(
    ("n", "c", "k", "said"),
    [
        (4, 2, 5, "draw at least 5"),
        (4, 5, 1, "0 <= c <= n"),
        (4, -1, 1, "0 <= c <= n"),
        (4, 1, 0, "k >= 1"),
        (4.0, 1, 1, "n must be an integer"),
        (4, True, 1, "c must be an integer"),
    ],
)
def test_refuses_what_is_not_defined(n, c, k, said):
    with pytest.raises(EvaluationError, match=said):
        pass_at_k(n, c, k)


def test_bootstrap_interval_covers_as_the_normal_one():
    values = np.random.default_rng(1).random(400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert bootstrap_interval(values) == (low, high)


def test_bootstrap_interval_of_one_problem_is_a_point():
    assert bootstrap_interval([0.25]) == (0.25, 0.25)
    with pytest.raises(EvaluationError, match="at least one problem"):
        bootstrap_interval([])
