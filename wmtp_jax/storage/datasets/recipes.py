"""How the published files of each data set become tasks: CodeContests, MBPP, HumanEval."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wmtp_jax.data import Record, Tokenizer
from wmtp_jax.evaluation.benchmarks import BenchmarkTask, humaneval, mbpp
from wmtp_jax.evaluation.benchmarks.codecontests import FIELDS, PYTHON_2, PYTHON_3, parse
from wmtp_jax.evaluation.problems import CASE_FIELDS

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the bytes that come out, beside the source files."""

    tokenizer: Tokenizer  # whose tokens are counted
    max_tokens: int = 2048  # of instruction, input and output together; 0 keeps all
    python_2: bool = False  # takes solutions in Python 2 too (CodeContests)
    small: bool = False  # takes the first solution of each label of the first problems, see `records.SMALL`
    deduplicate: bool = False  # leaves out a duplicate solution of a problem, and one labelled both ways altogether
    decontaminate: bool = False  # leaves out training problems whose text occurs in a test benchmark
    reexecute: bool = False  # runs each solution, and keeps it only if its label is reproduced
    timeout_s: float = 10.0  # for that: seconds per program

    def as_json(self) -> dict[str, Any]:
        """The settings without those that decide nothing."""
        fields = {"tokenizer_digest": self.tokenizer.digest, **vars(self)}
        del fields["tokenizer"]
        if not self.reexecute:
            del fields["timeout_s"]
        return fields


@dataclasses.dataclass(frozen=True)
class Task:
    """A problem with its solutions: the one form that every source is brought into."""

    problem: BenchmarkTask
    split: str
    records: list[Record]  # in the order of the source
    tests: Mapping[str, Any] | None  # the row that the evaluator reads
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)  # when the row was read, by reason


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the published files of a data set become tasks."""

    repository: str  # on the Hugging Face hub
    licence: str
    pattern: str  # of the files in the repository that are read
    splits: tuple[str, ...]
    required: tuple[str, ...]  # columns without which a file is not of this data set
    task: Callable[[Row, str, str, Settings], Task]  # of (row, split of its file or "", "FILE: place", settings)
    split_per_file: bool = False  # whether the file's name says the split of its rows
    # (split, settings) -> the columns of parquet that are read; None reads all.
    columns: Callable[[str, Settings], tuple[str, ...] | None] = lambda split, settings: None
    # (pyarrow.RecordBatch of those columns, settings) -> rows as a JSON object has them.
    rows: Callable[[Any, Settings], Iterable[Row]] = lambda batch, settings: batch.to_pylist()


# CodeContests, in DeepMind's columns.
_TESTED_SPLITS = ("valid", "test")
_LANGUAGES = {PYTHON_2: "python2", PYTHON_3: "python3"}
_LABELS = {"solutions": (True, "correct"), "incorrect_solutions": (False, "incorrect")}
_LIMITS = ("difficulty", "cf_rating", "time_limit", "memory_limit_bytes")
# The numbers of the difficulty column; a letter is that of the problem in its Codeforces round.
_DIFFICULTIES = ("unknown", "easy", "medium", "hard", "harder", "hardest", "external", *"ABCDEFGHIJKLMNOPQRSTUV")


def _columns(split: str, settings: Settings) -> tuple[str, ...]:
    """The columns that are read; the tests, most of the bytes, only where they are used."""
    tests = CASE_FIELDS if split in _TESTED_SPLITS or settings.reexecute else CASE_FIELDS[:2]
    return ("name", "description", *_LABELS, *_LIMITS[:2], *tests, *(_LIMITS[2:] if split in _TESTED_SPLITS else ()))


def _rows(batch, settings: Settings) -> list[Row]:
    """The rows of an Arrow batch; programs in other languages are None and never become Python objects."""
    import pyarrow
    import pyarrow.compute as compute

    for name in _LABELS:
        language, text = (batch.column(name).field(field) for field in ("language", "solution"))
        wanted = compute.is_in(language.values, value_set=pyarrow.array(_wanted(settings), language.type.value_type))
        texts = type(text).from_arrays(text.offsets, compute.if_else(wanted, text.values, None))
        columns = pyarrow.StructArray.from_arrays([language, texts], ["language", "solution"])
        batch = batch.set_column(batch.schema.get_field_index(name), name, columns)
    return batch.to_pylist()


def _codecontests_task(row: Row, split: str, where: str, settings: Settings) -> Task:
    problem = parse(row, where)
    difficulty = row.get("difficulty")
    if isinstance(difficulty, int):
        difficulty = _DIFFICULTIES[difficulty] if 0 <= difficulty < len(_DIFFICULTIES) else str(difficulty)
    metadata = {"source": "codecontests", "difficulty": difficulty, "has_tests": bool(problem.cases)}
    if row.get("cf_rating"):
        metadata["cf_rating"] = row["cf_rating"]
    records, others = [], 0
    for column, (is_correct, word) in _LABELS.items():
        written = row[column] or {"language": [], "solution": []}
        for number, (language, text) in enumerate(zip(written["language"], written["solution"], strict=True)):
            if language not in _wanted(settings):
                others += 1
                continue
            task_id = f"{problem.task_id}_{word}_{number}"
            labels = metadata | {"language": _LANGUAGES[language]}
            records.append(Record(problem.instruction, problem.input, text, task_id, is_correct, labels))
    tests = None
    if split in _TESTED_SPLITS and problem.cases:
        tests = {column: row.get(column) for column in ("name", "description", *CASE_FIELDS, *_LIMITS)}
        # The evaluator measures the heads' losses on one solution.
        first = next((r.output for r in records if r.is_correct and r.metadata["language"] == "python3"), None)
        tests["solutions"] = {"language": [PYTHON_3] if first else [], "solution": [first] if first else []}
    return Task(problem, split, records, tests, left_out={"other_language": others})


def _wanted(settings: Settings) -> tuple[int, ...]:
    return (PYTHON_2, PYTHON_3) if settings.python_2 else (PYTHON_3,)


def _mbpp_task(row: Row, split: str, where: str, settings: Settings) -> Task:
    """A problem in the split of its number; the evaluator's worked examples are no records."""
    problem = mbpp.parse(row, where)
    example = problem.split == "prompt"
    metadata = {"source": "mbpp", "difficulty": None, "has_tests": True}
    metadata["tests"] = [text for text in problem.tests if text]
    task_id = problem.task_id.lower()
    record = Record(problem.instruction, problem.input, problem.solution, task_id, True, metadata)
    return Task(
        problem,
        split="test" if example else problem.split,
        records=[] if example else [record],
        tests=row if example or problem.split == "test" else None,
    )


def _humaneval_task(row: Row, split: str, where: str, settings: Settings) -> Task:
    problem = humaneval.parse(row, where)
    metadata = {"source": "humaneval", "difficulty": None, "has_tests": True}
    metadata["tests"] = [line for piece in problem.tests for line in piece.rstrip("\n").split("\n")]
    record = Record(problem.instruction, problem.input, problem.solution, problem.task_id, True, metadata)
    return Task(problem, problem.split, [record], tests={name: row[name] for name in humaneval.FIELDS})


RECIPES = {
    "codecontests": Recipe(
        repository="deepmind/code_contests",
        licence="CC-BY-4.0 (deepmind/code_contests; solutions by their authors on the contest sites)",
        pattern="data/*.parquet",
        splits=("train", *_TESTED_SPLITS),
        required=(*FIELDS, *_LABELS),
        task=_codecontests_task,
        split_per_file=True,
        columns=_columns,
        rows=_rows,
    ),
    "mbpp": Recipe(
        repository="google-research-datasets/mbpp",
        licence="CC-BY-4.0 (google-research-datasets/mbpp)",
        pattern="full/*.parquet",
        splits=("train", "valid", "test"),
        required=mbpp.FIELDS,
        task=_mbpp_task,
    ),
    "humaneval": Recipe(
        repository="openai/openai_humaneval",
        licence="MIT (openai/human-eval)",
        pattern="openai_humaneval/*.parquet",
        splits=("test",),
        required=humaneval.FIELDS,
        task=_humaneval_task,
    ),
}
