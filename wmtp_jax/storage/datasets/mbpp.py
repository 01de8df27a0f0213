"""MBPP: short tasks with three asserts each (CC-BY-4.0). The splits are ranges of task numbers."""

from collections.abc import Iterator, Mapping
from typing import Any

from wmtp_jax.storage.datasets.settings import Settings
from wmtp_jax.storage.datasets.task import Solution, Task
from wmtp_jax.storage.errors import StorageError

LICENCE = "CC-BY-4.0 (google-research-datasets/mbpp)"
REPOSITORY = "google-research-datasets/mbpp"
PATTERNS = ("full/*.parquet",)
SPLITS = ("train", "valid", "test")
TESTED_SPLITS = ("test",)
REQUIRED = ("task_id", "code", "test_list")

# Austin et al. 2021 (arXiv 2108.07732), section 2.1. Tasks 1 to 10 are examples for prompts and no records.
_PROMPTS, _TEST, _VALID, _TRAIN = range(1, 11), range(11, 511), range(511, 601), range(601, 975)
_SPLIT_OF = (("test", _PROMPTS), ("test", _TEST), ("valid", _VALID), ("train", _TRAIN))


def columns(split: str, settings: Settings) -> None:
    """All columns: the full set calls the task `text`, the sanitised one `prompt`."""
    return None


def rows(batch, settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows of an Arrow batch."""
    yield from batch.to_pylist()


def rows_of_json(row: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """A JSON object as it is."""
    return row


def task(row: Mapping[str, Any], split: str, where: str, settings: Settings) -> Task:
    """One problem, in the split of its number.

    Raises:
        StorageError: A field does not hold what MBPP has in it.
    """
    number, text = row["task_id"], row.get("text", row.get("prompt"))
    asserts = row["test_list"]
    texts = isinstance(asserts, list) and [text, row["code"], *asserts]
    if type(number) is not int or not asserts or not texts or not all(isinstance(part, str) for part in texts):
        raise StorageError(
            f"{where}: expected a task of MBPP: task_id (a number), text, code and test_list (a list of texts)"
        )
    split = next((name for name, numbers in _SPLIT_OF if number in numbers), None)
    if split is None:
        raise StorageError(f"{where}: task_id is {number}; expected 1 to 974, the tasks of MBPP")
    code = row["code"].replace("\r\n", "\n").rstrip() + "\n"
    # The set-up uses the program's classes, so it stands behind the program.
    tests = [*row.get("test_imports", []), row.get("test_setup_code") or "", *asserts]
    tests = [line.replace("\r\n", "\n") for line in tests if line]
    return Task(
        split=split,
        instruction=text,
        input="\n".join(asserts),
        solutions=[] if number in _PROMPTS else [Solution(code, True, f"mbpp/{number}")],
        metadata={"source": "mbpp", "difficulty": None, "has_tests": True, "tests": tests},
        # The evaluator's worked examples are among the tasks 1 to 10.
        tests=dict(row) if split == "test" else None,
        test_source="\n".join(tests) + "\n",
    )
