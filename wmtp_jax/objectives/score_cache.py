"""Scores that a frozen model gives to a data set: computed once, read again only for exactly that model and data."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from wmtp_jax.files import os_errors_named, write_atomically
from wmtp_jax.objectives.objective import ObjectiveError

_TENSOR = "scores"
_REMEDY = "delete that file to have the scores computed anew"


def cached_scores(path: Path, key: Mapping[str, str], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Scores from a file, or computed and written there.

    Args:
        path: of the file; its directory is made.
        key: what the scores depend on: what it is, in words, to its digest or value.
        compute: gives them, any shape.

    Returns:
        fp32, bit for bit as they were computed.

    Raises:
        ObjectiveError: the file is damaged, or a part of the key differs: the sentence names that part.
        FileError: it cannot be written.
    """
    key = dict(key)
    if path.exists():
        print(f"{path.name.partition('-')[0]} scores: read from {path}")
        return _read(path, key)
    scores = np.ascontiguousarray(compute(), np.float32)
    metadata = {"key": json.dumps(key, sort_keys=True), "sha256": _digest(key, scores)}
    with os_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, safetensors.numpy.save({_TENSOR: scores}, metadata))
    return scores


def data_name(path: str | Path) -> str:
    """A data file in a word: its data set's directory and its stem, such as "microcode-train"."""
    path = Path(path)
    directory = path.parent.parent if path.parent.name == "processed" else path.parent
    return f"{directory.name}-{path.name.partition('.')[0]}"


def _read(path: Path, key: dict[str, str]) -> np.ndarray:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            scores = file.get_tensor(_TENSOR)
        recorded = json.loads(metadata["key"])
        damaged = scores.dtype != np.float32 or metadata["sha256"] != _digest(recorded, scores)
    except MemoryError:
        raise
    except Exception as error:  # safetensors answers other damage with other errors
        raise ObjectiveError(f"{path} is no file of cached scores, or a damaged one; {_REMEDY}") from error
    if damaged:
        raise ObjectiveError(f"{path} is damaged: the scores are not those that were written; {_REMEDY}")
    changed = [part for part in sorted(recorded.keys() | key.keys()) if recorded.get(part) != key.get(part)]
    if changed:
        raise ObjectiveError(f"{path} holds stale scores: {' and '.join(changed)} changed since; {_REMEDY}")
    return scores


def _digest(key: dict[str, str], scores: np.ndarray) -> str:
    state = hashlib.sha256(json.dumps([key, scores.shape], sort_keys=True).encode())
    state.update(scores)
    return state.hexdigest()
