"""Every wrong file gives one sentence that names file, line and what was expected."""

import dataclasses
import gzip
import json

import pytest

from wmtp_jax.data import Record, read_records
from wmtp_jax.errors import UserError


def one_sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert isinstance(error.value, UserError)
    assert "\n" not in text
    assert len(text) < 500
    return text


def test_reads_every_field_in_order(write_jsonl, fields):
    second = {**fields, "input": "1 2", "is_correct": None, "task_id": "b"}
    third = {**fields, "is_correct": False, "metadata": {"tests": ["assert add(1, 2) == 3"]}}
    assert list(read_records(write_jsonl(fields, second, third))) == [Record(**row) for row in (fields, second, third)]


def test_gzip_and_windows_line_ends_read_the_same(tmp_path, write_jsonl, fields):
    plain = write_jsonl(fields, fields)
    packed = tmp_path / "records.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    windows = tmp_path / "windows.jsonl"
    windows.write_bytes(plain.read_bytes().replace(b"\n", b"\r\n"))
    expected = list(read_records(plain))
    assert list(read_records(packed)) == expected
    assert list(read_records(windows)) == expected


def test_a_unicode_line_separator_does_not_end_a_line(tmp_path, fields):
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps({**fields, "output": "x = '\u2028'"}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [record.output for record in read_records(path)] == ["x = '\u2028'"]


def test_records_cannot_be_changed(record):
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.output = "x"


@pytest.mark.parametrize("name", ["instruction", "input", "output", "task_id", "is_correct", "metadata"])
def test_a_missing_field_is_named(write_jsonl, fields, name):
    bad = {key: value for key, value in fields.items() if key != name}
    path = write_jsonl(fields, fields, bad)
    with pytest.raises(UserError) as error:
        list(read_records(path))
    assert one_sentence(error).startswith(f"{path}:3: field '{name}' is missing; expected exactly the fields")


@pytest.mark.parametrize(
    ("change", "said"),
    [
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
        ({"instruction": ""}, "'instruction' and 'input' are both empty"),
        ({"output": "x = '\ud800'"}, "field 'output' holds half of a surrogate pair"),
    ],
)
def test_a_wrong_field_is_named(write_jsonl, fields, change, said):
    path = write_jsonl(fields, {**fields, **change})
    with pytest.raises(UserError) as error:
        list(read_records(path))
    assert one_sentence(error).startswith(f"{path}:2: ")
    assert said in str(error.value)


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
    with pytest.raises(UserError) as error:
        list(read_records(path))
    assert one_sentence(error).startswith(f"{path}:2: ")
    assert said in str(error.value)


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
    with pytest.raises(UserError) as error:
        list(read_records(path))
    assert one_sentence(error).startswith(f"{path}:2: {said}")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_weights_are_finite(write_jsonl, fields, number):
    line = json.dumps({**fields, "weights": [[0, 1, 7]]}).replace("7]]", f"{number}]]").encode()
    with pytest.raises(UserError, match=r":1: .*(is not a JSON number|expected a finite number)"):
        list(read_records(write_jsonl(line)))


@pytest.mark.parametrize(
    ("weights", "read"), [(None, None), ([], ()), ([[0, LENGTH, 0], [LENGTH - 1, LENGTH, 2.5]][1:], ((16, 17, 2.5),))]
)
def test_weights_are_optional(write_jsonl, fields, weights, read):
    absent, given = read_records(write_jsonl(fields, {**fields, "weights": weights}))
    assert (absent.weights, given.weights) == (None, read)


def test_records_before_the_bad_line_are_delivered(write_jsonl, fields):
    records = read_records(write_jsonl(fields, b"{"))
    assert next(records).task_id == fields["task_id"]
    with pytest.raises(UserError, match=":2: "):
        next(records)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl: no such file; expected a \.jsonl"):
        list(read_records(tmp_path / "none.jsonl"))


def test_a_directory(tmp_path):
    with pytest.raises(UserError, match=r"is a directory; expected a \.jsonl"):
        list(read_records(tmp_path))


def test_another_kind_of_file(tmp_path):
    (tmp_path / "records.csv").write_text("instruction,output\n")
    with pytest.raises(UserError, match=r"expected a name that ends in \.jsonl or \.jsonl\.gz"):
        list(read_records(tmp_path / "records.csv"))


def test_an_empty_file(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match=r"empty\.jsonl: the file is empty"):
        list(read_records(tmp_path / "empty.jsonl"))


def test_a_truncated_gzip(tmp_path, fields):
    whole = gzip.compress(b"".join(json.dumps({**fields, "task_id": str(i)}).encode() + b"\n" for i in range(500)))
    path = tmp_path / "records.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    records = read_records(path)
    with pytest.raises(UserError) as error:
        list(records)
    assert "the gzip stream is damaged or cut short" in one_sentence(error)
    assert str(error.value).startswith(f"{path}:")


def test_a_flipped_byte_in_a_gzip(tmp_path, fields):
    whole = bytearray(gzip.compress(json.dumps(fields).encode() * 50))
    whole[len(whole) // 2] ^= 0xFF
    path = tmp_path / "records.jsonl.gz"
    path.write_bytes(whole)
    with pytest.raises(UserError):
        list(read_records(path))


def test_plain_text_named_gz(tmp_path, fields):
    path = tmp_path / "records.jsonl.gz"
    path.write_text(json.dumps(fields) + "\n")
    with pytest.raises(UserError, match=":1: the gzip stream is damaged"):
        list(read_records(path))
