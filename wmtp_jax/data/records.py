"""JSONL files of instruction/solution records, checked one by one."""

import dataclasses
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from wmtp_jax.data.errors import DataError


@dataclasses.dataclass(frozen=True)
class Record:
    """One solution of one task.

    Attributes:
        instruction: The task, or the beginning of the program.
        input: Further input of the task; empty when there is none.
        output: The solution; follows the rendered prompt.
        task_id: Name of the task, or of this solution of it.
        is_correct: Whether the solution passes its tests; None when nobody has said.
        metadata: Anything else (source, difficulty, has_tests, tests, clean, ...).
    """

    instruction: str
    input: str
    output: str
    task_id: str
    is_correct: bool | None
    metadata: dict[str, Any]


_SOLUTION = re.compile(r"_(?:in)?correct_\d+$")

# Field name -> (accepted types, how the message calls them).
_FIELDS = {
    "instruction": ((str,), "a string"),
    "input": ((str,), "a string"),
    "output": ((str,), "a string"),
    "task_id": ((str,), "a string"),
    "is_correct": ((bool, type(None)), "true, false or null"),
    "metadata": ((dict,), "an object"),
}
FIELD_NAMES = tuple(_FIELDS)
_EXPECTED = "expected exactly the fields " + ", ".join(_FIELDS)


def task_of(task_id: str) -> str:
    """A record's problem.

    Args:
        task_id: The record's task id.

    Returns:
        The id without the `_correct_N` or `_incorrect_N` of one solution.
    """
    return _SOLUTION.sub("", task_id)


def read_records(path: str | Path) -> Iterator[Record]:
    """Reads a `.jsonl` or `.jsonl.gz` file record by record; line i of the file is the i-th record.

    Args:
        path: The file: UTF-8, one JSON object per line, every field of `Record` present and no other.

    Yields:
        The records in the order of the file.

    Raises:
        DataError: At the first line that is not such a record, or when the file is missing, empty or cut short.
    """
    path = Path(path)
    line_number = 0
    with _open(path) as file:
        lines = iter(file)
        while True:
            try:
                line = next(lines)
            except StopIteration:
                break
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise DataError(
                    f"{path}:{line_number + 1}: the gzip stream is damaged or cut short ({error}); "
                    "copy or build the file again."
                ) from error
            line_number += 1
            yield parse_record(line, f"{path}:{line_number}")
    if line_number == 0:
        raise DataError(f"{path}: the file is empty; expected one JSON object per line.")


def parse_record(line: bytes, where: str) -> Record:
    """Checks one line of a JSONL file and turns it into a record.

    Args:
        line: The bytes of the line, with or without its line end.
        where: "FILE:LINE", the beginning of every message.

    Returns:
        The record.

    Raises:
        DataError: The line is not UTF-8, not one JSON object, or not of the record's fields and types.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: byte {error.start + 1} of the line is not valid UTF-8; save the file as UTF-8."
        ) from error
    if not text.strip():
        raise DataError(f"{where}: the line is empty; expected one JSON object per line, so remove it.")
    try:
        fields = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not valid JSON ({error.msg} at column {error.colno}); expected one whole JSON object per line."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not usable JSON ({error}); expected one plain JSON object per line.") from error
    if not isinstance(fields, dict):
        raise DataError(
            f"{where}: the line holds {_json_name(fields)}; expected a JSON object with the record's fields."
        )
    _check_fields(fields, where)
    return Record(**fields)


def check_file(path: Path) -> None:
    """Refuses a path where no file is."""
    if not path.is_file():
        kind = "is not a file" if path.exists() else "does not exist"
        raise DataError(f"{path}: {kind}; expected a .jsonl or .jsonl.gz file of records, check the path.")


def _open(path: Path) -> BinaryIO:
    check_file(path)
    if path.name.endswith(".jsonl.gz"):
        return gzip.open(path, "rb")
    if path.name.endswith(".jsonl"):
        return path.open("rb")
    raise DataError(f"{path}: unknown kind of file; expected a name that ends in .jsonl or .jsonl.gz.")


def _check_fields(fields: dict[str, Any], where: str) -> None:
    for name, (types, expected) in _FIELDS.items():
        if name not in fields:
            raise DataError(f"{where}: field '{name}' is missing; {_EXPECTED}.")
        if not isinstance(fields[name], types):
            raise DataError(f"{where}: field '{name}' is {_json_name(fields[name])}; expected {expected}.")
    unknown = sorted(fields.keys() - _FIELDS.keys())
    if unknown:
        raise DataError(f"{where}: unknown field '{unknown[0]}'; {_EXPECTED} (anything else belongs into metadata).")
    for name in ("instruction", "input", "output", "task_id"):
        if not _is_encodable(fields[name]):
            raise DataError(
                f"{where}: field '{name}' holds half of a surrogate pair (\\ud800-\\udfff), which is no character; "
                "write the character itself or both halves."
            )
    if not fields["output"].strip():
        raise DataError(f"{where}: field 'output' is empty; expected a solution, so fill or remove the record.")
    if not (fields["instruction"] or fields["input"]):
        raise DataError(f"{where}: fields 'instruction' and 'input' are both empty; expected a task to solve.")


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field '{twice}' appears twice")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _json_name(value: Any) -> str:
    """What a JSON author would call the value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, int | float):
        return f"the number {value}"
    return "an array" if isinstance(value, list) else "an object"
