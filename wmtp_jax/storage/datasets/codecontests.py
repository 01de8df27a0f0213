"""CodeContests in DeepMind's columns: programs that read standard input, right and wrong ones (CC-BY-4.0)."""

from collections.abc import Iterator, Mapping
from typing import Any

from wmtp_jax.storage.datasets.settings import Settings
from wmtp_jax.storage.datasets.task import Solution, Task
from wmtp_jax.storage.errors import StorageError

LICENCE = "CC-BY-4.0 (deepmind/code_contests; solutions by their authors on the contest sites)"
REPOSITORY = "deepmind/code_contests"
PATTERNS = ("data/*.parquet",)
SPLITS = ("train", "valid", "test")
TESTED_SPLITS = ("valid", "test")

PYTHON_2, PYTHON_3 = 1, 3
_LANGUAGES = {PYTHON_2: "python2", PYTHON_3: "python3"}
_LABELS = {"solutions": (True, "correct"), "incorrect_solutions": (False, "incorrect")}
_TESTS = ("public_tests", "private_tests", "generated_tests")
_LIMITS = ("difficulty", "cf_rating", "time_limit", "memory_limit_bytes")
REQUIRED = ("name", "description", *_LABELS, "public_tests")
# The numbers of the difficulty column; a letter is that of the problem in its Codeforces round.
_DIFFICULTIES = ("unknown", "easy", "medium", "hard", "harder", "hardest", "external", *"ABCDEFGHIJKLMNOPQRSTUV")


def columns(split: str, settings: Settings) -> tuple[str, ...]:
    """The columns that are read; the tests, most of the bytes, only where they are used."""
    tests = _TESTS if split in TESTED_SPLITS or settings.reexecute else _TESTS[:2]
    return ("name", "description", *_LABELS, *_LIMITS[:2], *tests, *(_LIMITS[2:] if split in TESTED_SPLITS else ()))


def rows(batch, settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows of an Arrow batch; programs in other languages never become Python objects.

    Args:
        batch: pyarrow.RecordBatch of `columns`.
        settings: Which languages are wanted.

    Yields:
        Dicts in which the two columns of solutions are lists of (number, language, text), numbered as in the source,
        and `other_language` counts what was passed over.
    """
    import pyarrow.compute as compute

    wanted = list(_wanted(settings))
    plain = batch.drop_columns([name for name in _LABELS if name in batch.schema.names]).to_pylist()
    for name in _LABELS:
        column = batch.column(name)
        language, text = column.field("language"), column.field("solution")
        for i, row in enumerate(plain):
            languages = language[i].values
            numbers = compute.indices_nonzero(compute.is_in(languages, value_set=_array(wanted, languages.type)))
            kept = zip(
                numbers.to_pylist(),
                languages.take(numbers).to_pylist(),
                text[i].values.take(numbers).to_pylist(),
                strict=True,
            )
            row[name] = list(kept)
            row["other_language"] = row.get("other_language", 0) + len(languages) - len(row[name])
    yield from plain


def rows_of_json(row: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The same of a JSON object with DeepMind's columns."""
    row = dict(row) | {"other_language": 0}
    for name in _LABELS:
        given = row[name] or {"language": [], "solution": []}
        both = list(zip(given["language"], given["solution"], strict=True))
        row[name] = [(i, language, text) for i, (language, text) in enumerate(both) if language in _wanted(settings)]
        row["other_language"] += len(both) - len(row[name])
    return row


def task(row: Mapping[str, Any], split: str, where: str, settings: Settings) -> Task:
    """One problem.

    Raises:
        StorageError: A column does not hold what CodeContests has in it.
    """
    name, description = row["name"], row["description"]
    if not isinstance(name, str) or not isinstance(description, str):
        raise StorageError(f"{where}: name and description are not text; expected the columns of {REPOSITORY}")
    cases = tuple(case for column in _TESTS for case in _cases(row.get(column), column, where))
    difficulty = row.get("difficulty")
    if isinstance(difficulty, int):
        difficulty = _DIFFICULTIES[difficulty] if 0 <= difficulty < len(_DIFFICULTIES) else str(difficulty)
    metadata = {"source": "codecontests", "difficulty": difficulty, "has_tests": bool(cases)}
    if row.get("cf_rating"):
        metadata["cf_rating"] = row["cf_rating"]
    solutions = [
        Solution(text, is_correct, f"{name}_{word}_{number}", {"language": _LANGUAGES[language]})
        for column, (is_correct, word) in _LABELS.items()
        for number, language, text in row[column]
    ]
    tests = None
    if split in TESTED_SPLITS and cases:
        tests = {column: row.get(column) for column in ("name", "description", *_TESTS, *_LIMITS)}
        # The evaluator measures the heads' losses on one solution.
        first = next((text for _, language, text in row["solutions"] if language == PYTHON_3), None)
        tests["solutions"] = {"language": [PYTHON_3] if first else [], "solution": [first] if first else []}
    return Task(
        split=split,
        instruction=description,
        input="",
        solutions=solutions,
        metadata=metadata,
        tests=tests,
        cases=cases,
        left_out={"other_language": row["other_language"]},
    )


def _wanted(settings: Settings) -> tuple[int, ...]:
    return (PYTHON_2, PYTHON_3) if settings.python_2 else (PYTHON_3,)


def _array(values: list[int], dtype):
    import pyarrow

    return pyarrow.array(values, dtype)


def _cases(column: Any, name: str, where: str) -> list[tuple[str, str]]:
    if column is None:
        return []
    try:
        return list(zip(column["input"], column["output"], strict=True))
    except (TypeError, KeyError, ValueError) as error:
        raise StorageError(
            f"{where}: {name} is not {{input: [texts], output: [as many]}}; expected the columns of {REPOSITORY}"
        ) from error
