"""Where each record of a JSONL file lies, and what sampling has to know of it, without reading the file again.

The index of DIR/NAME.jsonl is DIR/NAME.jsonl.index where a set-up left one; for any other file it is built at the first
use and kept in the cache directory. It belongs to a file by the file's size, the SHA-256 of blocks spread over it and
(in the cache) the time of its last change, which takes no time; every record that is read later is compared with its
own checksum, so that no record that changed since is trained on.
"""

import array
import dataclasses
import functools
import hashlib
import json
import operator
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wmtp_jax.data.columns import MappedColumns, map_columns, write_columns
from wmtp_jax.data.errors import DataError
from wmtp_jax.data.records import Record, parse_record, task_of
from wmtp_jax.jsonl import check_is_file as check_file

# The digest at opening: this many blocks of this many bytes, evenly spread, the first and the last among them.
_SAMPLED_BLOCKS, _SAMPLED_BYTES = 64, 4096
_READ_BYTES = 1 << 16
_LINES_PER_BLOCK = 128
# 2: an index of another form is made anew.
_FORM = 2
_DTYPES = {
    "length": np.int32,
    "checksum": np.uint32,
    "problem": np.int32,
    "difficulty": np.int32,
    "is_correct": np.int8,
    "clean": np.int8,
}
_LABELS = {True: 1, False: 0, None: -1}

FIELD_NAMES = ("instruction", "input", "output", "task_id", "is_correct", "metadata")
_SCAN = json.JSONDecoder().scan_once
_ALL_FIELDS = operator.itemgetter(*FIELD_NAMES)
_TYPES = [{str}, {str}, {str}, {str}, {bool, type(None)}, {dict}]
_KEPT = ("task_id", "is_correct", "metadata")


@dataclasses.dataclass(frozen=True)
class Index:
    """The records of one JSONL file.

    Attributes:
        path: The JSONL file.
        size: Its bytes.
        length: int32 [n], bytes of each line, without its end.
        checksum: uint32 [n], CRC-32 of each line, without its end.
        problem: int32 [n], number of the record's problem, counted in the order of appearance.
        difficulty: int32 [n], position in `difficulty_names`.
        difficulty_names: All that occur, in the order of appearance; "" stands for records that name none.
        is_correct: int8 [n]: 1, 0, or -1 for unknown.
        clean: int8 [n], metadata.clean: 1, 0, or -1 where it says neither.
        columns: What the arrays are views of.
    """

    path: Path
    size: int
    length: np.ndarray
    checksum: np.ndarray
    problem: np.ndarray
    difficulty: np.ndarray
    difficulty_names: tuple[str, ...]
    is_correct: np.ndarray
    clean: np.ndarray
    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        """The number of records."""
        return len(self.length)

    def release(self) -> None:
        """Gives the memory of columns that are not needed for some time back."""
        if isinstance(self.columns, MappedColumns):
            self.columns.release()

    def _begin(self, row: int) -> int:
        """Where a line begins."""
        block = row // _LINES_PER_BLOCK
        first = block * _LINES_PER_BLOCK
        return int(self._block_begins[block]) + int(self.length[first:row].sum(dtype=np.int64)) + row - first

    @functools.cached_property
    def _block_begins(self) -> np.ndarray:
        """int64, where every so many-th line begins: a hundredth of what the begins of all lines would take."""
        whole = len(self) // _LINES_PER_BLOCK
        sizes = self.length[: whole * _LINES_PER_BLOCK].reshape(whole, _LINES_PER_BLOCK).sum(axis=1, dtype=np.int64)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes + _LINES_PER_BLOCK)])

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the lengths and checksums of all lines, which tells the file from any other."""
        state = hashlib.sha256(f"{self.size}".encode())
        for column in (self.length, self.checksum):
            state.update(np.ascontiguousarray(column))
        self.release()
        return state.hexdigest()

    @functools.cached_property
    def _file(self):
        return open(self.path, "rb", buffering=0)

    def record(self, row: int) -> Record:
        """Reads and checks one record.

        Args:
            row: Its number, from 0.

        Returns:
            The record.

        Raises:
            DataError: The line is no record, or not the one that was indexed.
        """
        line = os.pread(self._file.fileno(), int(self.length[row]), self._begin(row))
        if zlib.crc32(line) != self.checksum[row]:
            raise DataError(
                f"{self.path}:{row + 1}: the line is not the one that was there when the file was indexed; the file "
                f"changed or is damaged, so restore it, or delete {index_path(self.path).name} beside it, if there is "
                "one, and start again to have it indexed as it is now."
            )
        return parse_record(line, f"{self.path}:{row + 1}")


def open_index(path: str | Path) -> Index:
    """The index of a plain JSONL file: the one beside it, or one built before, or a new one.

    Args:
        path: Of a .jsonl file.

    Returns:
        The index.

    Raises:
        DataError: The file is missing or empty, or a line of it is no record.
    """
    path = Path(path)
    check_file(path)
    identity = identity_of(path)
    # A file from elsewhere may be edited in place, where the sampled blocks do not see it.
    cached_identity = identity | {"modified_ns": path.stat().st_mtime_ns}
    cached = cache_file(path, f"{identity['blocks_sha256'][:16]}.index")
    for candidate, expected in ((index_path(path), identity), (cached, cached_identity)):
        if candidate.is_file():
            columns = map_columns(candidate)
            if columns.metadata.get("form") == _FORM and columns.metadata.get("identity") == expected:
                return _index(path, columns, columns.metadata)
    columns, metadata = build_index(path)
    metadata["identity"] = cached_identity
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_columns(cached, [columns], metadata)
    except OSError:
        return _index(path, columns, metadata)  # built anew by every start, where nothing can be kept
    columns = map_columns(cached)
    return _index(path, columns, columns.metadata)


def index_path(path: Path) -> Path:
    """Where a set-up leaves the index of a JSONL file."""
    return path.with_name(f"{path.name}.index")


def cache_file(path: Path, ending: str) -> Path:
    """Where something derived from a data file is kept: XDG_CACHE_HOME/wmtp_jax, by default ~/.cache/wmtp_jax."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "wmtp_jax" / f"{path.name}-{ending}"


def identity_of(path: Path) -> dict[str, Any]:
    """Tells a file from others without reading all of it.

    Returns:
        Its size, and the SHA-256 of 64 blocks that are spread over it (of the whole file where that is shorter).
    """
    size = path.stat().st_size
    state = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        for position in np.linspace(0, max(size - _SAMPLED_BYTES, 0), _SAMPLED_BLOCKS).astype(np.int64).tolist():
            state.update(os.pread(file.fileno(), _SAMPLED_BYTES, position))
    return {"size": size, "blocks_sha256": state.hexdigest()}


def index_metadata(path: Path, difficulty_names: list[str]) -> dict[str, Any]:
    """What an index states of its file.

    Args:
        path: Of the JSONL file, complete.
        difficulty_names: In the order of their numbers.

    Returns:
        The metadata of the index's columns.
    """
    return {"form": _FORM, "identity": identity_of(path), "difficulty_names": difficulty_names}


class RowColumns:
    """The index's columns, as lines are written or read.

    Attributes:
        problems: Name of each problem to its number.
        difficulties: Name of each difficulty to its number.
    """

    def __init__(self):
        """Starts at the beginning of a file."""
        self.problems: dict[str, int] = {}
        self.difficulties: dict[str, int] = {}
        self._problem_of_prefix: dict[str, int] = {}
        self._columns = {name: array.array(np.dtype(dtype).char) for name, dtype in _DTYPES.items()}

    def add(
        self,
        lines: Sequence[bytes],
        task_ids: Sequence[str],
        labels: Sequence[bool | None],
        metadata: Sequence[Mapping[str, Any]],
    ) -> None:
        """Takes the next lines of the file, and what stands in them.

        Args:
            lines: Their bytes, without line ends.
            task_ids: Of each line.
            labels: is_correct of each line.
            metadata: Of each line.
        """
        named = [fields.get("difficulty") for fields in metadata]
        names = ["" if name is None else str(name) for name in named]
        number = self.difficulties.setdefault
        clean = [fields.get("clean") for fields in metadata]
        for name, values in {
            "length": map(len, lines),
            "checksum": map(zlib.crc32, lines),
            "problem": map(self._problem, task_ids),
            "difficulty": [number(name, len(self.difficulties)) for name in names],
            "is_correct": map(_LABELS.__getitem__, labels),
            "clean": [_LABELS[value] if type(value) is bool else -1 for value in clean],
        }.items():
            self._columns[name].extend(values)

    def _problem(self, task_id: str) -> int:
        # Most problems have many solutions: one look-up of all but the solution's number.
        prefix, _, solution = task_id.rpartition("_")
        found = self._problem_of_prefix.get(prefix) if solution.isdecimal() else None
        if found is None:
            name = task_of(task_id)
            found = self.problems.setdefault(name, len(self.problems))
            if name != task_id:
                self._problem_of_prefix[prefix] = found
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """The columns so far."""
        return {name: np.frombuffer(column, column.typecode) for name, column in self._columns.items()}


def build_index(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads a JSONL file once.

    Args:
        path: Of the file.

    Returns:
        The columns and the metadata of its index.

    Raises:
        DataError: The file is empty, or a line of it is no record.
    """
    columns, row = RowColumns(), 0
    with open(path, "rb", buffering=0) as file:
        for block in _whole_lines(file):
            lines = block.removesuffix(b"\n").split(b"\n")
            columns.add(lines, *_read_fast(block, len(lines)) or _read_carefully(lines, path, row))
            row += len(lines)
    if not row:
        raise DataError(f"{path}: the file is empty; expected one JSON object per line.")
    return columns.arrays(), index_metadata(path, list(columns.difficulties))


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """The file in blocks that end where a line does, but for the last."""
    rest = b""
    while block := file.read(_READ_BYTES):
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = block[end:]
        else:
            rest += block
    if rest:
        yield rest


def _read_fast(block: bytes, n_lines: int) -> tuple[tuple, tuple, tuple] | None:
    """task_id, is_correct and metadata of a block's lines; None when something is unusual about one of them.

    The parser runs through the block without cutting it into lines, and types are checked by column; together this
    makes up for the checksums.
    """
    try:
        text, position, parsed = block.decode(), 0, []
        while position < len(text):
            fields, end = _SCAN(text, position)
            if text[end : end + 1] not in ("\n", ""):
                return None
            parsed.append(fields)
            position = end + 1
        columns = list(zip(*map(_ALL_FIELDS, parsed), strict=True))
    except (ValueError, KeyError, TypeError, StopIteration, RecursionError):
        return None
    exact = len(parsed) == n_lines and set(map(len, parsed)) == {len(FIELD_NAMES)}
    typed = all(set(map(type, column)) <= types for column, types in zip(columns, _TYPES, strict=True))
    return tuple(columns[FIELD_NAMES.index(name)] for name in _KEPT) if exact and typed else None


def _read_carefully(lines: list[bytes], path: Path, row: int) -> tuple[tuple, ...]:
    """The slow way, which says what is wrong and where."""
    records = [parse_record(line, f"{path}:{row + i}") for i, line in enumerate(lines, start=1)]
    return tuple(zip(*[(r.task_id, r.is_correct, r.metadata) for r in records], strict=True))


def _index(path: Path, columns: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> Index:
    return Index(
        path=path,
        size=metadata["identity"]["size"],
        difficulty_names=tuple(metadata["difficulty_names"]),
        **{name: columns[name] for name in _DTYPES},
        columns=columns,
    )
