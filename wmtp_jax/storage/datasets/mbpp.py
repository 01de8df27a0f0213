"""MBPP: short tasks with three asserts each (CC-BY-4.0). The splits are ranges of task numbers."""

from wmtp_jax.evaluation.benchmarks.mbpp import FIELDS, parse
from wmtp_jax.storage.datasets.settings import Settings
from wmtp_jax.storage.datasets.task import Recipe, Row, Solution, Task


def _task(row: Row, split: str, where: str, settings: Settings) -> Task:
    """One problem, in the split of its number; the evaluator's worked examples are no records."""
    problem = parse(row, where)
    example = problem.split == "prompt"
    tests = [text for text in problem.tests if text]
    return Task(
        problem,
        split="test" if example else problem.split,
        solutions=[] if example else [Solution(problem.solution, True, problem.task_id.lower())],
        metadata={"source": "mbpp", "difficulty": None, "has_tests": True, "tests": tests},
        tests=row if example or problem.split == "test" else None,
    )


RECIPE = Recipe(
    repository="google-research-datasets/mbpp",
    licence="CC-BY-4.0 (google-research-datasets/mbpp)",
    patterns=("full/*.parquet",),
    splits=("train", "valid", "test"),
    required=FIELDS,
    task=_task,
)
