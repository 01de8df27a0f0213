"""MBPP+ in both of its published forms: prompts, types of the arguments, and how results compare."""

import json

import pytest

from wmtp_jax.evaluation import EvaluationError
from wmtp_jax.evaluation.benchmarks import load_problems
from wmtp_jax.sandbox import check_programs
from wmtp_jax.sandbox.isolation import find_bwrap

pytestmark = pytest.mark.skipif(find_bwrap() is None, reason="bubblewrap runs on Linux only")

LIMITS = {"timeout_s": 10.0, "memory_bytes": 4 << 30, "workers": 2, "packages": ["numpy"]}
TASK = "Write a function to find the shared elements of two tuples."
ASSERT = "assert set(shared((3, 4), (4, 5))) == set((4,))"
RIGHT = "def shared(a, b):\n    return tuple(set(a) & set(b))\n"

RELEASED = {
    "task_id": "Mbpp/2",
    "prompt": f'"""\n{TASK}\n{ASSERT}\n"""\n',
    "canonical_solution": RIGHT,
    "entry_point": "shared",
    "assertion": f"\n{ASSERT}\n",
    "contract": "",
    "base_input": [[[3, 4], [4, 5]]],
    "plus_input": [[[], [1]], [[1, 2, float("inf")], [2, 1]]],
    "atol": 0,
}
PUBLISHED = {
    "task_id": 2,
    "prompt": TASK,
    "code": RIGHT,
    "source_file": "",
    "test_imports": [],
    "test_list": [ASSERT],
    "test": """import numpy as np
from math import inf

def assertion(out, exp, atol):
    assert set(out) == set(exp)

inputs = [[(3, 4), (4, 5)], [(), (1,)], [(1, 2, inf), (2, 1)]]
results = [(4,), (), (1, 2)]
for i, (inp, exp) in enumerate(zip(inputs, results)):
    assertion(shared(*inp), exp, 0)
""",
}


def load(tmp_path, row):
    (tmp_path / "MbppPlus.jsonl").write_text(json.dumps(row) + "\n")
    (problem,) = load_problems("mbpp_plus", tmp_path / "MbppPlus.jsonl")
    return problem


def reasons(problem, *programs):
    return [verdict.reason for verdict in check_programs([problem.program(each) for each in programs], **LIMITS)]


@pytest.mark.parametrize("row", [RELEASED, PUBLISHED])
def test_base_and_plus_tests_decide(row, tmp_path):
    problem = load(tmp_path, row)
    assert (problem.task_id, problem.prompt, problem.solution) == ("Mbpp/2", RELEASED["prompt"], RIGHT)
    reverse = "def shared(a, b):\n    assert type(a) is type(b) is tuple\n    return [x for x in b if x in a]\n"
    weak = "def shared(a, b):\n    return (max(set(a) & set(b), default=0),)\n"
    assert reasons(problem, RIGHT, reverse, weak) == ["passed", "passed", "wrong answer"]


@pytest.mark.parametrize(
    ("assertion", "inputs", "solution", "others"),
    [
        ("assert f([(1, 2), (3, 4)], {'a': (1,)})", [[[[5]], {"b": [6]}]], "type(a[0]) is type(b['b']) is tuple", "a"),
        ("assert f({1, 2}, 1j) == 1", [[[5, 6], "(1+2j)"]], "(a, b)", "({5, 6}, 1 + 2j)"),
        ("assert f(1, 2) == 3", [[4, 5]], "a + b", "9"),
        ("assert f(1, 2) == 0.5", [[1, 3]], "a / b", "0.3333333"),
        ("assert f('a', 'b')\nassert not f('c', '')", [["x", "y"]], "a < b", "'yes'"),
    ],
)
def test_types_and_comparison_come_from_the_base_tests(assertion, inputs, solution, others, tmp_path):
    source = "def f(a, b):\n    return {}\n"
    row = RELEASED | {"assertion": assertion, "entry_point": "f", "canonical_solution": source.format(solution)}
    problem = load(tmp_path, row | {"base_input": [], "plus_input": inputs})
    assert reasons(problem, source.format(solution), source.format(others), source.format("None")) == [
        "passed",
        "passed",
        "wrong answer",
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (RELEASED | {"assertion": "assert shared(*pairs)"}, "the types of plus_input are unknown; take the rows of"),
        (RELEASED | {"assertion": "assert ("}, "assertion is not Python"),
        (
            RELEASED | {"assertion": "assert shared({1}, 2)", "plus_input": [[[{}], 1]]},
            "has not the types of",
        ),
        ({key: RELEASED[key] for key in RELEASED if key != "assertion"}, "no field 'assertion'"),
        (PUBLISHED | {"test": "assert shared((1,), (1,)) == (1,)"}, "no plus tests"),
        ({"task_id": 2, "text": TASK}, "no field 'prompt'"),
        ({"task_id": 2, "prompt": TASK}, "no field 'code'"),
    ],
)
def test_what_the_file_does_not_hold_is_refused(row, said, tmp_path):
    with pytest.raises(EvaluationError, match=said) as caught:
        load(tmp_path, row)
    assert "MbppPlus.jsonl:1: " in str(caught.value)
    with pytest.raises(EvaluationError, match="give it with --data"):
        load_problems("mbpp_plus")
