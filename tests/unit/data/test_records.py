"""Every wrong file gives one sentence that names file, line and what was expected."""

import dataclasses
import gzip
import json
import re

import pytest

from wmtp_jax.data import Record, read_records
from wmtp_jax.errors import UserError

NAMES = ["instruction", "input", "output", "task_id", "is_correct", "metadata"]


def refusal(path) -> str:
    """What is said of a file that is not read."""
    with pytest.raises(UserError) as error:
        list(read_records(path))
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


def test_reads_every_field_in_order(write_jsonl, fields):
    second = {**fields, "input": "1 2", "is_correct": None, "task_id": "b"}
    third = {**fields, "is_correct": False, "metadata": {"tests": ["assert add(1, 2) == 3"]}}
    records = list(read_records(write_jsonl(fields, second, third)))
    assert records == [Record(**row) for row in (fields, second, third)]
    with pytest.raises(dataclasses.FrozenInstanceError):
        records[0].output = "x"


def test_gzip_and_windows_line_ends_read_the_same(tmp_path, write_jsonl, fields):
    """And a Unicode line separator does not end a line."""
    line = json.dumps({**fields, "output": "x = '\u2028'"}, ensure_ascii=False).encode()
    plain = write_jsonl(line, fields)
    packed, windows = tmp_path / "records.jsonl.gz", tmp_path / "windows.jsonl"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    windows.write_bytes(plain.read_bytes().replace(b"\n", b"\r\n"))
    expected = list(read_records(plain))
    assert [record.output for record in expected] == ["x = '\u2028'", fields["output"]]
    assert list(read_records(packed)) == list(read_records(windows)) == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *(({name: ...}, f"field '{name}' is missing; expected exactly the fields") for name in NAMES),
        ({"instruction": 3}, "field 'instruction' is the number 3; expected a string"),
        ({"input": None}, "field 'input' is null; expected a string"),
        ({"output": ["return a"]}, "field 'output' is an array; expected a string"),
        ({"task_id": 7}, "field 'task_id' is the number 7; expected a string"),
        ({"is_correct": 1}, "field 'is_correct' is the number 1; expected true, false or null"),
        ({"is_correct": "true"}, "field 'is_correct' is a string; expected true, false or null"),
        ({"metadata": "none"}, "field 'metadata' is a string; expected an object"),
        ({"outptu": "x"}, "unknown field 'outptu'"),
        ({"x" * 100_000: 1}, "unknown field 'xxx"),
        ({"metadata": {"difficulty": "\ud800"}}, "field 'metadata.difficulty' holds half of a surrogate pair"),
        ({"output": ""}, "field 'output' is empty"),
        ({"output": "  \n"}, "field 'output' is empty"),
        ({"instruction": ""}, "fields 'instruction' and 'input' are both empty"),
        ({"output": "x = '\ud800'"}, "field 'output' holds half of a surrogate pair"),
    ],
)
def test_a_wrong_field_is_named(write_jsonl, fields, change, said):
    """`...` leaves a field out."""
    row = {name: value for name, value in (fields | change).items() if value is not ...}
    path = write_jsonl(fields, row)
    assert refusal(path).startswith(f"{path}:2: {said}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"instruction": "a", ', "not valid JSON"),
        (b'{"instruction": "a"} {"instruction": "b"}', "not valid JSON (Extra data at column 22)"),
        (b"def add(a, b):", "not valid JSON"),
        (b'["instruction"]', "an array; expected a JSON object"),
        (b"null", "null; expected a JSON object"),
        (b"", "empty; expected a JSON object"),
        (b"   ", "empty; expected a JSON object"),
        (b'{"instruction": "\xff\xfe"}', "byte 18 is not valid UTF-8"),
        (b'{"output": "a", "output": "b"}', "duplicate key 'output'"),
        (b'{"metadata": {"score": NaN}}', "NaN is not a JSON number"),
        (b"[" * 100_000, "JSON nested too deeply"),
        (b"1" * 5_000, "not usable JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
    ],
)
def test_a_wrong_line_is_named(write_jsonl, fields, line, said):
    path = write_jsonl(fields, line, fields)
    assert refusal(path).startswith(f"{path}:2: {said}")
    records = read_records(path)
    assert next(records).task_id == fields["task_id"]  # what precedes the line is delivered


LENGTH = len("    return a + b\n")


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({}, "field 'weights' is an object; expected an array of [begin, end, weight]"),
        ([3], "weights[0] is 3; expected [begin, end, weight], a span of characters"),
        ([[0, 1]], "weights[0] is [0, 1]; expected [begin, end, weight]"),
        ([[0, 1, 1], [1, 2, 1, 1]], "weights[1] is [1, 2, 1, 1]; expected"),
        ([[1.0, 2, 1]], "weights[0] covers 1.0 to 2; expected whole numbers 0 <= begin < end <= 17"),
        ([[False, True, 1]], "weights[0] covers False to True"),
        ([["0", 2, 1]], "weights[0] covers '0' to 2"),
        ([[-1, 2, 1]], "weights[0] covers -1 to 2"),
        ([[2, 2, 1]], "weights[0] covers 2 to 2"),
        ([[3, 2, 1]], "weights[0] covers 3 to 2"),
        ([[0, LENGTH + 1, 1]], f"weights[0] covers 0 to {LENGTH + 1}; expected whole numbers 0 <= begin < end <= 17"),
        ([[0, 10**400, 1]], "weights[0] covers 0 to 1000"),
        ([[0, 4, 1], [3, 5, 1]], "weights[1] begins at 3, before the end 4 of the span before it"),
        ([[4, 5, 1], [0, 1, 1]], "weights[1] begins at 0, before the end 5"),
        ([[0, 1, -0.5]], "weights[0] has the weight -0.5; expected a finite number, 0 or more"),
        ([[0, 1, True]], "weights[0] has the weight True"),
        ([[0, 1, "1"]], "weights[0] has the weight '1'"),
        ([[0, 1, None]], "weights[0] has the weight None"),
        ([[0, 1, 10**400]], "weights[0] has the weight 1000"),
        ([[0, 1, 1e39]], "weights[0] has the weight 1e+39"),
    ],
)
def test_wrong_weights_are_named(write_jsonl, fields, weights, said):
    path = write_jsonl(fields, {**fields, "weights": weights})
    assert refusal(path).startswith(f"{path}:2: {said}")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_weights_are_finite(write_jsonl, fields, number):
    line = json.dumps({**fields, "weights": [[0, 1, 7]]}).replace("7]]", f"{number}]]").encode()
    assert re.search(r":1: .*(is not a JSON number|expected a finite number)", refusal(write_jsonl(line)))


@pytest.mark.parametrize(
    ("weights", "read"), [(None, None), ([], ()), ([[0, LENGTH, 0], [LENGTH - 1, LENGTH, 2.5]][1:], ((16, 17, 2.5),))]
)
def test_weights_are_optional(write_jsonl, fields, weights, read):
    absent, given = read_records(write_jsonl(fields, {**fields, "weights": weights}))
    assert (absent.weights, given.weights) == (None, read)


RECORD = b'{"instruction": "a", "input": "", "output": "b", "task_id": "%d", "is_correct": null, "metadata": {}}\n'
WHOLE = gzip.compress(b"".join(RECORD % i for i in range(500)))
HALF = len(WHOLE) // 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("records.jsonl", None, ": no such file; expected a .jsonl"),
        ("records.jsonl", ..., ": is a directory; expected a .jsonl"),
        ("records.csv", b"instruction,output\n", "; expected a name that ends in .jsonl or .jsonl.gz"),
        ("records.jsonl", b"", ": the file is empty"),
        ("records.jsonl.gz", WHOLE[:HALF], "the gzip stream is damaged or cut short"),
        ("records.jsonl.gz", WHOLE[:HALF] + bytes([WHOLE[HALF] ^ 0xFF]) + WHOLE[HALF + 1 :], ""),
        ("records.jsonl.gz", b"{}\n", ":1: the gzip stream is damaged"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, name, content, said):
    path = tmp_path / name
    if content is ...:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    text = refusal(path)
    assert text.startswith(f"{path}:")
    assert said in text
