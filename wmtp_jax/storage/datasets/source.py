"""Source files and the units of work that they are cut into: row groups of parquet, stretches of JSONL."""

import contextlib
import dataclasses
import fnmatch
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wmtp_jax.storage.datasets.settings import Settings
from wmtp_jax.storage.errors import StorageError

_ENDINGS = (".parquet", ".jsonl", ".jsonl.gz")
_SPLIT = re.compile(r"(train|valid|test)(?:ation)?\b|(train|valid|test)(?:ation)?[-_.]")
_JSONL_BYTES = 16 << 20
# Rows of parquet in memory at a time; a problem of CodeContests has up to some thousand solutions.
_ROWS_AT_ONCE = 4


@dataclasses.dataclass(frozen=True)
class Unit:
    """What one worker does at a time.

    Attributes:
        path: The source file.
        split: Of all its rows; "" where the rows say it.
        part: Row group of a parquet file; first byte of a stretch of a .jsonl file; 0 for a whole .jsonl.gz file.
        bytes: About how much of the source it is.
    """

    path: Path
    split: str
    part: int
    bytes: int


def find_files(paths: Sequence[Path], patterns: Sequence[str] = ()) -> list[Path]:
    """The source files among paths and in directories.

    Args:
        paths: Files and directories.
        patterns: Of the paths in a repository; in a directory with such files, which is a copy of it, no others count.

    Raises:
        StorageError: A path does not exist, nothing is found, or a download is not finished.
    """
    found = []
    for path in paths:
        if not path.exists():
            raise StorageError(f"{path}: does not exist; expected a file or directory of {', '.join(_ENDINGS)} files")
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        if unfinished := [file for file in inside if file.name.endswith((".incomplete", ".part", ".crdownload"))]:
            raise StorageError(f"{unfinished[0]}: its download is not finished; let the download end first")
        files = [file for file in inside if file.is_file() and file.name.endswith(_ENDINGS)]
        if not files:
            raise StorageError(f"{path}: holds no {', '.join(_ENDINGS)} file; expected the published files")
        published = lambda file: any(fnmatch.fnmatch(file.relative_to(path).as_posix(), p) for p in patterns)  # noqa: B023
        found += list(filter(published, files)) or files
    return sorted(set(found), key=lambda path: (path.name, str(path)))


def make_units(files: Sequence[Path], recipe) -> list[Unit]:
    """Cuts files into units, sorted by split, file and place.

    Args:
        files: Source files.
        recipe: Module of the data set.

    Raises:
        StorageError: A file is damaged or has other columns, or there is none of a split.
    """
    units = []
    for path in files:
        split = _split_of(path, recipe)
        if path.name.endswith(".parquet"):
            units += [Unit(path, split, group, size) for group, size in enumerate(_row_groups(path, recipe))]
        else:
            size = path.stat().st_size
            if not size:
                raise StorageError(f"{path}: the file is empty; fetch it again")
            starts = range(0, size, _JSONL_BYTES) if path.name.endswith(".jsonl") else [0]
            units += [Unit(path, split, start, min(_JSONL_BYTES, size)) for start in starts]
    missing = [
        split for split in recipe.SPLITS if units and units[0].split and not any(u.split == split for u in units)
    ]
    if missing:
        raise StorageError(
            f"no file of the split '{missing[0]}' among {len(files)} file(s) ({files[0].name}, ..); expected names "
            f"that begin with {', '.join(recipe.SPLITS)}, so give all of the published files"
        )
    order = {split: i for i, split in enumerate(recipe.SPLITS)}
    return sorted(units, key=lambda unit: order.get(unit.split, 0))


def sources_of(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Name, size and SHA-256 of each file.

    Raises:
        StorageError: Two files are the same.
    """
    path_of: dict[str, Path] = {}
    for path in files:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest in path_of:
            raise StorageError(
                f"{path}: is the same file as {path_of[digest]}, and its records would be there twice; give one of them"
            )
        path_of[digest] = path
    return [{"file": path.name, "bytes": path.stat().st_size, "sha256": digest} for digest, path in path_of.items()]


def read_unit(unit: Unit, recipe, settings: Settings) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a unit, a few in memory at a time.

    Yields:
        "FILE: place", and the row as the recipe's `rows` makes it.

    Raises:
        StorageError: The file is damaged, cut short, or a row is not of the expected form.
    """
    if unit.path.name.endswith(".parquet"):
        yield from _read_row_group(unit, recipe, settings)
        return
    for where, line in _lines(unit):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise StorageError(
                f"{where}: not valid JSON ({error}), as when a file is only half there; fetch the file again"
            ) from error
        if not isinstance(row, dict):
            raise StorageError(f"{where}: not a JSON object; expected one problem of {recipe.REPOSITORY} in each line")
        missing = [name for name in recipe.REQUIRED if name not in row]
        if missing:
            raise _other_columns(where, missing[0], recipe)
        with expected_form(where, recipe):
            fields = recipe.rows_of_json(row, settings)
        yield where, fields


@contextlib.contextmanager
def expected_form(where: str, recipe) -> Iterator[None]:
    """Says of which row the values are not what the recipe takes them for."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"{where}: not in the form of {recipe.REPOSITORY} ({type(error).__name__}: {_first_line(error)}); expected "
            "the published files"
        ) from error


def _read_row_group(unit: Unit, recipe, settings: Settings) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    where = f"{unit.path}: row group {unit.part}"
    try:
        with pyarrow.parquet.ParquetFile(unit.path, pre_buffer=False, buffer_size=1 << 18) as file:
            wanted = recipe.columns(unit.split, settings)
            present = [name for name in file.schema_arrow.names if wanted is None or name in wanted]
            row = 0
            for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[unit.part], columns=present, use_threads=False):
                for fields in recipe.rows(batch, settings):
                    row += 1
                    yield f"{where}, row {row}", fields
    except (pyarrow.ArrowException, OSError, KeyError, AttributeError) as error:
        raise StorageError(
            f"{where}: cannot be read ({_first_line(error)}); expected the form of {recipe.REPOSITORY}, so fetch the "
            "file again"
        ) from error


def _row_groups(path: Path, recipe) -> list[int]:
    """Compressed bytes of each row group."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise StorageError(
            f"{path}: reading parquet needs the package pyarrow; install it with pip install -e '.[datasets]'"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names, metadata = file.schema_arrow.names, file.metadata
    except (pyarrow.ArrowException, OSError) as error:
        raise StorageError(
            f"{path}: not a whole parquet file ({_first_line(error)}), as when a download is only half there; fetch "
            "the file again"
        ) from error
    missing = [name for name in recipe.REQUIRED if name not in names]
    if missing:
        raise _other_columns(path, missing[0], recipe)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    return [sum(group.column(c).total_compressed_size for c in range(group.num_columns)) for group in groups]


def _lines(unit: Unit) -> Iterator[tuple[str, bytes]]:
    """The lines that begin in the unit's stretch, or all of a compressed file."""
    if unit.path.name.endswith(".gz"):
        number = 0
        try:
            with gzip.open(unit.path) as file:
                for number, line in enumerate(file, start=1):
                    yield f"{unit.path}:{number}", line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise StorageError(
                f"{unit.path}:{number + 1}: the gzip stream is damaged or cut short ({error}); fetch the file again"
            ) from error
        return
    with open(unit.path, "rb") as file:
        if unit.part:
            # A line belongs to the stretch that holds its first byte.
            file.seek(unit.part - 1)
            file.readline()
        while (position := file.tell()) < unit.part + _JSONL_BYTES and (line := file.readline()):
            yield f"{unit.path}: byte {position}", line


def _split_of(path: Path, recipe) -> str:
    """The split in a file's name, where splits are files."""
    if "name" not in recipe.REQUIRED:
        return ""
    match = _SPLIT.match(path.name)
    if not match:
        raise StorageError(
            f"{path}: its name begins with none of {', '.join(recipe.SPLITS)}; expected the published files, one "
            "split each"
        )
    return match[1] or match[2]


def _other_columns(where: Path | str, missing: str, recipe) -> StorageError:
    return StorageError(
        f"{where}: has no column '{missing}'; expected those of {recipe.REPOSITORY}: {', '.join(recipe.REQUIRED)}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
