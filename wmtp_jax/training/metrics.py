"""metrics.jsonl: one JSON object per line, {"step": .., name: number, ..}.

Names: what a training step measures stands plain (`loss`, `loss_head_1`, `learning_rate`), what a held-out evaluation
measures has the prefix `valid/` (`valid/loss_head_1`).
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wmtp_jax.training.run_directory import write_text_atomically


class MetricsWriter:
    """Appends to metrics.jsonl, each line flushed, so that a killed run loses nothing but the line it was writing. A
    context manager.

    Args:
        path: the file; made when absent.
        next_step: the first step this process will write. Lines of that step and later come from a run that got
            further than its last checkpoint; they are removed, because they are about to be written again.
    """

    def __init__(self, path: Path, next_step: int = 0):
        if path.exists():
            content = path.read_text(encoding="utf-8", errors="replace")
            kept = "".join(
                line + "\n" for line in content.split("\n") if (entry := _parsed(line)) and entry["step"] < next_step
            )
            if kept != content:
                write_text_atomically(path, kept)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (open for the life of the run)

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line; NaN and infinities, which JSON does not have, become null."""
        numbers = {name: float(value) for name, value in values.items()}
        entry = {"step": int(step)} | {name: x if math.isfinite(x) else None for name, x in numbers.items()}
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file once everything is on disk."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All entries of a metrics.jsonl, also of a run that is being written or was killed."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return [entry for line in file if (entry := _parsed(line))]


def _parsed(line: str) -> dict[str, Any] | None:
    """The entry, or None for a line that was cut off."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("step"), int) else None
