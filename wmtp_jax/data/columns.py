"""Columns of numbers in one file, mapped into memory: large data are opened in no time and read where they are used."""

import json
import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wmtp_jax.data.errors import DataError

Columns = Mapping[str, np.ndarray]

# The file is in the safetensors format, whose metadata are strings.
_DTYPES = {"I64": "<i8", "I32": "<i4", "U32": "<u4", "I8": "|i1"}
_NAMES = {name: code for code, name in _DTYPES.items()}
_METADATA = "wmtp"


def write_columns(path: Path, parts: Sequence[Columns], metadata: Mapping[str, Any]) -> None:
    """Writes columns, which appear complete or not at all.

    Args:
        path: Of the file.
        parts: Each holds some rows of every column, [rows] each; one part after the other is the whole.
        metadata: Plain JSON values.
    """
    dtypes = {name: column.dtype for name, column in parts[0].items()}
    rows = sum(len(next(iter(part.values()))) for part in parts)
    header: dict[str, Any] = {_METADATA: json.dumps(metadata)}
    header, end = {"__metadata__": header}, 0
    # Widest first, so that every column starts at a multiple of its width.
    names = sorted(dtypes, key=lambda name: -dtypes[name].itemsize)
    for name in names:
        begin, end = end, end + rows * dtypes[name].itemsize
        header[name] = {"dtype": _NAMES[dtypes[name].str], "shape": [rows], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in names:
                for part in parts:
                    file.write(np.ascontiguousarray(part[name]))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class MappedColumns(dict[str, np.ndarray]):
    """Columns of a file, read from disk as they are used.

    Attributes:
        metadata: What was written with them.
    """

    def __init__(self, columns: Columns, metadata: dict[str, Any], mapped: mmap.mmap):
        """Takes arrays over a mapped file."""
        super().__init__(columns)
        self.metadata = metadata
        self._mapped = mapped

    def release(self) -> None:
        """Gives the memory of what was read back; it is read again when it is used again."""
        self._mapped.madvise(mmap.MADV_DONTNEED)


def map_columns(path: Path) -> MappedColumns:
    """Opens a file of `write_columns`.

    Args:
        path: Of the file.

    Returns:
        The columns, read-only.

    Raises:
        DataError: The file is not one of these, or cut short.
    """
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size = struct.unpack_from("<Q", mapped)[0]
        header = json.loads(mapped[8 : 8 + size])
        metadata = json.loads(header.pop("__metadata__")[_METADATA])
        columns = {
            name: np.frombuffer(mapped, _DTYPES[entry["dtype"]], entry["shape"][0], 8 + size + entry["data_offsets"][0])
            for name, entry in header.items()
        }
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise DataError(f"{path}: not a file of columns, or a damaged one; delete it to have it made again.") from error
    return MappedColumns(columns, metadata, mapped)
