"""HumanEval+ (Liu et al. 2023, EvalPlus, arXiv 2305.01210): HumanEval's prompts with about 80 times its tests.

Reads both forms in which EvalPlus publishes it, base and plus tests together:
- rows of the Hugging Face data set evalplus/humanevalplus, saved as JSONL: `test` holds inputs and expected results;
- HumanEvalPlus.jsonl(.gz) of EvalPlus' releases: `base_input` and `plus_input` hold inputs alone, so the expected
  results come from running `canonical_solution` in the test worker, within the program's time.
Tests of EvalPlus use numpy to compare floats. Sandboxes have no packages, so NUMPY stands in for what they use of it.
"""

import re
from pathlib import Path
from typing import Any

from wmtp_jax.errors import shown
from wmtp_jax.evaluation.benchmarks.humaneval import completion_problem
from wmtp_jax.evaluation.benchmarks.task import BenchmarkTask, read_tasks, require_fields, text_field
from wmtp_jax.evaluation.problems import EvaluationError, Problem, PromptOptions

FIELDS = ("task_id", "prompt", "canonical_solution", "entry_point")

NUMPY = """import types as _types
inf, nan = float("inf"), float("nan")
def _close(out, exp, rtol=1e-07, atol=0.0):
    if isinstance(out, (list, tuple)) and isinstance(exp, (list, tuple)):
        return len(out) == len(exp) and all(_close(a, b, rtol, atol) for a, b in zip(out, exp))
    numbers = isinstance(out, (int, float, complex)) and isinstance(exp, (int, float, complex))
    return numbers and (out == exp or abs(out - exp) <= atol + rtol * abs(exp) or (out != out and exp != exp))
def _assert_close(out, exp, rtol=1e-07, atol=0.0):
    assert _close(out, exp, rtol, atol), "not close"
np = _types.SimpleNamespace(ndarray=(), float32=None, float64=None, allclose=_close,
                            testing=_types.SimpleNamespace(assert_allclose=_assert_close))"""
_NUMPY_NAMES = {"ndarray", "float32", "float64", "allclose", "testing"}

# How EvalPlus compares: floats within 1e-6 where the row gives no tolerance, everything else with ==.
_REFERENCE_TESTS = """import copy as _copy
_reference = {{}}
exec({source!r}, _reference)
def _are_floats(x):
    return isinstance(x, float) or (isinstance(x, (list, tuple)) and all(isinstance(each, float) for each in x))
for _arguments in {inputs!r}:
    _exp = _reference[{entry_point!r}](*_copy.deepcopy(_arguments))
    _out = {entry_point}(*_copy.deepcopy(_arguments))
    {comparison}"""
EQUAL = """_atol = {atol!r} or (1e-6 if _are_floats(_exp) else 0)
    assert _out == _exp or (_atol and _close(_out, _exp, atol=_atol)), f"{{_arguments}}: {{_out!r}}, not {{_exp!r}}\""""
# HumanEval/32: any zero of the polynomial is right.
_ANY_ZERO = """assert abs(_reference["poly"](*_arguments, _out)) <= 1e-4, f"{{_arguments}}: {{_out!r}} is no zero\""""


def parse(row: dict[str, Any], where: str) -> BenchmarkTask:
    """One row of either form."""
    prompt, solution = text_field(row, "prompt", where), text_field(row, "canonical_solution", where)
    entry_point = text_field(row, "entry_point", where)
    if "plus_input" in row:
        comparison = _ANY_ZERO if entry_point == "find_zero" else EQUAL
        tests = reference_tests(row, where, prompt + solution, base_and_plus_inputs(row, where), comparison)
    else:
        tests = (*published_tests(row, where), f"check({entry_point})")
    return BenchmarkTask(
        task_id=text_field(row, "task_id", where),
        instruction=prompt,
        head=prompt,
        tests=tests,
        solution=solution,
        split="test",
    )


def load(path: Path | None, options: PromptOptions) -> list[Problem]:
    """The problems of a file in either form."""
    if path is None:
        raise EvaluationError("humaneval_plus needs EvalPlus' file: give it with --data HumanEvalPlus.jsonl.gz.")
    return [completion_problem(task) for task in read_tasks(path, FIELDS, parse, allow_infinity=True)]


def published_tests(row: dict[str, Any], where: str) -> tuple[str, ...]:
    """The tests in a row of EvalPlus' data sets on Hugging Face, without numpy.

    Raises:
        EvaluationError: these are no plus tests, or they need more of numpy than there is.
    """
    require_fields(row, ("test",), where)
    test = text_field(row, "test", where)
    if not re.search(r"^\s*inputs = \[", test, re.MULTILINE):
        raise EvaluationError(
            f"{where}: neither plus_input nor a test with a list of inputs, so this row has no plus tests; expected a "
            "release file of EvalPlus, or the rows of its data set on Hugging Face."
        )
    test = re.sub(r"^import numpy as np[ \t]*$", "", test, flags=re.MULTILINE)
    unknown = sorted({*re.findall(r"\bnp\.(\w+)", test)} - _NUMPY_NAMES)
    if unknown or re.search(r"^\s*(?:import|from) numpy", test, re.MULTILINE):
        what = f"np.{unknown[0]}" if unknown else "another import of numpy"
        raise EvaluationError(
            f"{where}: the tests use {what}, which the sandbox does not have; expected those that EvalPlus publishes."
        )
    return NUMPY, test.strip("\n")


def reference_tests(
    row: dict[str, Any], where: str, source: str, inputs: list[list], comparison: str
) -> tuple[str, ...]:
    """Tests that compare a program's results with those of a reference solution.

    Args:
        row: of a release file; its `atol` is the absolute tolerance.
        where: "FILE:LINE".
        source: of the reference solution.
        inputs: lists of arguments.
        comparison: Python source that compares `_out` with `_exp`, with a field {atol}.
    """
    atol, entry_point = row.get("atol") or 0, row["entry_point"]
    if not isinstance(atol, int | float) or not entry_point.isidentifier():
        raise EvaluationError(
            f"{where}: atol is {shown(atol)} and entry_point {shown(entry_point)}; expected a number and a name."
        )
    comparison = comparison.format(atol=atol)
    return NUMPY, _REFERENCE_TESTS.format(source=source, inputs=inputs, entry_point=entry_point, comparison=comparison)


def base_and_plus_inputs(row: dict[str, Any], where: str) -> list[list]:
    """All lists of arguments in a row of a release file."""
    require_fields(row, ("base_input", "plus_input"), where)
    inputs = [row["base_input"], row["plus_input"]]
    if not all(isinstance(each, list) and all(isinstance(arguments, list) for arguments in each) for each in inputs):
        raise EvaluationError(f"{where}: base_input and plus_input are not both lists of lists of arguments.")
    if not any(inputs):
        raise EvaluationError(f"{where}: base_input and plus_input are empty; expected at least one list of arguments.")
    return inputs[0] + inputs[1]
