"""What lies beside a model's weights so that it can be proven later: metadata.json and SHA256SUMS."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

_SUMS = "SHA256SUMS"


def seal(directory: Path, metadata: dict[str, Any]) -> None:
    """Writes metadata.json and, last, the digest of every file; a directory with SHA256SUMS is complete.

    Args:
        directory: of a model or data set, with all its files.
        metadata: plain JSON values: what it is, where it came from, under which licence.
    """
    _write(directory / "metadata.json", json.dumps(metadata, indent=2) + "\n")
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != _SUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(directory)}\n" for path in files]
    _write(directory / _SUMS, "".join(lines))


def is_sealed(directory: Path) -> bool:
    """Whether `seal` came to its end here."""
    return (directory / _SUMS).is_file()


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
