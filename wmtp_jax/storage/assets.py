"""An asset of storage/: where it lies, and what proves later that it is what it was."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wmtp_jax.errors import UserError
from wmtp_jax.files import SUMS, sha256_of, write_atomically

MODELS, DATASETS = "models_v2", "datasets_v2"
METADATA = "metadata.json"
PROJECT = Path(__file__).parents[2]


class StorageError(UserError):
    """An asset that cannot be set up, or is not what it was."""


def resolve(path: str | Path) -> Path:
    """The path as given if it exists from the working directory, else from the project's root.

    A path that exists nowhere comes back as given, so that the reader's error names what the user wrote.
    """
    given = Path(path)
    from_project = PROJECT / given
    return from_project if not given.exists() and from_project.exists() else given


def write_checksums(directory: Path, metadata: dict[str, Any], known: Mapping[str, str] | None = None) -> None:
    """Writes metadata.json and, last, the digest of every file; a directory with SHA256SUMS is complete.

    Args:
        directory: of a model or data set, with all its files.
        metadata: plain JSON values; of a data set `records` is the number of rows per .jsonl or .jsonl.gz file.
        known: file -> digest, of files that need not be read again.
    """
    known = known or {}
    write_atomically(directory / METADATA, json.dumps(metadata, indent=2) + "\n")
    lines = [f"{known.get(name) or sha256_of(directory / name)}  {name}\n" for name in listed_files(directory)]
    write_atomically(directory / SUMS, "".join(lines))


def is_complete(directory: Path) -> bool:
    """Whether `write_checksums` ended here."""
    return (directory / SUMS).is_file()


def check_not_complete(directory: Path) -> None:
    """Raises StorageError where an asset is set up already."""
    if is_complete(directory):
        raise StorageError(
            f"{directory}: is set up already; check it with python -m wmtp_jax.storage verify, or remove it first"
        )


def listed_files(directory: Path) -> list[str]:
    """The files of a directory that SHA256SUMS lists: all but itself, and nothing behind a linked directory."""
    own = (directory / SUMS, directory / f".{SUMS}.tmp")  # the second of a run that was killed
    files = (path for path in directory.rglob("*") if path.is_file() and path not in own)
    return sorted(path.relative_to(directory).as_posix() for path in files)


def check_room(directory: Path, nbytes: int, need: str) -> None:
    """Raises StorageError unless the disk of a directory, which need not exist yet, has room for `nbytes`.

    `need` is how the message puts it, with {:.2f} for the number of GB.
    """
    existing = next(above for above in (directory.absolute(), *directory.absolute().parents) if above.exists())
    free = shutil.disk_usage(existing).free
    if nbytes > free:
        raise StorageError(
            f"{existing}: {need.format(nbytes / 1e9)}, but its disk has {free / 1e9:.2f} GB left; make room, or give a "
            "place on a larger disk with --storage"
        )
