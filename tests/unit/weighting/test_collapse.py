"""Warnings fire on what they name, and only on that."""

import pytest

from wmtp_jax.weighting import collapse_warnings

HEALTHY = {
    "effective_sample_share": 0.6,
    "weight_position_correlation": -0.2,
    "value_auc": 0.9,
    "value_auc_low": 0.85,
    "untrained_auc": 0.7,
}


def test_silent_when_all_is_well_or_nothing_is_known():
    assert collapse_warnings(HEALTHY) == []
    assert collapse_warnings({}) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"effective_sample_share": 0.05}, "collapsed: they act as if only 5.0% of the tokens"),
        ({"weight_position_correlation": 0.9}, "+0.90, so late tokens"),
        ({"weight_position_correlation": -0.9}, "-0.90, so early tokens"),
        ({"value_auc": 0.52, "value_auc_low": 0.45, "untrained_auc": 0.4}, "no better than chance"),
        ({"untrained_auc": 0.95}, "does not clearly beat the untrained score"),
        ({"untrained_auc": 0.87}, "AUC 0.900, interval from 0.850) does not clearly beat the untrained score"),
    ],
)
def test_each_warning_names_its_number(change, words):
    (warning,) = collapse_warnings({**HEALTHY, **change})
    assert words in warning
    assert warning.endswith(".")
