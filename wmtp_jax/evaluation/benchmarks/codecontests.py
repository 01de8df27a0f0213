"""CodeContests (Li et al. 2022, arXiv 2203.07814): programs that read and print, in DeepMind's columns."""

from pathlib import Path
from typing import Any

from wmtp_jax.data import Record, render
from wmtp_jax.evaluation.benchmarks.task import BenchmarkTask, read_tasks, text_field
from wmtp_jax.evaluation.problems import NEVER, EvaluationError, Problem, PromptOptions, test_cases

FIELDS = ("name", "description", "public_tests")
# Numbers of the column solutions.language.
PYTHON_2, PYTHON_3 = 1, 3


def parse(row: dict[str, Any], where: str) -> BenchmarkTask:
    """One row, without its solutions: their columns are read where they are needed."""
    name, description = text_field(row, "name", where), text_field(row, "description", where)
    return BenchmarkTask(name, description, cases=test_cases(row, where))


def load(path: Path | None, options: PromptOptions) -> list[Problem]:
    """The problems of a file, in the alpaca template unless another is asked for."""
    if path is None:
        raise EvaluationError("codecontests needs its problems: give their file with --data FILE.jsonl.")
    solutions: dict[str, str] = {}

    def parse_with_solution(row: dict[str, Any], where: str) -> BenchmarkTask:
        task = parse(row, where)
        if not task.cases:
            raise EvaluationError(f"{where}: problem {task.task_id!r} has no test case; expected at least one.")
        solutions[task.task_id] = _python_solution(row.get("solutions"), where)
        return task

    return [
        Problem(
            task.task_id,
            render(Record(task.instruction, "", "", task.task_id, None, {}), options.template or "alpaca"),
            NEVER,
            cases=task.cases,
            solution=solutions[task.task_id],
        )
        for task in read_tasks(path, FIELDS, parse_with_solution)
    ]


def _python_solution(columns: Any, where: str) -> str:
    """The first solution in Python 3."""
    try:
        written = zip(columns["language"], columns["solution"], strict=True) if columns else ()
        return next((text for language, text in written if language == PYTHON_3), "")
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluationError(
            f'{where}: solutions is not {{"language": [numbers], "solution": [as many strings]}}; expected the columns '
            "of CodeContests."
        ) from error
