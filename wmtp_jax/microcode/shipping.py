"""Writes the data set and checks a written one against the generator."""

import gzip
import hashlib
import io
import json
import os
import zlib
from pathlib import Path
from typing import Any

from wmtp_jax.errors import UserError
from wmtp_jax.microcode.corpus import FAMILIES, SEED, Record, generate, to_jsonl

SUMS = "SHA256SUMS"
METADATA = "metadata.json"
COMMAND = "python -m wmtp_jax.microcode --out DIR"


class MicrocodeError(UserError):
    """A microcode directory cannot be written or is not what the generator makes."""


def write(directory: Path, data: dict[str, list[Record]]) -> None:
    """Writes SPLIT.jsonl.gz, metadata.json and SHA256SUMS; each file appears complete or not at all.

    Args:
        directory: created when absent.
        data: records of each split.

    Raises:
        MicrocodeError: a file cannot be written.
    """
    files = {_file(split): _compress(to_jsonl(records)) for split, records in data.items()}
    files[METADATA] = _metadata(data)
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    files[SUMS] = sums.encode()
    for name, content in files.items():
        write_file(directory / name, content)


def verify(directory: Path) -> None:
    """Checks that a directory holds exactly what the generator makes.

    The uncompressed lines are compared byte for byte, since compressed bytes depend on the zlib at hand; SHA256SUMS is
    compared with the files as they are.

    Args:
        directory: holds the files that `write` makes.

    Raises:
        MicrocodeError: a file is missing, damaged or different; the first difference is named.
    """
    for line in _read(directory / SUMS).decode(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        if Path(name).name != name or hashlib.sha256(_read(directory / name)).hexdigest() != digest:
            raise MicrocodeError(
                f"{directory / name} does not have the digest that {SUMS} states; restore it or run {COMMAND}."
            )
    data = generate()
    for split, records in data.items():
        path = directory / _file(split)
        try:
            found = gzip.decompress(_read(path))
        except (OSError, EOFError, zlib.error) as error:
            raise MicrocodeError(f"{path} is not a whole gzip file ({error}); restore it or run {COMMAND}.") from error
        expected = to_jsonl(records)
        if found != expected:
            line = _first_difference(found, expected)
            raise MicrocodeError(f"{path} differs from the generator's output from line {line} on; run {COMMAND}.")
    if _read(directory / METADATA) != _metadata(data):
        raise MicrocodeError(f"{directory / METADATA} differs from the generator's output; run {COMMAND}.")


def summary(data: dict[str, list[Record]]) -> str:
    """A table: split, problems, programs, correct share, median and largest number of characters of a program."""
    lines = [f"{'split':<10}{'problems':>10}{'programs':>10}{'correct':>9}{'chars med':>11}{'chars max':>11}"]
    for split, records in data.items():
        row = _figures(records)
        lines.append(
            f"{split:<10}{row['problems']:>10}{row['programs']:>10}{row['clean_share']:>9.1%}"
            f"{row['median_characters']:>11}{row['max_characters']:>11}"
        )
    return "\n".join(lines)


def _figures(records: list[Record]) -> dict[str, Any]:
    lengths = sorted(len(record["instruction"]) + len(record["output"]) for record in records)
    return {
        "problems": len({record["instruction"] for record in records}),
        "programs": len(records),
        "clean_share": round(sum(record["metadata"]["clean"] for record in records) / len(records), 4),
        "median_characters": lengths[len(lengths) // 2],
        "max_characters": lengths[-1],
    }


def _metadata(data: dict[str, list[Record]]) -> bytes:
    splits = {}
    for split, records in data.items():
        content = to_jsonl(records)
        splits[split] = {
            **_figures(records),
            "jsonl_bytes": len(content),
            "jsonl_sha256": hashlib.sha256(content).hexdigest(),
        }
    metadata = {
        "name": "microcode",
        "made_by": COMMAND,
        "licence": "MIT",
        "seed": SEED,
        "digests": f"jsonl_sha256 is of the uncompressed lines, the same everywhere; {SUMS} is of the shipped files",
        "families": [family.name for family in FAMILIES],
        "records": {_file(split): len(records) for split, records in data.items()},
        "splits": splits,
    }
    return (json.dumps(metadata, indent=2) + "\n").encode()


def _file(split: str) -> str:
    return f"{split}.jsonl.gz"


def _compress(content: bytes) -> bytes:
    """Gzip without name and time, so that the bytes depend on the content (and on the zlib) alone."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as stream:
        stream.write(content)
    return buffer.getvalue()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MicrocodeError(f"cannot read {path}: {error.strerror}; restore it or run {COMMAND}.") from error


def write_file(path: Path, content: bytes) -> None:
    """Writes a file that appears complete or not at all; its directory is created when absent.

    Raises:
        MicrocodeError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise MicrocodeError(f"cannot write {path}: {error.strerror}; choose a place you can write to.") from error


def _first_difference(found: bytes, expected: bytes) -> int:
    """Number of the first line that differs, from 1."""
    pairs = zip(found.splitlines(), expected.splitlines(), strict=False)
    same = next((index for index, (left, right) in enumerate(pairs) if left != right), None)
    return 1 + (min(found.count(b"\n"), expected.count(b"\n")) if same is None else same)
