"""What proves an asset later: metadata.json, and SHA256SUMS with the digest of every file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wmtp_jax.files import SUMS, sha256_of, write_atomically

METADATA = "metadata.json"


def write_checksums(directory: Path, metadata: dict[str, Any], known: Mapping[str, str] | None = None) -> None:
    """Writes metadata.json and, last, the digest of every file; a directory with SHA256SUMS is complete.

    Args:
        directory: of a model or data set, with all its files.
        metadata: plain JSON values: what it is, where it came from, under which licence. Of a data set `records` is the
            number of rows per .jsonl or .jsonl.gz file.
        known: file -> digest, of files that need not be read again.
    """
    known = known or {}
    write_atomically(directory / METADATA, json.dumps(metadata, indent=2) + "\n")
    lines = [f"{known.get(name) or sha256_of(directory / name)}  {name}\n" for name in listed_files(directory)]
    write_atomically(directory / SUMS, "".join(lines))


def is_complete(directory: Path) -> bool:
    """Whether `write_checksums` ended here."""
    return (directory / SUMS).is_file()


def listed_files(directory: Path) -> list[str]:
    """The files of a directory that SHA256SUMS lists: all but itself, and nothing behind a linked directory."""
    own = (directory / SUMS, directory / f".{SUMS}.tmp")  # the second of a run that was killed
    files = (path for path in directory.rglob("*") if path.is_file() and path not in own)
    return sorted(path.relative_to(directory).as_posix() for path in files)
