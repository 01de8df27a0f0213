"""The one shape that every source is brought into, and what has to be known of a source for that."""

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wmtp_jax.evaluation.benchmarks import BenchmarkTask
from wmtp_jax.storage.datasets.settings import Settings

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Solution:
    """A program for a problem.

    Attributes:
        output: its text.
        is_correct: its label.
        task_id: its name.
        metadata: what is particular about it.
    """

    output: str
    is_correct: bool
    task_id: str
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Task:
    """A problem with its solutions.

    Attributes:
        problem: as its benchmark's parser reads it.
        split: train, valid or test.
        solutions: in the order of the source.
        metadata: what all records of the problem state.
        tests: the row that the evaluator reads, or None.
        left_out: solutions that were left out when the row was read, by reason.
    """

    problem: BenchmarkTask
    split: str
    solutions: list[Solution]
    metadata: Mapping[str, Any]
    tests: Mapping[str, Any] | None = None
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the published files of a data set become tasks.

    Attributes:
        repository: on the Hugging Face hub.
        licence: of the data.
        patterns: of the files in the repository that are read.
        splits: in their order.
        required: columns without which a file is not of this data set.
        task: (row, split of the file or "", "FILE: place", settings) -> the problem.
        split_per_file: whether the file's name says the split of its rows.
        columns: (split, settings) -> the columns of parquet that are read; None reads all.
        rows: (pyarrow.RecordBatch of those columns, settings) -> rows for `task`.
        row_of_json: (JSON object, settings) -> row for `task`.
    """

    repository: str
    licence: str
    patterns: tuple[str, ...]
    splits: tuple[str, ...]
    required: tuple[str, ...]
    task: Callable[[Row, str, str, Settings], Task]
    split_per_file: bool = False
    columns: Callable[[str, Settings], tuple[str, ...] | None] = lambda split, settings: None
    rows: Callable[[Any, Settings], Iterable[Row]] = lambda batch, settings: batch.to_pylist()
    row_of_json: Callable[[Row, Settings], Row] = lambda row, settings: row


def recipe_of(name: str) -> Recipe:
    """The recipe of codecontests, mbpp or humaneval."""
    return importlib.import_module(f"wmtp_jax.storage.datasets.{name}").RECIPE
