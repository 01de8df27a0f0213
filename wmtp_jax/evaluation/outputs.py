"""When two printed answers are the same answer."""

import re

FLOAT_TOLERANCE = 1e-5

_INTEGER = re.compile(r"[+-]?\d+")


def outputs_match(expected: str, actual: str) -> bool:
    """Compares standard output as CodeContests does: token by token, whatever the white space and case.

    Numbers may differ by 1e-5, unless both are written as integers (Li et al. 2022, AlphaCode, arXiv 2203.07814).
    """
    expected_tokens, actual_tokens = expected.lower().split(), actual.lower().split()
    return len(expected_tokens) == len(actual_tokens) and all(map(_same, expected_tokens, actual_tokens))


def _same(expected: str, actual: str) -> bool:
    if expected == actual:
        return True
    if _INTEGER.fullmatch(expected) and _INTEGER.fullmatch(actual):
        return False
    try:
        return abs(float(expected) - float(actual)) <= FLOAT_TOLERANCE
    except ValueError:
        return False
