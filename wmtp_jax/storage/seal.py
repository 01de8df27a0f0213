"""What lies beside an asset so that it can be proven later: metadata.json and SHA256SUMS."""

import json
from pathlib import Path
from typing import Any

from wmtp_jax.files import SUMS, sha256_of, write_atomically

METADATA = "metadata.json"


def seal(directory: Path, metadata: dict[str, Any]) -> None:
    """Writes metadata.json and, last, the digest of every file; a directory with SHA256SUMS is complete.

    Args:
        directory: of a model or data set, with all its files.
        metadata: plain JSON values: what it is, where it came from, under which licence. Of a data set `records` is the
            number of rows per .jsonl or .jsonl.gz file.
    """
    (directory / f".{SUMS}.tmp").unlink(missing_ok=True)  # of a run that was killed here
    write_atomically(directory / METADATA, json.dumps(metadata, indent=2) + "\n")
    lines = [f"{sha256_of(directory / name)}  {name}\n" for name in sealed_files(directory)]
    write_atomically(directory / SUMS, "".join(lines))


def is_sealed(directory: Path) -> bool:
    """Whether `seal` came to its end here."""
    return (directory / SUMS).is_file()


def sealed_files(directory: Path) -> list[str]:
    """The files of a directory that SHA256SUMS lists: all but itself, and nothing behind a linked directory."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return sorted(path.relative_to(directory).as_posix() for path in files if path != directory / SUMS)
