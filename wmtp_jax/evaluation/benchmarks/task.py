"""A row of a benchmark's file, parsed: what evaluation makes problems of, and storage makes records of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmtp_jax.errors import shown
from wmtp_jax.evaluation.problems import EvaluationError, Problem
from wmtp_jax.jsonl import read_objects


@dataclass(frozen=True)
class BenchmarkTask:
    """One task as its benchmark publishes it, without any choice of prompt.

    Attributes:
        task_id: its name, unique in the benchmark.
        instruction: the task, or the beginning of the program.
        input: further text of the task, such as tests that the model may see.
        head: what precedes an answer in the program.
        tests: pieces of Python source, joined by line breaks; raise where the program is wrong.
        cases: pairs of standard input and expected standard output; instead of tests.
        solution: a correct answer; "" where the row has none.
        split: "train", "valid", "test", or "prompt" for worked examples; "" where rows do not say.
        base_tests: the part of the tests that the benchmark's extension is measured against.
        entry_points, helpers: as of `Problem`.
    """

    task_id: str
    instruction: str
    input: str = ""
    head: str = ""
    tests: tuple[str, ...] = ()
    cases: tuple[tuple[str, str], ...] = ()
    solution: str = ""
    split: str = ""
    base_tests: tuple[str, ...] = ()
    entry_points: tuple[str, ...] = ()
    helpers: str = ""

    @property
    def test_source(self) -> str:
        """The tests as one source."""
        return "\n".join(self.tests) + "\n"

    def problem(self, prompt: str, stop: str) -> Problem:
        """The task as it is put to the model, for a benchmark whose judge runs `exec(program_and_tests, {})`."""
        return Problem(
            self.task_id,
            prompt,
            stop,
            head=self.head,
            tests=self.test_source,
            solution=self.solution,
            base_tests="\n".join((*self.base_tests, "")),
            module_name="builtins",
            entry_points=self.entry_points,
            helpers=self.helpers,
        )


def read_tasks(
    path: Path,
    fields: Sequence[str],
    parse: Callable[[dict[str, Any], str], BenchmarkTask],
    *,
    allow_infinity: bool = False,
) -> list[BenchmarkTask]:
    """The tasks of a .jsonl or .jsonl.gz file.

    Args:
        path: of the file.
        fields: that every row has.
        parse: turns (row, "FILE:LINE") into a task.
        allow_infinity: accepts NaN and Infinity as numbers, as Python writes them.

    Raises:
        EvaluationError: a row lacks a field, or two rows have the same task_id.
        FileError: no such file, or a line that is no JSON object.
    """
    tasks: dict[str, BenchmarkTask] = {}
    first: dict[str, str] = {}
    for where, row in read_objects(path, allow_infinity=allow_infinity):
        require_fields(row, fields, where)
        task = parse(row, where)
        if task.task_id in tasks:
            raise EvaluationError(
                f"{where}: duplicate task {shown(task.task_id)}, first in {first[task.task_id]}; expected each task "
                "once."
            )
        tasks[task.task_id], first[task.task_id] = task, where
    return list(tasks.values())


def require_fields(row: dict[str, Any], fields: Sequence[str], where: str) -> None:
    """Raises EvaluationError where a field is missing."""
    missing = next((name for name in fields if name not in row), None)
    if missing:
        raise EvaluationError(
            f"{where}: no field {missing!r}; expected {', '.join(fields)}, so this seems to be the file of another "
            "benchmark."
        )


def text_field(row: dict[str, Any], name: str, where: str) -> str:
    """A field that is a string."""
    value = row.get(name)
    if not isinstance(value, str):
        raise EvaluationError(f"{where}: field {name!r} is {shown(value, 40)}; expected a string.")
    return value


def texts_field(row: dict[str, Any], name: str, where: str) -> list[str]:
    """A field that is a list of strings; one that is missing or null is empty."""
    value = row.get(name) or []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise EvaluationError(f"{where}: field {name!r} is {shown(value, 40)}; expected a list of strings.")
    return value
