"""HumanEval+ in both of its published forms: base and plus tests decide, floats compare as EvalPlus compares them."""

import gzip
import json

import pytest

from wmtp_jax.evaluation import EvaluationError
from wmtp_jax.evaluation.benchmarks import load_problems
from wmtp_jax.sandbox import check_programs
from wmtp_jax.sandbox.isolation import find_bwrap

pytestmark = pytest.mark.skipif(find_bwrap() is None, reason="bubblewrap runs on Linux only")

LIMITS = {"timeout_s": 10.0, "memory_bytes": 4 << 30, "workers": 2, "packages": ["numpy"]}
PROMPT = 'def scale(xs, factor):\n    """Multiplies in place and returns the list."""\n'
RIGHT = "    for i in range(len(xs)):\n        xs[i] *= factor\n    return xs\n"
ROUNDED = "    return [x * factor + 1e-9 for x in xs]\n"
# Passes the base tests, not the plus tests.
WEAK = "    return [x * factor for x in xs] if xs else None\n"
WRONG = "    return xs\n"

RELEASED = {
    "task_id": "HumanEval/900",
    "prompt": PROMPT,
    "canonical_solution": RIGHT,
    "entry_point": "scale",
    "test": "def check(candidate):\n    assert candidate([1.0], 2.0) == [2.0]\n",
    "contract": "",
    "base_input": [[[1.0, 2.0], 0.5]],
    "plus_input": [[[], 3.0], [[1e300, float("inf")], 2.0]],
    "atol": 0,
}
PUBLISHED = {
    "task_id": "HumanEval/900",
    "prompt": PROMPT,
    "canonical_solution": RIGHT,
    "entry_point": "scale",
    "test": """

import numpy as np

def is_floats(x) -> bool:
    if isinstance(x, float):
        return True
    if isinstance(x, (list, tuple)):
        return all(isinstance(i, float) for i in x)
    if isinstance(x, np.ndarray):
        return x.dtype == np.float64 or x.dtype == np.float32
    return False


def assertion(out, exp, atol):
    exact_match = out == exp
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    if not exact_match and atol != 0:
        np.testing.assert_allclose(out, exp, atol=atol)
    else:
        assert exact_match


def check(candidate):
    inputs = [[[1.0, 2.0], 0.5], [[], 3.0]]
    results = [[0.5, 1.0], []]
    for i, (inp, exp) in enumerate(zip(inputs, results)):
        assertion(candidate(*inp), exp, 0)
""",
}


def load(tmp_path, row):
    path = tmp_path / "HumanEvalPlus.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(row).encode() + b"\n"))
    (problem,) = load_problems("humaneval_plus", path)
    return problem


@pytest.mark.parametrize("row", [RELEASED, PUBLISHED])
def test_base_and_plus_tests_decide(row, tmp_path):
    problem = load(tmp_path, row)
    assert (problem.prompt, problem.solution, problem.head) == (PROMPT, RIGHT, PROMPT)
    verdicts = check_programs([problem.program(each) for each in (RIGHT, ROUNDED, WEAK, WRONG)], **LIMITS)
    assert [verdict.passed for verdict in verdicts] == [True, True, False, False], verdicts
    assert all(verdict.confirmed for verdict in verdicts[:2]), verdicts


def test_any_zero_of_a_polynomial_is_right(tmp_path):
    prompt = "def poly(xs, x):\n    return sum(c * x**i for i, c in enumerate(xs))\ndef find_zero(xs):\n"
    row = RELEASED | {"prompt": prompt, "entry_point": "find_zero", "canonical_solution": "    return 1.0\n"}
    problem = load(tmp_path, row | {"base_input": [[[-1, 0, 1]]], "plus_input": []})
    verdicts = check_programs([problem.program(f"    return {x}\n") for x in (1.0, -1.0, 0.5)], **LIMITS)
    assert [verdict.passed for verdict in verdicts] == [True, True, False]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({key: RELEASED[key] for key in ("task_id", "prompt", "canonical_solution", "entry_point", "test")}, "no plus"),
        (RELEASED | {"plus_input": {}}, "not both lists of lists"),
        (RELEASED | {"plus_input": [], "base_input": []}, "are empty"),
        (RELEASED | {"atol": "small"}, "atol is 'small'"),
        (RELEASED | {"entry_point": "f()"}, r"entry_point 'f\(\)'"),
        ({"task_id": "HumanEval/0", "prompt": ""}, "no field 'canonical_solution'"),
    ],
)
def test_what_the_file_does_not_hold_is_refused(row, said, tmp_path):
    with pytest.raises(EvaluationError, match=said) as caught:
        load(tmp_path, row)
    assert "HumanEvalPlus.jsonl.gz:1: " in str(caught.value)
    with pytest.raises(EvaluationError, match="give it with --data"):
        load_problems("humaneval_plus")
