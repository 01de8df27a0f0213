"""Scores that a frozen model gives to a data set: kept on disk, and used again only for exactly that model and data."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from wmtp_jax.training.errors import TrainingError
from wmtp_jax.training.run_directory import write_bytes_atomically

_TENSOR = "scores"
_REMEDY = "delete that file to have the scores computed anew"


def read_scores(path: Path, key: Mapping[str, str]) -> np.ndarray:
    """Scores that were written under the same key.

    Args:
        path: of an existing file.
        key: what the scores depend on: what it is, in words, to its digest or value.

    Returns:
        The fp32 scores, bit for bit as they were written.

    Raises:
        TrainingError: the file is damaged, or a part of the key differs: the sentence names that part.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            scores = file.get_tensor(_TENSOR)
        recorded = json.loads(metadata["key"])
        damaged = scores.dtype != np.float32 or metadata["sha256"] != _digest(recorded, scores)
    except MemoryError:
        raise
    except Exception as error:  # safetensors answers other damage with other errors
        raise TrainingError(f"{path} is no file of cached scores, or a damaged one; {_REMEDY}") from error
    if damaged:
        raise TrainingError(f"{path} is damaged: the scores are not those that were written; {_REMEDY}")
    changed = [part for part in sorted(recorded.keys() | key.keys()) if recorded.get(part) != key.get(part)]
    if changed:
        raise TrainingError(f"{path} holds stale scores: {' and '.join(changed)} changed since; {_REMEDY}")
    return scores


def write_scores(path: Path, key: Mapping[str, str], scores: np.ndarray) -> None:
    """Writes scores so that they appear complete or not at all.

    Args:
        path: of the file; its directory is made.
        key: what the scores depend on, as for `read_scores`.
        scores: fp32, any shape.

    Raises:
        TrainingError: the file cannot be written.
    """
    path, key = Path(path), dict(key)
    scores = np.ascontiguousarray(scores, np.float32)
    metadata = {"key": json.dumps(key, sort_keys=True), "sha256": _digest(key, scores)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(path, safetensors.numpy.save({_TENSOR: scores}, metadata))
    except OSError as error:
        raise TrainingError(
            f"{path} cannot be written ({error.strerror}); make room there, or give a --workdir that can be written"
        ) from error


def files_digest(paths: Iterable[Path]) -> str:
    """SHA-256 of the names and contents of some files: what scores depend on of the model that gave them."""
    state = hashlib.sha256()
    for path in sorted(paths):
        with open(path, "rb") as file:
            state.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return state.hexdigest()


def _digest(key: dict[str, str], scores: np.ndarray) -> str:
    state = hashlib.sha256(json.dumps([key, scores.shape], sort_keys=True).encode())
    state.update(scores)
    return state.hexdigest()
