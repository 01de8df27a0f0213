"""metrics.jsonl: one JSON object per line, {"step": .., name: number, ..}.

Names: what a training step measures stands plain (`loss`, `loss_head_1`, `learning_rate`), what a held-out evaluation
measures has the prefix `valid/` (`valid/loss_head_1`).
"""

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wmtp_jax.errors import FileError
from wmtp_jax.files import os_errors_named, write_atomically
from wmtp_jax.jsonl import parse_object, read_lines


class MetricsWriter(contextlib.AbstractContextManager):
    """Appends to metrics.jsonl, each line flushed, so that a killed run loses nothing but the line it was writing.

    Args:
        path: the file; made when absent.
        next_step: the first step this process will write. Lines of that step and later come from a run that got
            further than its last checkpoint; they are removed, because they are about to be written again.
    """

    def __init__(self, path: Path, next_step: int = 0):
        self._path = path
        kept = "".join(json.dumps(entry) + "\n" for entry in read_metrics(path) if entry["step"] < next_step)
        if path.exists() and kept != path.read_text(encoding="utf-8", errors="replace"):
            write_atomically(path, kept)
        with os_errors_named(path):
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (open for the life of the run)

    def __exit__(self, *_) -> None:
        with os_errors_named(self._path), self._file:
            os.fsync(self._file.fileno())

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line; NaN and infinities, which JSON does not have, become null.

        Raises:
            FileError: the disk is full; names the file.
        """
        numbers = {name: float(value) for name, value in values.items()}
        entry = {"step": int(step)} | {name: x if math.isfinite(x) else None for name, x in numbers.items()}
        with os_errors_named(self._path):
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All entries of a metrics.jsonl, also of a run that is being written or was killed: cut lines are left out."""
    entries = []
    for line in read_lines(path) if path.exists() else ():
        try:
            entry = parse_object(line, str(path))
        except FileError:
            continue
        if isinstance(entry.get("step"), int):
            entries.append(entry)
    return entries
