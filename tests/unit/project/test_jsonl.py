"""JSON is read strictly, and every refusal names file, line and remedy."""

import gzip
import json
import math
import time

import pytest

from wmtp_jax.errors import FileError, shown
from wmtp_jax.jsonl import parse_object, read_object, read_objects


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_objects_with_their_lines(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    (gzip.open if ending.endswith("gz") else open)(path, "wb").write(b'{"a": 1}\n{"b": "\xc3\xa9"}')
    assert list(read_objects(path)) == [(f"{path}:1", {"a": 1}), (f"{path}:2", {"b": "é"})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", r"a\.jsonl:2: empty; expected a JSON object"),
        (b"{", r"a\.jsonl:2: not valid JSON \(.* at column 2\)"),
        (b'{"a": 1, "a": 2}', "duplicate key 'a'"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b"\xff{}", "byte 1 is not valid UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "not usable JSON"),
        (b"[1]", "an array; expected a JSON object"),
        (b"true", "true; expected a JSON object"),
    ],
)
def test_refusals(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n" + line + b"\n")
    with pytest.raises(FileError, match=message) as error:
        list(read_objects(path))
    assert len(str(error.value)) < 300 + len(str(path))


def test_files_that_are_not_there_empty_or_cut(tmp_path):
    for name, content, message in [
        ("none.jsonl", None, "no such file"),
        ("empty.jsonl", b"", "the file is empty"),
        ("a.txt", b"{}", "unknown kind of file"),
        ("cut.jsonl.gz", gzip.compress(b"{}\n" * 1000)[:-9], "damaged or cut short"),
    ]:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(FileError, match=message):
            list(read_objects(tmp_path / name))
    with pytest.raises(FileError, match="is a directory"):
        read_object(tmp_path)


def test_a_file_that_grows_line_by_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"")
    assert list(read_objects(path, appended=True)) == []
    path.write_bytes(b'{"a": 1}\n{"b"')
    assert [entry for _, entry in read_objects(path, appended=True)] == [{"a": 1}]


def test_one_long_line_is_read_in_linear_time(tmp_path):
    seconds = []
    for megabytes in (4, 16):
        path = tmp_path / f"{megabytes}.jsonl"
        path.write_text(json.dumps({"a": "x" * (megabytes << 20)}))
        start = time.process_time()
        list(read_objects(path))
        seconds.append(time.process_time() - start)
    assert seconds[1] < 10 * max(seconds[0], 0.01)


@pytest.mark.parametrize("value", ["x" * 10**6, b"x" * 10**6, list(range(10**5)), 10**5000], ids=type)
def test_long_values_are_cut_in_messages(value):
    assert len(shown(value)) <= 80
    assert shown("short") == "'short'"


def test_infinity_is_read_where_it_is_allowed():
    assert parse_object('{"a": [-Infinity, 1]}', "x", allow_infinity=True) == {"a": [-math.inf, 1]}
