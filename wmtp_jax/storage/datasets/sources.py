"""Source files and the chunks that they are processed in: row groups of parquet, byte ranges of JSONL."""

import contextlib
import fnmatch
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wmtp_jax.errors import UserError
from wmtp_jax.files import sha256_of
from wmtp_jax.jsonl import parse_object, read_objects
from wmtp_jax.storage.assets import StorageError
from wmtp_jax.storage.datasets.recipes import Recipe, Row, Settings

_ENDINGS = (".parquet", ".jsonl", ".jsonl.gz")
_SPLIT = re.compile(r"(train|valid|test)(?:ation)?(?![^\W_])")
_JSONL_BYTES = 16 << 20
# Rows of parquet in memory at a time; a problem of CodeContests has up to some thousand solutions.
_ROWS_AT_ONCE = 4


class Chunk(NamedTuple):
    """What one worker does at a time."""

    path: Path
    split: str  # of all its rows; "" where the rows say it
    part: int  # row group of a parquet file; first byte of a range of a .jsonl file; 0 for a whole .jsonl.gz file
    bytes: int  # about how much of the source it is


def find_files(paths: Sequence[Path], pattern: str = "") -> list[Path]:
    """The source files among paths and in directories, none of which may be missing, empty or a download that goes on.

    In a directory with files of the pattern, which is a copy of the published repository, no others count.
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
        found += [file for file in files if fnmatch.fnmatch(file.relative_to(path).as_posix(), pattern)] or files
    return sorted(set(found), key=lambda path: (path.name, str(path)))


def make_chunks(files: Sequence[Path], recipe: Recipe) -> list[Chunk]:
    """Cuts files into chunks, sorted by split, file and place; raises StorageError where there is none of a split."""
    chunks = []
    for path in files:
        split = _split_of(path, recipe)
        if path.name.endswith(".parquet"):
            chunks += [Chunk(path, split, group, size) for group, size in enumerate(_row_groups(path, recipe))]
        else:
            size = path.stat().st_size
            if not size:
                raise StorageError(f"{path}: the file is empty; fetch it again")
            starts = range(0, size, _JSONL_BYTES) if path.name.endswith(".jsonl") else [0]
            chunks += [Chunk(path, split, start, min(_JSONL_BYTES, size)) for start in starts]
    present = {chunk.split for chunk in chunks}
    if missing := [split for split in recipe.splits if recipe.split_per_file and split not in present]:
        raise StorageError(
            f"no file of the split '{missing[0]}' among {len(files)} file(s) ({files[0].name}, ..); expected names "
            f"that begin with {', '.join(recipe.splits)}, so give all of the published files"
        )
    return sorted(chunks, key=lambda chunk: recipe.splits.index(chunk.split) if chunk.split else 0)


def describe_files(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Name, size and SHA-256 of each file; raises StorageError where two files are the same."""
    path_of: dict[str, Path] = {}
    for path in files:
        same = path_of.setdefault(sha256_of(path), path)
        if same != path:
            raise StorageError(
                f"{path}: is the same file as {same}, and its records would be there twice; give one of them"
            )
    return [{"file": path.name, "bytes": path.stat().st_size, "sha256": digest} for digest, path in path_of.items()]


def read_chunk(chunk: Chunk, recipe: Recipe, settings: Settings) -> Iterator[tuple[str, Row]]:
    """("FILE: place", row for the recipe's `task`) of each row of a chunk, a few in memory at a time."""
    if chunk.path.name.endswith(".parquet"):
        yield from _read_row_group(chunk, recipe, settings)
        return
    for where, row in read_objects(chunk.path) if chunk.path.name.endswith(".gz") else _read_byte_range(chunk):
        _check_columns(where, row, recipe)
        yield where, row


@contextlib.contextmanager
def expected_form(where: str, recipe: Recipe) -> Iterator[None]:
    """Says which row does not have the values that the recipe takes them for."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"{where}: not in the form of {recipe.repository} ({type(error).__name__}: {_first_line(error)}); expected "
            "the published files"
        ) from error


def _read_byte_range(chunk: Chunk) -> Iterator[tuple[str, Row]]:
    """The lines whose first byte is in the chunk's range."""
    with open(chunk.path, "rb") as file:
        if chunk.part:
            file.seek(chunk.part - 1)
            file.readline()
        while (position := file.tell()) < chunk.part + _JSONL_BYTES and (line := file.readline()):
            where = f"{chunk.path}: byte {position}"
            yield where, parse_object(line, where)


def _read_row_group(chunk: Chunk, recipe: Recipe, settings: Settings) -> Iterator[tuple[str, Row]]:
    import pyarrow.parquet

    where = f"{chunk.path}: row group {chunk.part}"
    try:
        with pyarrow.parquet.ParquetFile(chunk.path, pre_buffer=False, buffer_size=1 << 18) as file:
            wanted = recipe.columns(chunk.split, settings)
            present = [name for name in file.schema_arrow.names if wanted is None or name in wanted]
            batches = file.iter_batches(_ROWS_AT_ONCE, row_groups=[chunk.part], columns=present, use_threads=False)
            rows = (row for batch in batches for row in recipe.rows(batch, settings))
            for number, row in enumerate(rows, 1):
                yield f"{where}, row {number}", row
    except UserError:
        raise
    except Exception as error:  # of damaged bytes pyarrow raises whatever they happen to break
        raise StorageError(
            f"{where}: cannot be read ({_first_line(error)}); expected the form of {recipe.repository}, so fetch the "
            "file again"
        ) from error


def _row_groups(path: Path, recipe: Recipe) -> list[int]:
    """Compressed bytes of each row group."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise StorageError(
            f"{path}: reading parquet needs the package pyarrow; install it with pip install -e '.[datasets]'"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names, metadata = file.schema_arrow.names, file.metadata
            groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
            sizes = [sum(group.column(c).total_compressed_size for c in range(group.num_columns)) for group in groups]
    except Exception as error:  # as above
        raise StorageError(
            f"{path}: not a whole parquet file ({_first_line(error)}), as when a download is only half there; fetch "
            "the file again"
        ) from error
    _check_columns(path, names, recipe)
    return sizes


def _split_of(path: Path, recipe: Recipe) -> str:
    if not recipe.split_per_file:
        return ""
    if not (match := _SPLIT.match(path.name)):
        raise StorageError(
            f"{path}: its name begins with none of {', '.join(recipe.splits)}; expected the published files, one "
            "split each"
        )
    return match[1]


def _check_columns(where: Path | str, present: Collection[str], recipe: Recipe) -> None:
    if missing := [name for name in recipe.required if name not in present]:
        raise StorageError(
            f"{where}: has no column '{missing[0]}'; expected those of {recipe.repository}: "
            f"{', '.join(recipe.required)}"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
