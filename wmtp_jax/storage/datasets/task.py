"""The one form that every source is brought into, what has to be known of a source for that, and the settings."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from wmtp_jax.data import Tokenizer, load_tokenizer
from wmtp_jax.evaluation.benchmarks import BenchmarkTask

Row = dict[str, Any]
# Records of a small version, by split.
SMALL = {"train": 100, "valid": 32, "test": 32}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the bytes that come out, beside the source files. Goes to the workers.

    Attributes:
        tokenizer_path: the SentencePiece model whose tokens are counted.
        tokenizer_digest: its SHA-256.
        max_tokens: largest number of tokens of instruction, input and output together; 0 keeps all.
        python_2: whether solutions in Python 2 are taken too (CodeContests).
        small: whether only the first solution of each label of the first problems is taken, see `SMALL`.
        deduplicate: whether a duplicate solution of a problem is left out, and one labelled both ways altogether.
        decontaminate: whether training problems whose text occurs in a test benchmark are left out.
        reexecute: whether each solution is run, and kept only if its label is reproduced.
        timeout_s: for that: seconds per program.
    """

    tokenizer_path: Path
    tokenizer_digest: str
    max_tokens: int = 2048
    python_2: bool = False
    small: bool = False
    deduplicate: bool = False
    decontaminate: bool = False
    reexecute: bool = False
    timeout_s: float = 10.0

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, read once per process."""
        return _tokenizer(self.tokenizer_path, self.tokenizer_digest)

    def as_json(self) -> dict[str, Any]:
        """The settings without those that decide nothing."""
        fields = dataclasses.asdict(self)
        fields.pop("tokenizer_path")
        if not self.reexecute:
            fields.pop("timeout_s")
        return fields


@functools.cache
def _tokenizer(path: Path, digest: str) -> Tokenizer:
    # By digest: each chunk brings its own copy of the settings to a worker.
    return load_tokenizer(path)


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
