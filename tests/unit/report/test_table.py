"""The closing table."""

import math

import pytest

from wmtp_jax.report import Measure, closing_table
from wmtp_jax.report.table import table_cells


def test_table_by_hand():
    rows = [
        Measure("loss", 2.0, 0.5, "lower"),
        Measure("perplexity", 12031.0, 15.0, "lower"),
        Measure("greedy pass@1", 0.45, 0.44, "higher"),
        Measure("tokens per forward", 2.9, 2.9, "higher"),
    ]
    assert closing_table(rows) == "\n".join(
        [
            "measure             before   after   change",
            "─" * 61,
            "loss                 2.000   0.500   -1.500   -75%  improved",
            "perplexity          12,031  15.000  -12,016  -100%  improved",
            "greedy pass@1        0.450   0.440   -0.010    -2%  worse",
            "tokens per forward   2.900   2.900    0.000         unchanged",
        ]
    )


@pytest.mark.parametrize(
    ("before", "after", "better", "verdict"),
    [
        (1.0, 0.9, "lower", "improved"),
        (1.0, 1.1, "lower", "worse"),
        (1.0, 1.1, "higher", "improved"),
        (-1.0, -1.1, "higher", "worse"),
        (0.0, 0.1, "higher", "improved"),
        (1.00001, 1.00002, "lower", "unchanged"),  # a difference that the table does not show is none
        (3.194, 3.189, "higher", "unchanged"),  # nor is one of less than half a percent
        (0.954, 0.959, "higher", "improved"),
        (math.nan, 1.0, "lower", "not comparable"),
        (1.0, math.inf, "lower", "not comparable"),
    ],
)
def test_verdict(before, after, better, verdict):
    assert table_cells(Measure("m", before, after, better))[-1] == verdict


def test_share_is_relative_to_the_size_of_what_was():
    assert table_cells(Measure("m", -2.0, -1.0, "higher"))[3:5] == ("+1.000", "+50%")
    assert table_cells(Measure("m", 0.0, 0.5, "higher"))[3:5] == ("+0.500", "")


def test_unknown_direction():
    with pytest.raises(ValueError, match="expected 'lower', 'higher' or 'none'"):
        closing_table([Measure("loss", 1.0, 2.0, "up")])
