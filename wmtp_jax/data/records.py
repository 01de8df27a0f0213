"""JSONL files of instruction/solution records, checked one by one."""

import dataclasses
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wmtp_jax.data.errors import DataError
from wmtp_jax.errors import shown
from wmtp_jax.jsonl import json_name, parse_object, read_objects


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
        weights: (begin, end, weight) of spans of `output`, in Unicode code points, in order and without overlap;
            characters outside weigh 1. None when the record gives no weights.
    """

    instruction: str
    input: str
    output: str
    task_id: str
    is_correct: bool | None
    metadata: dict[str, Any]
    weights: tuple[tuple[int, int, float], ...] | None = None

    @property
    def difficulty(self) -> str:
        """metadata.difficulty as text; empty when there is none."""
        difficulty = self.metadata.get("difficulty")
        return "" if difficulty is None else str(difficulty)


UNKNOWN = -1  # the label of a record in a column of numbers where nobody has said
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
_OPTIONAL = {"weights"}
_EXPECTED = "expected exactly the fields " + ", ".join(_FIELDS) + " and, if wanted, weights"
_LARGEST = 3e38  # of float32, which batches hold
_SPAN = "[begin, end, weight], a span of characters of the output and a finite number, 0 or more"


def task_of(task_id: str) -> str:
    """A record's problem: its task id without the `_correct_N` or `_incorrect_N` of one solution."""
    return _SOLUTION.sub("", task_id)


def read_records(path: str | Path) -> Iterator[Record]:
    """Reads a `.jsonl` or `.jsonl.gz` file record by record; line i of the file is the i-th record.

    Each line is a JSON object with every field of `Record` (but for weights, which is optional) and no other.

    Raises:
        UserError: At the first line that is not such a record, or when the file is missing, empty or cut short.
    """
    for where, fields in read_objects(path):
        yield _record(fields, where)


def parse_record(line: bytes, where: str) -> Record:
    """The record that a line of a JSONL file holds.

    Raises:
        UserError: The line is not UTF-8, not one JSON object, or not of the record's fields and types; the message
            begins with `where`, "FILE:LINE".
    """
    return _record(parse_object(line, where), where)


def _record(fields: dict[str, Any], where: str) -> Record:
    for name, (types, expected) in _FIELDS.items():
        if name not in fields:
            raise DataError(f"{where}: field '{name}' is missing; {_EXPECTED}.")
        if not isinstance(fields[name], types):
            raise DataError(f"{where}: field '{name}' is {json_name(fields[name])}; expected {expected}.")
    unknown = sorted(fields.keys() - _FIELDS.keys() - _OPTIONAL)
    if unknown:
        raise DataError(
            f"{where}: unknown field {shown(unknown[0])}; {_EXPECTED} (anything else belongs into metadata)."
        )
    record = Record(**(fields | {"weights": _weights(fields, where)}))
    for name in ("instruction", "input", "output", "task_id", "metadata.difficulty"):
        try:
            (record.difficulty if name == "metadata.difficulty" else fields[name]).encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(
                f"{where}: field '{name}' holds half of a surrogate pair (\\ud800-\\udfff), which is no character; "
                "write the character itself or both halves."
            ) from None
    if not record.output.strip():
        raise DataError(f"{where}: field 'output' is empty; expected a solution, so fill or remove the record.")
    if not (record.instruction or record.input):
        raise DataError(f"{where}: fields 'instruction' and 'input' are both empty; expected a task to solve.")
    return record


def _weights(fields: dict[str, Any], where: str) -> tuple[tuple[int, int, float], ...] | None:
    spans, last, length = fields.get("weights"), 0, len(fields["output"])
    if spans is None:
        return None
    if not isinstance(spans, list):
        raise DataError(f"{where}: field 'weights' is {json_name(spans)}; expected an array of {_SPAN}.")
    for i, span in enumerate(spans):
        if not (isinstance(span, list) and len(span) == 3):
            raise DataError(f"{where}: weights[{i}] is {shown(span)}; expected {_SPAN}.")
        begin, end, weight = span
        if not (type(begin) is type(end) is int and 0 <= begin < end <= length):
            raise DataError(
                f"{where}: weights[{i}] covers {shown(begin)} to {shown(end)}; expected whole numbers "
                f"0 <= begin < end <= {length}, the length of the output in characters."
            )
        if begin < last:
            raise DataError(
                f"{where}: weights[{i}] begins at {begin}, before the end {last} of the span before it; expected "
                "spans in order and without overlap."
            )
        if type(weight) not in (int, float) or not 0 <= weight <= _LARGEST or math.isnan(weight):
            raise DataError(
                f"{where}: weights[{i}] has the weight {shown(weight)}; expected a finite number, 0 or more."
            )
        last = end
    return tuple((begin, end, float(weight)) for begin, end, weight in spans)
