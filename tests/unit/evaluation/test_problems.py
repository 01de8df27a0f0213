"""Problems of solution records."""

import pytest

from wmtp_jax.data import Record
from wmtp_jax.evaluation import EvaluationError, record_problems

PROMPT = 'def add(a, b):\n    """Adds.\n    >>> add(1, 2)\n    3\n    """\n'
TESTS = ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]


def record(task_id="add_correct_0", is_correct=True, output="    return a + b\n", **metadata):
    return Record(PROMPT, "", output, task_id, is_correct, {"tests": TESTS} | metadata)


def test_solutions_of_one_task_are_one_problem():
    rows = [record("add_incorrect_0", False, "    return a\n"), record(), record("sub_correct_3")]
    first, second = record_problems(rows)
    assert (first.task_id, second.task_id) == ("add", "sub")
    assert first.prompt == first.head == PROMPT
    assert first.tests == "assert add(1, 2) == 3\nassert add(0, 0) == 0\n"
    assert first.solution == "    return a + b\n"
    assert first.program("    return a + b\n").source == PROMPT + "    return a + b\n"


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("    return a + b\n", "    return a + b\n"),
        ("    return a + b\ndef other():\n    pass\n", "    return a + b\n"),
        ("    x = a\n\n    return x\n# done", "    x = a\n\n    return x\n"),
        ("    return a +", "    return a +"),
        ("return a + b\n", ""),
    ],
)
def test_microcode_answer_ends_where_a_line_starts_in_column_0(completion, answer):
    problem = record_problems([record()])[0]
    assert problem.answer(completion) == answer
    assert problem.program(completion).source == (PROMPT + answer if answer else "")


def test_records_with_cases_stand_alone():
    rows = [record(public_tests={"input": ["1 2\n"], "output": ["3\n"]}, tests=None)]
    problem = record_problems(rows, template="alpaca")[0]
    assert problem.cases == (("1 2\n", "3\n"),)
    assert problem.program("print(3)").source == "print(3)"
    assert problem.prompt.endswith("### Response:\n")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (record(tests=None), "has no tests"),
        (record(tests="assert 1"), "has no tests"),
        (record(tests=[]), "has no tests"),
        (record(public_tests={"input": ["1"], "output": []}), "public_tests is not"),
        (record(private_tests=[1]), "private_tests is not"),
    ],
)
def test_tasks_without_usable_tests_are_refused(row, said):
    with pytest.raises(EvaluationError, match=f"FILE:1.*{said}"):
        record_problems([row], where="FILE")


def test_no_problem_is_refused():
    with pytest.raises(EvaluationError, match="no problem"):
        record_problems([])
