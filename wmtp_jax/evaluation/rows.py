"""Files of rows that grow while they are made. Killed at any time, the same job goes on where it was."""

import fcntl
import json
import os
from pathlib import Path

from wmtp_jax.evaluation.errors import EvaluationError


def read_rows(path: Path) -> tuple[dict, list[dict]]:
    """The settings (first line) and the rows of a file; a last line that was cut off is left out.

    Raises:
        EvaluationError: no such file, or not one that `RowFile` wrote.
    """
    if not path.is_file():
        raise EvaluationError(f"{path}: no such file; expected samples that an evaluation wrote.")
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise EvaluationError(f"{path}:{number}: not a JSON line ({error}); expected one row per line.") from error
        if not isinstance(row, dict) or (number == 1) != isinstance(row.get("settings"), dict):
            raise EvaluationError(
                f'{path}:{number}: expected {{"settings": ..}} in the first line and one row in every other.'
            )
        rows.append(row)
    if not rows:
        raise EvaluationError(f"{path}: the file is empty; expected samples that an evaluation wrote.")
    return rows[0]["settings"], rows[1:]


class RowFile:
    """A JSONL file of one job, open for appending and locked against a second process.

    Args:
        path: the file; made when it is not there.
        settings: what the job is; a file with rows of another job is refused.

    Attributes:
        rows: those that were there, by (task_id, sample).

    Raises:
        EvaluationError: the file belongs to other settings, or is in use.
    """

    def __init__(self, path: Path, settings: dict):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")  # noqa: SIM115 (held open: closing it frees the lock)
        except OSError as error:
            raise EvaluationError(f"{path} cannot be written ({error.strerror}); give another --output.") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise EvaluationError(
                f"{path} is in use by another evaluation; wait for it or give another --output."
            ) from None
        try:
            self._cut_off_torn_line()
            found, rows = read_rows(path) if self._file.tell() else (settings, [])
            if not rows:
                # Settings alone bind nobody: a job that was refused may have left them.
                self._file.truncate(0)
                self._write({"settings": settings})
                found = settings
            for name in sorted(found.keys() | settings.keys()):
                if found.get(name) != settings.get(name):
                    raise EvaluationError(
                        f"{path} was made with {name} {found.get(name)!r:.60}, now it is {settings.get(name)!r:.60}; "
                        "set it back to go on there, or give another --output."
                    )
        except BaseException:
            self._file.close()
            raise
        self.rows = {(row["task_id"], row["sample"]): row for row in rows}

    def append(self, row: dict) -> None:
        """Adds a row; it is in the file when this returns."""
        self._write(row)
        self.rows[row["task_id"], row["sample"]] = row

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(self, *_) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _write(self, row: dict) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()

    def _cut_off_torn_line(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        self._file.truncate(content.rfind(b"\n") + 1)
        self._file.seek(0, os.SEEK_END)
