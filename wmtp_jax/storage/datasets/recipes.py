"""How the published files of each data set become tasks: CodeContests, MBPP, HumanEval."""

from collections.abc import Iterator

from wmtp_jax.evaluation.benchmarks import humaneval, mbpp
from wmtp_jax.evaluation.benchmarks.codecontests import FIELDS, PYTHON_2, PYTHON_3, parse
from wmtp_jax.evaluation.problems import CASE_FIELDS
from wmtp_jax.storage.datasets.task import Recipe, Row, Settings, Solution, Task

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


def _rows(batch, settings: Settings) -> Iterator[Row]:
    """The rows of an Arrow batch; programs in other languages never become Python objects.

    Yields:
        Dicts in which the two columns of solutions are lists of (number, language, text), numbered as in the source,
        and `other_language` counts those in other languages.
    """
    import pyarrow
    import pyarrow.compute as compute

    plain = batch.drop_columns([name for name in _LABELS if name in batch.schema.names]).to_pylist()
    for name in _LABELS:
        column = batch.column(name)
        language, text = column.field("language"), column.field("solution")
        for i, row in enumerate(plain):
            languages = language[i].values
            wanted = pyarrow.array(_wanted(settings), languages.type)
            numbers = compute.indices_nonzero(compute.is_in(languages, value_set=wanted))
            kept = [column.to_pylist() for column in (numbers, languages.take(numbers), text[i].values.take(numbers))]
            row[name] = list(zip(*kept, strict=True))
            row["other_language"] = row.get("other_language", 0) + len(languages) - len(row[name])
    yield from plain


def _row_of_json(row: Row, settings: Settings) -> Row:
    """The same of a JSON object with DeepMind's columns."""
    row = row | {"other_language": 0}
    for name in _LABELS:
        given = row[name] or {"language": [], "solution": []}
        both = list(zip(given["language"], given["solution"], strict=True))
        row[name] = [(i, language, text) for i, (language, text) in enumerate(both) if language in _wanted(settings)]
        row["other_language"] += len(both) - len(row[name])
    return row


def _codecontests_task(row: Row, split: str, where: str, settings: Settings) -> Task:
    problem = parse(row, where)
    difficulty = row.get("difficulty")
    if isinstance(difficulty, int):
        difficulty = _DIFFICULTIES[difficulty] if 0 <= difficulty < len(_DIFFICULTIES) else str(difficulty)
    metadata = {"source": "codecontests", "difficulty": difficulty, "has_tests": bool(problem.cases)}
    if row.get("cf_rating"):
        metadata["cf_rating"] = row["cf_rating"]
    solutions = [
        Solution(text, is_correct, f"{problem.task_id}_{word}_{number}", {"language": _LANGUAGES[language]})
        for column, (is_correct, word) in _LABELS.items()
        for number, language, text in row[column]
    ]
    tests = None
    if split in _TESTED_SPLITS and problem.cases:
        tests = {column: row.get(column) for column in ("name", "description", *CASE_FIELDS, *_LIMITS)}
        # The evaluator measures the heads' losses on one solution.
        first = next((text for _, language, text in row["solutions"] if language == PYTHON_3), None)
        tests["solutions"] = {"language": [PYTHON_3] if first else [], "solution": [first] if first else []}
    return Task(problem, split, solutions, metadata, tests, left_out={"other_language": row["other_language"]})


def _wanted(settings: Settings) -> tuple[int, ...]:
    return (PYTHON_2, PYTHON_3) if settings.python_2 else (PYTHON_3,)


def _mbpp_task(row: Row, split: str, where: str, settings: Settings) -> Task:
    """A problem in the split of its number; the evaluator's worked examples are no records."""
    problem = mbpp.parse(row, where)
    example = problem.split == "prompt"
    tests = [text for text in problem.tests if text]
    return Task(
        problem,
        split="test" if example else problem.split,
        solutions=[] if example else [Solution(problem.solution, True, problem.task_id.lower())],
        metadata={"source": "mbpp", "difficulty": None, "has_tests": True, "tests": tests},
        tests=row if example or problem.split == "test" else None,
    )


def _humaneval_task(row: Row, split: str, where: str, settings: Settings) -> Task:
    problem = humaneval.parse(row, where)
    tests = [line for piece in problem.tests for line in piece.rstrip("\n").split("\n")]
    return Task(
        problem,
        split=problem.split,
        solutions=[Solution(problem.solution, True, problem.task_id)],
        metadata={"source": "humaneval", "difficulty": None, "has_tests": True, "tests": tests},
        tests={name: row[name] for name in humaneval.FIELDS},
    )


RECIPES = {
    "codecontests": Recipe(
        repository="deepmind/code_contests",
        licence="CC-BY-4.0 (deepmind/code_contests; solutions by their authors on the contest sites)",
        patterns=("data/*.parquet",),
        splits=("train", *_TESTED_SPLITS),
        required=(*FIELDS, *_LABELS),
        task=_codecontests_task,
        split_per_file=True,
        columns=_columns,
        rows=_rows,
        row_of_json=_row_of_json,
    ),
    "mbpp": Recipe(
        repository="google-research-datasets/mbpp",
        licence="CC-BY-4.0 (google-research-datasets/mbpp)",
        patterns=("full/*.parquet",),
        splits=("train", "valid", "test"),
        required=mbpp.FIELDS,
        task=_mbpp_task,
    ),
    "humaneval": Recipe(
        repository="openai/openai_humaneval",
        licence="MIT (openai/human-eval)",
        patterns=("openai_humaneval/*.parquet",),
        splits=("test",),
        required=humaneval.FIELDS,
        task=_humaneval_task,
        columns=lambda split, settings: humaneval.FIELDS,
    ),
}
