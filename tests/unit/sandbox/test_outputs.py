"""Which printed answers count as the same."""

import pytest

from wmtp_jax.sandbox.runner import outputs_match


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("1 2 3\n", "1\n2\n3"),
        ("YES", "yes \n"),
        ("0.333333", "0.33333999"),
        ("1e3", "1000.0"),
        ("2", "2.000001"),
        ("", "\n"),
        ("1000000000000000000001", "1000000000000000000001"),
    ],
)
def test_same(expected, actual):
    assert outputs_match(expected, actual)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("1 2 3", "1 2"),
        ("1 2", "2 1"),
        ("0.33333", "0.33336"),
        ("YES", "NO"),
        ("1000000000000000000001", "1000000000000000000002"),
        ("1", ""),
        ("nan", "0"),
        ("0", "nan"),
        ("12", "1 2"),
    ],
)
def test_different(expected, actual):
    assert not outputs_match(expected, actual)
