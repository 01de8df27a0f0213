"""HumanEval+ (Liu et al. 2023, EvalPlus, arXiv 2305.01210): HumanEval's prompts with about 80 times its tests.

Reads both forms in which EvalPlus publishes it:
- rows of the Hugging Face data set evalplus/humanevalplus, saved as JSONL: `test` holds inputs and expected results of
  base and plus tests together;
- HumanEvalPlus.jsonl(.gz) of EvalPlus' releases: `base_input` and `plus_input` hold inputs alone, so the expected
  results come from running `canonical_solution` in the tests, within the program's time.
The tests compare floats with numpy.
"""

import ast
import re
from pathlib import Path
from typing import Any

from wmtp_jax.errors import shown
from wmtp_jax.evaluation.benchmarks.humaneval import completion_problem, helpers_of
from wmtp_jax.evaluation.benchmarks.task import BenchmarkTask, read_tasks, require_fields, text_field
from wmtp_jax.evaluation.problems import EvaluationError, Limits, Problem, PromptOptions

FIELDS = ("task_id", "prompt", "canonical_solution", "entry_point")
# EVALPLUS_TIMEOUT_PER_TASK and EVALPLUS_MAX_MEMORY_BYTES.
LIMITS = Limits(timeout_s=60.0, memory_mb=4096, packages=("numpy",))

# How EvalPlus compares: floats within 1e-6 where the row gives no tolerance, everything else with ==.
_REFERENCE_TESTS = """import copy as _copy
import numpy as _np
_reference = {{}}
exec({source!r}, _reference)
def _are_floats(x):
    return isinstance(x, float) or (isinstance(x, (list, tuple)) and x and all(type(each) is float for each in x))
def _same_kind(out, exp):
    return type(out) == type(exp) and (not isinstance(exp, (list, tuple)) or len(out) == len(exp))
for _arguments in {inputs}:
    _exp = _reference[{entry_point!r}](*_copy.deepcopy(_arguments))
    _out = {entry_point}(*_copy.deepcopy(_arguments))
    {comparison}"""
EQUAL = """_atol = {atol!r} or (1e-6 if _are_floats(_exp) else 0)
    assert _out == _exp or (
        _atol and _same_kind(_out, _exp) and _np.allclose(_out, _exp, rtol=1e-07, atol=_atol)
    ), f"{{_arguments}}: {{_out!r}}, not {{_exp!r}}\""""
# HumanEval/32, EvalPlus' special oracle: any zero of the polynomial is right.
_ANY_ZERO = """assert abs(_reference["poly"](*_arguments, _out)) <= 1e-4, f"{{_arguments}}: {{_out!r}} is no zero\""""


def parse(row: dict[str, Any], where: str) -> BenchmarkTask:
    """One row of either form."""
    prompt, solution = text_field(row, "prompt", where), text_field(row, "canonical_solution", where)
    entry_point, base_tests = text_field(row, "entry_point", where), ()
    comparison = _ANY_ZERO if entry_point == "find_zero" else EQUAL
    if "plus_input" in row:
        inputs, base = base_and_plus_inputs(row, where)
        tests = reference_tests(row, where, prompt + solution, inputs, comparison)
        base_tests = reference_tests(row, where, prompt + solution, base, comparison)
    else:
        tests = (published_tests(row, where), f"check({entry_point})")
        if entry_point == "find_zero":
            tests = reference_tests(row, where, prompt + solution, _inputs_in(tests[0], where), comparison)
    return BenchmarkTask(
        task_id=text_field(row, "task_id", where),
        instruction=prompt,
        head=prompt,
        tests=tests,
        solution=solution,
        split="test",
        base_tests=base_tests,
        entry_points=(entry_point,),
        helpers=helpers_of(prompt, "\n".join(tests), entry_point),
    )


def load(path: Path | None, options: PromptOptions) -> list[Problem]:
    """The problems of a file in either form."""
    if path is None:
        raise EvaluationError("humaneval_plus needs EvalPlus' file: give it with --data HumanEvalPlus.jsonl.gz.")
    return [completion_problem(task) for task in read_tasks(path, FIELDS, parse, allow_infinity=True)]


def published_tests(row: dict[str, Any], where: str) -> str:
    """The tests in a row of EvalPlus' data sets on Hugging Face.

    Raises:
        EvaluationError: these are no plus tests.
    """
    require_fields(row, ("test",), where)
    test = text_field(row, "test", where)
    if not re.search(r"^\s*inputs = \[", test, re.MULTILINE):
        raise EvaluationError(
            f"{where}: neither plus_input nor a test with a list of inputs, so this row has no plus tests; expected a "
            "release file of EvalPlus, or the rows of its data set on Hugging Face."
        )
    return test.strip("\n")


def _inputs_in(test: str, where: str) -> list[list]:
    """The list of inputs in published tests."""
    try:
        assignments = [node for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Assign)]
        return next(ast.literal_eval(each.value) for each in assignments if ast.unparse(each.targets[0]) == "inputs")
    except (SyntaxError, ValueError) as error:
        raise EvaluationError(f"{where}: the inputs of the tests are no literals ({error}).") from error


def reference_tests(
    row: dict[str, Any], where: str, source: str, inputs: list[list], comparison: str
) -> tuple[str, ...]:
    """Tests that compare a program's results with those of a reference solution.

    Args:
        row: its `atol` is the absolute tolerance.
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
    fields = {"source": source, "entry_point": entry_point, "comparison": comparison.format(atol=atol)}
    # Their repr is not Python where they hold an infinity.
    return ("inf, nan = float('inf'), float('nan')", _REFERENCE_TESTS.format(inputs=inputs, **fields))


def base_and_plus_inputs(row: dict[str, Any], where: str) -> tuple[list[list], list[list]]:
    """All lists of arguments in a row of a release file, and those of the base tests alone."""
    require_fields(row, ("base_input", "plus_input"), where)
    inputs = [row["base_input"], row["plus_input"]]
    if not all(isinstance(each, list) and all(isinstance(arguments, list) for arguments in each) for each in inputs):
        raise EvaluationError(f"{where}: base_input and plus_input are not both lists of lists of arguments.")
    if not any(inputs):
        raise EvaluationError(f"{where}: base_input and plus_input are empty; expected at least one list of arguments.")
    return inputs[0] + inputs[1], inputs[0]
