"""JSON objects from files, read strictly: whole files, or one object per line (.jsonl, .jsonl.gz)."""

import collections
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from wmtp_jax.errors import FileError, shown
from wmtp_jax.files import os_errors_named

_LARGEST_FILE = 64 << 20


def parse_object(text: bytes | str, where: str, *, allow_infinity: bool = False) -> dict[str, Any]:
    """One JSON object: UTF-8, no duplicate keys, no NaN or infinity unless allowed.

    Args:
        text: of the object, with or without a line end.
        where: "FILE" or "FILE:LINE", the beginning of every message.
        allow_infinity: accepts NaN, Infinity and -Infinity, which Python writes though JSON has none.

    Raises:
        FileError: it is not one; the message says what it is instead.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            (name, _), *_ = collections.Counter(name for name, _ in pairs).most_common(1)
            raise FileError(f"{where}: duplicate key {shown(name)}; keep one of them")
        return fields

    def refuse(constant: str) -> None:
        raise FileError(f"{where}: {constant} is not a JSON number; write a finite number or null")

    try:
        text = (text.decode("utf-8") if isinstance(text, bytes) else text).strip()
        if not text:
            raise FileError(f"{where}: empty; expected a JSON object")
        fields = json.loads(text, object_pairs_hook=unique, parse_constant=None if allow_infinity else refuse)
    except UnicodeDecodeError as error:
        raise FileError(f"{where}: byte {error.start + 1} is not valid UTF-8; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise FileError(
            f"{where}: not valid JSON ({error.msg} at column {error.colno}); expected one whole JSON object"
        ) from error
    except RecursionError as error:
        raise FileError(f"{where}: JSON nested too deeply; expected one plain JSON object") from error
    except ValueError as error:
        raise FileError(f"{where}: not usable JSON ({str(error)[:100]}); expected one plain JSON object") from error
    if not isinstance(fields, dict):
        raise FileError(f"{where}: {json_name(fields)}; expected a JSON object")
    return fields


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds, such as a config or an index.

    Raises:
        FileError: no such file, larger than 64 MiB, or not a JSON object.
    """
    check_is_file(path)
    if path.stat().st_size > _LARGEST_FILE:
        raise FileError(f"{path}: larger than {_LARGEST_FILE >> 20} MiB; expected a small JSON file")
    with os_errors_named(path):
        content = path.read_bytes()
    return parse_object(content, str(path))


def read_objects(
    path: str | Path, *, appended: bool = False, allow_infinity: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a .jsonl or .jsonl.gz file, one per line.

    Args:
        path: of the file.
        appended: the file grows line by line: a last line without its line end was cut off and is left out, and an
            empty file is allowed.
        allow_infinity: as for `parse_object`.

    Yields:
        ("FILE:LINE", object) in the order of the file; lines count from 1.

    Raises:
        FileError: no such file, an empty one, a damaged gzip stream, or a line that is no JSON object.
    """
    empty = True
    for number, line in enumerate(read_lines(path), start=1):
        empty = False
        if appended and not line.endswith(b"\n"):
            return
        yield f"{path}:{number}", parse_object(line, f"{path}:{number}", allow_infinity=allow_infinity)
    if empty and not appended:
        raise FileError(f"{path}: the file is empty; expected one JSON object per line")


def read_lines(path: str | Path) -> Iterator[bytes]:
    """The lines of a .jsonl or .jsonl.gz file, line ends included.

    Raises:
        FileError: no such file, another kind of file, or a gzip stream that is damaged or cut short.
    """
    number = 0
    with _open(Path(path)) as file:
        try:
            for line in file:
                number += 1
                yield line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FileError(
                f"{path}:{number + 1}: the gzip stream is damaged or cut short ({error}); copy or make the file again"
            ) from error
        except OSError as error:
            # Without its cause: this is about the file's content, not about a place to write to.
            raise FileError(f"{path}:{number + 1}: cannot be read ({error.strerror}); copy the file again") from None


def fields_of(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every field of nested mappings: {"a": {"b": 1}} gives ("a.b", 1)."""
    for name, value in record.items():
        if hasattr(value, "items") and value:  # a dict or a ConfigDict; an empty one is a field of its own
            yield from fields_of(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def check_is_file(path: Path, expected: str = "a file") -> None:
    """Raises FileError where there is no file."""
    if not path.is_file():
        found = "is a directory" if path.is_dir() else "is not a file" if path.exists() else "no such file"
        raise FileError(f"{path}: {found}; expected {expected}, check the path")


def json_name(value: Any) -> str:
    """What a JSON author would call a value: "null", "true", "a string", "the number 3", "an array", "an object"."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, int | float):
        return f"the number {shown(value, 30)}"
    return "an array" if isinstance(value, list) else "an object"


def _open(path: Path) -> BinaryIO:
    check_is_file(path, "a .jsonl or .jsonl.gz file")
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise FileError(f"{path}: unknown kind of file; expected a name that ends in .jsonl or .jsonl.gz")
    with os_errors_named(path):
        return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")
