"""MBPP+ (Liu et al. 2023, EvalPlus, arXiv 2305.01210): 378 tasks of MBPP with about 35 times their tests, zero-shot.

Reads both forms in which EvalPlus publishes it (humaneval_plus.py says how their tests are run):
- rows of the Hugging Face data set evalplus/mbppplus, saved as JSONL: `test` holds inputs and expected results;
- MbppPlus.jsonl(.gz) of EvalPlus' releases. Its inputs are JSON, which has no tuples, sets and complex numbers, and it
  does not say how results compare: both are taken from the calls in `assertion`, the task's base tests.
"""

import ast
from pathlib import Path
from typing import Any

from wmtp_jax.evaluation.benchmarks.humaneval_plus import (
    EQUAL,
    LIMITS,
    base_and_plus_inputs,
    published_tests,
    reference_tests,
)
from wmtp_jax.evaluation.benchmarks.mbpp import entry_points_of, zero_shot_problem
from wmtp_jax.evaluation.benchmarks.task import BenchmarkTask, read_tasks, require_fields, text_field, texts_field
from wmtp_jax.evaluation.problems import EvaluationError, Problem, PromptOptions

FIELDS = ("task_id", "prompt")
__all__ = ["FIELDS", "LIMITS", "load", "parse"]
_RELEASE_FIELDS = ("canonical_solution", "entry_point", "assertion")
_SAME_SET = 'assert set(_out) == set(_exp), f"{{_arguments}}: {{_out!r}}, expected the elements of {{_exp!r}}"'
# EvalPlus' special oracles of Mbpp/164, 295, 558 and 581: what it accepts besides the reference's result.
_ALSO_RIGHT = {
    "are_equivalent": "True",
    "sum_div": "_out == 0",
    "digit_distance_nums": "_out == sum(abs(int(a) - int(b)) for a, b in zip(*(str(x).zfill(99) for x in _arguments)))",
    "surface_Area": "abs(_out - round(_arguments[0] * (_arguments[0] + "
    "2 * ((_arguments[0] / 2) ** 2 + _arguments[1] ** 2) ** 0.5))) <= _atol",
}
_SAME_TRUTH = 'assert bool(_out) == bool(_exp), f"{{_arguments}}: {{_out!r}}, not {{_exp!r}}"'


def parse(row: dict[str, Any], where: str) -> BenchmarkTask:
    """One row of either form; as EvalPlus does, the prompt shows the task and its first assert."""
    number = str(row["task_id"]).rpartition("/")[2]
    prompt = text_field(row, "prompt", where)
    if "plus_input" in row:
        require_fields(row, _RELEASE_FIELDS, where)
        solution, asserts = text_field(row, "canonical_solution", where), text_field(row, "assertion", where)
        calls, comparison = _read_asserts(asserts, text_field(row, "entry_point", where), where)
        try:
            inputs = [_with_types(arguments, calls) for arguments in base_and_plus_inputs(row, where)[0]]
        except (TypeError, ValueError) as error:
            raise EvaluationError(
                f"{where}: plus_input has not the types of the calls in assertion ({error}); expected EvalPlus' file."
            ) from error
        if row["entry_point"] in _ALSO_RIGHT:
            comparison = comparison.replace("assert ", f"assert {_ALSO_RIGHT[row['entry_point']]} or ", 1)
        tests = reference_tests(row, where, solution, inputs, comparison)
        # The prompt is a docstring already.
        instruction = prompt.strip().removeprefix('"""').removesuffix('"""').strip()
        instruction, _, shown_assert = instruction.partition("\nassert ")
        shown_assert, base_tests = shown_assert and f"assert {shown_assert}", (asserts,)
    else:
        require_fields(row, ("code", "test_list"), where)
        solution, instruction = text_field(row, "code", where), prompt
        imports, asserts = texts_field(row, "test_imports", where), texts_field(row, "test_list", where)
        shown_assert, base_tests = next(iter(asserts), ""), (*imports, *asserts)
        tests = (*imports, published_tests(row, where))
    return BenchmarkTask(
        f"Mbpp/{number}",
        instruction,
        shown_assert,
        tests=tests,
        solution=solution,
        split="test",
        base_tests=base_tests,
        entry_points=entry_points_of(solution, "\n".join(tests)),
    )


def load(path: Path | None, options: PromptOptions) -> list[Problem]:
    """The problems of a file in either form."""
    if path is None:
        raise EvaluationError("mbpp_plus needs EvalPlus' file: give it with --data MbppPlus.jsonl.gz.")
    return [zero_shot_problem(task) for task in read_tasks(path, FIELDS, parse, allow_infinity=True)]


def _read_asserts(asserts: str, entry_point: str, where: str) -> tuple[list[list], str]:
    """Arguments of the calls in the base tests, and how these compare results."""
    try:
        nodes = list(ast.walk(ast.parse(asserts)))
    except (SyntaxError, ValueError) as error:
        raise EvaluationError(f"{where}: assertion is not Python ({error}); expected the base tests.") from error
    is_call = lambda node: isinstance(node, ast.Call) and getattr(node.func, "id", "") == entry_point
    calls = []
    for call in filter(is_call, nodes):
        try:
            calls.append([ast.literal_eval(argument) for argument in call.args])
        except ValueError:
            continue
    if not calls:
        raise EvaluationError(
            f"{where}: assertion calls {entry_point} with no literal, so the types of plus_input are unknown; take the "
            "rows of evalplus/mbppplus on Hugging Face, whose tests have them."
        )
    sets = [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "set"]
    if any(is_call(argument) for node in sets for argument in node.args):
        return calls, _SAME_SET
    tests = [node.test for node in nodes if isinstance(node, ast.Assert)]
    tests = [test.operand if isinstance(test, ast.UnaryOp) else test for test in tests]
    return calls, _SAME_TRUTH if all(map(is_call, tests)) else EQUAL


def _with_types(arguments: list, calls: list[list]) -> list:
    """Arguments as JSON has them, with the types that they have in the base tests."""
    return [_convert(value, [call[i] for call in calls if i < len(call)]) for i, value in enumerate(arguments)]


def _convert(value: Any, examples: list) -> Any:
    if isinstance(value, list):
        collections = [example for example in examples if isinstance(example, list | tuple | set)]
        converted = [_convert(item, [each for example in collections for each in example]) for item in value]
        return type(collections[0])(converted) if collections else converted
    if isinstance(value, dict):
        values = [each for example in examples if isinstance(example, dict) for each in example.values()]
        return {key: _convert(item, values) for key, item in value.items()}
    if isinstance(value, str) and examples and all(isinstance(example, int | float | complex) for example in examples):
        return complex(value)
    return value
