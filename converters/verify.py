"""Checks a model directory against the digests that came with it."""

import hashlib
from pathlib import Path

from converters.checkpoint import Checkpoint
from converters.errors import ConverterError, fold
from converters.json_file import read_json
from converters.output import MANIFEST, digest_of
from wmtp_jax.byte_progress import ByteProgress

_SUMS = "SHA256SUMS"


def verify(checkpoint: Checkpoint, progress: ByteProgress | None = None) -> list[str]:
    """Reads every byte that manifest.json or SHA256SUMS vouches for.

    Args:
        checkpoint: an opened directory (so its tensors fit its config).
        progress: a `ByteProgress` over the tensors' bytes, or None.

    Returns:
        Sentences about what was found to be right.

    Raises:
        ConverterError: names what differs; also when there is nothing to compare with.
    """
    directory = checkpoint.directory
    findings = []
    if (directory / MANIFEST).exists():
        findings.append(_verify_manifest(checkpoint, progress))
    if (directory / _SUMS).exists():
        findings.append(_verify_sums(directory))
    if not findings:
        raise ConverterError(
            f"{directory}: has neither {MANIFEST} nor {_SUMS}, so there is no digest to compare with; "
            "'inspect' checks names and shapes alone"
        )
    return findings


def _verify_manifest(checkpoint: Checkpoint, progress: ByteProgress | None) -> str:
    path = checkpoint.directory / MANIFEST
    record = read_json(path)
    entries, files = record.get("tensors"), record.get("files")
    if not isinstance(entries, dict) or not isinstance(files, dict):
        raise ConverterError(f"{path}: has no 'tensors' and 'files'; expected a manifest of this converter")
    stored = checkpoint.tensors
    if set(entries) != set(stored):
        difference = ", ".join(fold(sorted(set(entries) ^ set(stored)))[:5])
        raise ConverterError(
            f"{path}: lists other tensors than the weights hold ({difference}); convert the model again"
        )
    wrong = []
    for name, tensor in stored.items():
        entry = entries[name]
        if not isinstance(entry, dict) or entry.get("sha256") != digest_of(tensor):
            wrong.append(name)
        if progress:
            progress.advance(tensor.nbytes)
    if wrong:
        names = ", ".join(fold(wrong)[:5])
        raise ConverterError(
            f"{checkpoint.directory}: {len(wrong)} of {len(stored)} tensors differ from {MANIFEST} ({names}); "
            "the files were changed or damaged, so convert or fetch them again"
        )
    for name, digest in files.items():
        _verify_file(checkpoint.directory, name, digest, MANIFEST)
    return f"{len(stored)} tensors and {len(files)} files agree with {MANIFEST}"


def _verify_sums(directory: Path) -> str:
    try:
        lines = (directory / _SUMS).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ConverterError(f"{directory / _SUMS}: is not text; expected lines of digest and file name") from error
    count = 0
    for number, line in enumerate(lines, 1):
        digest, _, name = line.strip().partition(" ")
        name = name.strip().removeprefix("*")
        if not line.strip():
            continue
        if len(digest) != 64 or not name:
            raise ConverterError(f"{directory / _SUMS}, line {number}: expected a SHA-256 digest and a file name")
        _verify_file(directory, name, digest.lower(), _SUMS)
        count += 1
    return f"{count} files agree with {_SUMS}"


def _verify_file(directory: Path, name: str, digest: str, said_by: str) -> None:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ConverterError(f"{directory / said_by}: names {name!r}; expected files in the directory where it lies")
    if not (directory / name).is_file():
        raise ConverterError(f"{directory / name}: is missing, but {said_by} lists it; fetch it again")
    with open(directory / name, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise ConverterError(f"{directory / name}: differs from the digest in {said_by}; fetch it again")
