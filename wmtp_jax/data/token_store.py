"""Tokenized records as memory-mapped columns: made at the first use of a file, opened in no time afterwards.

A store is a directory of .npy files and a manifest under $XDG_CACHE_HOME/wmtp_jax/tokens (by default ~/.cache). It is
there complete or not at all, and it proves itself: the manifest has a digest of itself, of the inputs (records file,
tokenizer, wording of the template, format) and of every column; the columns of numbers are compared with it at opening,
token ids when they are read, by a checksum per prompt and response. What does not match is made again.
"""

import dataclasses
import functools
import glob
import hashlib
import json
import os
import shutil
import sys
import tempfile
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wmtp_jax.data.build_store import TOKEN_COLUMNS, build_columns, npy_header
from wmtp_jax.data.errors import DataError
from wmtp_jax.data.records import Record, parse_record
from wmtp_jax.data.templates import render
from wmtp_jax.data.tokenizer import Tokenizer
from wmtp_jax.errors import FileError
from wmtp_jax.files import FileLock, atomic_directory, cache_directory, json_digest, os_errors_named, write_atomically
from wmtp_jax.jsonl import check_is_file, read_lines

_FORMAT = 1  # a store of another format is made again
_MANIFEST = "manifest.json"
# The identity of a records file: this many blocks of this many bytes, evenly spread, the first and the last among them.
_SAMPLED_BLOCKS, _SAMPLED_BYTES = 64, 4096
_PROBES = (Record("a", "b", "c", "d", None, {}), Record("a", "", "c", "d", None, {}))


@dataclasses.dataclass(frozen=True)
class TokenStore:
    """The tokens and labels of all records of a file, in its order.

    Attributes:
        columns: Per record: prompt int32 (number of its prompt), response_length int32, response_crc uint32,
            is_correct int8 (1, 0, or -1 for unknown), clean int8 (metadata.clean: 1, 0, or -1 where it says neither),
            problem int32 (number of `task_of` its id, in the order of appearance), difficulty int32 (position in
            `difficulty_names`), line_length int32 and line_crc uint32 (of its line in the file, line end included).
            Per distinct prompt: prompt_length int32, prompt_crc uint32. Per token: prompt_ids (BOS included) and
            response_ids (EOS included), uint16 or uint32; response_weights float32 when a record has weights.
        difficulty_names: All that occur, in the order of appearance; "" stands for records that name none.
        digest: SHA-256 of all columns.
        path: The records file; None when the records were never in one.
        directory: Of the columns; None in memory.
        task_ids: Of the records, when they are in memory.
    """

    columns: Mapping[str, np.ndarray]
    difficulty_names: tuple[str, ...]
    digest: str
    path: Path | None = None
    directory: Path | None = None
    task_ids: Sequence[str] | None = None

    def __len__(self) -> int:
        """The number of records."""
        return len(self.columns["prompt"])

    @property
    def has_weights(self) -> bool:
        """Whether any record gives weights."""
        return "response_weights" in self.columns

    def prompt_length(self, rows: np.ndarray | slice) -> np.ndarray:
        """int32, tokens of the records' prompts, BOS included."""
        return self.columns["prompt_length"][self.columns["prompt"][rows]]

    def read(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The ids of a record's prompt and response, and the response's weights, if there are any."""
        number = self.columns["prompt"][row]
        begin, end = self._prompt_offsets[number : number + 2].tolist()
        prompt, weights = self.columns["prompt_ids"][begin:end], None
        begin, end = self._response_offsets[row : row + 2].tolist()
        response = self.columns["response_ids"][begin:end]
        if self.has_weights:
            weights = self.columns["response_weights"][begin:end]
        if self.path is not None:
            checksum = zlib.crc32(response)
            if weights is not None:
                checksum = zlib.crc32(weights, checksum)
            if (
                checksum != self.columns["response_crc"][row]
                or zlib.crc32(prompt) != self.columns["prompt_crc"][number]
            ):
                raise self._damaged(row)
        return prompt, response, weights

    def records(self, rows: Iterable[int]) -> Iterator[Record]:
        """Reads the texts of records again.

        Args:
            rows: Numbers of the records, ascending; the file is read from the beginning to the last of them, or only
                where they are when it is not compressed.

        Raises:
            UserError: The file is gone, or a line is not the one that was tokenized.
        """
        for row, line in self._lines(rows):
            if line is None or zlib.crc32(line) != self.columns["line_crc"][row]:
                raise DataError(
                    f"{self.path}:{row + 1}: the line is not the one that was there when the file was tokenized; the "
                    "file changed or is damaged, so restore it, or start again to have it tokenized as it is now."
                )
            yield parse_record(line, f"{self.path}:{row + 1}")

    def _lines(self, rows: Iterable[int]) -> Iterator[tuple[int, bytes | None]]:
        if self.path.name.endswith(".gz"):
            lines = enumerate(read_lines(self.path))
            for row in rows:
                yield row, next((line for number, line in lines if number == row), None)
            return
        check_is_file(self.path, "the .jsonl file that was tokenized")
        with open(self.path, "rb", buffering=0) as file:
            for row in rows:
                begin, end = self._line_offsets[row : row + 2].tolist()
                yield row, os.pread(file.fileno(), end - begin, begin)

    def _damaged(self, row: int) -> DataError:
        if self.directory is not None:
            with os_errors_named(self.directory):  # a cache that cannot be written: the message says where it is
                (self.directory / _MANIFEST).unlink(missing_ok=True)  # so that the next start makes the store again
        return DataError(
            f"the stored tokens of {self.path}:{row + 1} are damaged; the next start makes them again, so start the "
            "same command again (and have the disk checked)."
        )

    @functools.cached_property
    def _prompt_offsets(self) -> np.ndarray:
        return offsets_of(self.columns["prompt_length"])

    @functools.cached_property
    def _response_offsets(self) -> np.ndarray:
        return offsets_of(self.columns["response_length"])

    @functools.cached_property
    def _line_offsets(self) -> np.ndarray:
        return offsets_of(self.columns["line_length"])


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """int64 [n + 1], where parts of these lengths begin and end."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def open_store(path: str | Path, tokenizer: Tokenizer, template: str) -> TokenStore:
    """The tokens of a file of records: those in the cache, or new ones.

    Where the cache cannot be written, they are made in a temporary directory, for this process alone.

    Args:
        path: A .jsonl or .jsonl.gz file of records.
        tokenizer: The model's tokenizer.
        template: Name of the prompt template.

    Raises:
        UserError: The file is missing, empty or changes meanwhile, or a line of it is no record.
    """
    path = Path(path)
    check_is_file(path, "a .jsonl or .jsonl.gz file")
    wording = hashlib.sha256("\0".join(render(record, template) for record in _PROBES).encode()).hexdigest()
    made_with = {"format": _FORMAT, "tokenizer": tokenizer.digest, "template": wording}
    inputs = made_with | _identity_of(path)
    cache = cache_directory() / "tokens"
    name = path.resolve().name
    directory = cache / f"{name}-{json_digest(inputs)[:16]}"
    if (store := _open(directory, path, inputs)) is not None:
        return store
    try:
        with os_errors_named(directory):
            cache.mkdir(parents=True, exist_ok=True)
            # One lock for all versions of a file, so that none of older versions are left.
            with FileLock(cache / f".{name}.lock", f"the token store of {name}", "wait until it is made", wait=True):
                if (store := _open(directory, path, inputs)) is None:
                    with atomic_directory(directory, replace=True) as partial:
                        _build(partial, path, tokenizer, template, inputs)
                    store = _open(directory, path, inputs)
                    _remove_outdated(directory, path, made_with)
    except FileError as error:
        if getattr(error.__cause__, "errno", None) is None:
            raise  # about the records, not about the cache
        print(f"warning: the tokens of {path} cannot be kept: {error}", file=sys.stderr)
    if store is None:
        with tempfile.TemporaryDirectory(prefix="wmtp-tokens-") as temporary, os_errors_named(temporary):
            _build(Path(temporary), path, tokenizer, template, inputs)
            # Open files stay until they are closed, without their names.
            store = dataclasses.replace(_open(Path(temporary), path, inputs), directory=None)
    return store


def _identity_of(path: Path) -> dict[str, Any]:
    """Tells a file from others without reading all of it; the time tells edits in place, which blocks may not see."""
    status = path.stat()
    state = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        last = max(status.st_size - _SAMPLED_BYTES, 0)
        for position in np.linspace(0, last, _SAMPLED_BLOCKS).astype(np.int64).tolist():
            state.update(os.pread(file.fileno(), _SAMPLED_BYTES, position))
    return {"size": status.st_size, "blocks_sha256": state.hexdigest(), "modified_ns": status.st_mtime_ns}


def _build(directory: Path, path: Path, tokenizer: Tokenizer, template: str, inputs: Mapping[str, Any]) -> None:
    columns, difficulty_names = build_columns(directory, path, tokenizer, template)
    if any(inputs[name] != value for name, value in _identity_of(path).items()):
        raise DataError(f"{path}: the file changed while it was tokenized; start again when it is complete.")
    manifest = {"source": str(path.resolve()), "inputs": inputs, "difficulty_names": difficulty_names}
    manifest["columns"] = columns
    write_atomically(directory / _MANIFEST, json.dumps(manifest | {"sha256": json_digest(manifest)}, indent=1) + "\n")


def _open(directory: Path, path: Path, inputs: Mapping[str, Any]) -> TokenStore | None:
    """The store of a directory, or None where there is none of these inputs, or a damaged one."""
    try:
        manifest = json.loads((directory / _MANIFEST).read_bytes())
        digest = manifest.pop("sha256")
        if digest != json_digest(manifest) or manifest["inputs"] != inputs:
            return None
        columns = {}
        for name, about in manifest["columns"].items():
            open_column = _FileColumn if name in TOKEN_COLUMNS else _map
            columns[name] = open_column(directory / f"{name}.npy", about)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    names = tuple(manifest["difficulty_names"])
    return TokenStore(columns, names, json_digest([manifest["columns"], names]), path, directory)


def _map(path: Path, about: Mapping[str, Any]) -> np.ndarray:
    column = _FileColumn(path, about)
    # Read, not mapped, so that what is not used afterwards takes no memory.
    if hashlib.file_digest(column.file, "sha256").hexdigest() != about["sha256"]:
        raise ValueError(f"{path}: damaged")
    return np.memmap(column.file, about["dtype"], "r", column.begin, (about["length"],)).view(np.ndarray)


class _FileColumn:
    """A column of which the slices are read that are asked for; a map would hold all that was ever read in memory."""

    def __init__(self, path: Path, about: Mapping[str, Any]):
        header = npy_header(about["dtype"], about["length"])
        self.file = open(path, "rb", buffering=0)  # noqa: SIM115 (open as long as the store is)
        weakref.finalize(self, self.file.close)
        self.begin, self._dtype = len(header), np.dtype(about["dtype"])
        size = self.begin + about["length"] * self._dtype.itemsize
        if self.file.read(self.begin) != header or os.fstat(self.file.fileno()).st_size != size:
            raise ValueError(f"{path}: damaged")

    def __getitem__(self, part: slice) -> np.ndarray:
        size = self._dtype.itemsize
        data = os.pread(self.file.fileno(), (part.stop - part.start) * size, self.begin + part.start * size)
        return np.frombuffer(data, self._dtype)


def _remove_outdated(directory: Path, path: Path, made_with: Mapping[str, Any]) -> None:
    """Removes stores of what the file held before, and what killed processes left of stores of files of this name."""
    name = glob.escape(path.resolve().name)
    for other in directory.parent.glob(f"{name}-{'?' * 16}.partial"):
        shutil.rmtree(other, ignore_errors=True)
    for other in directory.parent.glob(f"{name}-{'?' * 16}/{_MANIFEST}"):
        try:
            manifest = json.loads(other.read_bytes())
            same = manifest["source"] == str(path.resolve()) and made_with.items() <= manifest["inputs"].items()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if same and other.parent != directory:
            shutil.rmtree(other.parent, ignore_errors=True)
