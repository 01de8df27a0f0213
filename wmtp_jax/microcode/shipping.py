"""Writes the data set and checks a written one against the generator."""

import gzip
import hashlib
import io
import itertools
import json
import zlib
from pathlib import Path
from typing import Any

from wmtp_jax.errors import UserError
from wmtp_jax.files import SUMS, check_sums, os_errors_named, write_atomically
from wmtp_jax.microcode.corpus import FAMILIES, SEED, Row, generate, to_jsonl

METADATA = "metadata.json"
COMMAND = "python -m wmtp_jax.microcode --out DIR"


class MicrocodeError(UserError):
    """A microcode directory is not what the generator makes."""


def write(directory: Path, data: dict[str, list[Row]]) -> None:
    """Writes SPLIT.jsonl.gz, metadata.json and, last, SHA256SUMS; each file appears complete or not at all.

    Args:
        directory: created when absent.
        data: records of each split.

    Raises:
        FileError: a file cannot be written.
    """
    with os_errors_named(directory):
        directory.mkdir(parents=True, exist_ok=True)
    contents = _contents(data)
    files = {name: _compress(content) if name.endswith(".gz") else content for name, content in contents.items()}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    for name, content in {**files, SUMS: sums}.items():
        write_atomically(directory / name, content)


def verify(directory: Path) -> None:
    """Checks that a directory holds exactly what the generator makes.

    The uncompressed lines are compared byte for byte, since compressed bytes depend on the zlib at hand; SHA256SUMS is
    compared with the files as they are.

    Raises:
        UserError: a file is missing, damaged or different; the first difference is named.
    """
    with os_errors_named(directory):
        check_sums(directory)
    for name, expected in _contents(generate()).items():
        path = directory / name
        with os_errors_named(path):
            found = path.read_bytes()
        try:
            found = gzip.decompress(found) if name.endswith(".gz") else found
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise MicrocodeError(f"{path} is not a whole gzip file ({error}); restore it or run {COMMAND}") from error
        if found != expected:
            pairs = itertools.zip_longest(found.splitlines(), expected.splitlines())
            line = next((number for number, (left, right) in enumerate(pairs, 1) if left != right), 1)
            raise MicrocodeError(f"{path} differs from the generator's output from line {line} on; run {COMMAND}")


def summary(data: dict[str, list[Row]]) -> str:
    """A table: split, problems, programs, correct share, median and largest number of characters of a program."""
    lines = [f"{'split':<10}{'problems':>10}{'programs':>10}{'correct':>9}{'chars med':>11}{'chars max':>11}"]
    for split, records in data.items():
        row = _figures(records)
        lines.append(
            f"{split:<10}{row['problems']:>10}{row['programs']:>10}{row['clean_share']:>9.1%}"
            f"{row['median_characters']:>11}{row['max_characters']:>11}"
        )
    return "\n".join(lines)


def _figures(records: list[Row]) -> dict[str, Any]:
    lengths = sorted(len(record["instruction"]) + len(record["output"]) for record in records)
    return {
        "problems": len({record["instruction"] for record in records}),
        "programs": len(records),
        "clean_share": round(sum(record["metadata"]["clean"] for record in records) / len(records), 4),
        "median_characters": lengths[len(lengths) // 2],
        "max_characters": lengths[-1],
    }


def _contents(data: dict[str, list[Row]]) -> dict[str, bytes]:
    """Every file but SHA256SUMS, uncompressed."""
    lines = {split: to_jsonl(records) for split, records in data.items()}
    digests = {split: hashlib.sha256(content).hexdigest() for split, content in lines.items()}
    metadata = {
        "name": "microcode",
        "made_by": COMMAND,
        "licence": "MIT",
        "seed": SEED,
        "digests": f"jsonl_sha256 is of the uncompressed lines, the same everywhere; {SUMS} is of the shipped files",
        "families": [family.name for family in FAMILIES],
        "records": {f"{split}.jsonl.gz": len(records) for split, records in data.items()},
        "splits": {
            split: {**_figures(records), "jsonl_bytes": len(lines[split]), "jsonl_sha256": digests[split]}
            for split, records in data.items()
        },
    }
    files = {f"{split}.jsonl.gz": content for split, content in lines.items()}
    return files | {METADATA: (json.dumps(metadata, indent=2) + "\n").encode()}


def _compress(content: bytes) -> bytes:
    """Gzip without name and time, so that the bytes depend on the content (and on the zlib) alone."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as stream:
        stream.write(content)
    return buffer.getvalue()
